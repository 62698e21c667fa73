//! HTTP by its rules: what a request has to be like, what is said when a connection ends, which pages may use the
//! server, and bodies that come compressed.

use std::collections::BTreeSet;
use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::http::{Http, Reply};
use crate::common::raw::Raw;
use crate::common::ws::Show;
use crate::common::{Hydrant, JSON, LOGIN, NDJSON, basic, event, http, patiently};

/// What is answered to a request that is written as it stands.
async fn say(server: &Hydrant, request: &str) -> String {
    let mut raw = server.dial().await;
    raw.send(request.as_bytes()).await;
    raw.head().await
}

/// The same to the end of the connection, which the server must end.
async fn say_last(server: &Hydrant, request: &[u8]) -> String {
    let mut raw = server.dial().await;
    raw.send(request).await;
    let head = raw.head().await;
    let mut body = String::new();
    patiently("the end", raw.0.read_to_string(&mut body)).await.unwrap();
    head + &body
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_is_answered_where_get_is() {
    let server = Hydrant::start("").await;
    for path in ["/api/v3/info", "/api/v3/connections", "/api/v3/users/rocketskates/token"] {
        let get = server.request("GET", path, &[], "").await;
        let head = server.request("HEAD", path, &[], "").await;
        assert_eq!((get.status.as_u16(), head.status.as_u16(), head.body.as_str()), (200, 200, ""), "{path}");
        assert_eq!(head.header("content-type"), JSON);
        assert!(head.header("content-length").parse::<usize>().unwrap() > 2, "{head:?}");
    }
    assert_eq!(server.request("HEAD", "/api/v3/events", &[], "").await.status.as_u16(), 406);
    assert_eq!(server.request("HEAD", "/api/v3/ws", &[], "").await.status.as_u16(), 400);
    let probe = server.server.probe_address().unwrap();
    for path in ["/healthz", "/readyz", "/metrics"] {
        let head = http::request(probe, false, "HEAD", path, &[], "").await;
        assert_eq!((head.status.as_u16(), head.body.as_str()), (200, ""), "{path}");
    }
    assert_eq!(http::request(probe, false, "POST", "/healthz", &[], "").await.status.as_u16(), 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_has_one_host_and_frames_its_body_in_one_way() {
    let server = Hydrant::start("").await;
    for (headers, expected) in [
        ("", 400),
        ("Host: a\r\nHost: a\r\n", 400),
        ("Host: a b\r\n", 400),
        ("Host: user@a\r\n", 400),
        ("Host:\r\n", 400),
        ("Host: a:port\r\n", 400),
        ("Host: a:8092\r\n", 401),
        ("Host: [::1]\r\n", 401),
        ("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
        ("Host: a\r\nTransfer-Encoding: chunked, chunked\r\n", 400),
        ("Host: a\r\nTransfer-Encoding: gzip\r\n", 400),
        ("Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n", 401),
    ] {
        let answer = say(&server, &format!("POST /api/v3/events HTTP/1.1\r\n{headers}\r\n")).await;
        assert_eq!(status(&answer), expected, "{headers:?}: {answer}");
    }
    // Probes speak HTTP/1.0.
    let answer = say_last(&server, b"GET /api/v3/info HTTP/1.0\r\n\r\n").await;
    assert_eq!(status(&answer), 401, "{answer}");
    let refusal = server.request("GET", "/api/v3/info", &[("host", "b")], "").await;
    assert!(refusal.error(400).starts_with("Host: "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_may_have_128_headers() {
    let server = Hydrant::start("").await;
    for (count, expected) in [(128, 401), (129, 431)] {
        let others = "X: y\r\n".repeat(count - 1);
        let answer = say(&server, &format!("GET /api/v3/info HTTP/1.1\r\nHost: a\r\n{others}\r\n")).await;
        assert_eq!(status(&answer), expected, "{count}: {answer}");
    }
}

/// The same head in one piece and in several, which hyper bounds differently.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_is_bounded_however_it_arrives() {
    let server = Hydrant::start("").await;
    let begin = "GET /api/v3/info HTTP/1.1\r\nHost: a\r\nX: ";
    for (length, expected) in [(32 << 10, 401), ((32 << 10) + 1, 431), (45 << 10, 431), (80 << 10, 431)] {
        let head = format!("{begin}{}\r\n\r\n", "y".repeat(length - begin.len() - 4));
        for piece in [head.len(), 1000] {
            let mut raw = server.dial().await;
            for piece in head.as_bytes().chunks(piece) {
                // The server may have answered before the end.
                let _ = raw.0.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            let answer = raw.head().await;
            assert_eq!(status(&answer), expected, "{length} bytes in pieces of {piece}: {answer}");
        }
    }
    let long = format!("/api/v3/ws?register={}", "a".repeat(33_000));
    let error = server.request("GET", &long, &[], "").await;
    assert!(error.error(431).contains("more than 128 headers or 32768 bytes"));
    assert_eq!(error.json()["Type"], "GET");
}

/// As curl sends what was given to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_not_percent_encoded_is_refused_with_a_hint() {
    let server = Hydrant::start("").await;
    for (target, hint) in [
        (
            "/api/v3/events?register=machines.*.*.Stage=Eq(\"local\")",
            "a double quote, which must be percent-encoded as %22",
        ),
        ("/api/v3/events?register=machines.*.*.Stage=Eq(a b)", "a blank, which must be percent-encoded as %20"),
    ] {
        let answer = say_last(&server, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let error: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((status(head), &error["Type"]), (400, &serde_json::json!("GET")));
        assert!(error["Messages"][0].as_str().unwrap().contains(hint), "{error}");
    }
    let other = say_last(&server, b"GET /api/v3/info HTTP/1.1\r\nHost : a\r\nX: \"a b\"\r\n\r\n").await;
    assert!(other.contains("version or a header is malformed") && !other.contains("%2"), "{other}");
    // What comes behind an answered request is another one.
    let mut raw = server.dial().await;
    raw.send(b"GET /api/v3/hydrant/openapi.json HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(status(&raw.head().await), 200);
    raw.send(b"POST /a?\"b\" HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut rest = String::new();
    patiently("the end", raw.0.read_to_string(&mut rest)).await.unwrap();
    assert!(rest.ends_with("%22\"],\"Code\":400}") && rest.contains("\"Type\":\"POST\""), "{rest}");
}

/// A token that is not narrowed because of a slip would have all rights.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slip_in_a_request_for_a_token_is_refused() {
    let server = Hydrant::start("").await;
    let uuid = "3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e";
    for path in ["/api/v3/users/rocketskates/token".to_owned(), format!("/api/v3/machines/{uuid}/token")] {
        let get = async |query: &str| server.request("GET", &format!("{path}?{query}"), &[], "").await;
        for (given, meant) in [
            ("Scope", "scope"),
            ("scopes", "scope"),
            ("role", "roles"),
            ("ROLES", "roles"),
            ("TTL", "ttl"),
            ("ttls", "ttl"),
            ("Action", "action"),
            ("specificS", "specific"),
        ] {
            let error = get(&format!("{given}=x")).await.error(400);
            assert_eq!(error, format!("unknown parameter \"{given}\": did you mean \"{meant}\"?"));
        }
        let error = get("scope=machines&action=get&scope=jobs").await.error(400);
        assert_eq!(error, "the parameter \"scope\" occurs more than once");
        for query in ["", "roles=", "scope=&ttl=60", "token=&slim=Params&scoped=x"] {
            let reply = get(query).await;
            assert_eq!(reply.status.as_u16(), 200, "{query}: {}", reply.body);
            assert_eq!(reply.json()["Info"]["Only"], serde_json::json!([]), "{query}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lifetime_in_a_body_is_a_number_or_a_text() {
    let server = Hydrant::start("").await;
    let post = async |body: &str| server.request("POST", "/api/v3/users/rocketskates/token", &[], body).await;
    for body in ["{\"ttl\":60}", "{\"ttl\":\"60\"}", "{\"ttl\":\"1m\"}", "{\"ttl\":null}"] {
        assert_eq!(post(body).await.status.as_u16(), 200, "{body}");
    }
    for (body, expected) in [
        ("{\"ttl\":0}", "ttl: \"0\" is not a duration"),
        ("{\"ttl\":1.5}", "at byte 7: ttl must be a number of seconds, or a string such as `30m`"),
        ("{\"ttl\":[60]}", "at byte 7: ttl must be a number of seconds"),
        ("{\"roles\":[\"a\"]}", "at byte 9: roles must be a string: names of roles, separated by commas"),
        ("{\"ttl\":60,\n\"scope\":{}}", "at byte 19: scope must be a string: scopes, separated by commas"),
        ("{\"Ttl\":60}", "unknown field `Ttl`, expected one of `ttl`"),
    ] {
        let error = post(body).await.error(400);
        assert!(error.contains(expected) && !error.contains("line 1"), "{body}: {error}");
    }
    let checked = server.request("POST", "/api/v3/hydrant/check", &[], "{\"Spec\":5}").await;
    assert_eq!(checked.error(400), "at byte 8: Spec must be a string");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_connection_is_said_and_its_last_answer_arrives() {
    let server = Hydrant::start("").await;
    let get = "GET /api/v3/info HTTP/1.1\r\nHost: a\r\n";
    let says = |answer: &str| answer.to_ascii_lowercase().contains("connection: close\r\n");
    assert!(says(&say_last(&server, format!("{get}Connection: close\r\n\r\n").as_bytes()).await));
    assert!(says(&say_last(&server, b"GET /api/v3/info HTTP/1.0\r\n\r\n").await));
    assert!(!says(&say(&server, &format!("{get}\r\n")).await));
    // Nobody reads a body without credentials; who sends it gets the answer all the same.
    for tls in [false, true] {
        let server = if tls { Hydrant::start_tls("").await } else { Hydrant::start("").await };
        let head = "POST /api/v3/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: \
            4000000\r\n\r\n";
        let answer = crate::unread::answer(&server, head).await;
        assert!(status(&answer) == 401 && says(&answer) && answer.ends_with('}'), "{answer}");
    }
    // A body that was read keeps the connection.
    let bearer = format!("Bearer {}", server.token().await);
    let mut kept = Http::connect(server.address(), false).await;
    for body in ["nonsense", "{}"] {
        let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
        let reply = kept.request("POST", "/api/v3/events", &headers, body).await;
        assert_eq!((reply.status.as_u16(), reply.header("connection")), (400, ""), "{body}");
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(text.as_bytes()).unwrap();
    out.finish().unwrap()
}

async fn post(server: &Hydrant, form: &str, coding: &str, body: Vec<u8>) -> Reply {
    let bearer = format!("Bearer {}", server.token().await);
    let mut headers = vec![("authorization", bearer.as_str()), ("content-type", form)];
    if !coding.is_empty() {
        headers.push(("content-encoding", coding));
    }
    Http::connect(server.address(), false).await.request("POST", "/api/v3/events", &headers, body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_posts_are_inflated_within_the_bounds() {
    let server = Hydrant::start("limits = { body_bytes = \"1MiB\", event_bytes = \"1MiB\" }").await;
    let mut client = server.watch(&["a.b.*"]).await;
    let lines = format!("{}\n{}\n", event("a", "b", "1"), event("a", "b", "2"));
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
    zlib.write_all(event("a", "b", "3").as_bytes()).unwrap();
    post(&server, NDJSON, "gzip", gzip(&lines)).await.taken();
    post(&server, JSON, "deflate", zlib.finish().unwrap()).await.taken();
    post(&server, JSON, "identity", event("a", "b", "4").into_bytes()).await.taken();
    for key in 1..=4 {
        assert_eq!(client.event().await.key, key.to_string());
    }
    let unknown = post(&server, JSON, "br", b"x".to_vec()).await;
    assert_eq!(unknown.header("accept-encoding"), "gzip, deflate");
    assert!(unknown.error(415).contains("\"br\""));
    post(&server, JSON, "gzip, gzip", gzip("{}")).await.error(415);
    let bomb = gzip(&" ".repeat(64 << 20));
    assert!(bomb.len() < 1 << 20);
    assert!(post(&server, JSON, "gzip", bomb).await.error(413).contains("inflates to more than 1048576 bytes"));
    let mut cut = gzip(&lines);
    cut.truncate(cut.len() - 9);
    assert!(post(&server, NDJSON, "gzip", cut).await.error(400).contains("Content-Encoding: gzip"));
    assert!(
        post(&server, NDJSON, "gzip", lines.clone().into_bytes()).await.error(400).contains("Content-Encoding: gzip")
    );
    let unsaid = post(&server, NDJSON, "", gzip(&lines)).await.error(400);
    assert!(unsaid.contains("gzip data without the header"), "{unsaid}");
    let longer = [gzip(&lines), b"more".to_vec()].concat();
    assert!(post(&server, NDJSON, "gzip", longer).await.error(400).contains("something follows that data"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_json_is_said_in_words_and_where() {
    let server = Hydrant::start("").await;
    let events: Vec<String> = (0..711).map(|n| event("a", "b", &n.to_string())).collect();
    let mut tab = events.clone();
    tab[700] = "{\"Type\":\"a\tb\",\"Action\":\"b\"}".to_owned();
    let digits = "9".repeat(400);
    for (form, body, expected) in [
        (JSON, format!("[{}]", tab.join(",\n")), "element 700: not valid JSON at byte 10: a control character (0x09)"),
        (NDJSON, tab.join("\n"), "line 701: not valid JSON at byte 10: a control character (0x09)"),
        (JSON, format!(r#"{{"Type":"a","Action":"b","Object":{digits}}}"#), "beyond the range of a double"),
        (
            JSON,
            r#"{"Type":"a","Action":"b","Object":1e400}"#.to_owned(),
            "at byte 34: a number beyond the range of a double",
        ),
        (JSON, r#"{"Type":"a","Action":"b","Object":"\ud800"}"#.to_owned(), "a lone surrogate"),
        (JSON, r#"{"Type":"a","Action":"b","Object":NaN}"#.to_owned(), "`NaN` is not a JSON value"),
        (JSON, format!("{} x", events[0]), "text after the value"),
        (JSON, events.join("\n"), "application/x-ndjson"),
        (
            NDJSON,
            format!("\u{feff}{}\n\u{feff}{}", events[0], events[1]),
            "line 2: not valid JSON at byte 0: a byte order mark",
        ),
        (NDJSON, "\u{feff}{\"Type\":}".to_owned(), "line 1: not valid JSON at byte 11: found '}'"),
        (JSON, event("hydrant", "gap", "queue"), "Type `hydrant`"),
        (JSON, r#"{"Type":"a","Action":"b","Time":"2026-01-01T00:00:00+24:00"}"#.to_owned(), "RFC 3339"),
    ] {
        let error = server.try_post(form, &body).await.error(400);
        assert!(error.contains(expected), "{error}");
        let lower = error.to_ascii_lowercase();
        assert!(!lower.contains("internal") && !lower.contains("syntax"), "{error}");
        let is_json = ["beyond", "surrogate"].iter().any(|word| error.contains(word));
        assert_eq!(error.contains("not valid JSON"), !is_json && error.contains(" at byte "), "{error}");
    }
    for form in ["application/ndjson", "Application/X-NDJSON; charset=utf-8"] {
        server.try_post(form, &events[..2].join("\n")).await.taken();
    }
    let mut client = server.watch(&["a.b.*"]).await;
    let late = r#"{"Time":"9999-12-31T23:59:59Z","Type":"a","Action":"b","Key":"late"}"#;
    server.post(&format!("\u{feff}{late}")).await;
    assert_eq!(client.event().await.time, "9999-12-31T23:59:59Z");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_cookie_authenticates() {
    let server = Hydrant::start("").await;
    let token = server.token().await;
    let login = basic(LOGIN);
    for cookie in [
        format!("token={token}"),
        format!("a=b; Token={token}"),
        format!("Authorization=Bearer {token}"),
        format!("authorization={login}"),
        format!("Bearer {token}"),
    ] {
        let headers = [("cookie", cookie.as_str())];
        for path in ["/api/v3/info", "/api/v3/events?register=a.b.c", "/api/v3/connections", "/api/v3/hydrant/me"] {
            let reply = http::request(server.address(), false, "GET", path, &headers, "").await;
            assert_eq!(reply.status.as_u16(), 401, "{path} with {cookie}");
        }
        let refusal = server.try_connect(&Show::Nothing, &headers).await.err().unwrap();
        assert_eq!(refusal.status, 401, "{cookie}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browsers_own_credentials_are_taken_from_the_own_host_however_its_port_is_written() {
    let server = Hydrant::start("allowed_origins = [\"https://portal.lab:443\"]").await;
    let login = basic(LOGIN);
    let mut kept = Raw(server.dial().await.0);
    for (host, origin, expected) in [
        ("drp.lab:80", "http://drp.lab", 200),
        ("drp.lab", "http://drp.lab:80", 200),
        ("drp.lab", "https://drp.lab:443", 200),
        ("drp.lab:8092", "http://drp.lab", 403),
        ("drp.lab", "https://portal.lab", 200),
        ("drp.lab", "https://other.lab", 403),
    ] {
        let request =
            format!("HEAD /api/v3/info HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nAuthorization: {login}\r\n\r\n");
        kept.send(request.as_bytes()).await;
        let answer = kept.head().await;
        assert_eq!(status(&answer), expected, "{origin} at {host}: {answer}");
    }
}

const PORTAL: &str = "https://portal.rackn.io";

/// What a browser asks before a page may send `Authorization`.
async fn preflight(server: &Hydrant, path: &str) -> Reply {
    let headers = [
        ("origin", PORTAL),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
        ("access-control-request-private-network", "true"),
    ];
    http::request(server.address(), server.tls, "OPTIONS", path, &headers, "").await
}

/// The headers of answers that the protocol has a client read: hydrant's own, and those named here.
fn documented_headers() -> BTreeSet<&'static str> {
    let text = include_str!("../../docs/protocol.md");
    let own = text.split('`').filter_map(|code| code.split(':').next().filter(|name| name.starts_with("X-Hydrant-")));
    let own: BTreeSet<&str> = own.filter(|name| !name.ends_with('*')).collect();
    assert!(own.len() >= 4, "{own:?}");
    own.into_iter().chain(["Accept-Encoding", "Date", "Retry-After", "WWW-Authenticate"]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_page_may_use_the_server_with_a_token() {
    let server = Hydrant::start("").await;
    let leave = preflight(&server, "/api/v3/events").await;
    assert_eq!(leave.status.as_u16(), 204, "{leave:?}");
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ("access-control-allow-headers", "authorization,content-type"),
        ("access-control-allow-private-network", "true"),
        ("access-control-max-age", "7200"),
        ("access-control-allow-credentials", ""),
    ] {
        assert_eq!(leave.header(name), value, "{name}");
    }
    let origin = [("origin", PORTAL)];
    for (method, path) in [("GET", "/api/v3/info"), ("GET", "/api/v3/nowhere"), ("POST", "/api/v3/events")] {
        let reply = server.request(method, path, &origin, "").await;
        assert_eq!(reply.header("access-control-allow-origin"), "*", "{method} {path}");
        let exposed: BTreeSet<&str> = reply.header("access-control-expose-headers").split(", ").collect();
        assert!(exposed.is_superset(&documented_headers()), "{exposed:?}");
        assert_eq!(reply.header("access-control-allow-credentials"), "");
        let plain = server.request(method, path, &[], "").await;
        assert_eq!(plain.header("access-control-allow-origin"), "", "no browser asked");
    }
    let nobody = http::request(server.address(), false, "GET", "/api/v3/info", &origin, "").await;
    assert_eq!((nobody.status.as_u16(), nobody.header("access-control-allow-origin")), (401, "*"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn allowed_origins_restrict_and_widen() {
    let server = Hydrant::start("allowed_origins = [\"https://a.lab\"]").await;
    let login = basic(LOGIN);
    let ask = async |origin: &str| {
        let headers = [("origin", origin), ("authorization", login.as_str())];
        http::request(server.address(), false, "GET", "/api/v3/info", &headers, "").await
    };
    let allowed = ask("https://a.lab").await;
    assert_eq!(allowed.status.as_u16(), 200);
    assert_eq!(allowed.header("access-control-allow-origin"), "https://a.lab");
    assert_eq!((allowed.header("access-control-allow-credentials"), allowed.header("vary")), ("true", "Origin"));
    let other = ask("https://b.lab").await;
    assert_eq!((other.status.as_u16(), other.header("access-control-allow-origin")), (403, ""));
    assert_eq!(other.header("vary"), "Origin");
    assert_eq!(preflight(&server, "/api/v3/info").await.header("access-control-allow-origin"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_connections_are_filtered_as_drp_does_it() {
    let server = Hydrant::start("listen = [\"[::]:0\"]\nallow_default_credentials = true").await;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], server.address().port()));
    let bearer = format!("Bearer {}", server.token().await);
    let headers = [("authorization", bearer.as_str())];
    let mut kept = Http::connect(address, false).await;
    let _client = server.watch(&["a.b.*"]).await;
    let mut list = async |query: &str| kept.request("GET", &format!("/api/v3/connections?{query}"), &headers, "").await;
    let types = |reply: &Reply| -> Vec<String> {
        let mut all: Vec<String> =
            reply.json().as_array().unwrap().iter().map(|one| one["Type"].as_str().unwrap().to_owned()).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    for (query, expected) in [
        ("", ["api", "websocket"].as_slice()),
        ("Type=Eq(websocket)", &["websocket"]),
        ("Type=websocket", &["websocket"]),
        ("Type=Ne(websocket)", &["api"]),
        ("Type=In(api,websocket)", &["api", "websocket"]),
        ("Type=Eq(websocket)&Principal=Ne(user:rocketskates)", &[]),
    ] {
        assert_eq!(types(&list(query).await), expected, "{query}");
    }
    for query in ["Type=Re(web)", "Principal=Gt(a)", "RemoteAddr=Between(a,b)"] {
        assert!(list(query).await.error(400).contains("use Eq, Ne or In"), "{query}");
    }
    // On a socket of both families, clients of IPv4 are known by their own addresses.
    let all = list("").await.json();
    let v4 = all.as_array().unwrap().iter().filter(|one| one["RemoteAddr"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(v4.count() >= 1, "{all}");
}
