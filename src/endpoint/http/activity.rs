//! Tracks whether data is moving, and whose turn it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Which side has to act next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Turn {
    /// The endpoint has to answer: as far as is known here, it has received the whole request.
    Answer,
    /// The endpoint has to continue reading.
    Endpoint,
    /// The client has to continue sending.
    Client,
}

/// The time of the latest progress, shared by the tasks that move data and one that waits for a stall.
#[derive(Debug, Clone)]
pub struct Activity {
    since: Instant,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// Milliseconds since `since`.
    last: AtomicU64,
    turn: AtomicU8,
}

impl Default for Activity {
    /// Starts with progress now and the turn at [`Turn::Answer`].
    fn default() -> Self {
        let state = State { last: AtomicU64::new(0), turn: AtomicU8::new(Turn::Answer as u8) };
        Self { since: Instant::now(), state: Arc::new(state) }
    }
}

impl Activity {
    /// Records progress.
    pub fn touch(&self) {
        let elapsed = self.since.elapsed().as_millis();
        self.state.last.store(u64::try_from(elapsed).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Sets whose turn it is from now on.
    pub fn pass(&self, turn: Turn) {
        self.state.turn.store(turn as u8, Ordering::Relaxed);
    }

    fn turn(&self) -> Turn {
        let all = [Turn::Answer, Turn::Endpoint, Turn::Client];
        let turn = self.state.turn.load(Ordering::Relaxed);
        all.into_iter().find(|&one| one as u8 == turn).expect("only a turn is stored")
    }

    /// Waits until there was no progress for `limit`.
    pub async fn quiet(&self, limit: Duration) {
        while let Some(due) = self.due(limit) {
            sleep_until(due).await;
        }
    }

    /// Waits until the endpoint has exceeded its time limit: `read` or `answer`, depending on whose turn it is. A
    /// client's turn is not limited here: the task that reads from the client has its own timer.
    pub async fn overdue(&self, read: Duration, answer: Duration) -> Turn {
        loop {
            let turn = self.turn();
            let due = self.due(if turn == Turn::Answer { answer } else { read });
            if due.is_none() && turn != Turn::Client {
                return turn;
            }
            // The turn may change to one with a shorter limit.
            let look = Instant::now() + read.min(answer);
            sleep_until(due.map_or(look, |due| due.min(look))).await;
        }
    }

    /// Returns when there will have been no progress for `limit`; `None` if that moment has passed.
    fn due(&self, limit: Duration) -> Option<Instant> {
        let due = self.since + Duration::from_millis(self.state.last.load(Ordering::Relaxed)) + limit;
        (Instant::now() < due).then_some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_movement_puts_the_end_off() {
        let activity = Activity::default();
        tokio::time::sleep(Duration::from_millis(100)).await;
        activity.touch();
        let moved = Instant::now();
        activity.quiet(Duration::from_millis(200)).await;
        // Progress is recorded with millisecond precision.
        assert!(moved.elapsed() >= Duration::from_millis(198), "{:?}", moved.elapsed());
    }

    #[tokio::test]
    async fn whose_turn_it_is_decides_how_long() {
        let (short, long) = (Duration::from_millis(50), Duration::from_hours(1));
        let activity = Activity::default();
        let mut ends = Box::pin(activity.overdue(short, long));
        let mut in_time = async || tokio::time::timeout(4 * short, &mut ends).await.ok();
        assert_eq!(in_time().await, None, "an answer takes its time");
        activity.pass(Turn::Client);
        assert_eq!(in_time().await, None, "not the endpoint's fault");
        activity.pass(Turn::Endpoint);
        assert_eq!(ends.await, Turn::Endpoint);
        activity.pass(Turn::Answer);
        assert_eq!(activity.overdue(long, short).await, Turn::Answer);
    }
}
