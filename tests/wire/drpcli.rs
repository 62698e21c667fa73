//! What drpcli and the Go client ask of a server, imitated request by request, and the door to the websocket:
//! credentials, origins, refusals.

use crate::common::http::{Http, Reply};
use crate::common::ws::{Refusal, Show};
use crate::common::{Hydrant, JSON, LOGIN, PRINCIPAL, basic, event};

/// The headers that drpcli sends with everything.
const ACCEPT: [(&str, &str); 4] = [
    ("accept", JSON),
    ("cache-control", "no-store"),
    ("accept-encoding", "gzip"),
    ("user-agent", "Go-http-client/1.1"),
];

/// drpcli on one kept connection.
struct Cli {
    http: Http,
    authorization: String,
}

impl Cli {
    async fn new(server: &Hydrant, authorization: &str) -> Self {
        Self { http: Http::connect(server.address(), server.tls).await, authorization: authorization.to_owned() }
    }

    async fn request(&mut self, method: &str, path: &str, body: &str) -> Reply {
        let mut headers = ACCEPT.to_vec();
        headers.push(("authorization", &self.authorization));
        if !body.is_empty() {
            headers.push(("content-type", JSON));
        }
        self.http.request(method, &format!("/api/v3/{path}"), &headers, body.to_owned()).await
    }

    /// A reply below 400, which drpcli takes only if it is called JSON.
    async fn succeed(&mut self, method: &str, path: &str, body: &str) -> Reply {
        let reply = self.request(method, path, body).await;
        assert!(reply.status.as_u16() < 400, "{path}: {reply:?}");
        assert!(reply.header("content-type").starts_with(JSON), "{path}: {reply:?}");
        reply
    }

    /// What `default` does before a command: a token by Basic, which is used from then on, and a longer one for the
    /// cache.
    async fn start_session(&mut self) -> String {
        let token = |reply: &Reply| reply.json()["Token"].as_str().unwrap().to_owned();
        let first = token(&self.succeed("GET", "users/rocketskates/token", "").await);
        self.authorization = format!("Bearer {first}");
        token(&self.succeed("GET", "users/rocketskates/token?ttl=7200", "").await)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_starts_with_a_password_and_goes_on_with_its_token() {
    let server = Hydrant::start_tls("").await;
    let mut cli = Cli::new(&server, &basic(LOGIN)).await;
    let cached = cli.start_session().await;
    assert!(
        cached.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.=~".contains(&b)),
        "a token stands in an URL as it is"
    );
    // The next start finds the token in its cache.
    let mut cli = Cli::new(&server, &format!("Bearer {cached}")).await;
    let info = cli.succeed("GET", "info", "").await.json();
    for name in ["arch", "os", "version", "id", "address", "features", "stats", "scopes"] {
        assert!(!info[name].is_null(), "{name} in {info}");
    }
    assert_eq!(info["api_port"], server.address().port());
    cli.succeed("GET", "users/rocketskates/token?ttl=600", "").await;
    let narrow = cli.succeed("GET", "users/rocketskates/token?action=get&scope=machines&specific=*&ttl=5m", "").await;
    assert!(narrow.json()["Info"].is_object(), "{narrow:?}");
    let zero = concat!(
        r#"{"Time":"0001-01-01T00:00:00Z","Type":"a","Action":"b","Key":"c","Principal":"","Object":null,"#,
        r#""Original":null}"#,
    );
    let posted = cli.succeed("POST", "events", zero).await;
    assert_eq!((posted.status.as_u16(), posted.body.as_str()), (204, ""));
}

/// The cache is not kept by server: a foreign token comes first, and must fail so that drpcli asks for the password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_tokens_are_refused() {
    let (server, other) = (Hydrant::start("").await, Hydrant::start("").await);
    let foreign = other.token().await.to_owned();
    let long = "no-token-".repeat(2_300);
    for token in [&foreign, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", "x", "a:b", "%00", "=", &long] {
        let mut cli = Cli::new(&server, &format!("Bearer {token}")).await;
        let status = cli.request("GET", "info", "").await.status.as_u16();
        assert!((400..500).contains(&status), "{status} for {token:?}");
    }
    let mut cli = Cli::new(&server, &basic(LOGIN)).await;
    cli.start_session().await;
}

/// `machines wait`: two registrations, answers, the object over REST (which is not ours to serve), two deregistrations.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_a_machine_takes_two_registrations_on_one_socket() {
    let server = Hydrant::start_tls("shards = 1").await;
    let uuid = "3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e";
    let bearer = format!("Bearer {}", server.token().await);
    let mut client = server.try_connect(&Show::Header(&bearer), &ACCEPT[3..]).await.ok().unwrap();
    let mut witness = server.watch(&["machines.update.*"]).await;
    let (update, save) = (format!("machines.update.{uuid}"), format!("machines.save.{uuid}"));
    for _ in 0..3 {
        // Both are sent before either is answered; the client counts the answers.
        client.say(&format!("register {update}")).await;
        client.say(&format!("register {save}")).await;
        client.answer("register", &update).await;
        client.answer("register", &save).await;
        server.announce("machines", "delete", uuid).await;
        server.announce("machines", "update", "another").await;
        server.announce("machines", "save", uuid).await;
        server.announce("machines", "update", uuid).await;
        assert_eq!(client.event().await.name(), save);
        assert_eq!(client.event().await.name(), update);
        client.say(&format!("deregister {update}")).await;
        client.say(&format!("deregister {save}")).await;
        client.answer("deregister", &update).await;
        client.answer("deregister", &save).await;
        // Nobody waits for this one. The shard must be past it before the next round: what was posted before a
        // registration but is not matched yet may still come.
        server.announce("machines", "update", "end").await;
        server.announce("machines", "update", uuid).await;
        witness.until("machines.update.end").await;
        assert_eq!(witness.event().await.name(), update);
    }
    client.stream.close(None).await.unwrap();
    drop((client, witness));
    server.until_empty().await;
    let gone = async |reason: &str| server.metric(&format!("hydrant_disconnects_total{{reason=\"{reason}\"}}")).await;
    assert_eq!((gone("normal").await, gone("vanished").await), (1, 1));
}

/// `events watch` and `events post` of the Go test-suite: a type that nobody knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_types_are_delivered_and_keys_keep_their_dots() {
    let server = Hydrant::start_tls("shards = 1").await;
    let mut client = server.watch(&["beeblebrox.*.*", "x.y.z.w"]).await;
    server.announce("beeblebrox", "created", "foo").await;
    server.announce("x", "y", "z").await;
    server.announce("x", "y", "z.w").await;
    assert_eq!(client.event().await.name(), "beeblebrox.created.foo");
    assert_eq!(client.event().await.name(), "x.y.z.w");
    client.deregister("beeblebrox.*.*").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_credential_opens_a_websocket() {
    for server in [Hydrant::start("").await, Hydrant::start_tls("").await] {
        let token = server.token().await;
        let (right, wrong) = (basic(LOGIN), basic("rocketskates:wrong"));
        let with = |scheme: &str, value: &str| format!("{scheme} {value}");
        let headers =
            [right.clone(), right.replacen("Basic", "basic", 1), with("Bearer", token), with("bEARER", token)];
        for header in &headers {
            let mut client = server.try_connect(&Show::Header(header), &[]).await.ok().unwrap();
            client.say("register a.b.c").await;
            assert_eq!(client.event().await.principal, PRINCIPAL);
        }
        for query in [
            format!("token={token}"),
            format!("Token={token}"),
            format!("x=y&Token={token}&z"),
            format!("token={LOGIN}"),
            format!("Token={LOGIN}"),
            "token=rocketskates%3Ar0cketsk8ts".to_owned(),
            "token=%72ocketskates%3ar0cketsk8ts".to_owned(),
        ] {
            assert!(server.try_connect(&Show::Query(&query), &[]).await.is_ok(), "{query}");
        }
        // A header wins over the query, good or bad.
        let good = [("authorization", right.as_str())];
        assert!(server.try_connect(&Show::Query("token=nonsense"), &good).await.is_ok());
        let bad = [("authorization", wrong.as_str())];
        let refusal = refused(&server, &Show::Query(&format!("token={token}")), &bad).await;
        assert_eq!(refusal.status, 403);
    }
}

async fn refused(server: &Hydrant, show: &Show<'_>, headers: &[(&str, &str)]) -> Refusal {
    match server.try_connect(show, headers).await {
        Err(refusal) => refusal,
        Ok(_) => panic!("let in with {show:?} {headers:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_are_401_without_and_403_with_wrong_credentials() {
    let server = Hydrant::start("throttle = { failures = 1000 }").await;
    let (unknown, wrong) = (basic("nobody:r0cketsk8ts"), basic("rocketskates:wrong"));
    let rows = [
        (Show::Nothing, 401),
        (Show::Query("token="), 401),
        (Show::Query("TOKEN=x"), 401),
        (Show::Header("Digest x"), 401),
        (Show::Header("Basic !!!"), 401),
        (Show::Header("Basic bm9jb2xvbg=="), 401),
        (Show::Header("Bearer"), 401),
        (Show::Header(&unknown), 403),
        (Show::Header(&wrong), 403),
        (Show::Header("Bearer nonsense"), 403),
        (Show::Query("token=nonsense"), 403),
        (Show::Query("token=rocketskates:wrong"), 403),
        (Show::Query("Token=nobody:r0cketsk8ts"), 403),
    ];
    let mut messages = Vec::new();
    for (show, status) in &rows {
        let Refusal { status: found, headers, body } = refused(&server, show, &[]).await;
        assert_eq!(found, *status, "{show:?}: {body}");
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("content-type"), Some(JSON), "{show:?}");
        assert_eq!(header("www-authenticate"), (found == 401).then_some("dr-provision"), "{show:?}");
        let error: serde_json::Value = serde_json::from_str(&body).unwrap();
        let message = error["Messages"][0].as_str().unwrap();
        let expected =
            format!(r#"{{"Model":"","Key":"","Type":"AUTH","Messages":[{}],"Code":{status}}}"#, error["Messages"][0]);
        assert_eq!(body, expected, "{show:?}");
        assert!(!message.contains("nobody") && !message.contains("nonsense"), "{show:?}: {message}");
        messages.push((show, message.to_owned()));
    }
    let of = |at: usize| &messages[at].1;
    assert_eq!(of(7), of(8), "it must not tell whether the user exists");
    assert_eq!(of(11), of(12), "nor by the query");
    assert_eq!(server.metric("hydrant_handshakes_rejected_total{reason=\"unauthenticated\"}").await, 7);
    assert_eq!(server.metric("hydrant_connections_opened_total").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_get_of_the_websocket_is_told_what_is_missing() {
    let server = Hydrant::start("").await;
    let reply = server.request("GET", "/api/v3/ws", &[], "").await;
    assert!(reply.error(400).contains("Upgrade"), "{}", reply.body);
    assert_eq!(reply.header("sec-websocket-version"), "13");
    server.request("POST", "/api/v3/ws", &[("content-type", JSON)], "{}").await.error(400);
    let reply = server.request("GET", "/api/v3/nothing/here", &[], "").await;
    assert_eq!((reply.error(404).as_str(), reply.json()["Key"].as_str()), ("No route", Some("/api/v3/nothing/here")));
    server.request("DELETE", "/api/v3/events", &[], "").await.error(404);
    // The connection goes on after an error.
    let mut http = Http::connect(server.address(), false).await;
    let bearer = format!("Bearer {}", server.token().await);
    let headers = [("authorization", bearer.as_str()), ("content-type", JSON)];
    http.request("GET", "/nothing", &headers, "").await.error(404);
    http.request("POST", "/api/v3/events", &headers, event("a", "b", "c")).await.taken();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_browsers_add_need_the_own_origin() {
    let server = Hydrant::start("allowed_origins = [\"https://portal.example.com\"]").await;
    let own = format!("https://{}", server.address());
    let (password, bearer) = (basic(LOGIN), format!("Bearer {}", server.token().await));
    let (foreign, allowed) = ("https://evil.example.com", "https://portal.example.com");
    for origin in [own.as_str(), allowed] {
        assert!(server.try_connect(&Show::Header(&password), &[("origin", origin)]).await.is_ok(), "{origin}");
    }
    for origin in [foreign, "null", "https://portal.example.com.evil.example.com", "https://127.0.0.1"] {
        let refusal = refused(&server, &Show::Header(&password), &[("origin", origin)]).await;
        assert_eq!(refusal.status, 403, "{origin}");
        // The sample clients: a token in the query, or a password as a token, is put there on purpose.
        let (token, login) = (format!("token={}", server.token().await), format!("token={LOGIN}"));
        for show in [Show::Header(&bearer), Show::Query(&token), Show::Query(&login)] {
            assert!(server.try_connect(&show, &[("origin", origin)]).await.is_ok(), "{origin} {show:?}");
        }
    }
}
