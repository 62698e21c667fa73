//! Accepts connections, does the TLS handshake and serves HTTP until a request becomes a websocket.
//!
//! Contract: runs on the control plane, never on a shard. Every wait on a client has a bound: the TLS handshake, the head of a
//! request (hyper's timer is set; without one its timeout does nothing), a write that it does not take, and the number of sockets
//! that are still between accept and their first good credentials. Out of file descriptors, it waits and tries again instead of
//! spinning.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::caller::Caller;
use super::relay::Relay;
use super::socket::Socket;
use super::tls::LiveTls;
use crate::metrics::{Metrics, Rejection};

/// What an answer carries: what is there at once, or what comes from elsewhere while it is sent.
pub type Body = Either<Full<Bytes>, Relay>;

/// What a request is answered with.
pub type Answer = Response<Body>;

/// Headers of one request.
const MAX_HEADERS: usize = 64;

/// Bytes of the head of one request.
const MAX_HEAD: usize = 32 << 10;

/// Between two lines that tell of a lack of file descriptors.
const SHORTAGE_PAUSE: Duration = Duration::from_secs(10);

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; tells the caller when it has shown who it is.
    fn handle(&self, request: Request<Incoming>, caller: &Caller) -> impl Future<Output = Answer> + Send;

    /// The HTTP connection of `peer` has ended, or has become a websocket.
    fn left(&self, _peer: SocketAddr) {}
}

/// Bounds of the control plane.
#[derive(Debug, Clone, Copy)]
pub struct ListenLimits {
    /// For the TLS handshake.
    pub handshake: Duration,
    /// For the head of a request.
    pub header: Duration,
    /// For a client to take some of what is written to it.
    pub stalled: Duration,
    /// Sockets between accept and their first good credentials.
    pub pending: usize,
    /// The file descriptor from which on none is given to a client.
    pub descriptors: u64,
}

/// A listener that is bound, but does not accept yet.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<LiveTls>>,
    limits: ListenLimits,
    metrics: Arc<Metrics>,
}

impl Listener {
    /// Binds an address, without TLS.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: SocketAddr, limits: ListenLimits, metrics: Arc<Metrics>) -> io::Result<Self> {
        Ok(Self { tcp: TcpListener::bind(address).await?, tls: None, limits, metrics })
    }

    /// The same, with TLS if there is a certificate.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<LiveTls>>) -> Self {
        Self { tls, ..self }
    }

    /// The address that was bound, with the port that the system chose if it was asked to.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Accepts until told to stop, and then until the requests that are under way have been answered. If it is aborted before,
    /// they are cut off.
    pub async fn serve<H: Handler>(self, handler: Arc<H>, mut stop: watch::Receiver<bool>) {
        let Self { tcp, tls, limits, metrics } = self;
        let pending = Arc::new(Semaphore::new(limits.pending));
        let server = Arc::new(Server { tls, limits, metrics, handler });
        let mut connections = JoinSet::new();
        let mut shortage = Shortage::default();
        loop {
            let (stream, peer) = tokio::select! {
                accepted = accept(&tcp) => accepted,
                Some(_) = connections.join_next() => continue,
                () = told(&mut stop) => break,
            };
            if u64::try_from(stream.as_raw_fd()).is_ok_and(|descriptor| descriptor >= limits.descriptors) {
                server.metrics.rejected(Rejection::Limited);
                shortage.refused(Instant::now());
                continue;
            }
            let Ok(permit) = Arc::clone(&pending).try_acquire_owned() else {
                server.metrics.rejected(Rejection::Limited);
                continue;
            };
            connections.spawn(Arc::clone(&server).connection(stream, peer, permit, stop.clone()));
        }
        // Nobody shall wait in its queue.
        drop(tcp);
        while connections.join_next().await.is_some() {}
    }
}

/// Connections that were refused because no file descriptor is left for them; told once in a while.
#[derive(Debug, Default)]
struct Shortage {
    refused: u64,
    told: Option<Instant>,
}

impl Shortage {
    fn refused(&mut self, now: Instant) {
        self.refused += 1;
        if self.told.is_none_or(|told| now.duration_since(told) >= SHORTAGE_PAUSE) {
            tracing::warn!(refused = self.refused, "no file descriptors are left for clients: connections are refused");
            (self.told, self.refused) = (Some(now), 0);
        }
    }
}

/// Waits until told to stop, or nobody is left to tell.
async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Accepts one connection, however long it takes.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut pause = Duration::from_millis(10);
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, pause_ms = pause.as_millis(), "cannot accept");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

struct Server<H> {
    tls: Option<Arc<LiveTls>>,
    limits: ListenLimits,
    metrics: Arc<Metrics>,
    handler: Arc<H>,
}

impl<H: Handler> Server<H> {
    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        permit: OwnedSemaphorePermit,
        mut stop: watch::Receiver<bool>,
    ) {
        let socket = tokio::select! {
            socket = self.handshake(stream) => socket,
            () = told(&mut stop) => None,
        };
        if let Some(socket) = socket {
            let caller = Caller::new(peer, socket.certificate(), permit);
            self.serve(socket, &caller, stop).await;
        }
    }

    async fn handshake(&self, stream: TcpStream) -> Option<Socket> {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let Some(tls) = &self.tls else { return Some(Socket::plain(stream, self.limits.stalled)) };
        let handshake = TlsAcceptor::from(tls.current()).accept(stream);
        if let Ok(Ok(tls)) = tokio::time::timeout(self.limits.handshake, handshake).await {
            return Some(Socket::tls(tls, self.limits.stalled));
        }
        self.metrics.rejected(Rejection::Tls);
        None
    }

    async fn serve(&self, socket: Socket, caller: &Caller, mut stop: watch::Receiver<bool>) {
        let peer = caller.peer;
        let service =
            service_fn(|request| async move { Ok::<_, Infallible>(self.handler.handle(request, caller).await) });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.header)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD);
        let mut connection = pin!(http.serve_connection(TokioIo::new(socket), service).with_upgrades());
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = told(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        self.handler.left(peer);
        if let Err(error) = result {
            tracing::debug!(%error, %peer, "HTTP connection ended");
        }
    }
}
