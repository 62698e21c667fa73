//! Connections that asked for the past get on, in the time that a turn has for them.

use super::taking::TURN_BYTES;
use super::{Driver, Parts};
use crate::broker::Allowance;
use crate::clock;

/// Retained events that are looked at in a turn.
const CATCH_UP_EVENTS: usize = 512;

impl Driver {
    /// What is left waits for the next turn, behind everybody's live events.
    pub(super) fn catch_up(&mut self) {
        let Parts { shard, broker, .. } = &mut self.parts;
        if shard.may_catch_up() {
            let allowance = Allowance { events: CATCH_UP_EVENTS, bytes: TURN_BYTES };
            shard.catch_up(broker.history(), allowance, broker.now_us(), clock::now());
        }
    }
}
