//! SIGKILL at every moment: while a process starts for the first time, makes its links, and replays; and endpoints
//! that stop at every step of a link. `make faults` runs them.

use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use tokio_tungstenite::tungstenite::Message;

use crate::common::descriptors::{limit_files, take_all_files};
use crate::common::drp::Drp;
use crate::common::http::{self, Http};
use crate::common::program::Program;
use crate::common::{Hydrant, LOGIN, NDJSON, Seen, basic, event, patiently};
use crate::process::NatsServer;
use crate::processes::{open, say};

const LOG: &str = "level = 'info'";

/// Posts lines with the first user's password.
async fn post(program: &Program, lines: &str) {
    let basic = basic(LOGIN);
    let headers = [("authorization", &*basic), ("content-type", NDJSON)];
    Http::connect(program.api, false).await.request("POST", "/api/v3/events", &headers, lines.to_owned()).await.taken();
}

/// The text messages of a websocket until its end.
async fn texts(socket: &mut crate::processes::Socket, most: usize) -> Vec<Seen> {
    let mut all = Vec::new();
    while all.len() < most
        && let Some(Ok(message)) = patiently("a message", socket.next()).await
    {
        if let Message::Text(text) = message {
            all.push(Seen::read(&text));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn a_first_start_that_is_killed_at_any_moment_is_followed_by_a_good_one() {
    const ROUNDS: u64 = 12;
    let mut files = std::collections::BTreeSet::new();
    for round in 0..ROUNDS {
        let dir = tempfile::tempdir().unwrap();
        let (data, text) = (dir.path().join("data"), "listen = [\"127.0.0.1:0\"]\nmetrics_listen = \"127.0.0.1:0\"");
        let file = dir.path().join("first.toml");
        std::fs::write(&file, format!("{text}\ndata_dir = \"{}\"\n", data.display())).unwrap();
        let mut first = Command::new(env!("CARGO_BIN_EXE_hydrant"));
        first.env_clear().args(["serve", "--config"]).arg(&file).stdin(Stdio::null());
        let mut first = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(round * 20)).await;
        first.kill().unwrap();
        first.wait().unwrap();
        let left = std::fs::read_dir(&data).map_or(0, Iterator::count);
        files.insert(left);
        let second = Program::start_in(dir, &[], "self-signed", LOG, "");
        assert!(!second.token().await.is_empty(), "the first user is there");
        let names: Vec<String> = std::fs::read_dir(second.data_dir())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(!names.iter().any(|name| name.contains(".new")), "{names:?}");
    }
    say(&format!("{ROUNDS} first starts killed, with {files:?} files made: each next start was good"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn a_process_that_is_killed_while_it_makes_its_links_makes_them_again() {
    let (mut nats, drp) = (NatsServer::start(), Drp::start().await);
    let toml = format!("{}\n[nats]\nurls = [\"{}\"]", drp.settings("spread = \"10ms\"\n"), nats.url());
    let linked = format!("hydrant_upstream_connected{{endpoint=\"{}\"}}", drp.address);
    for phase in ["greeting", "answer", "nats", "events"] {
        drp.set_hung(phase == "greeting");
        drp.set_mute(phase == "answer");
        if phase == "nats" {
            nats.signal("STOP");
        }
        let mut first = Program::start("off", LOG, &toml);
        tokio::time::sleep(Duration::from_millis(200)).await;
        drp.publish(&event("machines", "update", "lost"));
        first.kill();
        drp.set_hung(false);
        drp.set_mute(false);
        nats.signal("CONT");
        drp.cut();
        let second = Program::start("off", LOG, &toml);
        http::metric_reaches(second.probe, &linked, 1).await;
        http::metric_reaches(second.probe, "hydrant_nats_connected", 1).await;
        let mut client = open(second.api, &second.token().await, "machines.*.*", "").await.unwrap();
        texts(&mut client, 1).await;
        drp.publish(&event("machines", "update", phase));
        assert_eq!(texts(&mut client, 1).await[0].key, phase);
    }
    nats.kill();
    say("killed while greeting, registering, dialling NATS and following: 4 of 4 linked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn an_endpoint_that_stops_at_any_step_of_a_link_is_linked_again() {
    let drp = Drp::start().await;
    let times = "connect = \"3s\"\nanswer = \"3s\"\nspread = \"10ms\"\nping = \"500ms\"\nidle = \"4s\"\n";
    let server = Hydrant::start(&drp.settings(times)).await;
    drp.until_registered(1).await;
    let mut client = server.watch(&["machines.*.*", "hydrant.gap.*"]).await;
    for (round, step) in ["refused", "greeting", "answer", "silence"].into_iter().enumerate() {
        drp.set_down(step == "refused");
        drp.set_hung(step == "greeting");
        drp.set_mute(step == "answer");
        if step == "silence" {
            drp.freeze();
        } else {
            drp.cut();
            let attempts = drp.attempts();
            patiently("tries", async {
                while drp.attempts() < attempts + 2 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
        drp.set_down(false);
        drp.set_hung(false);
        drp.set_mute(false);
        let gap = client.event().await;
        assert_eq!(gap.name(), format!("hydrant.gap.{}", drp.address), "{step}");
        drp.publish(&event("machines", "update", step));
        assert_eq!(client.event().await.key, step, "{round}");
    }
    say("endpoint refused, hung, mute and silent: 4 of 4 found and linked again, each gap told once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn who_was_replaying_when_its_server_was_killed_is_told_what_is_gone() {
    let mut first = Program::start("off", LOG, "shards = 1\n[limits]\nsocket_buffer = \"8KiB\"");
    let began = hydrant::clock::now();
    let lines: Vec<String> = (0..2_000).map(|number| event("machines", "update", &number.to_string())).collect();
    post(&first, &lines.join("\n")).await;
    let token = first.token().await;
    let mut client = open(first.api, &token, "machines.*.*", &format!("&since={began}")).await.unwrap();
    // The answer and some of it.
    let got = texts(&mut client, 100).await;
    first.kill();
    let rest = texts(&mut client, usize::MAX).await;
    let keys: Vec<&str> = got.iter().chain(&rest).skip(1).map(|seen| seen.key.as_str()).collect();
    assert!(keys.iter().enumerate().all(|(at, key)| *key == at.to_string()), "a beginning of it, in order");
    let last = rest.last().or(got.last()).unwrap().time.clone();
    let second = Program::start("off", LOG, "shards = 1");
    let mut client = open(second.api, &second.token().await, "machines.*.*", &format!("&since={last}")).await.unwrap();
    let told = texts(&mut client, 2).await;
    assert_eq!(told[1].name(), "hydrant.gap.replay", "{told:?}");
    say(&format!("killed in a replay of 2,000 events: {} had come in order, then the gap was told", keys.len()));
}

/// What a connection that is open already is told.
async fn is_connected(probe: &mut Http) -> bool {
    let text = probe.request("GET", "/metrics", &[], "").await.body;
    text.contains("\nhydrant_nats_connected 1\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes its time: make faults"]
async fn a_node_without_descriptors_goes_on_alone_and_is_linked_when_it_has_some() {
    let mut nats = NatsServer::start();
    let toml = format!("shards = 1\ntimeouts = {{ header = \"60s\" }}\n[nats]\nurls = [\"{}\"]", nats.url());
    let node = Program::start("off", LOG, &toml);
    http::metric_reaches(node.probe, "hydrant_nats_connected", 1).await;
    let mut client = open(node.api, &node.token().await, "machines.*.*", "").await.unwrap();
    texts(&mut client, 1).await;
    let (mut api, mut probe) = (Http::connect(node.api, false).await, Http::connect(node.probe, false).await);
    let basic = basic(LOGIN);
    let headers = [("authorization", &*basic), ("content-type", NDJSON)];
    api.request("POST", "/api/v3/events", &headers, event("machines", "update", "before")).await.taken();
    texts(&mut client, 1).await;
    assert!(is_connected(&mut probe).await);
    nats.kill();
    take_all_files(node.id()).await;
    nats.revive();
    for number in 0..100 {
        let number = number.to_string();
        api.request("POST", "/api/v3/events", &headers, event("machines", "update", &number)).await.taken();
        assert_eq!(texts(&mut client, 1).await[0].key, number);
        assert!(!is_connected(&mut probe).await, "it has no descriptor for that");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    limit_files(node.id(), None);
    http::metric_reaches(node.probe, "hydrant_nats_connected", 1).await;
    http::metric_reaches(node.probe, "hydrant_nats_published_total", 101).await;
    say(
        "no descriptors for the link to NATS: 100 of 100 events delivered here, all published when it was linked again",
    );
}
