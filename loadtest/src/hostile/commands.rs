//! Attacks by commands on a websocket: filters that are expensive for every event, and commands that are expensive
//! themselves.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use super::socket::Socket;
use super::worker::Worker;

/// How long an attacker waits for the answers to a batch of commands before it sends the next.
const ANSWERS: Duration = Duration::from_secs(2);

/// How long it receives at a time once it has sent everything.
const LISTEN: Duration = Duration::from_millis(200);

/// Maximum number of registrations of one connection.
const REGISTRATIONS: u64 = 4_096;

/// Maximum length of a command in bytes.
const COMMAND_MAX: usize = 63 << 10;

/// Registers the commands in batches, then only receives.
fn occupy(worker: &Worker, batch: usize, commands: impl Iterator<Item = String>) -> Result<()> {
    let mut socket = Socket::open(worker.guest(), worker)?;
    let (mut commands, mut sent) = (commands.peekable(), 0);
    while !worker.is_over() && commands.peek().is_some() {
        let some: Vec<String> = commands.by_ref().take(batch).collect();
        sent += some.len() as u64;
        socket.send(some)?;
        socket.read(ANSWERS, sent, worker)?;
        worker.ready();
    }
    while !worker.is_over() {
        socket.read(LISTEN, u64::MAX, worker)?;
    }
    Ok(())
}

/// Registers and deregisters until the attack ends.
fn storm(worker: &Worker, batch: u64, command: impl Fn(u64) -> String) -> Result<()> {
    let mut socket = Socket::open(worker.guest(), worker)?;
    let mut sent = 0;
    while !worker.is_over() {
        socket.send((sent..sent + batch).map(&command))?;
        sent += batch;
        socket.read(ANSWERS, sent, worker)?;
        worker.ready();
    }
    Ok(())
}

/// From the most expensive expression down to one that any server accepts; all texts are distinct.
pub(super) fn regex(worker: &Worker) -> Result<()> {
    let repeats = [1_000, 500, 300, 200, 100, 50, 20, 10, 5, 2];
    let pattern = |n: u32, variant: usize| match variant % 4 {
        0 => format!("(?:[ -z]?[ -y]?[ -x]?){{{n}}}[^ -~]"),
        1 => format!("1[01]{{{n}}}[^01]"),
        2 => format!("[a-f]([^z]{{{n}}}|[^y]{{{}}})[^ -~]", n / 2 + 1),
        _ => format!("(?i:[ -~]{{{n}}})é"),
    };
    let commands = (0..64_usize).flat_map(move |variant| {
        repeats.into_iter().map(move |n| {
            let number = worker.number * 64 + variant;
            format!("register *.*.*.Object=Re((?:x{{0}}){}w{number}$)", pattern(n, variant))
        })
    });
    // Alternatives of one attack: also without the tail, so that no match can be ruled out early.
    let plain = repeats
        .into_iter()
        .flat_map(move |n| (0..4).map(move |variant| format!("register *.*.*.Object=Re({})", pattern(n, variant))));
    occupy(worker, 1, plain.chain(commands))
}

/// Filters with 64 times 4,096 values, as many as a message holds.
pub(super) fn wide_in(worker: &Worker) -> Result<()> {
    let command = |at: usize| {
        let start = (worker.number * 64 + at) * 4_096;
        let values: Vec<String> = (start..start + 4_096).map(|value| format!("v{value}")).collect();
        format!("register *.*.*.And(Uuid=Nin({}),Key=Exists())", values.join(","))
    };
    occupy(worker, 4, (0..64).map(command))
}

/// Filters with up to 64 levels and up to 1,024 terms, none of which is decided before its last term.
pub(super) fn deep(worker: &Worker) -> Result<()> {
    let number = worker.number;
    let nested = move |at: usize| {
        let (mut open, mut close) = (String::new(), String::new());
        for level in 0..30 {
            let _ = write!(open, "And(Params.deep{at}x{level}=Ne({number}),Or(Params.no{at}x{level}=Exists(),");
            close.push_str("))");
        }
        format!("register *.*.*.{open}Uuid=Eq(none{at}){close}")
    };
    let wide = move |at: usize| {
        let terms: Vec<String> = (0..1_000).map(|term| format!("Params.a{number}.b{at}.c{term}=Exists()")).collect();
        format!("register *.*.*.Or({})", terms.join(","))
    };
    occupy(worker, 4, (0..512).map(nested).chain((0..64).map(wide)))
}

/// 4,096 filters with an expression each.
pub(super) fn worst_filters(worker: &Worker) -> Result<()> {
    let number = worker.number;
    let command =
        move |at: u64| format!("register *.*.*.Or(Object=Re([^{{]*q{at}x{number}$),Original=Re(z+{at}y+{number}))");
    occupy(worker, 64, (0..REGISTRATIONS).map(command))
}

/// Lists that have 65,536 combinations, four at a time, repeatedly removed and made again.
pub(super) fn wide_lists(worker: &Worker) -> Result<()> {
    let number = worker.number;
    storm(worker, 8, move |at| {
        let verb = if (at / 4).is_multiple_of(2) { "register" } else { "deregister" };
        let list = |name: &str, count: u32| {
            let names: Vec<String> = (0..count).map(|n| format!("{name}{number}x{}x{n}", at % 4)).collect();
            names.join(",")
        };
        format!("{verb} {}.{}.{}", list("t", 32), list("a", 32), list("k", 64))
    })
}

/// Registers 500 filters and deregisters them.
pub(super) fn registers(worker: &Worker) -> Result<()> {
    let number = worker.number;
    storm(worker, 250, move |at| {
        let verb = if (at / 500).is_multiple_of(2) { "register" } else { "deregister" };
        let (at, round) = (at % 500, at / 1_000 % 64);
        format!("{verb} machines,jobs,t{at}.*.*.Stage=Re((?:[a-z]?[0-9]?){{{}}}x{number}y{at})", 20 + round)
    })
}

/// Patterns that are too big, filters with an error at their end, and deregistrations of unknown registrations.
pub(super) fn refused(worker: &Worker) -> Result<()> {
    let long: Vec<String> = (0..4_000).map(|value| format!("w{value}")).collect();
    let mut wrong = format!("register *.*.*.Or(Key=In({}),Key=Eq(", long.join(","));
    wrong.truncate(COMMAND_MAX);
    let number = worker.number;
    storm(worker, 30, move |at| match at % 4 {
        0 => format!("register *.*.*.Object=Re((?:[ -z]?[ -y]?[ -x]?){{1000}}(?:a{{1000}}){{{}}})", at % 900 + 100),
        1 => format!("register *.*.*.Object=Re((?:\\pL{{900}}){{{}}}x{number})", at % 900 + 2),
        2 => wrong.clone(),
        _ => format!("deregister *.*.*.Object=Re((?:[ -z]?[ -y]?){{300}}n{at})"),
    })
}
