//! The work against hydrant itself, in this process, and against peers where they are installed.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use clap::Parser as _;
use hydrant::auth::{AuthOptions, Authority, PasswordHash, TokenRequest, edit_store};
use hydrant::config::{FlagValue, Settings, Sources};
use hydrant::server::Server;
use hydrant_loadtest::args::Cli;
use hydrant_loadtest::hostile::Upstream;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// A server on free ports, and its data.
struct Hydrant {
    url: String,
    metrics: String,
    _server: Server,
    _runtime: Runtime,
    _data: tempfile::TempDir,
}

impl Hydrant {
    fn start(tls: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), tls, None)
    }

    /// A server that has the first user and one without any role, in front of the endpoint at a URL if there is one;
    /// the token of the one without a role.
    fn with_guest(tls: &str, upstream: Option<&str>) -> (Self, String) {
        let data = tempfile::tempdir().unwrap();
        let directory = data.path().join("data");
        edit_store(&directory, |store| {
            store.add_user("rocketskates", PasswordHash::make("r0cketsk8ts")?, &["superuser".to_owned()])?;
            store.add_user("guest", PasswordHash::make("a-guest-has-no-role")?, &[])
        })
        .unwrap();
        let server = Self::start_in(data, tls, upstream);
        let authority = Authority::open_existing(&directory, AuthOptions::default()).unwrap();
        let now = hydrant::clock::now();
        let issued = authority.issue_local(&"user:guest".parse().unwrap(), &TokenRequest::default(), now).unwrap();
        (server, issued.token.expose().to_owned())
    }

    fn start_in(data: tempfile::TempDir, tls: &str, upstream: Option<&str>) -> Self {
        let directory = data.path().join("data").display().to_string();
        let flag = |key, text: &str| FlagValue { key, flag: "--test", text: text.to_owned() };
        let mut flags = vec![
            flag("listen", "127.0.0.1:0"),
            flag("metrics_listen", "127.0.0.1:0"),
            flag("tls", tls),
            flag("data_dir", &directory),
            // A unit is a nanosecond of a release build. A debug build takes some twenty times as long.
            flag("limits.filter_work_per_event", "500000"),
            flag("limits.filter_work_per_second", "10000000"),
            flag("limits.filter_work_per_principal", "20000000"),
        ];
        if let Some(url) = upstream {
            flags.extend([flag("upstream.urls", url), flag("upstream.password", "none"), flag("auth.mode", "local")]);
        }
        let settings = Settings::load(&Sources { file: None, env: Vec::new(), flags }).unwrap();
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(Server::start(settings)).unwrap();
        let scheme = if tls == "off" { "http" } else { "https" };
        let url = format!("{scheme}://{}", server.addresses()[0]);
        let metrics = server.probe_address().unwrap().to_string();
        Self { url, metrics, _server: server, _runtime: runtime, _data: data }
    }
}

/// Runs a subcommand against a server of this process; returns whether all was well, what it printed, and its JSON.
fn run(server: &Hydrant, work: &str, more: &[&str]) -> (bool, String, Value) {
    let pid = std::process::id().to_string();
    let target = ["--endpoint", &server.url, "--metrics", &server.metrics, "--insecure", "--server-pid", &pid];
    command(&[&[work], &target[..], more].concat())
}

fn command(line: &[&str]) -> (bool, String, Value) {
    let json = tempfile::NamedTempFile::new().unwrap();
    let page = tempfile::NamedTempFile::new().unwrap();
    let [json_path, page_path] = [&json, &page].map(|file| file.path().to_str().unwrap());
    let rest = ["--no-pin", "--json", json_path, "--html", page_path];
    let line = [&["hydrant-loadtest"], line, &rest].concat();
    let mut out = Vec::new();
    let clean = hydrant_loadtest::run(&Cli::try_parse_from(line).unwrap(), &mut out).unwrap();
    let table = String::from_utf8(out).unwrap();
    assert!(std::fs::read_to_string(page.path()).unwrap().ends_with("</html>\n"));
    (clean, table, serde_json::from_slice(&std::fs::read(json.path()).unwrap()).unwrap())
}

/// The first user's.
const LOGIN: &str = "Basic cm9ja2V0c2thdGVzOnIwY2tldHNrOHRz";

const SHORT: [&str; 8] = ["-n", "20", "--rounds", "1", "--turns", "3", "--k", "8"];

#[test]
fn compressed_deliveries_are_checked_and_deflated_once_by_event() {
    let server = Hydrant::start("off");
    let (clean, table, json) = run(&server, "burst", &[&SHORT[..], &["--deflate", "--payload", "12288"]].concat());
    assert!(clean, "{table}");
    let case = &json["cases"][0];
    assert!(case["wire_bytes"].as_f64().unwrap() < 6_000.0, "{table}");
    let deflated = case["encodings"]["deflate"].as_f64().unwrap();
    assert!((deflated - 1.0).abs() < 0.01, "{table}");
}

#[test]
fn single_posts_and_single_receivers() {
    let server = Hydrant::start("self-signed");
    let (clean, table, json) = run(&server, "burst", &[&SHORT[..], &["--single-post", "--selective"]].concat());
    assert!(clean, "{table}");
    assert_eq!(json["cases"][0]["counts"]["received"], 4 * 8);
    assert!(table.contains("8 posts"), "{table}");
}

#[test]
fn a_fleet_with_filters_gets_what_it_should_at_several_rates_beside_the_floor() {
    let server = Hydrant::start("off");
    let size = ["--machines", "20", "--runners", "20", "--portals", "2", "--scripts", "6", "--floor"];
    let (clean, table, json) = run(&server, "fleet", &[&size[..], &["--rate", "100,300", "--seconds", "2"]].concat());
    assert!(clean, "{table}");
    for rate in json["rates"].as_array().unwrap() {
        let (server, floor) = (&rate["server"][0], &rate["floor"][0]);
        assert_eq!(server["counts"]["received"], floor["counts"]["received"], "{table}");
        assert_eq!(server["latency"]["count"], server["counts"]["received"]);
    }
}

#[test]
fn the_greatest_rate_is_looked_for() {
    let server = Hydrant::start("off");
    let size = ["--machines", "20", "--runners", "5", "--portals", "1", "--scripts", "0"];
    let (clean, table, json) = run(&server, "fleet", &[&size[..], &["--percent", "1", "--seconds", "1"]].concat());
    assert!(clean, "{table}");
    assert!(json["capacity"]["events"].as_u64().unwrap() > 0);
    assert_eq!(json["rates"][0]["percent"], 1);
}

#[test]
fn stalled_readers_meet_a_known_fate() {
    let server = Hydrant::start("off");
    let (clean, table, json) = run(&server, "stall", &["--healthy", "3", "--stalled", "2", "--megabytes", "2"]);
    assert!(clean, "{table}");
    let fates = &json["results"][0]["rounds"][0]["fates"];
    let sum: u64 = ["complete", "notified", "closed"].iter().map(|name| fates[name].as_u64().unwrap()).sum();
    assert_eq!(sum, 2, "{table}");
}

#[test]
fn everybody_comes_back_and_nothing_is_left_over() {
    let server = Hydrant::start("self-signed");
    let (clean, table, json) = run(&server, "storm", &["-n", "50", "--rounds", "2", "--at-once", "20"]);
    assert!(clean, "{table}");
    let held = &json["rounds"][1]["held"];
    assert_eq!((held["connections"].as_u64(), held["registrations"].as_u64()), (Some(50), Some(150)), "{table}");
    assert_eq!(json["held_before"], json["held_after"], "{table}");
}

#[test]
fn clients_of_others_are_no_leak() {
    let server = Hydrant::start("off");
    let address = server.url.strip_prefix("http://").unwrap();
    let mut other = TcpStream::connect(address).unwrap();
    let head =
        format!("GET /api/v3/events?register=a.b.c HTTP/1.1\r\nHost: {address}\r\nAuthorization: {LOGIN}\r\n\r\n");
    other.write_all(head.as_bytes()).unwrap();
    let mut status = [0; 12];
    other.read_exact(&mut status).unwrap();
    assert_eq!(status, *b"HTTP/1.1 200");
    let (clean, table, json) = run(&server, "storm", &["-n", "10"]);
    assert!(clean, "{table}");
    assert_eq!(json["held_before"]["connections"], 1, "{table}");
    assert_eq!(json["rounds"][0]["held"], json!({ "connections": 11, "registrations": 31 }), "{table}");
}

/// A short form of what `make bench` measures: counts and bounds, no times, since the machine is not quiet.
#[test]
fn hostile_clients_cost_the_others_nothing_but_time() {
    let (server, token) = Hydrant::with_guest("self-signed", None);
    let size = ["--healthy", "10", "--rate", "50", "--seconds", "1", "--strength", "16", "--guest-token", &token];
    let (clean, table, json) = run(&server, "hostile", &size);
    assert!(clean, "{table}");
    assert_eq!(json["trials"].as_array().unwrap().len(), 20, "all attacks that there are");
    let (slots, others): (Vec<&Value>, Vec<&Value>) =
        json["trials"].as_array().unwrap().iter().partition(|trial| trial["attack"] == "slots");
    assert_eq!(slots[0]["verdict"], "left-out", "there is no endpoint behind this server: {table}");
    others.into_iter().for_each(|trial| assert_harmless(trial, &table));
    // That one is tried at a server that has one.
    let upstream = Upstream::start().unwrap();
    let (server, token) = Hydrant::with_guest("self-signed", Some(upstream.url()));
    let size = [&size[..size.len() - 1], &[token.as_str(), "--only", "slots", "--files"]].concat();
    let (clean, table, json) = run(&server, "hostile", &size);
    assert!(clean, "{table}");
    assert_harmless(&json["trials"][0], &table);
    assert!(json["trials"][0]["outcomes"]["begun"].as_u64().unwrap() >= 16, "{table}");
}

fn assert_harmless(trial: &Value, table: &str) {
    let (name, counts) = (trial["attack"].as_str().unwrap(), &trial["with"]["counts"]);
    assert_eq!((counts["received"].as_u64(), counts["lost"].as_u64()), (Some(10 * 50), Some(0)), "{name}: {table}");
    assert_eq!(trial["unready"], json!({}), "{name}: {table}");
    assert!(!trial["outcomes"].as_object().unwrap().is_empty(), "{name}: the attackers heard nothing: {table}");
    assert!(trial["with"]["growth"].as_u64().unwrap() < 512 << 20, "{name}: {table}");
}

#[test]
fn idle_connections_over_tls_are_weighed() {
    let server = Hydrant::start("self-signed");
    let (clean, table, _) = run(&server, "idle", &["-n", "30", "--rest", "0"]);
    assert!(clean, "{table}");
    assert!(table.contains("server, TLS"), "{table}");
}

#[test]
fn a_result_is_no_worse_than_itself() {
    let server = Hydrant::start("off");
    let json = tempfile::NamedTempFile::new().unwrap();
    let path = json.path().to_str().unwrap();
    let (clean, table, value) = run(&server, "burst", &SHORT);
    assert!(clean, "{table}");
    std::fs::write(path, value.to_string()).unwrap();
    for line in [["hydrant-loadtest", "report", path, path], ["hydrant-loadtest", "--compare", path, path]] {
        let mut out = Vec::new();
        let clean = hydrant_loadtest::run(&Cli::try_parse_from(line).unwrap(), &mut out).unwrap();
        let table = String::from_utf8(out).unwrap();
        assert!(clean && table.contains("CPU by delivery") && !table.contains("REGRESSION"), "{table}");
    }
}
