//! Programs that people have at hand: curl posts compressed files, wget asks the probes, Python reads a stream.
//! `make outside` runs this.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::clients::{Client, asks_for_what_another_clock_has};
use crate::common::{Hydrant, JSON, NDJSON, Seen, event};

/// What curl prints: the body, and the status at its end.
fn curl(server: &Hydrant, token: &str, arguments: &[&str], body: &Path) -> String {
    let scheme = if server.tls { "https" } else { "http" };
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--insecure", "--max-time", "60", "--write-out", "%{http_code}"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(arguments)
        .arg("--data-binary")
        .arg(format!("@{}", body.display()))
        .arg(format!("{scheme}://{}/api/v3/events", server.address()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs curl: make outside"]
async fn curl_posts_compressed_files() {
    let dir = tempfile::tempdir().unwrap();
    let gzip = |name: &str, text: &str| {
        let mut out = GzEncoder::new(Vec::new(), Compression::default());
        out.write_all(text.as_bytes()).unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, out.finish().unwrap()).unwrap();
        path
    };
    let lines: Vec<String> = (0..2_000).map(|at| event("a", "b", &format!("line-{at}"))).collect();
    let one = gzip("event.json.gz", &event("a", "b", "one"));
    // More than a kilobyte, so that curl asks first (`Expect: 100-continue`) where it does so.
    let many = gzip("events.ndjson.gz", &lines.join("\n"));
    for server in [Hydrant::start("").await, Hydrant::start_tls("").await] {
        let mut client = server.watch(&["a.b.*"]).await;
        let token = server.token().await;
        let (json, ndjson) = (format!("Content-Type: {JSON}"), format!("Content-Type: {NDJSON}"));
        let gzip = "Content-Encoding: gzip";
        assert_eq!(curl(&server, token, &["--header", &json, "--header", gzip], &one), "204");
        let asking = ["--header", &ndjson, "--header", gzip, "--header", "Expect: 100-continue"];
        assert_eq!(curl(&server, token, &asking, &many), "204");
        assert_eq!(client.event().await.key, "one");
        for at in 0..2_000 {
            assert_eq!(client.event().await.key, format!("line-{at}"));
        }
        let unsaid = curl(&server, token, &["--header", &json], &one);
        assert!(unsaid.ends_with("400") && unsaid.contains("gzip"), "{unsaid}");
        let unknown = curl(&server, token, &["--header", &json, "--header", "Content-Encoding: br"], &one);
        assert!(unknown.ends_with("415"), "{unknown}");
    }
}

/// Whether `wget --spider`, which asks with HEAD, finds a page.
fn spider(url: &str) -> bool {
    let output = Command::new("wget").args(["--spider", "--tries=1", "--timeout=30", "--no-verbose", url]).output();
    output.unwrap().status.success()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs wget: make outside"]
async fn wget_looks_at_the_probes() {
    let server = Hydrant::start("timeouts = { lame_duck = \"1h\" }").await;
    let probe = server.server.probe_address().unwrap();
    for path in ["healthz", "readyz", "metrics"] {
        assert!(spider(&format!("http://{probe}/{path}")), "{path}");
    }
    assert!(!spider(&format!("http://{probe}/nowhere")));
    let ending = tokio::spawn(server.stop());
    tokio::task::yield_now().await;
    let unready = async {
        while spider(&format!("http://{probe}/readyz")) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    crate::common::patiently("the server to be unready", unready).await;
    assert!(spider(&format!("http://{probe}/healthz")), "it lives");
    ending.abort();
}

/// Deletes the only stream.
async fn cut(server: &Hydrant) {
    let rows = server.request("GET", "/api/v3/connections?Type=Ne(http)", &[], "").await.json();
    let path = format!("/api/v3/connections/{}", rows[0]["RemoteAddr"].as_str().unwrap());
    assert_eq!(server.request("DELETE", &path, &[], "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python: make outside"]
async fn python_misses_and_doubles_nothing_of_a_stream_that_is_cut() {
    const ROUNDS: usize = 4;
    for server in [Hydrant::start("").await, Hydrant::start_tls("").await] {
        let scheme = if server.tls { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", server.address());
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clients/python/stream.py");
        let mut python = Command::new("python3");
        python.arg(example).arg("a.b.*").env("RS_ENDPOINT", endpoint).env("RS_TOKEN", server.token().await);
        let mut client = Client::spawn(&mut python);
        server.until("hydrant_registrations", 1).await;
        let mut expected = 0;
        for round in 0..ROUNDS {
            // The first of a round come over the connection, the others while there is none.
            for at in 0..60 {
                if at == 30 && round < ROUNDS - 1 {
                    cut(&server).await;
                }
                server.announce("a", "b", &(60 * round + at).to_string()).await;
            }
            while expected < 60 * (round + 1) {
                assert_eq!(Seen::read(&client.line().await).name(), format!("a.b.{expected}"));
                expected += 1;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Python: make outside"]
async fn python_misses_nothing_of_a_stream_by_another_clock() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clients/python/stream.py");
    asks_for_what_another_clock_has(Command::new("python3").arg(example)).await;
}
