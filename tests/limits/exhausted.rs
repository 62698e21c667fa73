//! What a machine runs out of: file descriptors, disk, memory. Nothing that was in force is lost, and what could not be
//! done is done, or said. `make faults` runs them; those of `mounts` need the right to mount a file system.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use hydrant::auth::{AuthOptions, Authority, TokenRequest, edit_store};

use crate::common::descriptors::{limit_files, take_all_files};
use crate::common::drp::Drp;
use crate::common::http::{self, Http};
use crate::common::people::{HASH, now};
use crate::common::program::Program;
use crate::common::raw::masked;
use crate::common::{JSON, LOGIN, NDJSON, PATIENCE, basic, canary, event, patiently, socket};
use crate::outside::Outside;
use crate::provider::Provider;

/// A certificate and its key, in PEM.
fn certificate(dir: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    for (name, text) in [("key.pem", key.serialize_pem()), ("chain.pem", made.pem())] {
        let beside = dir.join("beside");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, dir.join(name)).unwrap();
    }
}

/// Time on the processor.
fn cpu(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // Hundredths of a second, in user and system.
    Duration::from_millis(10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()))
}

/// A server in front of an endpoint, all of whose files can be changed: users, token keys, an issuer's keys, the
/// certificate, and the password of the endpoint.
struct Files {
    server: Program,
    drp: Drp,
    place: PathBuf,
}

impl Files {
    async fn start() -> Self {
        let (dir, drp) = (tempfile::tempdir().unwrap(), Drp::start().await);
        let (place, secret) = (dir.path().to_owned(), dir.path().join("secret"));
        certificate(&place);
        std::fs::write(&secret, "r0cketsk8ts").unwrap();
        let [chain, key, jwks] = ["chain.pem", "key.pem", "jwks.json"].map(|name| place.join(name));
        std::fs::write(&jwks, Provider::new().jwks.to_string()).unwrap();
        let secret = secret.display();
        let upstream = drp.settings(&format!("password_file = \"{secret}\"\nspread = \"10ms\"\n"));
        let [chain, key, jwks] = [&chain, &key, &jwks].map(|path| path.display());
        let toml = format!(
            "shards = 1\nauth.mode = \"local\"\ntimeouts = {{ header = \"60s\" }}\n\
             tls_cert = \"{chain}\"\ntls_key = \"{key}\"\n{upstream}\n\
             [token]\njwks = \"{jwks}\"\nissuer = \"https://id.lab\"\naudience = \"hydrant\"\n"
        );
        let server = Program::start_in(dir, &[], "files", "level = 'info'", &toml);
        drp.until_registered(1).await;
        Self { server, drp, place }
    }

    /// Changes all of them. Returns credentials that are good when all have been read.
    fn change(&self) -> Vec<String> {
        let data = self.server.data_dir();
        edit_store(&data, |store| store.add_user("late", HASH.clone(), &["superuser".to_owned()])).unwrap();
        certificate(&self.place);
        let provider = Provider::new();
        std::fs::write(self.place.join("jwks.json"), provider.jwks.to_string()).unwrap();
        let claims = serde_json::json!({
            "iss": "https://id.lab", "aud": "hydrant", "exp": now().as_second() + 600, "sub": "rocketskates",
        });
        let authority = Authority::open_existing(&data, AuthOptions::default()).unwrap();
        authority.rotate_keys().unwrap();
        let principal = "user:rocketskates".parse().unwrap();
        let issued = authority.issue_local(&principal, &TokenRequest::default(), now()).unwrap();
        let tokens = [provider.sign("ec", &claims), issued.token.expose().to_owned()];
        tokens.iter().for_each(|token| canary::validator(token));
        [basic("late:correct-horse")].into_iter().chain(tokens.map(|token| format!("Bearer {token}"))).collect()
    }

    /// Waits until these credentials are good.
    async fn until_good(&self, credentials: &str) {
        let headers = [("authorization", credentials)];
        let me = "/api/v3/hydrant/me";
        let good = async {
            while http::request(self.server.api, true, "GET", me, &headers, "").await.status.as_u16() != 200 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        patiently("a change to be in force", good).await;
    }
}

/// Files whose change is not in force, as a connection that is open already is told.
async fn not_in_force(probe: &mut Http) -> usize {
    let text = probe.request("GET", "/metrics", &[], "").await.body;
    text.lines().filter(|line| line.starts_with("hydrant_change_not_in_force{") && line.ends_with(" 1")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn files_that_cannot_be_opened_change_nothing_and_are_read_when_they_can() {
    const TAKEN: &str = "hydrant_certificate_reloads_total{outcome=\"taken\"}";
    let files = Files::start().await;
    let (server, drp) = (&files.server, &files.drp);
    let bearer = format!("Bearer {}", server.token().await);
    let mut client = server.raw(bearer.trim_start_matches("Bearer ")).await;
    client.send(&masked(0x81, b"register machines.*.*")).await;
    client.text().await;
    let (mut api, mut probe) = (Http::connect(server.api, true).await, Http::connect(server.probe, false).await);
    let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
    api.request("POST", "/api/v3/events", &headers, event("machines", "update", "before")).await.taken();
    client.text().await;
    assert_eq!(not_in_force(&mut probe).await, 0);

    // The link's own descriptor is not left over for anything else.
    drp.set_down(true);
    drp.cut();
    take_all_files(server.id()).await;
    drp.set_down(false);
    let (begun, used) = (Instant::now(), cpu(server.id()));
    let credentials = files.change();
    let waiting: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(server.api).unwrap()).collect();
    // A hundred events, and on a busy machine as many more as it needs to look at all files.
    let (mut told, mut number) = (0, 0);
    while number < 100 || told < 4 {
        assert!(begun.elapsed() < 2 * PATIENCE, "{told} files that cannot be read are told");
        api.request("POST", "/api/v3/events", &headers, event("machines", "update", &number.to_string())).await.taken();
        assert!(client.text().await.contains(&format!("\"Key\":\"{number}\"")), "nothing is lost");
        tokio::time::sleep(Duration::from_millis(20)).await;
        told = told.max(not_in_force(&mut probe).await);
        number += 1;
    }
    assert_eq!((drp.registrations(), told), (1, 4), "all that cannot be read are told");
    let (used, passed) = (cpu(server.id()).saturating_sub(used), begun.elapsed());
    limit_files(server.id(), None);
    drop(waiting);
    drp.until_registered(2).await;
    http::metric_satisfies(server.probe, TAKEN, |taken| taken >= 1).await;
    for credentials in &credentials {
        files.until_good(credentials).await;
    }
    assert_eq!(not_in_force(&mut probe).await, 0);
    assert_eq!(http::metric(server.probe, "hydrant_panics_total").await, 0);
    assert!(used < passed / 2, "{used:?} of {passed:?} on the processor: it spins");
    eprintln!(
        "no descriptors for {passed:.1?}: {number} of {number} events delivered, 4 of 4 changes told as not in force, \
         {used:?} of CPU, then all was read and the endpoint linked"
    );
}

/// Runs a script with the program as `$0` and a directory as `$1`.
fn shell(runner: &[&str], script: &str, dir: &Path) -> Output {
    let mut command = Command::new(runner[0]);
    command.args(&runner[1..]).args(["sh", "-euc", script, env!("CARGO_BIN_EXE_hydrant")]).arg(dir);
    command.stdin(Stdio::null()).output().unwrap()
}

fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.ends_with("auth.lock"))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    all.sort();
    all
}

/// Nothing can be written to any file, as on a disk that is full.
const FULL: &str = "trap '' XFSZ; ulimit -f 0;";

#[test]
#[ignore = "takes its time: make faults"]
fn a_change_that_does_not_fit_on_the_disk_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let first = shell(&["env"], "echo a-long-password | $0 users add alice --password-stdin --data-dir $1", &data);
    assert!(first.status.success(), "{first:?}");
    let first = shell(&["env"], "$0 token issue alice --data-dir $1", &data);
    assert!(first.status.success(), "{first:?}");
    let before = contents(&data);
    for change in [
        "echo a-long-password | $0 users add bob --password-stdin --data-dir $1",
        "echo a-long-password | $0 users passwd alice --password-stdin --data-dir $1",
        "$0 roles set watcher --claim machines/get/* --data-dir $1",
        "$0 token rotate --data-dir $1",
    ] {
        let done = shell(&["env"], &format!("{FULL} {change}"), &data);
        let told = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.code() == Some(1) && told.contains(data.to_str().unwrap()), "{change}: {told}");
        assert_eq!(contents(&data), before, "{change}");
    }
    let again = shell(&["env"], "echo a-long-password | $0 users add bob --password-stdin --data-dir $1", &data);
    assert!(again.status.success(), "{again:?}");
    let fresh = dir.path().join("fresh");
    let start = format!("{FULL} exec $0 serve --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 --data-dir $1");
    let done = shell(&["env"], &start, &fresh);
    let told = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success() && told.contains(fresh.to_str().unwrap()), "{told}");
    let left = std::fs::read_dir(&fresh)
        .map_or(0, |all| all.filter(|entry| entry.as_ref().unwrap().metadata().unwrap().len() > 0).count());
    assert_eq!(left, 0, "half a file");
    eprintln!("disk full: 4 of 4 changes refused with the path, nothing altered; a first start says so and ends");
}

/// Reads nothing, at most `most` of them, each with something else in its way.
async fn stalled(server: &Outside, most: usize) -> Vec<socket::Socket> {
    let mut all = Vec::new();
    for number in 0..most {
        let mut stream = socket::connect_narrow(server.api, false).await;
        let spec = format!("?register=machines.update.{number}&overflow=drop-oldest");
        let ask = crate::outside::upgrade(server.api).replacen("/api/v3/ws", &format!("/api/v3/ws{spec}"), 1);
        tokio::io::AsyncWriteExt::write_all(&mut stream, ask.as_bytes()).await.unwrap();
        all.push(stream);
    }
    http::metric_reaches(server.probe, "hydrant_registrations", most as u64).await;
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn the_budget_of_the_outboxes_comes_before_the_end_of_memory() {
    const READERS: usize = 100;
    const ROUNDS: usize = 8;
    let prepare = "ulimit -v 2500000; export MIMALLOC_ALLOW_THP=0";
    let toml = "shards = 1\n[limits]\nsocket_buffer = \"8KiB\"\n[outbox]\ntotal_bytes = \"16MiB\"\nage = \"off\"\n\
                [replay]\nbytes = \"1MiB\"";
    let mut server = Outside::start(prepare, Stdio::null(), toml).await;
    let readers = stalled(&server, READERS).await;
    let mut api = Http::connect(server.api, false).await;
    let basic = basic(LOGIN);
    let headers = [("authorization", basic.as_str()), ("content-type", NDJSON)];
    let filler = "x".repeat(64 << 10);
    for _ in 0..ROUNDS {
        let line = |at| format!(r#"{{"Type":"machines","Action":"update","Key":"{at}","Object":"{filler}"}}"#);
        let lines: Vec<String> = (0..READERS).map(line).collect();
        api.request("POST", "/api/v3/events", &headers, lines.join("\n")).await.taken();
    }
    let dropped = "hydrant_slow_consumers_total{policy=\"drop-oldest\"}";
    http::metric_satisfies(server.probe, dropped, |dropped| dropped > 0).await;
    http::metric_reaches(server.probe, "hydrant_inbox_events", 0).await;
    http::metric_satisfies(server.probe, "hydrant_frame_bytes", |bytes| bytes <= 16 << 20).await;
    assert!(server.is_healthy().await);
    let resident = server.metric("process_resident_memory_bytes").await >> 20;
    drop(readers);
    assert_eq!(server.end().code(), Some(0));
    let posted = (READERS * ROUNDS * 64) >> 10;
    eprintln!("2.4 GiB of addresses, a budget of 16 MiB: {posted} MiB for {READERS} stalled readers, {resident} MiB");
}

/// By a file system of its own, in a name space of its own.
mod mounts {
    use super::shell;

    /// A server with the data directory `$1/data`; the port of its probe is told by `$1/probe`.
    const FUNCTIONS: &str = r"
        data=$1/data; mkdir -p $data
        add() { echo a-long-password | $0 users add $1 --password-stdin --data-dir $data 2>$data.err; }
        serves() {
            port=$(($$ % 20000 + 20000))
            $0 serve --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:$port --data-dir $data 2>$data.log & server=$!
            for _ in $(seq 200); do $0 health 127.0.0.1:$port >/dev/null 2>&1 && break; sleep 0.1; done
            $0 health 127.0.0.1:$port >/dev/null || { cat $data.log >&2; exit 1; }
            kill $server; wait $server
        }
    ";

    fn good(script: &str) {
        let dir = tempfile::tempdir().unwrap();
        let done = shell(&["unshare", "-rm"], &format!("{FUNCTIONS}\n{script}"), dir.path());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    #[test]
    #[ignore = "mounts a file system: make soak"]
    fn a_full_data_directory_serves_and_takes_changes_when_there_is_room() {
        good(
            r"mount -t tmpfs -o size=256k none $data
            add alice; serves
            dd if=/dev/zero of=$data/fill bs=4k 2>/dev/null || true
            cp $data/auth.toml $data.before
            if add bob; then echo 'it fitted' >&2; exit 1; fi
            grep -q $data $data.err
            cmp $data/auth.toml $data.before
            serves
            rm $data/fill; add bob; serves",
        );
    }

    #[test]
    #[ignore = "mounts a file system: make soak"]
    fn a_read_only_data_directory_serves_and_refuses_changes() {
        good(
            r"mount -t tmpfs -o size=256k none $data
            add alice; serves
            mount -o remount,ro $data
            if add bob; then echo 'it was written' >&2; exit 1; fi
            grep -q 'ead-only' $data.err
            serves",
        );
    }
}
