//! Follows one endpoint for ever: connects, registers, reads, and starts again.
//!
//! Contract: a [`Link`] ends only by the stop signal or when the broker has stopped. After a failure it waits with
//! jitter, from `backoff_min` up to `backoff_max`, and longer if the endpoint asks for it; after the loss of a
//! connection that lasted a minute the wait is spread over more time. Once the registrations are answered again, a gap
//! notice reports the loss. The credential is read anew for each attempt.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{self, sleep, timeout, timeout_at};

use super::health::Health;
use super::intake::{Intake, Stopped};
use crate::broker::Broker;
use crate::client::{Backoff, Bounds, ClientError, Received, Service, Session, jitter};
use crate::clock;

/// The header in which a hydrant sends its tier when a websocket is opened.
pub const TIER_HEADER: &str = "hydrant-tier";

/// A connection that lasted this long resets the backoff. Many other links may have lost theirs at the same moment, so
/// the next attempt is spread.
const LASTING: Duration = Duration::from_mins(1);

/// Maximum time for which an endpoint's `Retry-After` is honoured.
const LONGEST_WISH: Duration = Duration::from_mins(5);

/// The settings of a link, besides its endpoint.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// The registrations to send.
    pub register: Vec<String>,
    /// Time limit for connecting.
    pub connect: Duration,
    /// Time limit for the answers to the registrations.
    pub answer: Duration,
    /// Limits of the websocket.
    pub bounds: Bounds,
    /// Maximum wait before the second attempt.
    pub backoff_min: Duration,
    /// Maximum wait before any attempt.
    pub backoff_max: Duration,
    /// Maximum additional wait after a connection that lasted.
    pub spread: Duration,
    /// The tier of this hydrant; an endpoint that is a hydrant must be on a lower one.
    pub tier: u64,
}

/// Why a link is not connected.
#[derive(Debug, Error)]
enum LinkError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the endpoint did not answer the registrations within {} ms", after.as_millis())]
    NoAnswer { after: Duration },
    #[error(
        "the endpoint is a hydrant of tier {theirs}, and this one is of tier {ours}; to chain them, raise \
         upstream.tier here"
    )]
    Tier { theirs: u64, ours: u64 },
    #[error("the server is shutting down")]
    Stopped,
}

impl From<Stopped> for LinkError {
    fn from(Stopped: Stopped) -> Self {
        Self::Stopped
    }
}

impl LinkError {
    /// Returns whether retrying fails in the same way until somebody intervenes.
    fn is_final(&self) -> bool {
        match self {
            Self::Client(error) => error.is_final(),
            Self::Tier { .. } => true,
            Self::NoAnswer { .. } | Self::Stopped => false,
        }
    }

    /// Returns how long the endpoint asks not to be contacted.
    fn retry_after(&self) -> Duration {
        match self {
            Self::Client(ClientError::Refused(refusal)) => refusal.retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        }
    }
}

/// The task that follows one endpoint's event stream and reconnects for ever.
#[derive(Debug)]
pub struct Link {
    service: Service,
    settings: LinkSettings,
    intake: Intake,
    health: Arc<Health>,
    session: Option<Session>,
    /// When the registrations of the open connection were answered.
    standing: Option<time::Instant>,
    backoff: Backoff,
    /// Since when events may be missing.
    missing_since: Option<Instant>,
    connected_before: bool,
}

impl Link {
    /// Creates a link that is not connected yet.
    pub fn new(service: Service, settings: LinkSettings, broker: Arc<Broker>) -> Self {
        let endpoint = service.endpoint.clone();
        let intake = Intake::new(broker, endpoint.clone());
        let gaps = intake.metrics().gaps.clone();
        Self {
            health: Arc::new(Health::new(endpoint.to_string(), gaps, clock::now())),
            intake,
            backoff: Backoff::new(settings.backoff_min, settings.backoff_max),
            service,
            settings,
            session: None,
            standing: None,
            missing_since: None,
            connected_before: false,
        }
    }

    /// Returns the shared state of the link.
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
    }

    /// Follows the endpoint until the stop signal.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.follow() => {}
            _ = stop.changed() => {}
        }
        self.health.lost(LinkError::Stopped.to_string(), clock::now());
        self.intake.metrics().connected.set(0);
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    async fn follow(&mut self) {
        let started = clock::instant();
        loop {
            let error = match self.one_connection().await {
                Err(LinkError::Stopped) => return,
                Err(error) => error,
                Ok(never) => match never {},
            };
            let wait = self.note_loss(&error, started);
            let (endpoint, seconds) = (&self.service.endpoint, wait.as_secs_f64());
            tracing::warn!(%endpoint, %error, "not connected to an endpoint; retrying in {seconds:.1} s");
            sleep(wait).await;
        }
    }

    /// Follows the endpoint over one connection until that ends with an error.
    async fn one_connection(&mut self) -> Result<Infallible, LinkError> {
        let session = self.session.insert(open(&self.service, &self.settings).await?);
        self.intake.begin();
        self.intake.set_hydrant(session.header(TIER_HEADER).is_some());
        let after = self.settings.answer;
        let deadline = time::Instant::now() + after;
        let registering = async {
            for spec in &self.settings.register {
                session.register(spec).await;
            }
        };
        // An endpoint that does not read leaves no room for more.
        timeout_at(deadline, registering).await.map_err(|_| LinkError::NoAnswer { after })?;
        let mut unanswered = self.settings.register.len();
        while unanswered > 0 {
            unanswered = self.turn(unanswered, Some(deadline)).await?;
        }
        self.note_connection();
        self.intake.publish().await?;
        loop {
            self.turn(0, None).await?;
        }
    }

    /// Publishes the messages that are available, at least one, but none after the last answer. Returns the number of
    /// outstanding answers.
    async fn turn(&mut self, unanswered: usize, deadline: Option<time::Instant>) -> Result<usize, LinkError> {
        let session = self.session.as_mut().expect("a turn is made on an open connection");
        let no_answer = |_| LinkError::NoAnswer { after: self.settings.answer };
        let first = match deadline {
            Some(deadline) => timeout_at(deadline, session.receive()).await.map_err(no_answer)?,
            None => session.receive().await,
        };
        let left = gather(first, unanswered, session, &mut self.intake);
        self.intake.note_binaries(session.binaries());
        // Messages received before an error are valid.
        self.intake.publish().await?;
        Ok(left?)
    }

    fn note_connection(&mut self) {
        tracing::info!(endpoint = %self.service.endpoint, "connected to an endpoint");
        self.standing = Some(time::Instant::now());
        self.health.connected(clock::now());
        self.intake.metrics().connected.set(1);
        if std::mem::replace(&mut self.connected_before, true) {
            self.intake.metrics().reconnects.inc();
        }
        if let Some(since) = self.missing_since.take() {
            self.intake.add_gap(since);
        }
    }

    /// Records that there is no connection and returns how long to wait. Events are missing since the endpoint was last
    /// heard, or since the start.
    fn note_loss(&mut self, error: &LinkError, started: Instant) -> Duration {
        self.health.lost(error.to_string(), clock::now());
        self.intake.metrics().connected.set(0);
        let silent = self.session.take().map(|session| session.silent_for());
        let stood = self.standing.take().map(|since| since.elapsed());
        if let (Some(_), Some(silent)) = (stood, silent) {
            let now = clock::instant();
            self.missing_since = Some(now.checked_sub(silent).unwrap_or(now));
        } else if !self.connected_before {
            self.missing_since = Some(started);
        }
        self.wait(error, stood.is_some_and(|stood| stood >= LASTING))
    }

    fn wait(&mut self, error: &LinkError, lasted: bool) -> Duration {
        let wait = if lasted {
            self.backoff.reset();
            self.backoff.next_wait() + jitter(self.settings.spread)
        } else if error.is_final() {
            self.backoff.long_wait()
        } else {
            self.backoff.next_wait()
        };
        wait.max(error.retry_after().min(LONGEST_WISH))
    }
}

async fn open(service: &Service, settings: &LinkSettings) -> Result<Session, LinkError> {
    let opening = async {
        let target = service.target()?;
        Session::open(&target, settings.bounds).await
    };
    let late = |_| ClientError::Timeout { endpoint: service.endpoint.to_string(), after: settings.connect };
    let session = timeout(settings.connect, opening).await.map_err(late)??;
    let theirs = session.header(TIER_HEADER).and_then(|tier| tier.parse().ok()).unwrap_or(0);
    if theirs >= settings.tier {
        return Err(LinkError::Tier { theirs, ours: settings.tier });
    }
    Ok(session)
}

/// Adds messages until none is available, the batch is full, or the last answer has arrived: the gap notice must follow
/// it. Returns the number of outstanding answers.
fn gather(
    first: Result<Received, ClientError>,
    mut unanswered: usize,
    session: &mut Session,
    intake: &mut Intake,
) -> Result<usize, ClientError> {
    let mut next = Some(first?);
    while let Some(received) = next {
        let mut last = false;
        match received {
            Received::Event(text) => intake.add(&text),
            Received::Skipped { bytes } => intake.add_skipped(bytes),
            Received::Registered(_) => {
                unanswered = unanswered.saturating_sub(1);
                last = unanswered == 0;
            }
        }
        next = if last || intake.is_full() { None } else { session.receive_ready()? };
    }
    Ok(unanswered)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use sha1::{Digest as _, Sha1};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::broker::history::{History, HistoryLimits};
    use crate::client::{Login, Secret, SecretSource, Trust};
    use crate::metrics::Metrics;

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_mins(1);

    /// Returns a link to this address that registers so much that it does not fit into any buffer.
    fn link(address: &str) -> Link {
        let login = Login::Token(SecretSource::Inline(Secret::new("t")));
        let endpoint = format!("http://{address}").parse().unwrap();
        let service = Service { endpoint, login, trust: Trust::Any, receive_buffer: 0 };
        let settings = LinkSettings {
            register: vec!["a".repeat(64 << 10); 256],
            connect: PATIENCE,
            answer: Duration::from_millis(100),
            bounds: Bounds::default(),
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(1),
            spread: Duration::ZERO,
            tier: 1,
        };
        let history = History::new(HistoryLimits { events: 1, bytes: 1 }, 1, clock::now());
        let broker = Broker::new(Arc::new(Metrics::new()), clock::instant(), history);
        Link::new(service, settings, Arc::new(broker))
    }

    /// Accepts a connection and upgrades it to a websocket, from which nothing is read.
    async fn greet(listener: &TcpListener) -> TcpStream {
        let (mut socket, _) = timeout(PATIENCE, listener.accept()).await.expect("an attempt").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let key = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("Sec-WebSocket-Key").then_some(value)
        });
        let salted = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key.unwrap());
        let accept = STANDARD.encode(Sha1::digest(salted));
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        socket.write_all(answer.as_bytes()).await.unwrap();
        socket
    }

    #[tokio::test]
    async fn an_endpoint_that_reads_no_registrations_is_tried_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = link(&listener.local_addr().unwrap().to_string());
        let (health, (_stop, stopped)) = (link.health(), watch::channel(false));
        let running = tokio::spawn(link.run(stopped));
        let _deaf = greet(&listener).await;
        let _again = greet(&listener).await;
        let error = health.report().error;
        assert!(error.contains("did not answer the registrations"), "{error}");
        running.abort();
    }
}
