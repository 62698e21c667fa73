//! How nice the threads of the program are to each other.

use std::fs;
use std::time::Duration;

use futures_util::future::join_all;

use crate::common::program::Program;
use crate::common::{JSON, http, patiently};

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
    // Threads that were started for something else, and have nothing to do at the moment, are taken first.
    let started = async {
        while nice(program.id(), "control").len() <= before {
            let posts =
                (0..16).map(|_| http::request(program.api, false, "POST", "/api/v3/events", &headers, body.as_str()));
            join_all(posts).await.iter().for_each(http::Reply::taken);
        }
    };
    patiently("more control threads", started).await;
    let wanted = (shard + 5).min(19);
    // A thread that has just been started, and got no time yet, is as nice as who started it.
    let as_nice = async {
        while nice(program.id(), "control").iter().any(|&nice| nice != wanted) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    patiently("control threads that are as nice as they should be", as_nice).await;
    program.end();
}
