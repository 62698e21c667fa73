//! HAProxy and nginx as Debian packs them, with the files of `examples/balancers`, for the tests that need one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;

use super::patiently;

/// A file of `examples/balancers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    HaproxyHttp,
    HaproxyTcp,
    Nginx,
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

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
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
        let name = match kind {
            Kind::HaproxyHttp => "haproxy-http.cfg",
            Kind::HaproxyTcp => "haproxy-tcp.cfg",
            Kind::Nginx => "nginx.conf",
        };
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/balancers").join(name);
        let mut text = std::fs::read_to_string(example).unwrap();
        let mut change = |from: &str, to: &str| {
            assert!(text.contains(from), "no {from:?} in {name}");
            text = text.replace(from, to);
        };
        changes.iter().for_each(|(from, to)| change(from, to));
        for (from, node) in ["10.0.0.11:", "10.0.0.12:"].into_iter().zip(nodes) {
            let outer = if kind == Kind::HaproxyTcp { "8094" } else { "8092" };
            change(&format!("{from}{outer}"), &node.api.to_string());
        }
        if tls {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
            std::fs::write(dir.path().join("hydrant.pem"), format!("{chain}{key}")).unwrap();
            std::fs::write(dir.path().join("hydrant.key"), key).unwrap();
            let from = if kind == Kind::Nginx { "/etc/nginx/" } else { "/etc/haproxy/" };
            change(from, &format!("{}/", dir.path().display()));
        }
        if kind == Kind::Nginx && tls {
            change("listen 8443 ssl;", &format!("listen 127.0.0.1:{port} ssl;"));
        } else if kind == Kind::Nginx {
            change("listen 8443 ssl;", &format!("listen 127.0.0.1:{port};"));
            change(
                "    ssl_certificate     /etc/nginx/hydrant.pem;\n    ssl_certificate_key /etc/nginx/hydrant.key;\n",
                "",
            );
        } else {
            change("bind :8443", &format!("bind 127.0.0.1:{port}"));
            // Each node has its own port for metrics here.
            change(" port 8093", "");
            for (name, Node { api, probe }) in ["a", "b"].into_iter().zip(nodes) {
                let bare = format!("server {name} {api} check");
                change(&bare, &format!("{bare} port {}", probe.port()));
            }
            if let [_, second, third] = nodes {
                let line =
                    |name, Node { api, probe }: &Node| format!("server {name} {api} check port {}", probe.port());
                let second = line("b", second);
                change(&second, &format!("{second}\n    {}", line("c", third)));
            }
            // As many connections would need more open files than tests may have everywhere.
            change("maxconn 20000", "maxconn 4000");
        }
        if kind == Kind::HaproxyHttp && !tls {
            change(" ssl crt /etc/haproxy/hydrant.pem alpn http/1.1", "");
        }
        let child = spawn(kind, dir.path(), &text);
        let balancer = Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)), _dir: dir };
        let listening = async {
            while TcpStream::connect(balancer.address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        patiently("the balancer", listening).await;
        balancer
    }
}

fn spawn(kind: Kind, dir: &Path, text: &str) -> Child {
    let file = dir.join("balancer.conf");
    let mut command = if kind == Kind::Nginx {
        let here = dir.display();
        let whole = format!(
            "daemon off;\npid {here}/pid;\nerror_log stderr;\nevents {{ }}\nhttp {{\naccess_log off;\n\
             client_body_temp_path {here}/body;\nproxy_temp_path {here}/proxy;\nfastcgi_temp_path {here}/fastcgi;\n\
             uwsgi_temp_path {here}/uwsgi;\nscgi_temp_path {here}/scgi;\n{text}}}\n"
        );
        std::fs::write(&file, whole).unwrap();
        let mut command = Command::new(program("nginx"));
        command.arg("-p").arg(dir).arg("-c").arg(&file).args(["-e", "stderr"]);
        command
    } else {
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program("haproxy"));
        command.arg("-db").arg("-f").arg(&file);
        command
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap()
}
