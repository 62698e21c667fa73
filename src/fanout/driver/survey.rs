//! Looks at registrations that people ask for, a part in each turn.

use tokio::sync::oneshot;

use super::Driver;
use crate::clock;
use crate::fanout::outbox::ConnId;
use crate::fanout::report::{Inspection, Moment, Registration};
use crate::index::{Busiest, Measure};

/// Registrations that are told of one shard.
const MOST: usize = 100;

/// A look at all registrations of the shard that is under way.
#[derive(Debug)]
pub(super) struct Survey {
    next: usize,
    busiest: Busiest,
    reply: oneshot::Sender<Vec<Registration>>,
}

impl Driver {
    /// Begins to look for the registrations that have done most.
    pub(super) fn begin_survey(&mut self, measure: Measure, reply: oneshot::Sender<Vec<Registration>>) {
        self.surveys.push_back(Survey { next: 0, busiest: Busiest::new(measure, MOST), reply });
    }

    /// Goes on with the first look that is under way.
    pub(super) fn go_on_with_surveys(&mut self) {
        // Whoever has gone is not looked for.
        self.surveys.retain(|survey| !survey.reply.is_closed());
        let Some(mut survey) = self.surveys.pop_front() else { return };
        if let Some(next) = self.parts.shard.survey(survey.next, &mut survey.busiest) {
            return self.surveys.push_front(Survey { next, ..survey });
        }
        let found = self.parts.shard.surveyed(survey.busiest, self.moment());
        // Who asked may have gone.
        drop(survey.reply.send(found));
    }

    /// A connection with its registrations.
    pub(super) fn inspect(&mut self, conn: ConnId) -> Option<Inspection> {
        let connection = self.describe(conn)?;
        let registrations = self.parts.shard.registrations_of(conn, self.moment());
        Some(Inspection { connection, registrations, access: self.parts.shard.access_of(conn)? })
    }

    fn moment(&self) -> Moment {
        Moment { time: clock::now(), second: self.now_us() / 1_000_000 }
    }
}
