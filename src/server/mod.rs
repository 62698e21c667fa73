//! A whole server: built from its settings, run, drained.
//!
//! Contract: [`Server::start`] returns once every address is bound and connections are accepted. What the settings
//! themselves reveal is checked before (`config`); what takes the data directory or a secret to find is found after
//! binding, and then nothing was accepted. If an address is taken, nothing is created on disk. [`Server::stop`] drains:
//! readiness is withdrawn; after `timeouts.lame_duck` no further connections and events are accepted; what was accepted
//! is delivered, every client gets a close frame, the shards end, and requests in progress are answered; all within
//! `timeouts.drain`. Several servers can run in one process (tests do).

#[cfg(not(feature = "nats"))]
mod alone;
mod authority;
mod bind;
mod certificate;
mod drain;
mod endpoint;
mod error;
mod files;
#[cfg(feature = "nats")]
mod nats;
mod spans;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use error::StartError;

use crate::api::probe::{Probe, WatchedFiles};
use crate::api::quota::PostQuota;
use crate::api::status::Around;
use crate::api::{About, Api, ApiLimits, ApiParts, ForwardedFor};
use crate::auth::Authority;
use crate::broker::Broker;
use crate::broker::history::{History, HistoryLimits};
use crate::broker::inbox::InboxLimits;
use crate::broker::milestones;
use crate::clock;
use crate::cluster;
use crate::config::{AuthMode, DeflateMode, Settings, TlsMode};
use crate::demo::Fleet;
use crate::demo::feed;
use crate::endpoint::events::{Health, Link};
use crate::fanout::driver::Timing;
use crate::fanout::outbox::DeflatePolicy;
use crate::fanout::permit::ConnectionLimit;
use crate::fanout::pool::{Pool, ShardSettings};
use crate::files::{SECRET, is_taken, replace};
use crate::index;
use crate::index::filter;
use crate::logging::crash::Vital;
use crate::metrics::Metrics;
use crate::stats::OutboxLimits;
use crate::tasks;
use crate::transport::forwarded::TrustedProxies;
use crate::transport::listener::{Doors, Handler, Listener};
use crate::transport::tls::LiveTls;

#[cfg(not(feature = "nats"))]
use alone as nats;
use bind::Bound;

/// A running server.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    probe: Option<SocketAddr>,
    api: Arc<Api>,
    tls: Option<Arc<LiveTls>>,
    ready: Arc<AtomicBool>,
    doors: Doors,
    stop: watch::Sender<bool>,
    /// Separate, because the probe continues while the server drains.
    stop_probe: watch::Sender<bool>,
    /// The listeners; each ends when its requests in progress have been answered.
    listening: Vec<Task>,
    probing: Option<Task>,
    tasks: Vec<Task>,
    /// Boxed, because settings are large and the server is moved while it starts.
    settings: Box<Settings>,
}

impl Server {
    /// Starts a server. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let (epoch, metrics) = (Instant::now(), Arc::new(Metrics::new()));
        let descriptors = files::prepare(&settings);
        let bound = Bound::all(&settings, descriptors, &metrics)?;
        let authority = authority::open(&settings)?;
        let tls = certificate::live(&settings)?.map(Arc::new);
        let broker = Arc::new(Broker::new(metrics, epoch, history(&settings)?).with_spans(spans::of(&settings)?));
        let nats = nats::options(&settings, broker.history().position().epoch)?;
        let api = api((&settings, descriptors), &bound.addresses(), broker, authority, epoch)?;
        let (server, nats) = Self::new(settings, api, tls, &bound).share(nats).await?;
        Ok(server.run(bound, nats))
    }

    /// Creates a server whose shards run but which does not accept connections yet.
    fn new(settings: Settings, api: Arc<Api>, tls: Option<Arc<LiveTls>>, bound: &Bound) -> Self {
        Self {
            addresses: bound.addresses(),
            probe: bound.probe.as_ref().and_then(|probe| probe.address().ok()),
            api,
            tls,
            ready: Arc::new(AtomicBool::new(true)),
            doors: Doors {
                proxies: Arc::new(TrustedProxies::new(settings.trusted_proxies.clone())),
                leaving: Arc::default(),
            },
            stop: watch::Sender::new(false),
            stop_probe: watch::Sender::new(false),
            listening: Vec::new(),
            probing: None,
            tasks: Vec::new(),
            settings: Box::new(settings),
        }
    }

    /// Accepts connections, and starts the tasks that follow endpoints, rights and certificates.
    fn run(mut self, bound: Bound, nats: Option<Arc<cluster::Health>>) -> Self {
        let stopped = self.stop.subscribe();
        let links = endpoint::links(&self.settings, &self.api.broker);
        let upstreams: Vec<Arc<Health>> = links.iter().map(Link::health).collect();
        self.api.set_around(Around { upstreams: upstreams.clone(), nats: nats.clone() });
        for listener in bound.listeners {
            let listener = listener.with_tls(self.tls.clone()).behind(self.doors.clone());
            self.listening.push(serve(listener, self.api.clone(), stopped.clone()));
        }
        if let Some(listener) = bound.probe {
            let probe = self.probe(upstreams, nats);
            self.probing = Some(serve(listener, probe, self.stop_probe.subscribe()));
        }
        let follow = |link: Link| vital("the link to an endpoint", stopped.clone(), link.run(stopped.clone()));
        self.tasks.extend(links.into_iter().map(follow));
        self.follow_rights(stopped.clone());
        self.follow_endpoint(stopped.clone());
        self.learn_types(stopped.clone());
        self.follow_certificate(stopped.clone());
        self.feed_demo(stopped);
        self
    }

    fn probe(&self, upstreams: Vec<Arc<Health>>, nats: Option<Arc<cluster::Health>>) -> Arc<Probe> {
        let (broker, delegation) = (Arc::clone(&self.api.broker), self.api.delegation.clone());
        let files = WatchedFiles { authority: Arc::clone(&self.api.authority), tls: self.tls.clone() };
        Arc::new(Probe::new(broker, Arc::clone(&self.ready), upstreams, nats, delegation, files))
    }

    /// Notifies the shards when users, roles or tenants have changed.
    fn follow_rights(&mut self, mut stop: watch::Receiver<bool>) {
        let (authority, pool) = (Arc::clone(&self.api.authority), Arc::clone(&self.api.pool));
        let mut watcher = authority.watch();
        let mut changes = authority.changes();
        let stopped = stop.clone();
        let follow = async move {
            loop {
                tokio::select! {
                    told = changes.changed() => match told {
                        Ok(()) => pool.access_changed(),
                        Err(_) => break,
                    },
                    _ = &mut watcher => return,
                    _ = stop.changed() => break,
                }
            }
            watcher.abort();
        };
        self.tasks.push(vital("the reloading of rights", stopped, follow));
    }

    fn feed_demo(&mut self, stop: watch::Receiver<bool>) {
        let Some(machines) = self.settings.demo else { return };
        let fleet = Fleet::new(self.settings.demo_seed, machines).underway();
        let feeding = feed::run(fleet, self.settings.demo_rate, Arc::clone(&self.api.broker), stop.clone());
        self.tasks.push(vital("the simulated fleet", stop, feeding));
    }

    /// Returns the addresses of the API, with the ports that the system chose for port 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the address of `/metrics` and the other probes.
    pub fn probe_address(&self) -> Option<SocketAddr> {
        self.probe
    }

    /// Returns the settings that the server was started with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns a function that tells whether no shard is stalled. It can be called at any time, also during draining.
    pub fn health(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let broker = Arc::clone(&self.api.broker);
        move || broker.metrics().stalled_shards() == 0
    }

    /// Reloads users, roles, tenants and keys, and the certificate. Blocks.
    pub fn reload(&self) {
        self.reloading()();
    }

    /// Returns a function that does what [`Server::reload`] does, for a thread of its own: it blocks for as long as the
    /// file system of one of the files does not answer.
    pub fn reloading(&self) -> impl FnOnce() + Send + 'static {
        let (api, tls) = (Arc::clone(&self.api), self.tls.clone());
        move || {
            match api.authority.reload() {
                Ok(changed) => tracing::info!(changed, "reloaded users, roles, tenants and keys"),
                Err(error) => tracing::error!(%error, "some files cannot be reloaded and stay as they were; the \
                    others are in force"),
            }
            if let Some(tls) = tls {
                tls.reload_and_report(api.broker.metrics());
            }
        }
    }
}

fn about(id: String, addresses: &[SocketAddr], settings: &Settings) -> About {
    let address = addresses.first().copied().unwrap_or(settings.listen[0]);
    About { id, address, secure: settings.tls != TlsMode::Off }
}

fn forwarded_for(settings: &Settings) -> ForwardedFor {
    if settings.proxy.forwarded_for { ForwardedFor::Sent } else { ForwardedFor::LeftOut }
}

/// A task, and what it does, for the log.
#[derive(Debug)]
struct Task {
    what: &'static str,
    handle: JoinHandle<()>,
}

fn serve(listener: Listener, handler: Arc<dyn Handler>, stop: watch::Receiver<bool>) -> Task {
    vital("a listener", stop.clone(), listener.serve(handler, stop))
}

/// Starts a task without which the server would only seem to be alive. If it ends before the server, the process ends
/// too.
fn vital(what: &'static str, stop: watch::Receiver<bool>, work: impl Future<Output = ()> + Send + 'static) -> Task {
    guarded(what, async move {
        work.await;
        // If stopping was not requested, the server must have been dropped.
        assert!(*stop.borrow() || stop.has_changed().is_err(), "bug: {what} ended before the server");
    })
}

/// Starts a task whose panic ends the process.
fn guarded(what: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Task {
    let handle = tasks::spawn(async move {
        let _vital = Vital::new(what);
        work.await;
    });
    Task { what, handle }
}

/// Creates everything behind the listeners and starts the shards.
fn api(
    (settings, descriptors): (&Settings, u64),
    addresses: &[SocketAddr],
    broker: Arc<Broker>,
    authority: Arc<Authority>,
    epoch: Instant,
) -> Result<Arc<Api>, StartError> {
    let id = identity(settings)?;
    let upstream = endpoint::proxied(settings);
    let delegation = endpoint::delegation(settings, upstream.as_ref(), &authority, &broker)?;
    let pool = Pool::start(shards(settings), &shard_settings(settings), &broker, &authority, epoch);
    let limits = &settings.limits;
    Ok(Arc::new(Api::new(ApiParts {
        broker,
        authority,
        pool: Arc::new(pool.map_err(StartError::Shards)?),
        connection_limit: ConnectionLimit::new(limits.connections, limits.connections_per_principal),
        posts: PostQuota::new(limits.posted_events_per_second),
        allowed_origins: settings.allowed_origins.clone(),
        tier: endpoint::tier(settings),
        ping: settings.timeouts.ping,
        connection_events: settings.connection_events,
        deflate: settings.deflate.mode == DeflateMode::On,
        overflow: settings.outbox.overflow,
        query_overflow: settings.outbox.query_overflow.clone(),
        limits: ApiLimits {
            body_bytes: limits.body_bytes,
            event_bytes: limits.event_bytes,
            post_events: limits.post_events,
            descriptors,
        },
        about: about(id, addresses, settings),
        upstream,
        forwarded_for: forwarded_for(settings),
        delegation,
        own_users: settings.auth_mode() != AuthMode::Upstream,
    })))
}

fn history(settings: &Settings) -> Result<History, StartError> {
    let events = usize::try_from(settings.replay.events).unwrap_or(usize::MAX);
    let limits = HistoryLimits { events, bytes: settings.replay.bytes };
    let chance = getrandom::u64().map_err(|error| StartError::Random(error.to_string()))?;
    let now = clock::now();
    Ok(History::new(limits, milestones::epoch(now, chance), now))
}

fn shards(settings: &Settings) -> usize {
    match settings.shards {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        shards => shards,
    }
}

fn shard_settings(settings: &Settings) -> ShardSettings {
    let Settings { limits, outbox, inbox, timeouts, .. } = settings;
    ShardSettings {
        index: index::Limits {
            registrations: limits.registrations,
            combinations: limits.combinations,
            combinations_in_all: limits.combinations.saturating_mul(4),
            filter: filter::Limits {
                nesting: limits.filter_nesting,
                compiled: limits.regex_bytes,
                ..filter::Limits::default()
            },
            filter_bytes: limits.filter_bytes,
            owner_filter_bytes: limits.filter_bytes_per_principal,
            text_bytes: limits.registration_bytes,
            owner_text_bytes: limits.registration_bytes_per_principal,
            work: index::Work {
                event: or_unlimited(limits.filter_work_per_event),
                second: or_unlimited(limits.filter_work_per_second),
                owner: or_unlimited(limits.filter_work_per_principal),
            },
            ..index::Limits::default()
        },
        outbox: OutboxLimits { bytes: outbox.bytes, events: outbox.events },
        total_bytes: outbox.total_bytes,
        inbox: InboxLimits { events: inbox.events, bytes: inbox.bytes },
        deflate: deflate_policy(settings),
        message_bytes: limits.message_bytes,
        timing: Timing {
            ping: timeouts.ping,
            idle: timeouts.idle,
            close: timeouts.close,
            age: outbox.age,
            close_on_token_expiry: settings.close_on_token_expiry,
        },
        connection_events: settings.connection_events,
    }
}

/// Interprets 0 as unlimited.
fn or_unlimited(limit: u64) -> u64 {
    if limit == 0 { u64::MAX } else { limit }
}

fn deflate_policy(settings: &Settings) -> Option<DeflatePolicy> {
    let deflate = &settings.deflate;
    (deflate.mode == DeflateMode::On).then(|| DeflatePolicy {
        level: deflate.level,
        min_bytes: deflate.min_bytes,
        max_bytes: deflate.max_bytes,
        skip_types: deflate.skip_types.clone(),
    })
}

/// Returns the id of this data directory, which is created at the first start. A file that cannot be read is not
/// replaced: clients and other nodes know the server by its id.
fn identity(settings: &Settings) -> Result<String, StartError> {
    let path = settings.data_dir.join("id");
    let file = |source| StartError::DataDir { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(id) if id.trim().is_empty() => {
            let reason = "the id is missing; restore it, or remove the file to get a new one";
            return Err(file(io::Error::new(ErrorKind::InvalidData, reason)));
        }
        Ok(id) => return Ok(id.trim().to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound && !is_taken(&path) => {}
        Err(error) => return Err(file(error)),
    }
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes).map_err(|error| file(io::Error::other(error.to_string())))?;
    let id = bytes.map(|byte| format!("{byte:02x}")).join(":");
    replace(&settings.data_dir, &settings.data_dir.join("id.new"), &path, (&id, SECRET)).map_err(file)?;
    Ok(id)
}

#[cfg(test)]
mod tests;
