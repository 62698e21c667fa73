//! Who may use the NATS server, and over what.

use std::sync::Arc;

use hydrant::auth::Secret;
use hydrant::cluster::{Login, NatsOptions, Tls};

use crate::brokers::{Node, options};
use crate::common::patiently;
use crate::nodes::node;
use crate::process::NatsServer;

async fn connects(options: &NatsOptions) {
    let node = Node::start(options, 100).await;
    let connected = async {
        while node.broker.metrics().nats.connected.get() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    patiently("a connection", connected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_or_a_password_lets_in_and_a_wrong_one_does_not() {
    let nats = NatsServer::with(&["--auth", "s3cret"]);
    connects(&NatsOptions { login: Arc::new(Login::Token(Secret::new("s3cret"))), ..options(&nats, 1) }).await;
    let nats = NatsServer::with(&["--user", "hydrant", "--pass", "s3cret"]);
    let password = |text| Login::Password { user: "hydrant".to_owned(), password: Secret::new(text) };
    connects(&NatsOptions { login: Arc::new(password("s3cret")), ..options(&nats, 1) }).await;
    let node = Node::start(&NatsOptions { login: Arc::new(password("wrong")), ..options(&nats, 2) }, 100).await;
    let told = until_error(&node).await;
    assert!(told.contains("refused the login"), "{told}");
    assert_eq!(node.broker.metrics().nats.connected.get(), 0);
}

/// What `/readyz` says of why there is no connection.
async fn until_error(node: &Node) -> String {
    let error = async {
        loop {
            if let Some(error) = node.health.report().error {
                return error;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    patiently("an error", error).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_name_files_with_the_secrets() {
    let nats = NatsServer::with(&["--user", "hydrant", "--pass", "s3cret"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "s3cret\n").unwrap();
    let toml =
        format!("[nats]\nurls = [\"{}\"]\nuser = \"hydrant\"\npassword_file = \"{}\"\n", nats.url(), file.display());
    let node = crate::common::Hydrant::start(&toml).await;
    node.until("hydrant_nats_connected", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_nkey_lets_in() {
    let keys = nkeys::KeyPair::new_user();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("nats.conf");
    let text = format!("authorization: {{ users: [ {{ nkey: {} }} ] }}\n", keys.public_key());
    std::fs::write(&config, text).unwrap();
    let nats = NatsServer::with(&["-c", config.to_str().unwrap()]);
    let seed = Secret::new(keys.seed().unwrap());
    connects(&NatsOptions { login: Arc::new(Login::nkey(&seed).unwrap()), ..options(&nats, 1) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_verified_by_the_authority_that_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    std::fs::write(path("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(path("other.pem"), other.cert.pem()).unwrap();
    let (cert, key) = (path("cert.pem").display().to_string(), path("key.pem").display().to_string());
    let nats = NatsServer::with(&["--tls", "--tlscert", &cert, "--tlskey", &key]);
    let trusting = |file: &str| Tls { ca_file: Some(path(file)), certificate: None };
    connects(&NatsOptions { tls: trusting("cert.pem"), ..options(&nats, 1) }).await;
    let node = Node::start(&NatsOptions { tls: trusting("other.pem"), ..options(&nats, 2) }, 100).await;
    let told = until_error(&node).await;
    assert!(told.contains("TLS with 127.0.0.1") && told.contains("certificate"), "{told}");
    assert_eq!(node.broker.metrics().nats.connected.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let mut nats = NatsServer::start();
    nats.kill();
    let toml = format!("[nats]\nurls = [\"{}\"]\n", nats.url());
    let early = crate::common::Hydrant::start(&toml).await;
    early.announce("a", "b", "taken though NATS is away").await;
    nats.revive();
    early.until("hydrant_nats_connected", 1).await;
    let late = node(&nats, "").await;
    late.until("hydrant_nats_peers", 1).await;
}

/// Whether a thread of this process has the name.
fn has_thread(name: &str) -> bool {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    threads
        .flatten()
        .any(|thread| std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|found| found.trim() == name))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_use_nats_leaves_nothing_running() {
    let dir = tempfile::tempdir().unwrap();
    let creds = dir.path().join("nats.creds");
    std::fs::write(&creds, "nothing of the kind").unwrap();
    let with =
        |setting: &str| format!("[nats]\nurls = [\"nats://127.0.0.1:1\"]\n{setting} = \"{}\"\n", creds.display());
    let nkey = crate::common::settings(dir.path(), &with("nkey_file"), "off");
    let error = hydrant::server::Server::start(nkey).await.unwrap_err().to_string();
    assert!(error.contains("nats.creds") && error.contains("does not begin with S"), "{error}");
    let nats = with("creds_file");
    // More than any other test of this process has.
    let settings = crate::common::settings(dir.path(), &format!("shards = 23\n{nats}"), "off");
    let error = hydrant::server::Server::start(settings).await.unwrap_err();
    assert!(error.to_string().contains("has no JWT"), "{error}");
    assert!(!has_thread("shard-22"));
}
