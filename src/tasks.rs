//! Starting tasks.
//!
//! Contract: like tokio's functions, in whose runtime they must be called. The work is put into a box first, which is
//! one allocation per task.
//!
//! Why not tokio's own: they compile all that a scheduler does with a task anew for every kind of work, 7000 lines of
//! LLVM's language each time. With 33 kinds of tasks that was a fourteenth of the crate
//! (`docs/benchmarks/build-2026-11-29.md`). All boxes with the same result are one kind.

use std::pin::Pin;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{JoinHandle, JoinSet};

/// The work of a task.
pub type Work<T = ()> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Starts a task.
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    spawn_boxed(Box::pin(work))
}

#[track_caller]
fn spawn_boxed<T: Send + 'static>(work: Work<T>) -> JoinHandle<T> {
    tokio::spawn(work)
}

/// Starts a task on this runtime, for threads outside of one.
#[track_caller]
pub fn spawn_on<T: Send + 'static>(runtime: &Handle, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let work: Work<T> = Box::pin(work);
    runtime.spawn(work)
}

/// Starts a task of a set.
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub fn spawn_in<T: Send + 'static>(set: &mut JoinSet<T>, work: Work<T>) {
    set.spawn(work);
}

/// Runs work that blocks, on a thread for such work.
///
/// # Panics
/// Outside of a runtime.
#[track_caller]
pub fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let work: Box<dyn FnOnce() -> T + Send> = Box::new(work);
    tokio::task::spawn_blocking(work)
}

/// Works for a while on this thread. Another one runs the thread's tasks meanwhile, unless the runtime has no other, as
/// in tests.
pub fn block_in_place<T>(work: impl FnOnce() -> T) -> T {
    let is_alone = |handle: Handle| handle.runtime_flavor() == RuntimeFlavor::CurrentThread;
    if Handle::try_current().is_ok_and(is_alone) { work() } else { tokio::task::block_in_place(work) }
}
