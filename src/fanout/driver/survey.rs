//! Surveys the registrations of a shard for operators, a part in each turn.

use tokio::sync::oneshot;

use super::Driver;
use crate::clock;
use crate::fanout::outbox::ConnId;
use crate::fanout::report::{Inspection, Moment, Registration};
use crate::fanout::socket::Socket;
use crate::index::{Busiest, Measure};

/// The number of registrations reported per shard.
const MOST: usize = 100;

/// A survey of all registrations of the shard, in progress.
#[derive(Debug)]
pub(super) struct Survey {
    next: usize,
    busiest: Busiest,
    reply: oneshot::Sender<Vec<Registration>>,
}

impl<S: Socket> Driver<S> {
    /// Begins a survey for the busiest registrations by this measure.
    pub(super) fn begin_survey(&mut self, measure: Measure, reply: oneshot::Sender<Vec<Registration>>) {
        self.surveys.push_back(Survey { next: 0, busiest: Busiest::new(measure, MOST), reply });
    }

    /// Continues the first survey in progress.
    pub(super) fn go_on_with_surveys(&mut self) {
        // Surveys whose caller has gone are dropped.
        self.surveys.retain(|survey| !survey.reply.is_closed());
        let Some(mut survey) = self.surveys.pop_front() else { return };
        if let Some(next) = self.parts.shard.survey(survey.next, &mut survey.busiest) {
            return self.surveys.push_front(Survey { next, ..survey });
        }
        let found = self.parts.shard.surveyed(survey.busiest, self.moment());
        // The caller may have gone.
        drop(survey.reply.send(found));
    }

    /// Returns a connection with its registrations.
    pub(super) fn inspect(&mut self, conn: ConnId) -> Option<Inspection> {
        let connection = self.describe(conn)?;
        let registrations = self.parts.shard.registrations_of(conn, self.moment());
        Some(Inspection { connection, registrations, access: self.parts.shard.access_of(conn)? })
    }

    fn moment(&self) -> Moment {
        Moment { time: clock::now(), second: self.now_us() / 1_000_000 }
    }
}
