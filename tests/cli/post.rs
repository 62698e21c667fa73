//! `hydrant post` against a server that answers as the test says.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::faults::Faults;
use crate::ports::Held;
use crate::support::{Done, PATIENCE, run, start};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

struct Server {
    address: String,
    /// The bodies, as they came.
    bodies: Receiver<String>,
    /// Their media types.
    kinds: Receiver<String>,
    _faults: Faults,
    _runtime: Runtime,
}

/// Status, `Retry-After` (or `close`, or a `Location`) and body of an answer; status 0 breaks the connection instead.
type Answer = (u16, &'static str, &'static str);

const TAKEN: Answer = (204, "", "");
/// The server takes it, then closes the connection.
const LAST: Answer = (204, "close", "");

/// The server says so about the first line.
const TOO_LARGE: Answer = (
    413,
    "",
    r#"{"Model":"","Key":"","Type":"POST","Messages":["line 1: an event of 9 bytes is too long"],"Code":413}"#,
);

/// The server never answers it.
const SILENT: Answer = (1, "", "");

/// Answers one request after another with `answers`, then with 204.
fn serve(answers: Vec<Answer>) -> Server {
    serve_at("127.0.0.1:0", answers)
}

fn serve_at(address: &str, answers: Vec<Answer>) -> Server {
    let runtime = Runtime::new().unwrap();
    let (sender, bodies) = channel();
    let (kind, kinds) = channel();
    let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let faults = Faults::default();
    let state = Arc::new((Mutex::new(answers.into_iter()), sender, kind, faults.witness()));
    runtime.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let state = Arc::clone(&state);
            let service = service_fn(move |request: Request<Incoming>| {
                let state = Arc::clone(&state);
                async move {
                    let header = |name| request.headers().get(name).map_or("", |value| value.to_str().unwrap());
                    let login = header("authorization");
                    state.3.check(request.uri() == "/api/v3/events", &format!("a request for {}", request.uri()));
                    state.3.check(login == "Basic cm9ja2V0c2thdGVzOnIwY2tldHNrOHRz", &format!("the login {login:?}"));
                    let _ = state.2.send(header("content-type").to_owned());
                    let body = request.into_body().collect().await?.to_bytes();
                    let _ = state.1.send(String::from_utf8(body.to_vec()).unwrap());
                    let (status, retry_after, text) = state.0.lock().next().unwrap_or(TAKEN);
                    if status == SILENT.0 {
                        std::future::pending::<()>().await;
                    }
                    if status == 0 {
                        return Err(Box::<dyn std::error::Error + Send + Sync>::from("broken as told"));
                    }
                    Ok(reply(status, retry_after, text))
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    Server { address, bodies, kinds, _faults: faults, _runtime: runtime }
}

fn reply(status: u16, retry_after: &str, text: &'static str) -> Response<Full<Bytes>> {
    let builder = Response::builder().status(status).header("content-type", "application/json");
    let builder = match retry_after {
        "" => builder,
        "close" => builder.header("connection", "close"),
        url if url.starts_with("https:") => builder.header("location", url),
        seconds => builder.header("retry-after", seconds),
    };
    builder.body(Full::from(text)).unwrap()
}

fn post(server: &Server, text: &str) -> Done {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.ndjson");
    std::fs::write(&path, text).unwrap();
    let mut done = run(&["post", "-E", &server.address, path.to_str().unwrap()], "", &[]);
    done.err = done.err.replace(&format!("{}/", dir.path().display()), "");
    done
}

fn event(n: usize) -> String {
    format!(r#"{{"Type":"a","Action":"b","Key":"{n}"}}"#)
}

fn error(message: &str) -> &'static str {
    let text = format!(r#"{{"Model":"","Key":"","Type":"POST","Messages":["{message}"],"Code":400}}"#);
    Box::leak(text.into_boxed_str())
}

#[test]
fn a_file_goes_out_in_order_in_bounded_requests() {
    let server = serve(vec![]);
    let text = (0..2500).fold(String::new(), |mut text, n| {
        writeln!(text, "{}", event(n)).unwrap();
        text
    });
    let done = post(&server, &text);
    assert_eq!((done.code, done.out.as_str()), (Some(0), ""));
    assert!(done.err.starts_with("hydrant: posted 2500 events in "), "{}", done.err);
    let bodies: Vec<String> = server.bodies.try_iter().collect();
    assert!(bodies.iter().all(|body| body.lines().count() <= 1000));
    assert_eq!(bodies.concat(), text);
}

#[test]
fn documents_and_standard_input_work_too() {
    let pretty = "\n  {\n    \"Type\": \"a\",\n    \"N\": 12345678901234567890123\n  }\n  {}\n\n";
    let expected = "{\"Type\":\"a\",\"N\":12345678901234567890123}\n{}\n";
    for args in [&["post"][..], &["post", "-"]] {
        let server = serve(vec![]);
        let done = run(args, pretty, &[("RS_ENDPOINT", &server.address)]);
        assert_eq!(done.code, Some(0), "{}", done.err);
        assert_eq!(server.bodies.try_iter().collect::<String>(), expected);
        assert!(server.kinds.try_iter().all(|kind| kind == "application/x-ndjson"));
    }
    let server = serve(vec![]);
    assert_eq!(post(&server, "").err.split(" in ").next(), Some("hydrant: posted 0 events"));
    assert_eq!(server.bodies.try_iter().count(), 0);
}

#[test]
fn an_array_is_one_request_and_so_whole_or_nothing() {
    let array = format!("[\n{}\n]", vec![event(1); 2500].join(",\n"));
    let server = serve(vec![]);
    let done = post(&server, &format!("{}\n{array}\n[]\n", event(0)));
    assert!(done.err.starts_with("hydrant: posted 2501 events in "), "{}", done.err);
    assert_eq!(server.bodies.try_iter().collect::<Vec<_>>(), [event(0) + "\n", array.clone()]);
    assert_eq!(server.kinds.try_iter().collect::<Vec<_>>(), ["application/x-ndjson", "application/json"]);

    let server = serve(vec![(400, "", error("element 2: Action is missing"))]);
    let done = post(&server, &format!("\n{array}"));
    let expected = "hydrant: events.ndjson:3: nothing of the array was posted: element 2: Action is missing; \
                    no events were posted before it\n";
    assert_eq!((done.code, done.err.as_str()), (Some(1), expected));
}

#[test]
fn a_mistake_in_an_array_is_told_with_its_element_and_nothing_of_it_is_posted() {
    let server = serve(vec![]);
    let done = post(&server, &format!("{}\n[{}{{\"a\":\"\t\"}}]", event(0), "{\"a\":1},\n".repeat(699)));
    assert_eq!(done.code, Some(1));
    let expected = "hydrant: events.ndjson:701: not valid JSON at column 7: control character (\\u0000-\\u001F) found \
        while parsing \
                    a string, at event 700 of the array that begins on line 2; 1 event was posted before it, up to \
                    line 1\n";
    assert_eq!(done.err, expected);
    assert_eq!(server.bodies.try_iter().collect::<Vec<_>>(), [event(0) + "\n"]);
}

#[test]
fn events_of_a_slow_pipe_do_not_wait_for_company() {
    let server = serve(vec![]);
    let mut running = start(&["post", "-E", &server.address], &[]);
    let mut input = running.input.take().unwrap();
    for n in 0..3 {
        writeln!(input, "{}", event(n)).unwrap();
        let body = server.bodies.recv_timeout(PATIENCE).unwrap();
        assert_eq!(body, event(n) + "\n");
    }
    drop(input);
    assert!(running.finish().err.contains("posted 3 events"));
}

#[test]
fn a_server_without_room_is_asked_again_when_it_says() {
    let full = (429, "1", error("inboxes are full"));
    let server = serve(vec![full, (503, "0", ""), TAKEN]);
    let started = Instant::now();
    let done = post(&server, &event(1));
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert!(done.err.contains("429 (Too Many Requests): inboxes are full; retrying in 1 s\n"), "{}", done.err);
    assert!(done.err.contains("posted 1 event in"), "{}", done.err);
    let bodies: Vec<String> = server.bodies.try_iter().collect();
    assert_eq!(bodies, vec![event(1) + "\n"; 3]);
}

/// A server may be set to accept fewer events in a request, or fewer bytes, than a batch has.
#[test]
fn a_batch_that_is_too_large_for_the_server_is_posted_in_parts() {
    let many = |n: std::ops::Range<usize>| n.map(|n| event(n) + "\n").collect::<String>();
    let server = serve(vec![TOO_LARGE, TOO_LARGE, TAKEN]);
    let done = post(&server, &many(0..1012));
    assert_eq!(done.code, Some(0), "{}", done.err);
    let bodies: Vec<String> = server.bodies.try_iter().collect();
    let sizes: Vec<usize> = bodies.iter().map(|body| body.lines().count()).collect();
    assert_eq!(sizes, [1000, 500, 250, 250, 250, 250, 12]);
    assert_eq!(bodies[2..].concat(), many(0..1012));

    let server = serve(vec![TOO_LARGE, TAKEN, TOO_LARGE]);
    let done = post(&server, &many(0..2));
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("events.ndjson:2: ") && done.err.contains("up to line 1"), "{}", done.err);
}

#[test]
fn a_byte_order_mark_is_skipped_from_a_pipe_too() {
    let server = serve(vec![]);
    let done = run(&["post", "-E", &server.address], &format!("\u{feff}{}\n", event(1)), &[]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(server.bodies.recv_timeout(PATIENCE).unwrap(), event(1) + "\n");
}

#[test]
fn a_refused_event_is_told_with_its_line_in_the_file() {
    let server = serve(vec![(400, "", error("line 2: Type is missing"))]);
    let done = post(&server, &format!("{}\n\n\n{{}}\n{}\n", event(1), event(2)));
    assert_eq!(done.code, Some(1));
    assert_eq!(done.err, "hydrant: events.ndjson:4: Type is missing; no events were posted before it\n");
}

#[test]
fn lines_are_those_of_the_file_in_later_requests_too() {
    let server = serve(vec![TAKEN, (400, "", error("line 1: Action is missing"))]);
    let long = format!("{{\"Key\":\"{}\"}}", "x".repeat(3 << 20));
    let done = post(&server, &format!("\n{long}\n\n{long}\n"));
    let expected = "events.ndjson:4: Action is missing; 1 event was posted before it, up to line 2\n";
    assert!(done.code == Some(1) && done.err.ends_with(expected), "{}", done.err);
}

#[test]
fn refused_credentials_are_told() {
    let server = serve(vec![(403, "", error("Wrong credentials"))]);
    let done = post(&server, &event(1));
    assert_eq!(done.code, Some(1));
    let expected = "cannot post line 1 of events.ndjson: the server answered 403 (Forbidden): Wrong credentials";
    assert!(done.err.contains(expected), "{}", done.err);
}

/// As a proxy answers on its port without TLS.
#[test]
fn a_redirect_takes_nothing() {
    let server = serve(vec![(301, "https://elsewhere/", "")]);
    let done = post(&server, &event(1));
    assert_eq!(done.code, Some(1));
    let expected = "cannot post line 1 of events.ndjson: the server answered 301 (Moved Permanently): \
                    it redirects to https://elsewhere/; no events were posted before it";
    assert!(done.err.contains(expected), "{}", done.err);
}

#[test]
fn a_broken_connection_leaves_a_doubt_and_is_not_tried_again() {
    let server = serve(vec![(0, "", "")]);
    let done = post(&server, &event(1));
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("it is unknown whether the server accepted line 1 of events.ndjson: "), "{}", done.err);
    assert_eq!(server.bodies.try_iter().count(), 1);
}

#[test]
fn an_interrupt_is_told_with_what_was_posted_and_what_is_in_doubt() {
    for (last, expected) in [
        (SILENT, "it is unknown whether the server accepted line 2 of standard input; 1 event was posted before it"),
        // It is due in a day.
        (TAKEN, "interrupted; 1 event was posted before it, up to line 1\n"),
    ] {
        let server = serve(vec![TAKEN, last]);
        let mut running = start(&["post", "-E", &server.address, "--speed", "1x"], &[]);
        let mut input = running.input.take().unwrap();
        writeln!(input, r#"{{"Time":"2026-01-01T00:00:00Z"}}"#).unwrap();
        server.bodies.recv_timeout(PATIENCE).unwrap();
        let time = if last == SILENT { "2026-01-01T00:00:00Z" } else { "2026-01-01T23:59:59Z" };
        writeln!(input, r#"{{"Time":"{time}"}}"#).unwrap();
        if last == SILENT {
            server.bodies.recv_timeout(PATIENCE).unwrap();
        } else {
            // Its answer is on the way, and nothing tells when the program has taken it.
            std::thread::sleep(Duration::from_secs(5));
        }
        running.signal(if last == SILENT { "INT" } else { "TERM" });
        drop(input);
        let done = running.finish();
        assert!(done.code == Some(1) && done.err.contains(expected), "{:?} {}", done.code, done.err);
    }
}

#[test]
fn a_connection_that_the_server_closed_is_replaced() {
    let server = serve(vec![LAST, LAST]);
    let mut running = start(&["post", "-E", &server.address], &[]);
    let mut input = running.input.take().unwrap();
    for n in 0..3 {
        writeln!(input, "{}", event(n)).unwrap();
        server.bodies.recv_timeout(PATIENCE).unwrap();
    }
    drop(input);
    let done = running.finish();
    assert_eq!(done.code, Some(0), "{}", done.err);
}

/// A server that takes one request and is gone.
fn take_one(listener: &std::net::TcpListener) {
    let (mut socket, _) = listener.accept().unwrap();
    let mut request = Vec::new();
    let mut bytes = [0; 1024];
    while !request.ends_with(b"}\n") {
        let read = socket.read(&mut bytes).unwrap();
        request.extend_from_slice(&bytes[..read]);
    }
    socket.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
}

#[test]
fn a_server_that_is_away_between_two_requests_is_waited_for() {
    let port = Held::any();
    let (listener, address) = (std::net::TcpListener::bind(port.address).unwrap(), port.address.to_string());
    let mut running = start(&["post", "-E", &format!("http://{address}")], &[]);
    let mut input = running.input.take().unwrap();
    writeln!(input, "{}", event(0)).unwrap();
    take_one(&listener);
    drop(listener);
    writeln!(input, "{}", event(1)).unwrap();
    drop(input);
    let said = running.err_lines().next().unwrap();
    assert!(said.contains("cannot connect to") && said.contains("; retrying in 1 s"), "{said}");
    let server = serve_at(&address, vec![]);
    let done = running.finish();
    assert!(done.code == Some(0) && done.err.contains("posted 2 events"), "{}", done.err);
    assert_eq!(server.bodies.try_iter().collect::<String>(), event(1) + "\n");
}

#[test]
fn bad_json_is_told_with_its_line_after_what_is_right_was_posted() {
    let server = serve(vec![]);
    let done = post(&server, &format!("{}\n{{\"Type\":}}\n", event(1)));
    assert_eq!(done.code, Some(1));
    assert!(done.err.starts_with("hydrant: events.ndjson:2: not valid JSON at column 9: "), "{}", done.err);
    assert!(done.err.ends_with("1 event was posted before it, up to line 1\n"), "{}", done.err);
    assert_eq!(server.bodies.try_iter().collect::<String>(), event(1) + "\n");
}

#[test]
fn gzip_is_told_from_a_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.ndjson.gz");
    std::fs::write(&path, [0x1f, 0x8b, 8, 0]).unwrap();
    let path = path.to_str().unwrap();
    for args in [&["post", path][..], &["filter", "test", "a=Eq(1)", path]] {
        let done = run(args, "", &[]);
        let expected = ": it is compressed with gzip, not with zstd; `gzip -dc` unpacks it";
        assert!(done.code != Some(0) && done.err.contains(expected), "{}", done.err);
    }
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let done = run(&["post", "/nowhere/events"], "", &[]);
    assert_eq!(done.code, Some(1));
    assert_eq!(done.err, "hydrant: /nowhere/events: No such file or directory (os error 2)\n");
    let folder = run(&["post", "/"], "", &[]);
    assert!(folder.err.starts_with("hydrant: /: is a directory"), "{}", folder.err);
}
