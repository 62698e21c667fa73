//! The events of a server, across reconnects: the source of `watch` and `record`.
//!
//! When the connection is lost, the feed reconnects with full jitter, and honours the wait that a server requests. The
//! new connection asks for the missed events: by websocket from a few seconds before the last event on, skipping
//! duplicates ([`resume`]); by a stream from the position after the last event. That is exact for events that the same
//! run of the server numbers after that position; all others may be duplicates. If another run or node answers, which
//! knows nothing of the position and would send all that it keeps, the feed asks again, by time. If the server keeps no
//! history, the feed reports that events are missing. A failure that a retry cannot fix (a refused registration, wrong
//! credentials) is an error; if retries are disabled, so is any failure.
//!
//! Contract: connections, losses, and the server's warnings about registrations, are reported as they happen. The feed
//! ends only with an error.

mod delivered;
mod loss;
mod position;
mod resume;
mod since;

use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, Interval, sleep};

pub(super) use self::loss::Loss;
use self::position::Position;
use self::resume::Resume;
pub(super) use self::since::since;
use super::console::report;
use super::text::number_of;
use crate::client::{
    Backoff, Bounds, ClientError, EventStream, Received, Registered, Session, StreamFrom, Target, jitter,
};
use crate::clock;

/// A connection that lasted this long resets the backoff.
const GOOD_AFTER: Duration = Duration::from_secs(10);
/// The header with the server's position; a server that sends it keeps a history.
const SEQUENCE: &str = "X-Hydrant-Sequence";
/// The header with the time of an answer.
const DATE: &str = "Date";

/// The transport of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A websocket, which any DRP endpoint supports.
    Websocket,
    /// A stream of Server-Sent Events.
    Stream,
    /// A stream if the server supports it, otherwise a websocket.
    StreamIfThere,
}

/// The options of a feed.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) target: Target,
    pub(super) specs: Vec<String>,
    pub(super) since: Option<String>,
    pub(super) way: Way,
    /// Whether the first lost connection is an error.
    pub(super) no_retry: bool,
}

/// An event, as the server wrote it, and what it reports as missing if it is a gap notice.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) event: String,
    pub(super) loss: Option<Loss>,
}

impl Arrival {
    /// Returns whether somebody asked for the event: not for a notice that needs no registration.
    pub(super) fn is_asked_for(&self) -> bool {
        self.loss.as_ref().is_none_or(Loss::is_registered_for)
    }
}

/// The events of one server, across connections.
#[derive(Debug)]
pub(super) struct Feed {
    wanted: Wanted,
    link: Option<Link>,
    /// The error that ended the connection, while events received before it are still returned.
    ended: Option<ClientError>,
    /// The position of the event after which a stream resumes.
    last_id: Option<String>,
    resume: Resume,
    backoff: Backoff,
    /// When this connection was established, and the server's time then.
    opened: Option<(Instant, Timestamp)>,
    /// Whether there has been a connection before.
    connected: bool,
    /// Whether this connection delivers the missed events.
    resumes: bool,
    /// Number of registrations of this connection that are not answered yet.
    unanswered: usize,
}

/// One connection.
#[derive(Debug)]
enum Link {
    Websocket(Box<Session>),
    Stream(Box<EventStream>),
}

impl Link {
    fn header(&self, name: &str) -> Option<&str> {
        match self {
            Self::Websocket(session) => session.header(name),
            Self::Stream(stream) => stream.header(name),
        }
    }

    /// Returns the time of the answer by the server's clock, or by this machine's if the server does not say.
    fn time(&self) -> Timestamp {
        let date = self.header(DATE).and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        date.map_or_else(clock::now, |date| date.timestamp())
    }

    async fn receive(&mut self) -> Result<Received, ClientError> {
        match self {
            Self::Websocket(session) => session.receive().await,
            Self::Stream(stream) => stream.receive().await,
        }
    }

    fn receive_ready(&mut self) -> Result<Option<Received>, ClientError> {
        match self {
            Self::Websocket(session) => session.receive_ready(),
            Self::Stream(stream) => stream.receive_ready(),
        }
    }
}

impl Feed {
    pub(super) fn new(wanted: Wanted) -> Self {
        let resume = Resume::new(wanted.since.clone());
        Self {
            wanted,
            link: None,
            ended: None,
            last_id: None,
            resume,
            backoff: Backoff::default(),
            opened: None,
            connected: false,
            resumes: false,
            unanswered: 0,
        }
    }

    /// Returns the next event.
    ///
    /// # Errors
    /// If a failure cannot be fixed by a retry.
    pub(super) async fn next(&mut self, err: &mut dyn Write) -> Result<Arrival, ClientError> {
        loop {
            match self.next_of_link(err).await {
                Ok(event) => return Ok(event),
                Err(error) if self.wanted.no_retry || error.is_final() => return Err(error),
                Err(error) => self.wait(&error, err).await,
            }
        }
    }

    /// Like [`Feed::next`]; calls `on_tick` at every tick until the event has arrived.
    pub(super) async fn next_with_ticks<E: From<ClientError>>(
        &mut self,
        err: &mut dyn Write,
        ticks: &mut Interval,
        mut on_tick: impl AsyncFnMut() -> Result<(), E>,
    ) -> Result<Arrival, E> {
        let mut next = pin!(self.next(err));
        loop {
            tokio::select! {
                event = &mut next => return Ok(event?),
                _ = ticks.tick() => on_tick().await?,
            }
        }
    }

    /// Returns another event if one has already arrived.
    pub(super) fn next_ready(&mut self, err: &mut dyn Write) -> Option<Arrival> {
        while self.ended.is_none() {
            match self.link.as_mut()?.receive_ready() {
                Ok(received) => {
                    if let Some(event) = self.take(received?, err) {
                        return Some(event);
                    }
                }
                Err(error) => self.ended = Some(error),
            }
        }
        None
    }

    /// Returns whether there has been a connection.
    pub(super) fn has_connected(&self) -> bool {
        self.connected || self.link.is_some()
    }

    /// Returns whether there has been a connection, and the last one was told that all its registrations are accepted.
    pub(super) fn has_registered(&self) -> bool {
        self.has_connected() && self.unanswered == 0
    }

    /// Closes the connection.
    pub(super) async fn close(&mut self) {
        if let Some(Link::Websocket(session)) = self.link.take() {
            session.close().await;
        }
    }

    async fn next_of_link(&mut self, err: &mut dyn Write) -> Result<Arrival, ClientError> {
        if let Some(error) = self.ended.take() {
            return Err(error);
        }
        loop {
            let link = match &mut self.link {
                Some(link) => link,
                None => self.open().await?,
            };
            let received = link.receive().await?;
            if let Some(event) = self.take(received, err) {
                return Ok(event);
            }
        }
    }

    async fn open(&mut self) -> Result<&mut Link, ClientError> {
        let mut link = self.connect().await?;
        if self.is_elsewhere(&link) && self.resume.moved() {
            self.last_id = None;
            // The user may be permitted one connection only.
            drop(link);
            link = self.connect().await?;
        }
        let time = link.time();
        self.opened = Some((Instant::now(), time));
        self.resumes = self.resume.opened(link.header(SEQUENCE), time);
        self.unanswered = self.wanted.specs.len();
        Ok(self.link.insert(link))
    }

    async fn connect(&self) -> Result<Link, ClientError> {
        match self.wanted.way {
            Way::Websocket => self.websocket().await,
            Way::StreamIfThere if !EventStream::takes(&self.wanted.specs) => self.websocket().await,
            Way::Stream => self.stream().await,
            Way::StreamIfThere => match self.stream().await {
                Err(error) if has_no_streams(&error) => self.websocket().await,
                link => link,
            },
        }
    }

    /// Returns whether a connection was asked to resume from a point that means nothing, or another time, there. What
    /// the user asked for at first is left to the server.
    fn is_elsewhere(&self, link: &Link) -> bool {
        let asked = self.last_id.as_deref().or(self.resume.run()).and_then(Position::parse);
        let here = link.header(SEQUENCE).and_then(Position::parse);
        self.connected && matches!((asked, here), (Some(asked), Some(here)) if asked.epoch != here.epoch)
    }

    async fn websocket(&self) -> Result<Link, ClientError> {
        let Wanted { target, specs, .. } = &self.wanted;
        let session = Session::open_for(target, Bounds::default(), self.resume.since(), specs).await?;
        Ok(Link::Websocket(Box::new(session)))
    }

    async fn stream(&self) -> Result<Link, ClientError> {
        let Wanted { target, specs, .. } = &self.wanted;
        let from = StreamFrom { since: self.resume.since(), last_id: self.last_id.as_deref() };
        let stream = EventStream::open(target, Bounds::default().message_bytes, from, specs).await?;
        Ok(Link::Stream(Box::new(stream)))
    }

    /// Returns the received event, unless it is not an event or a duplicate.
    fn take(&mut self, received: Received, err: &mut dyn Write) -> Option<Arrival> {
        match received {
            Received::Event(event) => {
                let (is_surely_new, now) = (self.is_surely_new(), self.server_time());
                self.resume.is_new(&event, is_surely_new, now).then(|| arrived(event, err))
            }
            Received::Skipped { bytes } => {
                report(err, format_args!("warning: skipped an event of {bytes} bytes: it is too long"));
                None
            }
            Received::Registered(registered) => {
                self.unanswered -= 1;
                self.resume.answered(self.unanswered);
                self.registered(&registered, err);
                None
            }
        }
    }

    /// Returns the time now by the server's clock.
    fn server_time(&self) -> Timestamp {
        let now = self.opened.and_then(|(opened, time)| time.checked_add(opened.elapsed()).ok());
        now.unwrap_or_else(clock::now)
    }

    /// Returns whether the server numbered the event at hand after the last one of the connection before.
    fn is_surely_new(&self) -> bool {
        let Some(Link::Stream(stream)) = &self.link else { return false };
        let before = self.last_id.as_deref().and_then(Position::parse);
        let now = stream.last_id().and_then(Position::parse);
        matches!((before, now), (Some(before), Some(now)) if now.is_after(before))
    }

    /// Reports the server's warnings, and the connection once every registration is answered.
    fn registered(&self, registered: &Registered, err: &mut dyn Write) {
        for warning in &registered.warnings {
            report(err, format_args!("warning: `{}`: {warning}", registered.spec));
        }
        if self.unanswered > 0 {
            return;
        }
        let (again, missing) = match (self.connected, self.resumes) {
            (false, _) => ("", ""),
            (true, true) => (" again", ""),
            (true, false) => (" again", "; events in between may be missing"),
        };
        let registrations = number_of(self.wanted.specs.len() as u64, "registration");
        report(err, format_args!("connected{again}, {registrations}{missing}"));
    }

    /// Waits before the next connection.
    async fn wait(&mut self, error: &ClientError, err: &mut dyn Write) {
        self.note_end();
        // A server that takes long to refuse is no better than one that refuses at once.
        if self.opened.take().is_some_and(|(opened, _)| opened.elapsed() >= GOOD_AFTER) {
            self.backoff.reset();
        }
        // Spreads out clients that were told to wait for the same time.
        let told = error.retry_after().map(|told| told + jitter(told / 10));
        let wait = self.backoff.next_wait().max(told.unwrap_or_default());
        report(err, format_args!("{error}; retrying in {:.1} s", wait.as_secs_f64().max(0.1)));
        sleep(wait).await;
    }

    /// Notes where the connection ended.
    fn note_end(&mut self) {
        let link = self.link.take();
        self.connected |= link.is_some();
        match &link {
            Some(Link::Stream(stream)) => {
                self.last_id = stream.last_id().filter(|id| Position::parse(id).is_some()).map(str::to_owned);
            }
            // The events of a websocket have no positions.
            Some(Link::Websocket(_)) => self.last_id = None,
            None => {}
        }
        self.resume.reconnect();
    }
}

/// Reports what a new event says is missing.
fn arrived(event: String, err: &mut dyn Write) -> Arrival {
    let loss = Loss::of(&event);
    if let Some(loss) = &loss {
        report(err, format_args!("warning: {loss}"));
    }
    Arrival { event, loss }
}

/// Returns whether the response is that of a server without streams.
fn has_no_streams(error: &ClientError) -> bool {
    match error {
        ClientError::NotStream { .. } => true,
        ClientError::Refused(refusal) => matches!(refusal.status, 300..400 | 404 | 405 | 406 | 501),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Credentials, Trust};

    #[tokio::test(start_paused = true)]
    async fn waits_grow_with_a_server_that_takes_long_to_fail() {
        let nobody_accepts = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", nobody_accepts.local_addr().unwrap()).parse().unwrap();
        let target = Target::new(endpoint, &Credentials::Token("t".to_owned()), &Trust::Any).unwrap();
        let specs = vec!["a.b.c".to_owned()];
        let mut feed = Feed::new(Wanted { target, specs, since: None, way: Way::Websocket, no_retry: false });
        let mut said = Vec::new();
        let _ = tokio::time::timeout(Duration::from_mins(30), feed.next(&mut said)).await;
        let said = String::from_utf8(said).unwrap();
        let waits = said.lines().filter_map(|line| line.split("retrying in ").nth(1)?.strip_suffix(" s")?.parse().ok());
        let longest = waits.fold(0.0, f64::max);
        assert!(said.lines().count() > 10 && longest > 0.6, "{said}");
    }
}
