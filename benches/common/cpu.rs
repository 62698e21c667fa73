//! Time as the thread's processor time: on a machine that others use too, waiting for a core is none of our cost.

use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// For [`criterion::Criterion::with_measurement`].
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuTime;

impl CpuTime {
    /// Since the thread began.
    pub(super) fn now() -> Duration {
        Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a thread's time is not negative")
    }

    /// Since `start`.
    pub(super) fn since(start: Duration) -> Duration {
        Self::now().saturating_sub(start)
    }
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        Self::now()
    }

    fn end(&self, start: Duration) -> Duration {
        Self::since(start)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        static WALL: WallTime = WallTime;
        WALL.formatter()
    }
}
