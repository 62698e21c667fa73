//! The wall clock is set while the program runs, by Debian's faketime: what is measured by another clock goes on, and
//! nobody is closed who need not be. `make faults` runs it.

use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::common::http::{self, Http};
use crate::common::raw::masked;
use crate::common::{JSON, LOGIN, basic, event, patiently};
use crate::outside::{Outside, upgrade};

fn library() -> &'static str {
    let known = ["x86_64", "aarch64"].map(|of| format!("/usr/lib/{of}-linux-gnu/faketime/libfaketimeMT.so.1"));
    let found = known.into_iter().find(|path| Path::new(path).exists());
    found.expect("libfaketime is there: `make faults` installs it").leak()
}

/// The texts of frames until one has this in it.
async fn until(stream: &mut TcpStream, part: &str) {
    let mut all = Vec::new();
    let found = async {
        while !String::from_utf8_lossy(&all).contains(part) {
            all.push(stream.read_u8().await.unwrap());
        }
    };
    patiently(part, found).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs faketime: make faults"]
async fn a_clock_that_is_set_closes_nobody_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = dir.path().join("clock");
    let set = |offset: &str| {
        let beside = dir.path().join("beside");
        std::fs::write(&beside, format!("{offset}\n")).unwrap();
        std::fs::rename(&beside, &clock).unwrap();
    };
    set("+0");
    let prepare = format!(
        "export LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1",
        library(),
        clock.display()
    );
    let toml = "shards = 1\ntimeouts = { ping = \"200ms\", idle = \"30s\" }\n[outbox]\nage = \"5s\"";
    let mut server = Outside::start(&prepare, Stdio::null(), toml).await;
    let login = basic(LOGIN);
    let path = "/api/v3/users/rocketskates/token?ttl=12h";
    let issued = http::request(server.api, false, "GET", path, &[("authorization", &*login)], "").await.json();
    let bearer = format!("Bearer {}", issued["Token"].as_str().unwrap());
    let mut watcher = TcpStream::connect(server.api).await.unwrap();
    watcher.write_all(upgrade(server.api).replace(&login, &bearer).as_bytes()).await.unwrap();
    watcher.write_all(&masked(0x81, b"register machines.*.*")).await.unwrap();
    until(&mut watcher, "\"Action\":\"register\"").await;
    let mut api = Http::connect(server.api, false).await;
    for (round, offset) in ["+1h", "-1h", "+1h", "+0"].into_iter().enumerate() {
        set(offset);
        for number in 0..20 {
            let key = format!("{round}-{number}");
            let headers = [("authorization", login.as_str()), ("content-type", JSON)];
            api.request("POST", "/api/v3/events", &headers, event("machines", "update", &key)).await.taken();
            until(&mut watcher, &format!("\"Key\":\"{key}\"")).await;
        }
        // A token of twelve hours is good an hour later; one of the future is not, and says so.
        let asked =
            http::request(server.api, false, "GET", "/api/v3/hydrant/me", &[("authorization", &bearer)], "").await;
        assert_eq!(asked.status.as_u16() == 200, offset != "-1h", "{offset}: {}", asked.body);
        assert_eq!(server.metric("hydrant_connections").await, 1, "{offset}");
    }
    assert_eq!(server.metric("hydrant_panics_total").await, 0);
    assert_eq!(server.metric("hydrant_disconnects_total{reason=\"slow_consumer\"}").await, 0);
    assert_eq!(server.end().code(), Some(0));
    eprintln!("clock set by +1 h, -2 h, +2 h, -1 h: 80 of 80 events delivered, 0 connections closed, 0 panics");
}
