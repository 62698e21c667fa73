//! Raw requests by RFC 9112, each with the answer that has to come and whether the connection lives on after it.
//!
//! What is well-formed asks for something that everybody may have; posts show a token. A connection lives on if a
//! second request on it is answered.

use hydrant::auth::TokenRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::raw::Raw;
use crate::common::{Hydrant, patiently};

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Kept,
    Ended,
}
use Then::{Ended, Kept};

/// A request that is answered with 200.
const GOOD: &str = "GET /api/v3/hydrant/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n";

/// The section of RFC 9112, what is tried, the request, the status and what becomes of the connection. `PATH` is that
/// of the request above, `POST` begins a post with a token whose body is still to be framed. Status 0 is no answer: a
/// client that knows that HTTP/2 is spoken is wrong, and hyper says nothing to it.
const HEADS: &[(&str, &str, &str, u16, Then)] = &[
    ("2.1", "a request", "GET PATH HTTP/1.1\r\nHost: a\r\n\r\n", 200, Kept),
    ("2.2", "an empty line before it", "\r\nGET PATH HTTP/1.1\r\nHost: a\r\n\r\n", 200, Kept),
    ("2.2", "lines that end with LF alone", "GET PATH HTTP/1.1\nHost: a\n\n", 200, Kept),
    ("2.2", "a bare CR in a field", "GET PATH HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400, Ended),
    ("2.2", "white space before the first field", "GET PATH HTTP/1.1\r\n Host: a\r\n\r\n", 400, Ended),
    ("2.3", "HTTP/1.0", "GET PATH HTTP/1.0\r\n\r\n", 200, Ended),
    ("2.3", "HTTP/1.2", "GET PATH HTTP/1.2\r\nHost: a\r\n\r\n", 400, Ended),
    ("2.3", "HTTP/2.0", "GET PATH HTTP/2.0\r\nHost: a\r\n\r\n", 400, Ended),
    ("2.3", "http/1.1", "GET PATH http/1.1\r\nHost: a\r\n\r\n", 400, Ended),
    ("3", "two spaces", "GET  PATH HTTP/1.1\r\nHost: a\r\n\r\n", 400, Ended),
    ("3", "a tab", "GET\tPATH HTTP/1.1\r\nHost: a\r\n\r\n", 400, Ended),
    ("3", "no version", "GET PATH\r\nHost: a\r\n\r\n", 400, Ended),
    ("3", "white space at the end of the line", "GET PATH HTTP/1.1 \r\nHost: a\r\n\r\n", 400, Ended),
    ("3.1", "a method in small letters is another one", "get PATH HTTP/1.1\r\nHost: a\r\n\r\n", 401, Kept),
    ("3.1", "a method with a character that is none of a token", "GE(T PATH HTTP/1.1\r\nHost: a\r\n\r\n", 400, Ended),
    ("3.2", "no Host", "GET PATH HTTP/1.1\r\n\r\n", 400, Kept),
    ("3.2", "two Hosts", "GET PATH HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, Kept),
    ("3.2", "a Host that is none", "GET PATH HTTP/1.1\r\nHost: a b\r\n\r\n", 400, Kept),
    ("3.2", "a space in the target", "GET /api/v3/a b HTTP/1.1\r\nHost: a\r\n\r\n", 400, Ended),
    ("3.2", "a target that is none", "GET api/v3/info HTTP/1.1\r\nHost: a\r\n\r\n", 400, Ended),
    ("3.2", "a control character in the target", "GET /api/v3/\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400, Ended),
    ("3.2.2", "absolute form", "GET http://bPATH HTTP/1.1\r\nHost: a\r\n\r\n", 200, Kept),
    ("3.2.3", "authority form without CONNECT", "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400, Kept),
    ("3.2.3", "CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 404, Kept),
    ("3.2.4", "asterisk form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 404, Kept),
    ("5", "white space before the colon", "GET PATH HTTP/1.1\r\nHost : a\r\n\r\n", 400, Ended),
    ("5", "no colon", "GET PATH HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", 400, Ended),
    ("5", "no name", "GET PATH HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", 400, Ended),
    ("5", "a character in a name that is none of a token", "GET PATH HTTP/1.1\r\nHost: a\r\nX(: x\r\n\r\n", 400, Ended),
    ("5", "white space around a value", "GET PATH HTTP/1.1\r\nHost:\t a \t\r\n\r\n", 200, Kept),
    ("5", "no value", "GET PATH HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", 200, Kept),
    ("5.2", "a line that is folded", "GET PATH HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400, Ended),
    ("5.5", "a NUL in a value", "GET PATH HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400, Ended),
    ("6.1", "chunked is not the last coding", "POSTTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400, Ended),
    ("6.1", "an unknown coding", "POSTTransfer-Encoding: x\r\n\r\n0\r\n\r\n", 400, Ended),
    ("6.1", "another coding before chunked", "POSTTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, Ended),
    ("6.1", "chunked twice", "POSTTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, Ended),
    (
        "6.1",
        "a length besides",
        "POSTContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n",
        204,
        Ended,
    ),
    ("6.1", "chunked in HTTP/1.0", "POST0Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, Ended),
    ("6.2", "a length", "POSTContent-Length: 2\r\n\r\n[]", 204, Kept),
    ("6.2", "none", "POST\r\n", 400, Kept),
    ("6.3", "two that differ", "POSTContent-Length: 2\r\nContent-Length: 3\r\n\r\n[]", 400, Ended),
    ("6.3", "the same twice", "POSTContent-Length: 2\r\nContent-Length: 2\r\n\r\n[]", 204, Kept),
    ("6.3", "a list of them", "POSTContent-Length: 2, 2\r\n\r\n[]", 400, Ended),
    ("6.2", "a sign", "POSTContent-Length: +2\r\n\r\n[]", 400, Ended),
    ("6.2", "less than nothing", "POSTContent-Length: -1\r\n\r\n[]", 400, Ended),
    ("6.2", "no number", "POSTContent-Length: two\r\n\r\n[]", 400, Ended),
    ("6.2", "another base", "POSTContent-Length: 0x2\r\n\r\n[]", 400, Ended),
    ("6.2", "more than 64 bits", "POSTContent-Length: 18446744073709551616\r\n\r\n[]", 400, Ended),
    ("7.1", "chunks", "POSTTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1\r\n]\r\n0\r\n\r\n", 204, Kept),
    (
        "7.1",
        "letters and zeros in front",
        "POSTTransfer-Encoding: chunked\r\n\r\n000A\r\n[        ]\r\n0\r\n\r\n",
        204,
        Kept,
    ),
    ("7.1", "a size that is none", "POSTTransfer-Encoding: chunked\r\n\r\ng\r\n[]\r\n0\r\n\r\n", 400, Ended),
    ("7.1", "no size", "POSTTransfer-Encoding: chunked\r\n\r\n\r\n[]\r\n0\r\n\r\n", 400, Ended),
    (
        "7.1",
        "a size of more than 64 bits",
        "POSTTransfer-Encoding: chunked\r\n\r\n10000000000000002\r\n[]\r\n0\r\n\r\n",
        400,
        Ended,
    ),
    ("7.1", "a chunk longer than its size", "POSTTransfer-Encoding: chunked\r\n\r\n1\r\n[]\r\n0\r\n\r\n", 400, Ended),
    ("7.1.1", "extensions", "POSTTransfer-Encoding: chunked\r\n\r\n2;a=b;c=\"d\"\r\n[]\r\n0\r\n\r\n", 204, Kept),
    ("7.1.1", "a line break in one", "POSTTransfer-Encoding: chunked\r\n\r\n2;a\n[]\r\n0\r\n\r\n", 400, Ended),
    ("7.1.2", "trailers", "POSTTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\nX: y\r\n\r\n", 204, Kept),
    ("7.1", "chunked in capitals", "POSTTransfer-Encoding: CHUNKED\r\n\r\n2\r\n[]\r\n0\r\n\r\n", 204, Kept),
    ("9.6", "the client ends it", "GET PATH HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200, Ended),
    ("9.6", "in capitals, among others", "GET PATH HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n", 200, Ended),
    ("9.3", "HTTP/1.0 that stays", "GET PATH HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, Kept),
    (
        "9.9",
        "another protocol",
        "GET PATH HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        200,
        Kept,
    ),
    ("3.3", "HTTP/2 without an upgrade", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, Ended),
];

/// The next answer: its status and its body. Nothing if the connection ends instead.
async fn answer(raw: &mut Raw) -> Option<(u16, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(patiently("a head", raw.0.read_u8()).await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    patiently("a body", raw.0.read_exact(&mut body)).await.ok()?;
    Some((head.split(' ').nth(1)?.parse().ok()?, String::from_utf8(body).unwrap()))
}

async fn tried(server: &Hydrant, request: &str) -> (u16, Then) {
    let mut raw = server.dial().await;
    // The server may have ended the connection before all of it was sent.
    let _ = patiently("a write", raw.0.write_all(request.as_bytes())).await;
    let Some((status, body)) = answer(&mut raw).await else { return (0, Ended) };
    if status >= 400 {
        let error: serde_json::Value = serde_json::from_str(&body).unwrap_or_else(|_| panic!("{request:?}: {body:?}"));
        assert_eq!(error["Code"], status, "{request:?}");
    }
    let _ = patiently("a write", raw.0.write_all(GOOD.as_bytes())).await;
    let then = if answer(&mut raw).await.is_some_and(|(status, _)| status == 200) { Kept } else { Ended };
    (status, then)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_requests_are_answered_by_the_rules() {
    let server = Hydrant::start("").await;
    let post = |version: &str| {
        let token = format!("Authorization: Bearer {}", server.issue("user:rocketskates", &TokenRequest::default()));
        format!("POST /api/v3/events HTTP/{version}\r\nHost: a\r\nContent-Type: application/json\r\n{token}\r\n")
    };
    let [post, old] = [post("1.1"), post("1.0")];
    let mut wrong = Vec::new();
    for (section, what, request, status, then) in HEADS {
        let request = request.replace("PATH", "/api/v3/hydrant/openapi.json");
        let request = request.strip_prefix("POST0").map(|rest| format!("{old}{rest}")).unwrap_or(request);
        let request = request
            .strip_prefix("POST")
            .filter(|rest| !rest.starts_with(' '))
            .map_or(request.clone(), |rest| format!("{post}{rest}"));
        let found = tried(&server, &request).await;
        if found != (*status, *then) {
            wrong.push(format!("{section}, {what}: {found:?} and not {:?}", (status, then)));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), HEADS.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_come_together_are_answered_in_their_order() {
    let server = Hydrant::start("").await;
    let mut raw = server.dial().await;
    let nobody = "GET /api/v3/info HTTP/1.1\r\nHost: a\r\n\r\n";
    let requests = [GOOD, nobody, GOOD, nobody].concat();
    raw.send(requests.as_bytes()).await;
    let mut found = Vec::new();
    for _ in 0..4 {
        found.push(answer(&mut raw).await.unwrap().0);
    }
    assert_eq!(found, [200, 401, 200, 401]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_before_sending_a_body_is_told_to_go_on_or_not() {
    let server = Hydrant::start("").await;
    let token = server.issue("user:rocketskates", &TokenRequest::default());
    let head = "POST /api/v3/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\
                Expect: 100-continue\r\n";
    let mut raw = server.dial().await;
    raw.send(format!("{head}Authorization: Bearer {token}\r\n\r\n").as_bytes()).await;
    assert_eq!(raw.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    raw.send(b"[]").await;
    assert_eq!(answer(&mut raw).await.unwrap().0, 204);
    let mut raw = server.dial().await;
    raw.send(format!("{head}\r\n").as_bytes()).await;
    assert_eq!(answer(&mut raw).await.unwrap().0, 401, "nobody wants the body");
}

/// What a chunk may say besides its bytes has a bound, as the head has one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_with_endless_extensions_or_trailers_are_refused() {
    let server = Hydrant::start("").await;
    let token = server.issue("user:rocketskates", &TokenRequest::default());
    let head = format!(
        "POST /api/v3/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAuthorization: Bearer {token}\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    for (what, body) in [
        ("an extension", format!("2;a={}\r\n[]\r\n0\r\n\r\n", "x".repeat(64 << 10))),
        ("many extensions", format!("{}0\r\n\r\n", "1;abcdefgh=ijklmnop\r\n \r\n".repeat(4_000))),
        ("a trailer", format!("2\r\n[]\r\n0\r\nX: {}\r\n\r\n", "y".repeat(128 << 10))),
        ("many trailers", format!("2\r\n[]\r\n0\r\n{}\r\n", "X: y\r\n".repeat(4_000))),
    ] {
        let (status, then) = tried(&server, &format!("{head}{body}")).await;
        assert_eq!((status, then), (400, Ended), "{what}");
    }
}
