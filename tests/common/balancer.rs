//! HAProxy and nginx as Debian packs them, and Traefik, with the files of `examples/balancers`, for the tests that need
//! one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ports::free_port;
use super::{patiently, socket};

/// A file of `examples/balancers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    HaproxyHttp,
    HaproxyTcp,
    Nginx,
    Traefik,
}

/// Where a node takes a balancer's connections, and where it tells of its health.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    pub api: SocketAddr,
    pub probe: SocketAddr,
}

/// A balancer of the test, killed at its end.
pub struct Balancer {
    child: Child,
    pub address: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // Its own children end with it.
        let id = self.child.id().to_string();
        let _ = Command::new("kill").arg(id).status();
        let _ = self.child.wait();
    }
}

/// A program that may stand where only root's path has it.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|place| place.join(name)).find(|file| file.is_file()).unwrap_or_else(|| panic!("no {name}: make faults"))
}

/// The text of a file of `examples/balancers`, in which places are changed.
struct Example {
    name: &'static str,
    text: String,
}

impl Example {
    fn read(name: &'static str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/balancers").join(name);
        Self { name, text: std::fs::read_to_string(path).unwrap() }
    }

    fn change(&mut self, from: &str, to: &str) {
        assert!(self.text.contains(from), "no {from:?} in {}", self.name);
        self.text = self.text.replace(from, to);
    }

    /// Puts these in place of the two nodes of the file, whose `port` this is there.
    fn place(&mut self, nodes: &[Node], port: u16) {
        for (from, node) in ["10.0.0.11:", "10.0.0.12:"].into_iter().zip(nodes) {
            self.change(&format!("{from}{port}"), &node.api.to_string());
        }
    }

    /// Puts a certificate of the test in place of the one that the file takes from this folder.
    fn certify(&mut self, folder: &str, dir: &Path) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        std::fs::write(dir.join("hydrant.pem"), format!("{chain}{key}")).unwrap();
        std::fs::write(dir.join("hydrant.key"), key).unwrap();
        self.change(folder, &format!("{}/", dir.display()));
    }
}

impl Balancer {
    /// With the example's file, in which only places are changed: addresses and ports. TLS is left out. HAProxy may
    /// stand before a third node.
    pub async fn start(kind: Kind, nodes: &[Node], changes: &[(&str, &str)]) -> Self {
        Self::start_with(kind, nodes, changes, false).await
    }

    /// The same; with `tls` it ends TLS as in the file, with a certificate of the test.
    pub async fn start_with(kind: Kind, nodes: &[Node], changes: &[(&str, &str)], tls: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut example = Example::read(match kind {
            Kind::HaproxyHttp => "haproxy-http.cfg",
            Kind::HaproxyTcp => "haproxy-tcp.cfg",
            Kind::Nginx => "nginx.conf",
            Kind::Traefik => "traefik-hydrant.yml",
        });
        changes.iter().for_each(|(from, to)| example.change(from, to));
        example.place(nodes, if kind == Kind::HaproxyTcp { 8094 } else { 8092 });
        let mut command = match kind {
            Kind::HaproxyHttp | Kind::HaproxyTcp => haproxy(kind, example, dir.path(), port, nodes, tls),
            Kind::Nginx => nginx(example, dir.path(), port, tls),
            Kind::Traefik => traefik(example, dir.path(), port, nodes, tls),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        let balancer = Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)), _dir: dir };
        let listening = async {
            while TcpStream::connect(balancer.address).await.is_err()
                || (kind == Kind::Traefik && !forwards(balancer.address, tls).await)
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        patiently("the balancer", listening).await;
        balancer
    }
}

/// Whether a node answers. Traefik listens before it has read where they are, and says 404.
async fn forwards(address: SocketAddr, tls: bool) -> bool {
    let Ok(stream) = TcpStream::connect(address).await else { return false };
    let Some(mut socket) = socket::try_over(stream, tls).await else { return false };
    let request = b"GET /api/v3/info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut head = [0; 12];
    socket.write_all(request).await.is_ok() && socket.read_exact(&mut head).await.is_ok() && head == *b"HTTP/1.1 401"
}

fn haproxy(kind: Kind, mut example: Example, dir: &Path, port: u16, nodes: &[Node], tls: bool) -> Command {
    if tls {
        example.certify("/etc/haproxy/", dir);
    }
    example.change("bind :8443", &format!("bind 127.0.0.1:{port}"));
    // Each node has its own port for metrics here.
    example.change(" port 8093", "");
    let line = |name, Node { api, probe }: &Node| format!("server {name} {api} check port {}", probe.port());
    for (name, node) in ["a", "b"].into_iter().zip(nodes) {
        example.change(&format!("server {name} {} check", node.api), &line(name, node));
    }
    if let [_, second, third] = nodes {
        let second = line("b", second);
        example.change(&second, &format!("{second}\n    {}", line("c", third)));
    }
    // As many connections would need more open files than tests may have everywhere.
    example.change("maxconn 20000", "maxconn 4000");
    if kind == Kind::HaproxyHttp && !tls {
        example.change(" ssl crt /etc/haproxy/hydrant.pem alpn http/1.1", "");
    }
    let file = dir.join("haproxy.cfg");
    std::fs::write(&file, example.text).unwrap();
    let mut command = Command::new(program("haproxy"));
    command.arg("-db").arg("-f").arg(&file);
    command
}

fn nginx(mut example: Example, dir: &Path, port: u16, tls: bool) -> Command {
    if tls {
        example.certify("/etc/nginx/", dir);
        example.change("listen 8443 ssl;", &format!("listen 127.0.0.1:{port} ssl;"));
    } else {
        example.change("listen 8443 ssl;", &format!("listen 127.0.0.1:{port};"));
        example.change(
            "    ssl_certificate     /etc/nginx/hydrant.pem;\n    ssl_certificate_key /etc/nginx/hydrant.key;\n",
            "",
        );
    }
    let (here, text) = (dir.display(), example.text);
    let whole = format!(
        "daemon off;\npid {here}/pid;\nerror_log stderr;\nevents {{ }}\nhttp {{\naccess_log off;\n\
         client_body_temp_path {here}/body;\nproxy_temp_path {here}/proxy;\nfastcgi_temp_path {here}/fastcgi;\n\
         uwsgi_temp_path {here}/uwsgi;\nscgi_temp_path {here}/scgi;\n{text}}}\n"
    );
    let file = dir.join("nginx.conf");
    std::fs::write(&file, whole).unwrap();
    let mut command = Command::new(program("nginx"));
    command.arg("-p").arg(dir).arg("-c").arg(&file).args(["-e", "stderr"]);
    command
}

/// Its two files: where it listens, and the nodes. It asks all of them at one port: their addresses differ.
fn traefik(mut nodes_file: Example, dir: &Path, port: u16, nodes: &[Node], tls: bool) -> Command {
    nodes_file.certify("/etc/traefik/", dir);
    nodes_file.change("port: 8093", &format!("port: {}", nodes[0].probe.port()));
    if !tls {
        nodes_file.change("      tls: {}\n", "");
    }
    std::fs::write(dir.join("traefik-hydrant.yml"), nodes_file.text).unwrap();
    let mut example = Example::read("traefik.yml");
    example.change("\":8443\"", &format!("127.0.0.1:{port}"));
    example.change("/etc/traefik/", &format!("{}/", dir.display()));
    let file = dir.join("traefik.yml");
    std::fs::write(&file, example.text).unwrap();
    // `scripts/need traefik` puts it there.
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/traefik");
    let mut command = Command::new(if ours.is_file() { ours } else { program("traefik") });
    command.arg(format!("--configFile={}", file.display()));
    command
}
