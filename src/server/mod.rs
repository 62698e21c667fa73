//! A whole server: built from its settings, run, drained.
//!
//! Contract: [`Server::start`] returns once every address is bound and connections are taken; nothing is bound if anything is
//! wrong with the settings. [`Server::stop`] drains: readiness goes, no connections and events are taken any more, what was taken
//! is delivered, everybody gets a close frame, the shards end, and requests under way are answered; all of that within
//! `timeouts.drain`. Several servers can live in one process (tests do that).

#[cfg(not(feature = "nats"))]
mod alone;
mod authority;
mod drain;
mod endpoint;
mod links;
#[cfg(feature = "nats")]
mod nats;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::probe::Probe;
use crate::api::quota::{PostQuota, SocketQuota};
use crate::api::{About, Api, ApiLimits, ApiParts, ForwardedFor};
use crate::auth::StoreError;
use crate::broker::Broker;
use crate::broker::history::{History, HistoryLimits};
use crate::broker::inbox::InboxLimits;
use crate::clock;
use crate::cluster;
use crate::cluster::NatsError;
use crate::config::{AuthMode, DeflateMode, Settings, TlsMode};
use crate::demo::Fleet;
use crate::demo::feed;
use crate::endpoint::events::{Health, Link};
use crate::fanout::control::Admission;
use crate::fanout::driver::Timing;
use crate::fanout::outbox::DeflatePolicy;
use crate::fanout::pool::{Pool, ShardSettings};
use crate::index;
use crate::index::filter;
use crate::metrics::Metrics;
use crate::stats::OutboxLimits;
use crate::transport::listener::Handler;
use crate::transport::listener::{ListenLimits, Listener};
use crate::transport::tls::{self, LiveTls, TlsError};

#[cfg(not(feature = "nats"))]
use alone as nats;

/// Why a server does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("{path}: {source}")]
    DataDir {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Users, keys or tokens cannot be read or made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The well-known password is for tries on the own machine.
    #[error(
        "{address} can be reached by others, and the user rocketskates still has its well-known password; change it with \
         `hydrant users passwd rocketskates --password-stdin`, or give --allow-default-credentials"
    )]
    DefaultCredentials {
        /// The address that is not loopback.
        address: SocketAddr,
    },
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Which one.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
    /// NATS cannot be used as it is set.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// The shards' threads do not start.
    #[error("cannot start the shards: {0}")]
    Shards(io::Error),
}

impl StartError {
    /// Whether the settings are at fault, and not the state of the machine.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::DefaultCredentials { .. } | Self::Nats(_))
    }
}

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    probe: Option<SocketAddr>,
    api: Arc<Api>,
    tls: Option<Arc<LiveTls>>,
    ready: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    /// The probe goes on while the server drains.
    stop_probe: watch::Sender<bool>,
    /// End when the requests under way have been answered.
    listening: Vec<JoinHandle<()>>,
    probing: Option<JoinHandle<()>>,
    tasks: Vec<JoinHandle<()>>,
    /// Boxed: they are large, and a server is moved about while it starts.
    settings: Box<Settings>,
}

impl Server {
    /// Starts a server. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let epoch = Instant::now();
        let authority = authority::open(&settings)?;
        let id = identity(&settings)?;
        let metrics = Arc::new(Metrics::new());
        let tls = live_tls(&settings)?.map(Arc::new);
        let listeners = bind_all(&settings, tls.as_ref(), &metrics).await?;
        let probe = bind_probe(&settings, &metrics).await?;
        let addresses = listeners.iter().filter_map(|listener| listener.address().ok()).collect::<Vec<_>>();
        let broker = Arc::new(Broker::new(metrics, epoch, history(&settings)?));
        let nats = nats::options(&settings, broker.history().position().epoch)?;
        let (mode, upstream) = (settings.auth_mode(), endpoint::proxied(&settings));
        let delegation = endpoint::delegation(&settings, upstream.as_ref(), &authority, &broker)?;
        let pool = Pool::start(shards(&settings), &shard_settings(&settings), &broker, &authority, epoch)
            .map_err(StartError::Shards)?;
        let api = Arc::new(Api::new(ApiParts {
            broker,
            authority,
            pool: Arc::new(pool),
            admission: Admission::new(settings.limits.connections),
            sockets: SocketQuota::new(settings.limits.connections_per_principal),
            posts: PostQuota::new(settings.limits.posted_events_per_second),
            allowed_origins: settings.allowed_origins.clone(),
            tier: links::tier(&settings),
            connection_events: settings.connection_events,
            deflate: settings.deflate.mode == DeflateMode::On,
            overflow: settings.outbox.overflow,
            query_overflow: settings.outbox.query_overflow.clone(),
            limits: api_limits(&settings),
            about: about(id, &addresses, &settings),
            upstream,
            forwarded_for: forwarded_for(&settings),
            delegation,
            own_users: mode != AuthMode::Upstream,
        }));
        let (stop, stopped) = watch::channel(false);
        let (stop_probe, probe_stopped) = watch::channel(false);
        let ready = Arc::new(AtomicBool::new(true));
        let server = Self {
            addresses,
            probe: probe.as_ref().and_then(|probe| probe.address().ok()),
            api,
            tls,
            ready,
            stop,
            stop_probe,
            listening: Vec::new(),
            probing: None,
            tasks: Vec::new(),
            settings: Box::new(settings),
        };
        let (mut server, nats) = server.share(nats).await?;
        for listener in listeners {
            server.listening.push(serve(listener, Arc::clone(&server.api), stopped.clone()));
        }
        let links = links::links(&server.settings, &server.api.broker);
        if let Some(listener) = probe {
            let probe = server.probe(links.iter().map(Link::health).collect(), nats);
            server.probing = Some(serve(listener, probe, probe_stopped));
        }
        server.tasks.extend(links.into_iter().map(|link| tokio::spawn(link.run(stopped.clone()))));
        server.follow_rights(stopped.clone());
        server.follow_endpoint(stopped.clone());
        server.follow_certificate(stopped.clone());
        server.feed_demo(stopped);
        Ok(server)
    }

    fn probe(&self, upstreams: Vec<Arc<Health>>, nats: Option<Arc<cluster::Health>>) -> Arc<Probe> {
        let (broker, delegation) = (Arc::clone(&self.api.broker), self.api.delegation.clone());
        Arc::new(Probe::new(broker, Arc::clone(&self.ready), upstreams, nats, delegation))
    }

    /// Tells the shards when users, roles or tenants have changed.
    fn follow_rights(&mut self, mut stop: watch::Receiver<bool>) {
        let (authority, pool) = (Arc::clone(&self.api.authority), Arc::clone(&self.api.pool));
        let watcher = authority.watch();
        let mut changes = authority.changes();
        self.tasks.push(tokio::spawn(async move {
            loop {
                tokio::select! {
                    told = changes.changed() => match told {
                        Ok(()) => pool.access_changed(),
                        Err(_) => break,
                    },
                    _ = stop.changed() => break,
                }
            }
            watcher.abort();
        }));
    }

    /// Takes another certificate when its files have changed.
    fn follow_certificate(&mut self, stop: watch::Receiver<bool>) {
        if let Some(tls) = &self.tls {
            let metrics = Arc::clone(self.api.broker.metrics());
            self.tasks.push(tokio::spawn(Arc::clone(tls).follow(metrics, stop)));
        }
    }

    fn feed_demo(&mut self, stop: watch::Receiver<bool>) {
        let Some(machines) = self.settings.demo else { return };
        let fleet = Fleet::new(self.settings.demo_seed, machines);
        self.tasks.push(tokio::spawn(feed::run(fleet, self.settings.demo_rate, Arc::clone(&self.api.broker), stop)));
    }

    /// The addresses that are listened on, with the ports that the system chose where it was asked to.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address of `/metrics` and its neighbours.
    pub fn probe_address(&self) -> Option<SocketAddr> {
        self.probe
    }

    /// The settings it was started with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Reads users, roles, tenants and keys again, and the certificate.
    pub fn reload(&self) {
        if let Some(tls) = &self.tls {
            tls.reload_and_tell(self.api.broker.metrics());
        }
        match self.api.authority.reload() {
            Ok(changed) => tracing::info!(changed, "reloaded"),
            Err(error) => tracing::error!(%error, "not reloaded; everything stays as it was"),
        }
    }
}

fn about(id: String, addresses: &[SocketAddr], settings: &Settings) -> About {
    let address = addresses.first().copied().unwrap_or(settings.listen[0]);
    About { id, address, secure: settings.tls != TlsMode::Off }
}

fn forwarded_for(settings: &Settings) -> ForwardedFor {
    if settings.proxy.forwarded_for { ForwardedFor::Told } else { ForwardedFor::LeftOut }
}

fn serve<H: Handler>(listener: Listener, handler: Arc<H>, stop: watch::Receiver<bool>) -> JoinHandle<()> {
    tokio::spawn(listener.serve(handler, stop))
}

fn history(settings: &Settings) -> Result<History, StartError> {
    let events = usize::try_from(settings.replay.events).unwrap_or(usize::MAX);
    let limits = HistoryLimits { events, bytes: settings.replay.bytes };
    Ok(History::new(limits, getrandom::u64().map_err(|error| StartError::Random(error.to_string()))?, clock::now()))
}

fn shards(settings: &Settings) -> usize {
    match settings.shards {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        shards => shards,
    }
}

fn api_limits(Settings { limits, .. }: &Settings) -> ApiLimits {
    ApiLimits { body_bytes: limits.body_bytes, event_bytes: limits.event_bytes, post_events: limits.post_events }
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

fn deflate_policy(settings: &Settings) -> Option<DeflatePolicy> {
    let deflate = &settings.deflate;
    (deflate.mode == DeflateMode::On).then(|| DeflatePolicy {
        level: deflate.level,
        min_bytes: deflate.min_bytes,
        max_bytes: deflate.max_bytes,
        skip_types: deflate.skip_types.clone(),
    })
}

fn live_tls(settings: &Settings) -> Result<Option<LiveTls>, TlsError> {
    let (certificate, key) = match settings.tls {
        TlsMode::Off => return Ok(None),
        TlsMode::SelfSigned => {
            let addresses: Vec<IpAddr> = settings.listen.iter().map(SocketAddr::ip).collect();
            tls::self_signed(&settings.data_dir, &addresses)?
        }
        TlsMode::Files => match (settings.tls_cert.clone(), settings.tls_key.clone()) {
            (Some(certificate), Some(key)) => (certificate, key),
            _ => unreachable!("the settings were checked when they were read"),
        },
    };
    let client_ca = settings.tls_client_ca.clone();
    let files = [&certificate, &key].into_iter().chain(&client_ca).cloned().collect();
    LiveTls::new(files, move || tls::from_files(&certificate, &key, client_ca.as_deref())).map(Some)
}

async fn bind_all(
    settings: &Settings,
    tls: Option<&Arc<LiveTls>>,
    metrics: &Arc<Metrics>,
) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::new();
    for &address in &settings.listen {
        listeners.push(bind(address, tls.cloned(), settings, metrics).await?);
    }
    Ok(listeners)
}

async fn bind_probe(settings: &Settings, metrics: &Arc<Metrics>) -> Result<Option<Listener>, StartError> {
    match settings.metrics_listen {
        Some(address) => Ok(Some(bind(address, None, settings, metrics).await?)),
        None => Ok(None),
    }
}

async fn bind(
    address: SocketAddr,
    tls: Option<Arc<LiveTls>>,
    settings: &Settings,
    metrics: &Arc<Metrics>,
) -> Result<Listener, StartError> {
    let limits = ListenLimits {
        handshake: settings.timeouts.handshake,
        header: settings.timeouts.header,
        // A download from the endpoint may rest for as long as its own setting says.
        stalled: settings.timeouts.idle.max(settings.proxy.idle),
        pending: settings.limits.pending_handshakes,
    };
    let bound = Listener::bind(address, tls, limits, Arc::clone(metrics)).await;
    bound.map_err(|source| StartError::Bind { address, source })
}

/// What identifies this data directory, made at first start.
fn identity(settings: &Settings) -> Result<String, StartError> {
    let path = settings.data_dir.join("id");
    let file = |source| StartError::DataDir { path: path.clone(), source };
    if let Ok(id) = std::fs::read_to_string(&path) {
        return Ok(id.trim().to_owned());
    }
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes).map_err(|error| file(io::Error::other(error.to_string())))?;
    let id = bytes.map(|byte| format!("{byte:02x}")).join(":");
    std::fs::write(&path, &id).map_err(file)?;
    Ok(id)
}
