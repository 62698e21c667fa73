//! Tests with an endpoint whose answers are in a table.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use hyper::StatusCode;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::changed::{Changed, Users};
use super::error::IdentityError;
use super::schedule::{APART, Schedule};
use super::{Delegation, DelegationLimits};
use crate::auth::directory::Account;
use crate::auth::{AuthOptions, Authority};
use crate::broker::archive::Wake;
use crate::client::{Login, Secret, SecretSource, Service, Trust};
use crate::clock::simulated;
use crate::endpoint::http::{Upstream, UpstreamLimits};
use crate::logging::summary::{INTERVAL, captured};
use crate::metrics::Metrics;

const HOUR: Duration = Duration::from_hours(1);

/// What an endpoint says about what it does not have.
const MISSING: &str = r#"{"Model":"","Key":"x","Type":"GET","Messages":["Not Found"],"Code":404}"#;

/// Returns the delegation for the endpoint at this URL.
pub(super) fn delegation(data: &Path, endpoint: &str) -> Delegation {
    let service = Service {
        endpoint: endpoint.parse().unwrap(),
        login: Login::Token(SecretSource::Inline(Secret::new("t"))),
        trust: Trust::Any,
        receive_buffer: 0,
    };
    let limits = UpstreamLimits { connect: HOUR, answer: HOUR, idle: HOUR, requests: 10 };
    let (authority, _) = Authority::open(data, AuthOptions::default()).unwrap();
    let (upstream, authority) = (Arc::new(Upstream::new(service, limits)), Arc::new(authority));
    let limits = DelegationLimits { fresh: HOUR, good: HOUR, refresh: HOUR, cached_identities: 10 };
    Delegation::new(upstream, authority, limits, Arc::new(Metrics::new())).unwrap()
}

/// A delegation that has read its endpoint before, and the answers of that endpoint by path.
struct World {
    delegation: Delegation,
    answers: Mutex<HashMap<&'static str, (u16, String)>>,
    /// The paths that were asked for.
    asked: Mutex<Vec<String>>,
    listener: TcpListener,
    runtime: Runtime,
    _data: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        simulated::begin();
        let data = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let delegation = delegation(data.path(), &format!("http://{}", listener.local_addr().unwrap()));
        delegation.has_read.store(true, Ordering::Release);
        Self { delegation, answers: Mutex::default(), asked: Mutex::default(), listener, runtime, _data: data }
    }

    /// Sets the answer to requests for a path; the endpoint has no others.
    fn answer(&self, path: &'static str, status: u16, body: &str) {
        self.answers.lock().insert(path, (status, body.to_owned()));
    }

    /// Does this while the endpoint answers.
    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let serve = async {
            loop {
                self.serve(self.listener.accept().await.unwrap().0).await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                done = work => done,
                () = serve => unreachable!("it has no end"),
            }
        })
    }

    /// Answers one request.
    async fn serve(&self, mut socket: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).and_then(|path| path.strip_prefix("/api/v3/")).unwrap();
        self.asked.lock().push(path.to_owned());
        let (status, body) = self.answers.lock().get(path).cloned().unwrap_or((404, MISSING.to_owned()));
        let length = body.len();
        let answer = format!("HTTP/1.1 {status} \r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        socket.write_all(answer.as_bytes()).await.unwrap();
    }

    /// Adds users that are known and whom the endpoint has.
    fn know(&self, names: &[&'static str]) {
        let known = self.delegation.authority.accounts();
        let mut entries = known.entries().clone();
        entries.users.extend(names.iter().map(|&name| (name.to_owned(), Account::default())));
        self.delegation.authority.add_accounts(known.next(entries));
    }

    /// Has all users read, and lets `event` happen once the first of them was asked for. Returns what was asked for.
    fn read_all(&self, event: impl FnOnce(&Delegation)) -> Vec<String> {
        let mut schedule = Schedule::new(HOUR, tokio::time::Instant::now());
        let all = Changed { users: Users::All, ..Changed::default() };
        let reading = self.delegation.read_by(&mut schedule, all);
        let happening = async {
            while self.asked.lock().is_empty() {
                tokio::task::yield_now().await;
            }
            event(&self.delegation);
        };
        self.run(async { tokio::join!(reading, happening) });
        std::mem::take(&mut *self.asked.lock())
    }

    /// Reads this from the endpoint ten times. Returns the lines in the log.
    fn read_often(&self, what: &Changed) -> Vec<String> {
        captured::lines(|| (0..10).for_each(|_| drop(self.run(self.delegation.read(what)))))
    }

    /// The same for users, as an event about them makes hydrant read them.
    fn read_users_often(&self, names: &[&str]) -> Vec<String> {
        let changed = Changed::users(names.iter().map(|&name| name.to_owned()));
        let mut schedule = Schedule::new(HOUR, tokio::time::Instant::now());
        captured::lines(|| (0..10).for_each(|_| self.run(self.delegation.read_by(&mut schedule, changed.clone()))))
    }
}

/// Anybody can have them read again.
#[test]
fn keys_that_cannot_be_read_fill_no_log() {
    let world = World::new();
    world.answer("prefs", 429, "");
    let lines = world.read_often(&Changed::keys());
    assert!(lines.len() == 1 && lines[0].contains("429"), "{lines:#?}");
    simulated::pass(INTERVAL);
    let lines = world.read_often(&Changed::keys());
    assert!(lines.len() == 1 && lines[0].contains("suppressed=9"), "{lines:#?}");
}

/// An endpoint need not tell them.
#[test]
fn that_the_keys_are_refused_is_logged_once_until_they_are_told() {
    let world = World::new();
    let lines = |status, body| {
        world.answer("prefs", status, body);
        simulated::pass(INTERVAL);
        world.read_often(&Changed::keys())
    };
    let refused = lines(403, "");
    assert!(refused.len() == 1 && refused[0].contains("the endpoint checks its tokens"), "{refused:#?}");
    let counts = [(401, ""), (200, "{}"), (403, "")].map(|(status, body)| lines(status, body).len());
    assert_eq!(counts, [0, 0, 1]);
}

/// Nobody else asks for them once the login has failed.
#[test]
fn what_a_login_could_not_read_is_left_to_be_read_again() {
    let world = World::new();
    world.answer("prefs", 429, "");
    world.run(world.delegation.current_keys()).unwrap();
    assert_eq!(*world.delegation.again.lock(), Changed::keys());
}

/// Otherwise it would never be away: tokens are opened here for as long as it was heard from lately.
#[test]
fn an_answer_without_keys_is_not_the_endpoints() {
    let world = World::new();
    for (status, body, heard) in [(503, "", false), (404, "", false), (200, "<html>", false), (200, "{}", true)] {
        world.answer("prefs", status, body);
        world.run(world.delegation.read(&Changed::keys())).unwrap();
        assert_eq!(world.delegation.heard.lock().is_some(), heard, "{status} {body}");
    }
}

/// Whatever a server in front of the endpoint answers says nothing about what the endpoint has.
#[test]
fn only_the_endpoint_says_what_it_lacks() {
    let world = World::new();
    let changed = Changed::users(["alice".to_owned()]);
    for (body, counts) in [("404 page not found\n", false), (r#"{"status":404}"#, false), ("", false), (MISSING, true)]
    {
        world.answer("users/alice", 404, body);
        let missing = world.run(world.delegation.read(&changed)).unwrap_err();
        let is_refused = matches!(missing, IdentityError::Refused { status: StatusCode::NOT_FOUND, .. });
        // If she is missing, roles are read next.
        assert_eq!((is_refused, matches!(missing, IdentityError::NoDirectory)), (!counts, counts), "{body}: {missing}");
    }
    world.answer("roles", 404, "404 page not found\n");
    let error = world.run(world.delegation.read(&changed)).unwrap_err();
    assert!(matches!(error, IdentityError::Refused { what: "roles", .. }), "{error}");
}

/// Whoever may post events at the endpoint can have users read again.
#[test]
fn users_that_cannot_be_read_fill_no_log() {
    let world = World::new();
    world.know(&["alice", "bob"]);
    ["users/alice", "users/bob"].into_iter().for_each(|path| world.answer(path, 200, "no account"));
    let lines = world.read_users_often(&["alice", "bob"]);
    assert!(lines.len() == 1 && lines[0].contains("left=2"), "{lines:#?}");
}

/// Nor rows that cannot be read, however many they are: whoever may post events there can have lists read again.
#[test]
fn rows_that_cannot_be_read_fill_no_log() {
    let world = World::new();
    let rows: Vec<String> = (0..1000).map(|n| format!(r#"{{"Name":"{n:0>200}","Claims":1,"Users":1}}"#)).collect();
    let list = format!("[{}]", rows.join(","));
    ["roles", "tenants"].into_iter().for_each(|path| world.answer(path, 200, &list));
    world.answer("prefs", 200, "{}");
    let lines = world.read_often(&Changed::lists());
    let lists = ["list=\"roles\" count=1000", "list=\"tenants\" count=1000"];
    assert!(
        lines.len() == 2 && lists.into_iter().all(|list| lines.iter().any(|line| line.contains(list))),
        "{lines:#?}"
    );
    assert!(lines.iter().all(|line| line.len() < 2_000), "{lines:#?}");
}

/// Posted events may wait until this thread has nothing else to do.
#[test]
fn whoever_waits_for_this_thread_is_woken_before_a_list_is_read() {
    let mut world = World::new();
    let woken = Arc::new(AtomicUsize::new(0));
    let wakes = Arc::clone(&woken);
    world.delegation.wake = Wake::new(move || {
        wakes.fetch_add(1, Ordering::Relaxed);
    });
    for path in ["roles", "tenants"] {
        world.answer(path, 200, "[]");
        let before = woken.load(Ordering::Relaxed);
        // It ends with an error, because hydrant's own user has no rights.
        drop(world.run(world.delegation.read(&Changed::lists())));
        assert!(woken.load(Ordering::Relaxed) > before, "{path}");
    }
}

/// Hundreds of users, and the path of the last.
fn crowd(world: &World) -> &'static str {
    let names: Vec<&'static str> = (0..300).map(|n| &*format!("u{n:0>3}").leak()).collect();
    world.know(&names);
    for name in &names {
        world.answer(format!("users/{name}").leak(), 200, &format!(r#"{{"Name":"{name}","Roles":[]}}"#));
    }
    "users/u299"
}

/// Otherwise who is removed keeps every right until all others have been read.
#[test]
fn a_user_whom_an_event_concerns_waits_for_no_reading_of_all() {
    let world = World::new();
    let last = crowd(&world);
    let asked = world.read_all(|delegation| delegation.saw("users", "save", "u299"));
    let at = |path: &str| asked.iter().position(|asked| asked == path).unwrap();
    assert!(at(last) < at("users/u298"), "{asked:?}");
    assert_eq!(asked.len(), 301, "all others are read too");
    assert!(world.delegation.changed.lock().is_empty());
}

/// Whoever may post events there can report each user without an end.
#[test]
fn events_make_a_reading_of_all_no_longer_than_twice_as_long() {
    let world = World::new();
    crowd(&world);
    let asked = world.read_all(|delegation| {
        (0..300).for_each(|n| delegation.saw("users", "save", &format!("u{n:0>3}")));
        (0..300).for_each(|n| delegation.saw("users", "save", &format!("stranger{n}")));
    });
    assert!(asked.len() <= 600 && !asked.iter().any(|path| path.contains("stranger")), "{asked:?}");
    assert!(!world.delegation.changed.lock().is_empty(), "what was not read is still to be read");
}

#[test]
fn a_role_that_an_event_concerns_waits_for_no_reading_of_all() {
    let world = World::new();
    let last = crowd(&world);
    let asked = world.read_all(|delegation| delegation.saw("roles", "save", "reader"));
    assert!(!asked.iter().any(|path| path == "tenants"), "lists are read once a second");
    assert_eq!(world.delegation.changed.lock().take_all(), Changed::lists());
    let asked = world.read_all(|delegation| {
        delegation.saw("roles", "save", "reader");
        simulated::pass(APART);
    });
    let at = |path: &str| asked.iter().position(|asked| asked == path);
    assert!(at("tenants").is_some() && at(last).is_none(), "{asked:?}");
    // This endpoint has no roles, so nothing else is read; but the event is not forgotten.
    assert_eq!(world.delegation.changed.lock().take_all(), Changed::lists());
}
