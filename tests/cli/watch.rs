//! `hydrant watch` against a server that does as the test says.

use std::io::BufRead;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::faults::{Faults, Witness};
use crate::support::{Running, run, start};
use futures_util::{SinkExt, StreamExt};
use jiff::{SignedDuration, Timestamp, Unit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// What the server does on one connection, in order.
#[derive(Clone)]
pub(crate) enum Step {
    /// Reads so many registrations and answers them.
    Answer(usize),
    /// Reads a registration and answers it with a warning.
    Warn(&'static str),
    /// Reads a registration and refuses it.
    Refuse(&'static str),
    Send(&'static str),
    Ping(&'static str),
    Close(u16, &'static str),
    /// Sends events until the client is gone.
    Flood,
    /// Reports what the client sends until it is gone.
    Listen,
}

pub(crate) struct Server {
    address: String,
    /// What the clients said, one text a message; a new connection is its `Authorization` header.
    said: Receiver<String>,
    _faults: Faults,
    _runtime: Runtime,
}

/// Serves one connection by each of `scripts`; connections beyond are taken and dropped.
pub(crate) fn serve(scripts: Vec<Vec<Step>>) -> Server {
    let runtime = Runtime::new().unwrap();
    let (said_tx, said) = channel();
    let faults = Faults::default();
    let witness = faults.witness();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move {
        for script in scripts {
            let (socket, _) = listener.accept().await.unwrap();
            perform(socket, script, &said_tx, &witness).await;
        }
    });
    Server { address, said, _faults: faults, _runtime: runtime }
}

async fn perform(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    script: Vec<Step>,
    said: &Sender<String>,
    faults: &Witness,
) {
    #[expect(clippy::result_large_err, reason = "the type is the library's")]
    let look = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        faults.check(request.uri().path() == "/api/v3/ws", &format!("a request for {}", request.uri()));
        let who = request.headers().get("authorization").map_or("", |who| who.to_str().unwrap());
        // Nobody may be listening.
        let _ = said.send(who.to_owned());
        Ok(response)
    };
    // Nothing if the client is gone.
    let Ok(mut ws) = tokio_tungstenite::accept_hdr_async(socket, look).await else { return };
    for step in script {
        if act(&mut ws, step, said).await.is_none() {
            return;
        }
    }
}

/// Nothing when the client is gone.
async fn act<S: AsyncRead + AsyncWrite + Unpin>(
    ws: &mut WebSocketStream<S>,
    step: Step,
    said: &Sender<String>,
) -> Option<()> {
    match step {
        Step::Answer(count) => {
            for _ in 0..count {
                let spec = registration(ws, said).await?;
                ws.send(Message::text(answer("register", &spec, "null"))).await.ok()?;
            }
        }
        Step::Warn(message) => {
            let spec = registration(ws, said).await?;
            let object = format!(r#"{{"Warnings":["{message}"]}}"#);
            ws.send(Message::text(answer("register", &spec, &object))).await.ok()?;
        }
        Step::Refuse(message) => {
            let spec = registration(ws, said).await?;
            let object = format!(r#"{{"Type":"websocket","Messages":["{message}"],"Code":400}}"#);
            ws.send(Message::text(answer("error", &spec, &object))).await.ok()?;
        }
        Step::Send(text) => ws.send(Message::text(text)).await.ok()?,
        Step::Ping(text) => ws.send(Message::Ping(text.into())).await.ok()?,
        Step::Close(code, reason) => {
            ws.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await.ok()?;
            while let Some(Ok(_)) = ws.next().await {}
        }
        Step::Flood => loop {
            ws.send(Message::text(EVENT)).await.ok()?;
        },
        Step::Listen => {
            while let Some(Ok(message)) = ws.next().await {
                said.send(format!("{message:?}")).unwrap();
            }
        }
    }
    Some(())
}

async fn registration<S: AsyncRead + AsyncWrite + Unpin>(
    ws: &mut WebSocketStream<S>,
    said: &Sender<String>,
) -> Option<String> {
    let text = ws.next().await?.ok()?.into_text().unwrap().to_string();
    said.send(text.clone()).unwrap();
    Some(text.strip_prefix("register ").unwrap().to_owned())
}

fn answer(action: &str, spec: &str, object: &str) -> String {
    format!(r#"{{"Time":"","Type":"websocket","Action":"{action}","Key":"{spec}","Object":{object}}}"#)
}

const EVENT: &str = r#"{"Time":"","Type":"a","Action":"b","Key":"c","Object":{"n":12345678901234567890123}}"#;
const OTHER: &str = r#"{"Time":"","Type":"a","Action":"b","Key":"d","Object":null}"#;
const CONNECTED: &str = "hydrant: connected, 1 registration\n";
/// rocketskates:r0cketsk8ts.
const FIRST_USER: &str = "Basic cm9ja2V0c2thdGVzOnIwY2tldHNrOHRz";

pub(crate) fn watch(server: &Server, args: &[&str]) -> Running {
    let all: Vec<&str> = ["watch", "-E", &server.address].into_iter().chain(args.iter().copied()).collect();
    start(&all, &[])
}

#[test]
fn events_are_printed_one_a_line_and_answers_are_not() {
    let spaced = "{\"Type\": \"a\",\n \"Key\": \"x  y\"}";
    let script = vec![Step::Answer(2), Step::Send(EVENT), Step::Send(spaced), Step::Send(OTHER), Step::Listen];
    let server = serve(vec![script]);
    let done = watch(&server, &["a.b.c", "a.*.*", "--count", "2"]).finish();
    assert_eq!((done.code, done.err.as_str()), (Some(0), "hydrant: connected, 2 registrations\n"));
    assert_eq!(done.out, format!("{EVENT}\n{}\n", r#"{"Type":"a","Key":"x  y"}"#));
    let said: Vec<String> = server.said.iter().collect();
    assert_eq!(said[..3], [FIRST_USER, "register a.b.c", "register a.*.*"]);
    assert!(said[3].contains("Normal"), "{said:?}");
}

#[test]
fn pretty_events_are_indented() {
    let server = serve(vec![vec![Step::Answer(1), Step::Send(EVENT), Step::Listen]]);
    let done = watch(&server, &["a.b.c", "--pretty", "--count", "1"]).finish();
    assert!(done.out.contains("\n  \"Object\": {\n    \"n\": 12345678901234567890123\n  }\n}\n"), "{}", done.out);
}

#[test]
fn credentials_come_from_the_environment() {
    let server = serve(vec![vec![Step::Answer(1), Step::Send(EVENT), Step::Listen]]);
    let env = [("RS_ENDPOINT", server.address.as_str()), ("RS_TOKEN", "secret"), ("RS_KEY", "a:b")];
    let done = run(&["watch", "--count=1", "a.b.c"], "", &env);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert_eq!(server.said.recv().unwrap(), "Bearer secret");
}

#[test]
fn a_lost_connection_is_made_again_and_told() {
    let reason = "slow consumer: 3 events, 9 bytes queued";
    let server = serve(vec![
        vec![Step::Answer(1), Step::Send(EVENT), Step::Close(1013, reason)],
        vec![Step::Answer(1)],
        vec![Step::Answer(1), Step::Send(OTHER), Step::Listen],
    ]);
    let done = watch(&server, &["a.b.c", "--count", "2"]).finish();
    assert_eq!((done.code, done.out), (Some(0), format!("{EVENT}\n{OTHER}\n")));
    let lines: Vec<&str> = done.err.lines().collect();
    let expected = [
        "hydrant: connected, 1 registration",
        "hydrant: the server closed the connection: 1013 (slow consumer: 3 events, 9 bytes queued); retrying in ",
        "hydrant: connected again, 1 registration; events in between may be missing",
        "hydrant: the connection to http://127.0.0.1:",
        "hydrant: connected again, 1 registration; events in between may be missing",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn a_refused_registration_ends_it() {
    let server = serve(vec![vec![Step::Answer(1), Step::Refuse("bad filter at byte 9"), Step::Listen]]);
    let done = watch(&server, &["a.b.c", "a.b.c.X=Eq("]).finish();
    assert_eq!((done.code, done.out.as_str()), (Some(1), ""));
    assert_eq!(done.err, "hydrant: the server refused to register `a.b.c.X=Eq(`: bad filter at byte 9\n");
}

#[test]
fn closes_that_trying_again_cannot_mend_end_it() {
    let server = serve(vec![vec![Step::Answer(1), Step::Close(1008, "credentials revoked")]]);
    let done = watch(&server, &["a.b.c"]).finish();
    assert_eq!(done.code, Some(1));
    assert_eq!(done.err, format!("{CONNECTED}hydrant: the server closed the connection: 1008 (credentials revoked)\n"));
}

#[test]
fn warnings_in_answers_are_told() {
    let script = vec![Step::Warn("did you mean `machines`?"), Step::Send(EVENT), Step::Listen];
    let done = watch(&serve(vec![script]), &["machine.*.*", "--count=1"]).finish();
    assert_eq!((done.code, done.out), (Some(0), format!("{EVENT}\n")));
    assert_eq!(done.err, format!("hydrant: warning: `machine.*.*`: did you mean `machines`?\n{CONNECTED}"));
}

#[test]
fn without_retry_the_first_loss_ends_it() {
    let server = serve(vec![vec![Step::Answer(1), Step::Close(1013, "slow consumer")]]);
    let done = watch(&server, &["a.b.c", "--no-retry"]).finish();
    assert_eq!(done.code, Some(1));
    assert_eq!(done.err, format!("{CONNECTED}hydrant: the server closed the connection: 1013 (slow consumer)\n"));
    let nobody = run(&["watch", "-E", "http://127.0.0.1:9", "--no-retry", "a.b.c"], "", &[]);
    assert!(nobody.code == Some(1) && nobody.err.starts_with("hydrant: cannot connect to"), "{}", nobody.err);
}

#[test]
fn after_its_time_it_ends_well_unless_more_was_wanted() {
    let script = || vec![Step::Answer(1), Step::Send(EVENT), Step::Listen];
    let done = watch(&serve(vec![script()]), &["a.b.c", "--timeout", "5s"]).finish();
    assert_eq!((done.code, done.err.as_str()), (Some(0), CONNECTED));
    let done = watch(&serve(vec![script()]), &["a.b.c", "--timeout", "5", "--count=3"]).finish();
    assert_eq!((done.code, done.out), (Some(1), format!("{EVENT}\n")));
    assert_eq!(done.err, format!("{CONNECTED}hydrant: only 1 of 3 events arrived within 5 s\n"));
}

#[test]
fn no_connection_at_all_is_no_good_end() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.ndjson");
    for args in [&["watch", "a.b.c"][..], &["watch", "a.b.c", "--sse"], &["record", file.to_str().unwrap()]] {
        let done = run(&[args, &["-E", "http://127.0.0.1:9", "--timeout", "1s"]].concat(), "", &[]);
        assert!(done.code == Some(1) && done.err.ends_with("hydrant: no connection within 1 s\n"), "{}", done.err);
    }
}

#[test]
fn a_server_that_says_when_to_come_back_is_obeyed() {
    let (address, _runtime) = fixed(vec![
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    ]);
    let begun = Instant::now();
    let done = run(&["watch", "-E", &address, "a.b.c"], "", &[]);
    assert_eq!(done.code, Some(1));
    assert!(begun.elapsed() >= Duration::from_secs(2), "it came back too soon: {}", done.err);
    assert!(done.err.contains("429 (Too Many Requests); retrying in 2."), "{}", done.err);
}

#[test]
fn the_other_scheme_is_hinted_at() {
    let (address, _runtime) = plain();
    let done = run(&["watch", "-E", &address.replace("http", "https"), "a.b.c"], "", &[]);
    let expected = format!("answered without TLS; did you mean {address}?");
    assert!(done.code == Some(1) && done.err.contains(&expected), "{}", done.err);
    let (address, _, _server) = serve_tls();
    for args in [&["watch", "a.b.c"][..], &["post"]] {
        let done = run(args, "{}", &[("RS_ENDPOINT", &address.replace("https", "http"))]);
        let expected = format!("did you mean {address}?");
        assert!(done.code == Some(1) && done.err.contains(&expected), "{}", done.err);
    }
}

/// A server that answers whatever it is told with an error of HTTP.
fn plain() -> (String, Runtime) {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.read_u8().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        // Until the client has gone.
        while socket.read_u8().await.is_ok() {}
    });
    (address, runtime)
}

/// A server that answers each connection with these bytes and closes it.
fn fixed(answers: Vec<&'static str>) -> (String, Runtime) {
    let (address, _, runtime) = fixed_heard(answers.into_iter().map(str::to_owned).collect());
    (address, runtime)
}

/// Like [`fixed`]; tells the heads of the requests.
fn fixed_heard(answers: Vec<String>) -> (String, Receiver<String>, Runtime) {
    let (sender, heard) = channel();
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    runtime.spawn(async move {
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(socket.read_u8().await.unwrap());
            }
            // Nobody may be listening.
            let _ = sender.send(String::from_utf8(request).unwrap());
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, heard, runtime)
}

/// The times of events are by the server's clock, however wrong this machine's is.
#[test]
fn a_feed_goes_by_the_clock_of_the_server() {
    let hour = SignedDuration::from_hours(1);
    let second = SignedDuration::from_secs;
    // By the other clock this Time is too far ahead to resume from.
    let (since, opened) = since_asked_again(hour, second(-10));
    assert_eq!(since, opened - second(15));
    // Of one that is ahead, only what has passed counts.
    let (since, opened) = since_asked_again(-hour, second(120));
    assert!(since < opened + second(60), "{since} {opened}");
}

#[expect(clippy::disallowed_methods, reason = "the server's clock is wrong by comparison with the real one")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// Returns what is asked for after a first connection, and when that was opened by the clock of the server, which is
/// wrong by `skew`. It tells an event that is `after` that time.
fn since_asked_again(skew: SignedDuration, after: SignedDuration) -> (Timestamp, Timestamp) {
    let opened = (now() + skew).round(Unit::Second).unwrap();
    let date = opened.strftime("%a, %d %b %Y %H:%M:%S GMT");
    let event = format!(r#"{{"Time":"{}","Type":"a","Action":"b","Key":"c","Object":null}}"#, opened + after);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nDate: {date}\r\n\
         X-Hydrant-Sequence: 18c5a3f2b1d00e47:1\r\n\r\nevent: answer\ndata: {{}}\n\ndata: {event}\n\n"
    );
    let end = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned();
    let (address, heard, _runtime) = fixed_heard(vec![answer, end]);
    let begin = (opened - SignedDuration::from_mins(1)).to_string();
    let done = run(&["watch", "--sse", "--since", &begin, "-E", &address, "a.b.c"], "", &[]);
    assert_eq!(done.out, format!("{event}\n"), "{}", done.err);
    let [_, again] = [(); 2].map(|()| heard.recv().unwrap());
    let since = again.split_once("since=").unwrap().1.split_once('&').unwrap().0.replace("%3A", ":");
    (since.parse().unwrap(), opened)
}

#[test]
fn refused_credentials_end_it_with_the_servers_message() {
    const BODY: &str = r#"{"Model":"","Key":"","Type":"AUTH","Messages":["Wrong credentials"],"Code":403}"#;
    let head = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
    let (address, _runtime) = fixed(vec![Box::leak(format!("{head}{BODY}").into_boxed_str())]);
    let done = run(&["watch", "-E", &address, "-P", "canary", "a.b.c"], "", &[]);
    assert_eq!(done.code, Some(1));
    let expected = "hydrant: the server answered 403 (Forbidden): Wrong credentials\n\
                    hydrant: the user is `rocketskates` (the default), the password comes from -P\n";
    assert_eq!(done.err, expected);
}

#[test]
fn who_asks_the_wrong_server_is_told_which_it_was() {
    const ANSWER: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 18\r\nConnection: close\r\n\r\n404 page not found";
    for args in [&["watch", "a.b.c"][..], &["watch", "--sse", "a.b.c"], &["top", "--once"], &["post"]] {
        let (address, _runtime) = fixed(vec![ANSWER; 2]);
        let done = run(args, r#"{"Type":"a","Action":"b","Key":"c"}"#, &[("RS_ENDPOINT", &address)]);
        let expected = format!("hydrant: is {address} a hydrant server? The endpoint comes from RS_ENDPOINT\n");
        assert!(done.code == Some(1) && done.err.ends_with(&expected), "{args:?} {}", done.err);
    }
}

/// A server that does not know its own past clients says only that it does not take what they show.
#[test]
fn whose_token_has_expired_is_told_so() {
    let (address, _runtime) = fixed(vec!["HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"]);
    // {"exp":1000}
    let done = run(&["watch", "-T", "h.eyJleHAiOjEwMDB9.canary", "a.b.c"], "", &[("RS_ENDPOINT", &address)]);
    let expected = "hydrant: the token of -T expired at 1970-01-01T00:16:40Z; get a new one\n";
    assert!(done.code == Some(1) && done.err.ends_with(expected) && !done.err.contains("canary"), "{}", done.err);
}

#[test]
fn a_redirect_is_told_with_where_it_leads_and_not_followed() {
    for args in [&["watch", "a.b.c"][..], &["watch", "--sse", "a.b.c"], &["top", "--once"]] {
        let (address, _runtime) =
            fixed(vec!["HTTP/1.1 301 Moved Permanently\r\nLocation: https://elsewhere/\r\nContent-Length: 0\r\n\r\n"]);
        let done = run(args, "", &[("RS_ENDPOINT", &address)]);
        let expected = "the server answered 301 (Moved Permanently): it redirects to https://elsewhere/";
        assert!(done.code == Some(1) && done.err.contains(expected), "{args:?} {}", done.err);
    }
}

#[test]
fn answers_that_are_no_websocket_are_told() {
    let (address, _runtime) = fixed(vec![
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: \
         x\r\n\r\n",
    ]);
    let done = run(&["watch", "-E", &address, "a.b.c"], "", &[]);
    assert_eq!(done.code, Some(1));
    let lines: Vec<&str> = done.err.lines().collect();
    assert!(lines[0].contains("503 (Service Unavailable); retrying in "), "{lines:?}");
    assert!(lines[1].contains("did not open a websocket: its Sec-WebSocket-Accept is wrong"), "{lines:?}");
}

#[test]
fn an_interrupt_closes_in_good_order() {
    for signal in ["INT", "TERM"] {
        let server = serve(vec![vec![Step::Answer(1), Step::Send(EVENT), Step::Listen]]);
        let mut running = watch(&server, &["a.b.c"]);
        assert_eq!(running.line(), format!("{EVENT}\n"));
        running.signal(signal);
        let done = running.finish();
        assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (Some(0), "", CONNECTED));
        assert!(server.said.iter().any(|said| said.contains("Close") && said.contains("Normal")));
    }
}

#[test]
fn an_interrupt_works_while_nobody_reads_the_output() {
    // Far more than a pipe holds: once it has begun to come out, the program is stuck in writing the rest.
    let long = format!(r#"{{"Type":"a","Key":"{}"}}"#, "x".repeat(1 << 20));
    let server = serve(vec![vec![Step::Answer(1), Step::Send(Box::leak(long.into_boxed_str())), Step::Listen]]);
    let mut running = watch(&server, &["a.b.c"]);
    let mut out = running.out.take().unwrap();
    assert!(out.fill_buf().unwrap().starts_with(br#"{"Type":"a""#));
    running.signal("INT");
    let done = running.finish();
    assert_eq!((done.code, done.err.as_str()), (Some(0), CONNECTED));
    assert!(server.said.iter().any(|said| said.contains("Close") && said.contains("Normal")));
}

#[test]
fn a_reader_that_went_away_ends_it_quietly() {
    let server = serve(vec![vec![Step::Answer(1), Step::Flood]]);
    let mut running = watch(&server, &["a.b.c"]);
    assert_eq!(running.line(), format!("{EVENT}\n"));
    drop(running.out.take());
    let done = running.finish();
    assert_eq!((done.code, done.err.as_str()), (Some(0), CONNECTED));
}

/// Nothing is written that could fail.
#[test]
fn a_reader_that_went_away_is_noticed_while_no_events_come() {
    let server = serve(vec![vec![Step::Answer(1), Step::Listen]]);
    let mut running = watch(&server, &["a.b.c"]);
    assert!(running.err_lines().any(|line| line.contains("connected")));
    drop(running.out.take());
    let done = running.finish();
    assert_eq!((done.code, done.err.as_str()), (Some(0), CONNECTED));
}

#[test]
fn pings_are_answered() {
    let server = serve(vec![vec![Step::Answer(1), Step::Send(EVENT), Step::Ping("are you there"), Step::Listen]]);
    let mut running = watch(&server, &["a.b.c"]);
    assert_eq!(running.line(), format!("{EVENT}\n"));
    let pong = format!("{:?}", Message::Pong("are you there".into()));
    assert!(server.said.iter().any(|said| said == pong));
    running.signal("INT");
    assert_eq!(running.finish().code, Some(0));
}

/// A TLS server for as many connections as come, and its certificate in PEM.
fn serve_tls() -> (String, String, (Faults, Runtime)) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (faults, runtime) = (Faults::default(), Runtime::new().unwrap());
    let witness = faults.witness();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    runtime.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(socket).await else { continue };
            let (said, _kept) = channel();
            let script = vec![Step::Answer(1), Step::Send(EVENT), Step::Listen];
            Box::pin(perform(stream, script, &said, &witness)).await;
        }
    });
    (address, made.cert.pem(), (faults, runtime))
}

#[test]
fn certificates_are_verified_only_if_asked_for() {
    let (address, pem, _server) = serve_tls();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap().cert.pem();
    let (good, bad, empty) = (file("good.pem", &pem), file("bad.pem", &other), file("empty.pem", ""));
    let watch = |extra: &[&str]| {
        let args = ["watch", "-E", &address, "--count=1", "a.b.c"];
        run(&args.into_iter().chain(extra.iter().copied()).collect::<Vec<_>>(), "", &[])
    };
    for extra in [&[][..], &["--cacert", &good]] {
        let done = watch(extra);
        assert_eq!((done.code, done.out), (Some(0), format!("{EVENT}\n")), "{}", done.err);
    }
    let refused = watch(&["--cacert", &bad]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("invalid peer certificate") && refused.err.lines().count() == 1, "{}", refused.err);
    assert_eq!(watch(&["--cacert", &empty]).code, Some(64));
}
