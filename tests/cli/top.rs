//! `hydrant top`: one picture for scripts, and the whole of it on a terminal (of `script`, which is part of every
//! Debian).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;

use crate::support::{Broker, Cutter, PATIENCE, run, start};

#[test]
fn one_picture_has_all_there_is() {
    let broker = Broker::start();
    let url = broker.url();
    let watcher = start(&["watch", "machines.*.*.Stage=Eq(local)", "-E", &url], &[]);
    assert!(watcher.err_lines().next().unwrap().contains("connected"));
    broker.post(r#"{"Type":"machines","Action":"update","Key":"1","Object":{"Stage":"local"}}"#);
    let done = broker.run(&["top", "--once", "--interval", "0.5"], "");
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    for part in ["events in", "post 1", "user:rocketskates", "machines.*.*.Stage=Eq(local)", "Shard"] {
        assert!(done.out.contains(part), "{part}: {}", done.out);
    }
    assert!(!done.out.contains('\u{1b}'));
    let (_, connections) = done.out.split_once("\nConnections\n").unwrap();
    let (connections, _) = connections.split_once("\n\nRegistrations\n").unwrap();
    assert_eq!(connections.lines().count(), 2, "the head and the watcher, but not the command itself: {connections}");
    let done = broker.run(&["top", "--once", "--json", "-i", "0.5"], "");
    let picture: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(picture["Status"]["Received"]["post"], 1);
    assert!(picture["Rates"]["Seconds"].as_f64().unwrap() >= 0.4);
    assert_eq!(picture["Registrations"][0]["Spec"], "machines.*.*.Stage=Eq(local)");
    let kinds: Vec<&Value> = picture["Connections"].as_array().unwrap().iter().map(|one| &one["Type"]).collect();
    assert!(kinds.contains(&&Value::from("websocket")), "{kinds:?}");
}

/// Opens a stream, as the first user.
fn stream(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let login = "Basic cm9ja2V0c2thdGVzOnIwY2tldHNrOHRz";
    let request =
        format!("GET /api/v3/events?register=a.b.c HTTP/1.1\r\nHost: {address}\r\nAuthorization: {login}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(status, *b"HTTP/1.1 200");
    stream
}

#[test]
fn json_has_every_connection_and_text_says_that_it_has_not() {
    let broker = Broker::start();
    let streams: Vec<TcpStream> = (0..501).map(|_| stream(&broker.address)).collect();
    let done = broker.run(&["top", "--once", "--json", "-i", "0.5"], "");
    let picture: Value = serde_json::from_str(&done.out).unwrap();
    let found = picture["Connections"].as_array().unwrap().iter().filter(|one| one["Type"] == "stream");
    assert_eq!(found.count(), streams.len());
    let done = broker.run(&["top", "--once", "-i", "0.5"], "");
    assert!(done.out.contains("... of the 500 with the most queued bytes"), "{}", done.out);
}

#[test]
fn a_list_without_the_connections_of_the_endpoint_says_so() {
    let nowhere = [
        ("HYDRANT_UPSTREAM_URLS", "https://127.0.0.1:9"),
        ("HYDRANT_UPSTREAM_TLS", "insecure"),
        ("HYDRANT_UPSTREAM_USERNAME", "hydrant"),
        ("HYDRANT_UPSTREAM_PASSWORD", "a long password"),
        ("HYDRANT_AUTH_MODE", "local"),
    ];
    let broker = Broker::start_with(&nowhere);
    let done = broker.run(&["top", "--once", "-i", "0.5"], "");
    let expected = "Connections\nincomplete: the endpoint did not return its connections\nPrincipal";
    assert!(done.code == Some(0) && done.out.contains(expected), "{}{}", done.out, done.err);
    let done = broker.run(&["top", "--once", "--json", "-i", "0.5"], "");
    let picture: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(picture["ConnectionsMissing"], "endpoint", "{picture}");
    assert_eq!(picture.get("RegistrationsMissing"), None);
}

#[test]
fn rates_of_two_nodes_are_none() {
    let (one, other) = (Broker::start(), Broker::start());
    let balancer = Cutter::over(&[&one.address, &other.address]);
    // A connection that is idle for as long is not used again.
    let endpoint = format!("http://{}", balancer.address);
    let done = run(&["top", "--once", "--json", "-i", "3.5", "-E", &endpoint], "", &[]);
    let picture: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!((done.code, &picture["Rates"]), (Some(1), &Value::Null), "{}", done.err);
    assert!(picture["Status"].is_object() && done.err.contains("different nodes"), "{}", done.err);
}

#[test]
fn who_may_not_see_it_is_told_why() {
    let broker = Broker::start();
    broker.set_role("bob", "machines/get,list/*");
    broker.add_user("bob", "a long password");
    // A running broker notices within a second.
    let broker = broker.stop()();
    let url = broker.url();
    let bob = [("RS_ENDPOINT", url.as_str()), ("RS_KEY", "bob:a long password")];
    let done = run(&["top", "--once"], "", &bob);
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    assert!(done.err.contains("403 (Forbidden)") && done.err.contains("connections/list"), "{}", done.err);
    let wrong = run(&["top", "--once"], "", &[bob[0], ("RS_KEY", "bob:wrong")]);
    assert!(wrong.code == Some(1) && wrong.err.contains("not valid\n"), "{}", wrong.err);
    let nowhere = run(&["top", "--once", "-E", "http://127.0.0.1:9"], "", &[]);
    assert!(nowhere.code == Some(1) && nowhere.err.contains("cannot connect"), "{}", nowhere.err);
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let done = run(&["top"], "", &[("TERM", "xterm")]);
    assert_eq!((done.code, done.out.as_str()), (Some(64), ""));
    assert!(done.err.contains("--once"), "{}", done.err);
    for bad in [&["top", "--json"][..], &["top", "-i", "0"]] {
        assert_eq!(run(bad, "", &[]).code, Some(64));
    }
}

/// A terminal with a shell in it, which runs a command, then tells its exit code and how it has left the terminal.
struct Terminal {
    child: Child,
    keys: Option<ChildStdin>,
    shown: Arc<Mutex<Vec<u8>>>,
    dir: tempfile::TempDir,
}

impl Terminal {
    fn top(endpoint: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        // `nohup` or a shell may have had the tests ignore a signal, and `top` follows that.
        let program = concat!("env --default-signal=HUP,INT '", env!("CARGO_BIN_EXE_hydrant"), "'");
        let top = format!("exec {program} top -i 0.5 -E {endpoint} {more}");
        let inner = dir.path().join("inner.sh");
        std::fs::write(&inner, format!("echo $$ >'{}'; {top}", pid.display())).unwrap();
        let outer =
            format!("stty rows 24 cols 80; sh '{}'; echo \"ended with $?\"; stty -a; echo over", inner.display());
        let mut child = Command::new("script")
            .args(["-qfec", &outer, "/dev/null"])
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut out, into) = (child.stdout.take().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut bytes) {
                into.lock().extend_from_slice(&bytes[..count]);
            }
        });
        Self { keys: child.stdin.take(), child, shown, dir }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock()).into_owned()
    }

    /// Waits until something has been shown since the last time that something was waited for.
    fn until(&self, wanted: &str) {
        let begun = Instant::now();
        while !self.text().contains(wanted) {
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {wanted}: {}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn forget(&self) {
        self.shown.lock().clear();
    }

    fn press(&mut self, keys: &str) {
        let mut to = self.keys.as_ref().unwrap();
        to.write_all(keys.as_bytes()).unwrap();
        to.flush().unwrap();
    }

    fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.dir.path().join("pid")).unwrap();
        assert!(Command::new("kill").args([&format!("-{name}"), pid.trim()]).status().unwrap().success());
    }

    /// The shell is back, and the terminal is as it was.
    fn ended(mut self, code: i32) -> String {
        self.until("over\r\n");
        let text = self.text();
        assert!(text.contains(&format!("ended with {code}\r\n")), "{text}");
        let left = text.rfind("\u{1b}[?1049l").expect("the alternate screen was left");
        let after = &text[left..];
        assert!(after.contains("\u{1b}[?25h"), "no cursor: {after:?}");
        let settings = &after[after.find("speed").unwrap()..];
        for wanted in [" icanon", " echo ", " isig", " icrnl"] {
            assert!(settings.replace(['\r', '\n'], " ").contains(wanted), "{wanted}: {settings}");
        }
        self.keys = None;
        let _ = self.child.wait();
        text
    }
}

impl Drop for Terminal {
    /// Nothing of a test that failed stays behind: the terminal goes, and with it what runs in it.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn keys_change_what_is_shown_and_the_terminal_is_given_back() {
    let broker = Broker::start();
    let mut terminal = Terminal::top(&broker.url(), "");
    terminal.until("1 Overview");
    terminal.until("deliveries");
    terminal.press("2");
    terminal.until("Principal");
    terminal.press("3");
    terminal.until("Registration");
    terminal.press("?");
    terminal.until("Press any key to close this help.");
    terminal.press("xq");
    terminal.ended(0);
}

#[test]
fn signals_and_ctrl_c_give_the_terminal_back() {
    let broker = Broker::start();
    for end in ["TERM", "INT", "HUP", "\u{3}"] {
        let mut terminal = Terminal::top(&broker.url(), "");
        terminal.until("deliveries");
        if end == "\u{3}" {
            terminal.press(end);
        } else {
            terminal.signal(end);
        }
        terminal.ended(0);
    }
}

#[test]
fn a_lost_server_is_shown_and_found_again_and_lost_rights_end_it() {
    let broker = Broker::start();
    broker.set_role("bob", "connections/list/*");
    broker.add_user("bob", "a long password");
    // A running broker notices within a second.
    let broker = broker.stop()();
    let terminal = Terminal::top(&broker.url(), "-U bob -P 'a long password'");
    terminal.until("live");
    terminal.forget();
    let start = broker.stop();
    terminal.until("LOST");
    // Of what follows only the letters that differ from what was there are written.
    terminal.until("cannot connect to");
    let broker = start();
    terminal.until("live");
    terminal.forget();
    broker.set_role("bob", "machines/get/*");
    let text = terminal.ended(1);
    assert!(text.contains("403 (Forbidden)"), "{text}");
}
