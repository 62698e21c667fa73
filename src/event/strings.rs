//! The strings of an event that matching and rights read.
//!
//! Contract: pure. All accessors are inlined: matching calls several of them for each event, from other crates too.

use super::Event;

impl Event {
    /// Returns the event's Type, decoded.
    #[inline]
    pub fn kind(&self) -> &str {
        self.names.get(0)
    }

    /// Returns the event's Action, decoded.
    #[inline]
    pub fn action(&self) -> &str {
        self.names.get(1)
    }

    /// Returns the event's Key, decoded.
    #[inline]
    pub fn key(&self) -> &str {
        self.names.get(3)
    }

    /// Returns the account that a connection event is about, which may see it whatever its rights; for other events,
    /// the Key.
    #[inline]
    pub fn account(&self) -> &str {
        self.names.range(2, 3)
    }

    /// Returns the `Machine` of the Object of an event of Type `jobs`, if it is a non-empty string.
    #[inline]
    pub fn machine(&self) -> Option<&str> {
        Some(self.names.get(4)).filter(|machine| !machine.is_empty())
    }

    /// Returns the machine that owns the object (a job, a work order, a runner's connection), which tenants look at.
    #[inline]
    pub fn owner(&self) -> Option<&str> {
        Some(self.names.get(6)).filter(|owner| !owner.is_empty())
    }

    /// Returns the `WorkOrder` of the Object of an event of Type `jobs`, if it is a non-empty string.
    #[inline]
    pub fn work_order(&self) -> Option<&str> {
        Some(self.names.get(5)).filter(|work_order| !work_order.is_empty())
    }
}
