//! The threads that hash passwords: few, and behind everybody else in the queue for a core.
//!
//! Contract: a job that was taken is done, whoever still waits for it. What waits is bounded; beyond it a job is refused. The
//! threads end when the [`Hashers`] are dropped.
//!
//! Why threads of our own: a hash keeps a core busy for tens of milliseconds and its caches for longer. On the runtime's
//! blocking threads as many run at once as there are cores, with the same right to them as those that deliver events, whose
//! latency then grows by whole time slices. Here at most half of the cores hash, at the lowest priority: a thread that has
//! something to deliver takes the core at once.

use std::io;

use crossbeam_channel::{Sender, bounded};

/// What a nice thread adds to its priority's number; 19 is the nicest.
const NICE: i32 = 19;

type Job = Box<dyn FnOnce() + Send>;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Hashers {
    jobs: Sender<Job>,
}

/// As many jobs wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Hashers {
    /// Starts `threads`, or half as many as there are cores if that is 0; `waiting` jobs may wait for them.
    pub(super) fn start(threads: usize, waiting: usize) -> io::Result<Self> {
        let (jobs, queue) = bounded::<Job>(waiting);
        for number in 0..if threads == 0 { half_of_the_cores() } else { threads } {
            let queue = queue.clone();
            let thread = std::thread::Builder::new().name(format!("hash-{number}"));
            thread.spawn(move || {
                be_nice();
                // The queue ends when the last sender is gone.
                for job in queue {
                    job();
                }
            })?;
        }
        Ok(Self { jobs })
    }

    /// Puts a job into the queue.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) -> Result<(), Full> {
        self.jobs.try_send(Box::new(job)).map_err(|_| Full)
    }
}

fn half_of_the_cores() -> usize {
    (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1)
}

/// On Linux this is about the calling thread alone. It always may be made nicer; where not, hashing is as before.
fn be_nice() {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "the hashing threads keep their priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nice_of_this_thread() -> i64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let after_name = stat.rsplit(')').next().unwrap();
        after_name.split_whitespace().nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn only_the_hashing_threads_are_nice() {
        let own = nice_of_this_thread();
        let hashers = Hashers::start(1, 1).unwrap();
        let (tell, told) = bounded(1);
        hashers.run(move || tell.send(nice_of_this_thread()).unwrap()).unwrap();
        assert_eq!(told.recv().unwrap(), 19);
        assert_eq!(nice_of_this_thread(), own, "that of the others stays what it was");
    }

    #[test]
    fn what_waits_is_bounded_and_all_of_it_is_done() {
        let hashers = Hashers::start(1, 2).unwrap();
        let (go, gate) = bounded::<()>(0);
        let (started, begun) = bounded(1);
        let (tell, told) = bounded(10);
        hashers
            .run(move || {
                started.send(()).unwrap();
                gate.recv().unwrap();
            })
            .unwrap();
        begun.recv().unwrap();
        for n in 0..2 {
            let tell = tell.clone();
            hashers.run(move || tell.send(n).unwrap()).unwrap();
        }
        assert_eq!(hashers.run(|| ()), Err(Full));
        go.send(()).unwrap();
        drop((hashers, tell));
        assert_eq!(told.iter().collect::<Vec<_>>(), [0, 1]);
    }
}
