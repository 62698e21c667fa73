//! Accepts connections, does the TLS handshake and serves HTTP until a request becomes a websocket.
//!
//! Contract: runs on the control plane, never on a shard. Every wait on a client has a bound: the TLS handshake, the
//! head of a request (hyper's timer is set; without one its timeout does nothing), a write that it does not take, and
//! the number of sockets that are still between accept and their first good credentials ([`super::pending`]). Who gets
//! no place is told so where that is possible without a handshake. Out of file descriptors, it waits and tries again
//! instead of spinning. An answer after which the connection ends says so (`Connection: close`).

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
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::caller::Caller;
use super::pending::{Pending, PendingSlot, Signs};
use super::reading::Reading;
use super::refusal::Refusal;
use super::relay::Relay;
use super::socket::Socket;
use super::summary::Summary;
use super::tls::LiveTls;
use crate::metrics::{Metrics, Rejection};

/// What an answer carries: what is there at once, or what comes from elsewhere while it is sent.
pub type Body = Either<Full<Bytes>, Relay>;

/// What a request is answered with.
pub type Answer = Response<Body>;

/// Headers of one request.
const MAX_HEADERS: usize = 128;

/// Bytes of the head of one request.
const MAX_HEAD: usize = 32 << 10;

/// Clients that are told at one time that there is no place for them.
const REFUSED_AT_A_TIME: usize = 64;

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

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

    /// Accepts until told to stop, and then until the requests that are under way have been answered. If it is aborted
    /// before, they are cut off.
    pub async fn serve<H: Handler>(self, handler: Arc<H>, mut stop: watch::Receiver<bool>) {
        let Self { tcp, tls, limits, metrics } = self;
        let pending = Arc::new(Pending::new(limits.pending));
        let server = Arc::new(Server {
            tls,
            limits,
            metrics,
            handler,
            failures: Summary::default(),
            refused: Arc::new(Semaphore::new(REFUSED_AT_A_TIME)),
        });
        let mut connections = JoinSet::new();
        let shortage = Summary::default();
        loop {
            let (stream, peer) = tokio::select! {
                accepted = accept(&tcp) => accepted,
                Some(_) = connections.join_next() => continue,
                () = stopped(&mut stop) => break,
            };
            // Clients of IPv4 are who they are, also on a socket of both families.
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            if u64::try_from(stream.as_raw_fd()).is_ok_and(|descriptor| descriptor >= limits.descriptors) {
                server.metrics.rejected(Rejection::Limited);
                if let Some(untold) = shortage.count(Instant::now()) {
                    tracing::warn!(untold, "no file descriptors are left for clients: connections are refused");
                }
                continue;
            }
            let Some(slot) = pending.admit(peer.ip(), Instant::now()) else {
                server.refuse(stream);
                continue;
            };
            connections.spawn(Arc::clone(&server).connection(stream, peer, slot, stop.clone()));
        }
        // Nobody shall wait in its queue.
        drop(tcp);
        while connections.join_next().await.is_some() {}
    }
}

/// Waits until told to stop, or nobody is left to tell.
async fn stopped(stop: &mut watch::Receiver<bool>) {
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
    /// TLS handshakes that failed.
    failures: Summary,
    refused: Arc<Semaphore>,
}

/// Tells the handler when an HTTP connection ends, however it does.
struct Leaving<'h, H: Handler>(&'h H, SocketAddr);

impl<H: Handler> Drop for Leaving<'_, H> {
    fn drop(&mut self) {
        self.0.left(self.1);
    }
}

impl<H: Handler> Server<H> {
    /// There is no place. Where TLS is spoken, saying so would cost a handshake.
    fn refuse(&self, stream: TcpStream) {
        self.metrics.rejected(Rejection::Limited);
        if self.tls.is_none()
            && let Ok(turn) = Arc::clone(&self.refused).try_acquire_owned()
        {
            tokio::spawn(async move {
                Refusal::Full.say(stream).await;
                drop(turn);
            });
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        slot: PendingSlot,
        mut stop: watch::Receiver<bool>,
    ) {
        let (signs, cut) = (slot.signs(), slot.cut());
        let served = async {
            let socket = tokio::select! {
                socket = self.handshake(stream, peer, &signs) => socket,
                () = stopped(&mut stop) => None,
            };
            if let Some(socket) = socket {
                let caller = Caller::new(peer, socket.certificate(), slot);
                self.serve(socket, &caller, &signs, stop).await;
            }
        };
        tokio::select! {
            () = served => {}
            () = cut.notified() => {
                self.metrics.rejected(Rejection::Limited);
                tracing::debug!(%peer, "a connection has lost its place to another");
            }
        }
    }

    async fn handshake(&self, stream: TcpStream, peer: SocketAddr, signs: &Arc<Signs>) -> Option<Socket> {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let stalled = self.limits.stalled;
        let Some(tls) = &self.tls else { return Some(Socket::plain(stream, stalled, Arc::clone(signs))) };
        let handshake = async {
            let mut first = [0];
            if stream.peek(&mut first).await.unwrap_or(0) == 0 {
                return None;
            }
            signs.heard();
            if first[0] != HANDSHAKE {
                Refusal::NotTls.say(stream).await;
                return None;
            }
            match TlsAcceptor::from(tls.current()).accept(stream).await {
                Ok(tls) => Some(Socket::tls(tls, stalled, Arc::clone(signs))),
                Err(error) => {
                    self.report(&error, peer);
                    None
                }
            }
        };
        let socket = tokio::time::timeout(self.limits.handshake, handshake).await.ok().flatten();
        if socket.is_none() {
            self.metrics.rejected(Rejection::Tls);
        }
        socket
    }

    /// Tells of a handshake that failed, now or with a later one. Whoever goes away in the middle is not told of.
    fn report(&self, error: &io::Error, peer: SocketAddr) {
        if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) {
            return;
        }
        let Some(others) = self.failures.count(Instant::now()) else { return };
        let error = error.to_string().escape_debug().take(200).collect::<String>();
        tracing::warn!(%peer, error, others, "a TLS handshake failed; others is how many more since the last such line");
    }

    async fn serve(&self, socket: Socket, caller: &Caller, signs: &Signs, mut stop: watch::Receiver<bool>) {
        let peer = caller.peer;
        let _leaving = Leaving(&*self.handler, peer);
        let stopping = stop.clone();
        let service = service_fn(|request| {
            let stopping = &stopping;
            async move { Ok::<_, Infallible>(self.answer(request, caller, signs, stopping).await) }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.header)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD);
        let mut connection = pin!(http.serve_connection(TokioIo::new(socket), service).with_upgrades());
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = stopped(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, %peer, "HTTP connection ended");
        }
    }

    /// The answer to one request, which says whether the connection ends with it.
    async fn answer(
        &self,
        mut request: Request<Incoming>,
        caller: &Caller,
        signs: &Signs,
        stopping: &watch::Receiver<bool>,
    ) -> Answer {
        signs.busy();
        let asked = asks_to_close(&request);
        let reading = Reading::begin(&mut request);
        let mut answer = self.handler.handle(request, caller).await;
        let unread = reading.is_some_and(|reading| !reading.is_finished());
        signs.answered(unread);
        let closes = asked || unread || *stopping.borrow();
        if closes && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

/// Whether a client wants no more than this one answer.
fn asks_to_close<B>(request: &Request<B>) -> bool {
    let values = request.headers().get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut tokens = values.flat_map(|value| value.split(',')).map(str::trim);
    if request.version() == Version::HTTP_11 {
        tokens.any(|token| token.eq_ignore_ascii_case("close"))
    } else {
        !tokens.any(|token| token.eq_ignore_ascii_case("keep-alive"))
    }
}
