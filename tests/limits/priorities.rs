//! How nice the threads of the program are to each other.

use std::fs;

use futures_util::future::join_all;

use crate::common::program::Program;
use crate::common::{JSON, http};

/// The nice values of the threads whose names begin like this.
fn nice(process: u32, name: &str) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")).ok());
    let named = stats.filter_map(|stat| {
        let (before, after) = stat.rsplit_once(')').unwrap();
        let is_wanted = before.split_once('(').unwrap().1.starts_with(name);
        // `proc_pid_stat(5)`: the name is field 2, the nice value field 19.
        is_wanted.then(|| after.split_whitespace().nth(16).unwrap().parse().unwrap())
    });
    named.collect()
}

/// Large bodies are parsed while new control threads take over the others' work. Control threads start these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_threads_that_others_started_are_no_nicer_than_these() {
    let program = Program::start("off", "level = \"info\"", "shards = 1");
    let shard = nice(program.id(), "shard-")[0];
    let authorization = format!("Bearer {}", program.token().await);
    let headers = [("authorization", authorization.as_str()), ("content-type", JSON)];
    let body = format!(r#"{{"Type":"a","Action":"b","Object":"{}"}}"#, "x".repeat(300 << 10));
    let before = nice(program.id(), "control").len();
    for _ in 0..2 {
        let posts =
            (0..4).map(|_| http::request(program.api, false, "POST", "/api/v3/events", &headers, body.as_str()));
        join_all(posts).await.iter().for_each(http::Reply::taken);
    }
    let control = nice(program.id(), "control");
    assert!(control.len() > before, "{control:?}");
    assert!(control.iter().all(|&nice| nice == (shard + 5).min(19)), "{control:?} beside a shard at {shard}");
    program.end();
}
