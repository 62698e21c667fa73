//! Tests of a whole server that need access to its internals.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::{Server, StartError};
use crate::broker::inbox::{Inbox, InboxLimits, inbox};
use crate::broker::{Broker, Queued};
use crate::clock;
use crate::config::{FlagValue, Settings, Sources};
use crate::event::Draft;
use crate::metrics::{HUNG, STALL, Source};

fn settings(dir: &std::path::Path) -> Settings {
    settings_with(dir, &[])
}

fn settings_with(dir: &std::path::Path, more: &[(&'static str, &str)]) -> Settings {
    let data = dir.display().to_string();
    let flag = |key, text: &str| FlagValue { key, flag: "--test", text: text.to_owned() };
    let mut flags = vec![
        flag("listen", "127.0.0.1:0"),
        flag("metrics_listen", "127.0.0.1:0"),
        flag("tls", "off"),
        flag("data_dir", &data),
        flag("shards", "1"),
        flag("connection_events", "false"),
    ];
    flags.extend(more.iter().map(|(key, text)| flag(key, text)));
    Settings::load(&Sources { file: None, env: Vec::new(), flags }).unwrap()
}

/// Sends a request of the first user over a keep-alive connection, and returns the answer, which is not long.
async fn ask(server: &Server, head: &str, body: &str) -> String {
    ask_over(&mut TcpStream::connect(server.addresses()[0]).await.unwrap(), head, body).await
}

/// The same over this connection; of a stream only the head is returned.
async fn ask_over(socket: &mut TcpStream, head: &str, body: &str) -> String {
    // rocketskates:r0cketsk8ts
    let credential = "Authorization: Basic cm9ja2V0c2thdGVzOnIwY2tldHNrOHRz\r\nContent-Type: application/json\r\n";
    let length = body.len();
    let request = format!("{head} HTTP/1.1\r\nHost: a\r\n{credential}Content-Length: {length}\r\n\r\n{body}");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !is_whole(&answer) {
        assert!(socket.read_buf(&mut answer).await.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Returns whether an answer has come with all of its body.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

/// One more shard, which is always asleep.
struct Sleeper {
    broker: Arc<Broker>,
    inbox: Inbox,
    rings: Arc<AtomicUsize>,
}

impl Sleeper {
    fn new(server: &Server) -> Self {
        let broker = Arc::clone(&server.api.broker);
        let rings = Arc::new(AtomicUsize::new(0));
        let rung = Arc::clone(&rings);
        let limits = InboxLimits { events: 1000, bytes: 1 << 20 };
        let (sender, inbox) = inbox(limits, move || {
            rung.fetch_add(1, Ordering::SeqCst);
        });
        broker.attach(sender);
        Self { broker, inbox, rings }
    }

    fn rings(&self) -> usize {
        self.rings.load(Ordering::SeqCst)
    }

    /// Queues an event for which the shard is not woken yet.
    fn queue(&self) -> Queued<'_> {
        while self.inbox.next().is_some() {}
        self.inbox.rearm();
        let before = self.rings();
        let event = Draft::new("a", "b", "c").seal(clock::now());
        let queued = self.broker.queue(vec![event], Source::Post).unwrap();
        assert_eq!(self.rings(), before, "it sleeps on");
        queued
    }
}

/// Events of small posts wait until their thread has no other post. Long work on that thread must not delay them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_takes_long_wakes_the_shards_first() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(settings(data.path())).await.unwrap();
    let shard = Sleeper::new(&server);
    let machine = "GET /api/v3/machines/3e7031fe-3062-45f1-835c-92541bc9cbd3/connections";
    let question = r#"{"Event":{"Type":"a","Action":"b","Key":"c"},"Spec":"a.b.c"}"#;
    // None of these has events taken.
    let small = "[".repeat(100);
    let large = "[".repeat(5000);
    for (head, body, wakes, status) in [
        ("GET /api/v3/hydrant/me", "", false, 200),
        ("POST /api/v3/events", small.as_str(), false, 400),
        ("POST /api/v3/events", large.as_str(), true, 400),
        ("GET /api/v3/connections", "", true, 200),
        (machine, "", true, 200),
        ("GET /api/v3/hydrant/registrations", "", true, 200),
        ("POST /api/v3/hydrant/explain", question, true, 200),
    ] {
        let before = shard.rings();
        let queued = shard.queue();
        let answer = ask(&server, head, body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
        assert_eq!(shard.rings() > before, wakes, "{head}");
        drop(queued);
        assert_eq!(shard.rings(), before + 1, "{head}");
    }
    server.stop().await;
}

/// An endpoint that answers questions for its connections and its info when it is told to.
#[derive(Default)]
struct Endpoint {
    asked: Notify,
    go: Notify,
}

impl Endpoint {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(Arc::clone(&self).answer(socket));
        }
    }

    async fn answer(self: Arc<Self>, mut socket: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && socket.read_buf(&mut head).await.unwrap_or(0) > 0 {}
        let head = String::from_utf8(head).unwrap();
        let (status, body) = match head.split(' ').nth(1) {
            Some("/api/v3/connections") => (200, r#"[{"Principal":"user:theirs"}]"#),
            Some("/api/v3/info") => (200, r#"{"os":"theirs"}"#),
            _ => (404, ""),
        };
        if status == 200 {
            self.asked.notify_one();
            self.go.notified().await;
        }
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} \r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        // Whoever asked may have gone.
        let _ = socket.write_all(answer.as_bytes()).await;
    }
}

/// What the endpoint has answered may be long too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_long_once_the_endpoint_has_answered_wakes_the_shards_first() {
    let data = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let endpoint = Arc::new(Endpoint::default());
    tokio::spawn(Arc::clone(&endpoint).serve(listener));
    let upstream = [("upstream.urls", &*url), ("upstream.token", "t"), ("auth.mode", "local")];
    let server = Server::start(settings_with(data.path(), &upstream)).await.unwrap();
    let shard = Sleeper::new(&server);
    for head in ["GET /api/v3/connections", "GET /api/v3/info"] {
        let answers = async {
            endpoint.asked.notified().await;
            let before = shard.rings();
            let queued = shard.queue();
            endpoint.go.notify_one();
            (before, queued)
        };
        let (answer, (before, queued)) = tokio::join!(ask(&server, head, ""), answers);
        assert!(answer.contains("theirs"), "{answer}");
        assert_eq!(shard.rings(), before + 1, "{head}");
        drop(queued);
    }
    server.stop().await;
}

/// Whoever asks about a registration learns that it was not compared with the names of events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warnings_that_are_missing_are_told() {
    const INCOMPLETE: &str = "\r\nx-hydrant-incomplete: warnings\r\n";
    const UNCOMPARED: &str = "were not compared with those of events";
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(settings(data.path())).await.unwrap();
    // Lists in one order are kept for a second.
    let list = async |sort| ask(&server, &format!("GET /api/v3/hydrant/registrations?sort={sort}"), "").await;
    let check = async || ask(&server, "POST /api/v3/hydrant/check", r#"{"Spec":"a.b.c"}"#).await;
    let told = async |sort| [list(sort).await.contains(INCOMPLETE), check().await.contains(UNCOMPARED)];
    assert_eq!(told("hits").await, [false; 2]);
    server.api.pool.hides_names.store(true, Ordering::Relaxed);
    assert_eq!(told("work").await, [true; 2]);
    for answer in [list("work").await, check().await] {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    server.stop().await;
}

/// A client that does as it is told, and comes again when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_that_full_inboxes_refuse_costs_nothing_of_the_quota() {
    let data = tempfile::tempdir().unwrap();
    let mut settings = settings(data.path());
    settings.limits.posted_events_per_second = 1;
    let server = Server::start(settings).await.unwrap();
    let (sender, inbox) = inbox(InboxLimits { events: 1, bytes: 1 << 20 }, || ());
    server.api.broker.attach(sender);
    server.api.broker.publish(vec![Draft::new("a", "b", "c").seal(clock::now())], Source::Demo).unwrap();
    let one = r#"{"Type":"a","Action":"b"}"#;
    // They are worth a thousand seconds.
    let many = format!("[{}]", [one; 1000].join(","));
    let post = async |body: &str| ask(&server, "POST /api/v3/events", body).await;
    assert!(post(&many).await.starts_with("HTTP/1.1 429 "));
    while inbox.next().is_some() {}
    assert!(post(one).await.starts_with("HTTP/1.1 204 "));
}

/// What any user may ask for is not begun before its turn, however it is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_takes_long_waits_for_its_turn() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(settings(data.path())).await.unwrap();
    let mut stream = TcpStream::connect(server.addresses()[0]).await.unwrap();
    ask_over(&mut stream, "GET /api/v3/events?register=a.b.c", "").await;
    let _turns = server.api.take_all_turns().await;
    let wrong = "[".repeat(5000);
    let object = format!("{{{wrong}");
    let ask = async |head: &str, body: &str| ask(&server, head, body).await.split(' ').nth(1).unwrap().to_owned();
    let connection = format!("GET /api/v3/connections/{}", stream.local_addr().unwrap());
    let streams = ["a.b.c.N=Re((", "a.b", &wrong].map(|spec| format!("GET /api/v3/events?register={spec}"));
    let statuses = tokio::join!(
        ask("POST /api/v3/hydrant/explain", &object),
        ask("POST /api/v3/hydrant/check", &object),
        ask(&connection, ""),
        ask(&streams[0], ""),
        ask(&streams[2], ""),
        ask(&streams[1], ""),
        ask("GET /api/v3/events?register=a.b.c", ""),
        ask("POST /api/v3/events", r#"{"Type":"a","Action":"b"}"#),
    );
    let expected = ["503", "503", "503", "503", "503", "400", "200", "204"].map(str::to_owned);
    assert_eq!(<[String; 8]>::from(statuses), expected);
}

/// A few bytes that inflate to many take no memory for them while they wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_are_not_inflated_before_their_turn() {
    let data = tempfile::tempdir().unwrap();
    let limits = [("limits.body_bytes", "4MiB"), ("limits.event_bytes", "2MiB")];
    let server = Server::start(settings_with(data.path(), &limits)).await.unwrap();
    let _turns = server.api.take_all_turns().await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::Write::write_all(&mut gzip, &vec![b' '; 3 << 20]).unwrap();
    let gzip = gzip.finish().unwrap();
    let ask = async |path: &str| {
        let mut socket = TcpStream::connect(server.addresses()[0]).await.unwrap();
        let head = format!(
            "POST /api/v3/hydrant/{path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
             Authorization: Basic cm9ja2V0c2thdGVzOnIwY2tldHNrOHRz\r\nContent-Encoding: gzip\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            gzip.len()
        );
        socket.write_all(&[head.as_bytes(), &gzip].concat()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    // All that bodies may take, 16 MiB, has room for five of them once they are inflated.
    let answers = futures_util::future::join_all((0..20).map(|_| ask("explain"))).await;
    for answer in answers {
        assert!(answer.contains("other explanations are in progress"), "{answer}");
    }
    // It would be too long.
    assert!(ask("check").await.contains("other explanations are in progress"));
}

/// A shard that is stuck holds up only the questions about connections that it may have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_about_a_connection_of_a_stuck_shard_holds_up_no_other_question() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(settings(data.path())).await.unwrap();
    let hidden = &server.api.pool.hides_connections;
    hidden.store(1, Ordering::Relaxed);
    let event = r#""Event":{"Type":"a","Action":"b","Key":"c"}"#;
    let about_one = format!(r#"{{{event},"Connection":"192.0.2.1:9"}}"#);
    let stuck = ask(&server, "POST /api/v3/hydrant/explain", &about_one);
    let others = async {
        while hidden.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        hidden.store(0, Ordering::Relaxed);
        let question = format!(r#"{{{event},"Spec":"a.b.c"}}"#);
        let explained = ask(&server, "POST /api/v3/hydrant/explain", &question).await;
        let checked = ask(&server, "POST /api/v3/hydrant/check", r#"{"Spec":"a.b.c"}"#).await;
        let mut stream = TcpStream::connect(server.addresses()[0]).await.unwrap();
        ask_over(&mut stream, "GET /api/v3/events?register=a.b.c", "").await;
        let connection = format!("GET /api/v3/connections/{}", stream.local_addr().unwrap());
        [explained, checked, ask(&server, &connection, "").await]
    };
    tokio::select! {
        answer = stuck => panic!("{answer}"),
        answers = others => assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200 ")), "{answers:?}"),
    }
}

/// Asks a probe, and returns the status and the whole body.
async fn probe(server: &Server, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(server.probe_address().unwrap()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
}

/// Kubernetes restarts by `/healthz`, systemd by its watchdog: after the same time, and for nothing less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_shard_hangs_is_to_be_restarted() {
    const SECOND: Duration = Duration::from_secs(1);
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(settings(data.path())).await.unwrap();
    let Some(epoch) = Instant::now().checked_sub(2 * HUNG) else { return };
    let shard = server.api.broker.metrics().shard_since(1, epoch);
    let ok = || ("200".to_owned(), "ok\n".to_owned());
    assert_eq!(probe(&server, "/healthz").await, ok());
    shard.begin_turn(Instant::now().checked_sub(2 * STALL).unwrap());
    assert_eq!(probe(&server, "/readyz").await.0, "503", "it is stalled");
    assert_eq!(probe(&server, "/healthz").await, ok(), "but may go on");
    shard.begin_turn(Instant::now().checked_sub(HUNG + SECOND).unwrap());
    let stuck = "a shard has been stuck for more than 30s\n".to_owned();
    assert_eq!(probe(&server, "/healthz").await, ("503".to_owned(), stuck));
    shard.turn(0, HUNG + SECOND);
    assert_eq!(probe(&server, "/healthz").await, ok(), "it went on after all");
    server.stop().await;
    let unit = include_str!("../../dist/systemd/hydrant.service");
    let watchdog = unit.lines().find_map(|line| line.strip_prefix("WatchdogSec=")).unwrap();
    assert_eq!(watchdog, HUNG.as_secs().to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_id_stays_and_is_never_replaced() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("id");
    let id = || super::identity(&settings(data.path()));
    let first = id().unwrap();
    assert_eq!((id().unwrap(), std::fs::read_to_string(&file).unwrap()), (first.clone(), first));
    for bad in [&b""[..], b" \n", b"\xff\xfe"] {
        std::fs::write(&file, bad).unwrap();
        let error = id().unwrap_err().to_string();
        assert!(error.contains(file.to_str().unwrap()), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), bad);
    }
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    assert!(id().is_err() && file.is_dir(), "what cannot be read is not missing");
    std::fs::remove_dir(&file).unwrap();
    std::os::unix::fs::symlink("not-mounted", &file).unwrap();
    assert!(id().is_err() && file.is_symlink(), "nor is a link whose target is missing");
}

/// A server whose start fails is dropped too.
#[test]
fn nothing_runs_after_a_server_has_been_dropped() {
    let data = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::start(settings(data.path()))).unwrap();
    let broker = Arc::downgrade(&server.api.broker);
    drop(server);
    drop(runtime);
    let deadline = Instant::now() + Duration::from_mins(1);
    while broker.strong_count() > 0 {
        assert!(Instant::now() < deadline, "a thread still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Behind a balancer, others reach the listeners of the PROXY protocol too.
#[tokio::test]
async fn nobody_else_reaches_a_server_with_the_well_known_password() {
    let data = tempfile::tempdir().unwrap();
    let (inside, outside) = ("127.0.0.1:0".parse().unwrap(), "0.0.0.0:0".parse().unwrap());
    for (listen, proxied) in [(outside, inside), (inside, outside)] {
        let mut settings = settings(data.path());
        (settings.listen, settings.listen_proxy_protocol) = (vec![listen], vec![proxied]);
        match Server::start(settings).await {
            Err(error @ StartError::DefaultCredentials { address, .. }) => {
                assert_eq!(address, outside);
                assert!(error.to_string().contains(&format!("--data-dir {}`", data.path().display())), "{error}");
            }
            other => panic!("{listen} {proxied}: {other:?}"),
        }
    }
}
