//! Accepts connections, performs the TLS handshake and serves HTTP until a request becomes a websocket.
//!
//! Contract: runs on the control plane, never on a shard. Every wait for a client has a limit: the TLS handshake, the
//! head of a request (hyper's timer is set; without one its timeout does nothing), a write that the client does not
//! accept, and the number of sockets between accept and their first valid credentials ([`super::pending`]). A client
//! for which there is no slot waits for one ([`super::waiting`]). If it gets none, it is closed; without TLS, up to
//! 64 at a time get 503 first. Without free file descriptors the listener waits and retries instead of spinning
//! ([`super::queue`]). A response that ends the connection says so (`Connection: close`). While the server is about to
//! shut down ([`Doors::leaving`]) every response does, so that balancers give up their connections by themselves. A
//! client that half-closes its connection after its request still gets its response ([`super::socket`]), unless this is
//! a stream: then it is taken to have gone.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::caller::Caller;
use super::forwarded::TrustedProxies;
use super::opener::{Opener, OpeningBounds};
use super::pending::PendingSlot;
use super::queue;
use super::reading::Reading;
use super::refusal::{MAX_HEAD, MAX_HEADERS, Refusal};
use super::relay::Relay;
use super::signs::Signs;
use super::slices::Slices;
use super::socket::Socket;
use super::tls::LiveTls;
use super::tracked::Tracked;
use super::waiting::WaitingRoom;
use crate::logging::summary::Summary;
use crate::metrics::{Metrics, Rejection};
use crate::tasks::{self, Work};

/// The body of a response: available at once, or received from elsewhere while it is sent.
pub type Body = Either<Slices, Relay>;

/// The response to a request.
pub type Answer = Response<Body>;

/// Maximum number of refusals for lack of a slot that are sent at the same time.
const REFUSED_AT_A_TIME: usize = 64;

/// A request that is being answered.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Answers requests. Its answers are in boxes, so that the code of HTTP exists once.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; calls [`Caller::trust`] once the client is authenticated.
    fn handle<'a>(&'a self, request: Request<Incoming>, caller: &'a Caller) -> Answering<'a>;

    /// Called when an HTTP connection ([`Caller::number`]) has ended or has become a websocket.
    fn left(&self, _number: u64) {}
}

/// The time that a connection without a request has for its first one when the server stops.
pub const FIRST_REQUEST: Duration = Duration::from_millis(50);

/// Limits of the control plane.
#[derive(Debug, Clone, Copy)]
pub struct ListenLimits {
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time for the head of a request.
    pub header: Duration,
    /// Time for a client to accept some of what is written to it.
    pub stalled: Duration,
    /// Maximum number of sockets between accept and their first valid credentials.
    pub pending: usize,
    /// Maximum number of sockets that wait to become one of these.
    pub waiting: usize,
    /// File descriptors from this number on are not used for clients.
    pub descriptors: u64,
    /// Bytes that the kernel buffers for a client until it accepts them; 0 is the kernel's own limit.
    pub send_buffer: usize,
}

/// The trusted proxies in front of the listeners, and whether the server is about to shut down.
#[derive(Debug, Clone, Default)]
pub struct Doors {
    /// Proxies that are trusted to name their clients.
    pub proxies: Arc<TrustedProxies>,
    /// Whether the server is about to shut down: each connection then closes after its next response.
    pub leaving: Arc<AtomicBool>,
}

/// A listener that is bound, but does not accept yet.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<LiveTls>>,
    limits: ListenLimits,
    metrics: Arc<Metrics>,
    doors: Doors,
    is_proxied: bool,
}

impl Listener {
    /// Binds an address, without TLS.
    ///
    /// # Errors
    /// The address cannot be bound.
    ///
    /// # Panics
    /// Panics outside of a Tokio runtime.
    pub fn bind(address: SocketAddr, limits: ListenLimits, metrics: Arc<Metrics>) -> io::Result<Self> {
        let (tcp, doors) = (queue::listen(address)?, Doors::default());
        Ok(Self { tcp, tls: None, limits, metrics, doors, is_proxied: false })
    }

    /// Enables TLS if there is a certificate.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<LiveTls>>) -> Self {
        Self { tls, ..self }
    }

    /// Sets the trusted proxies and the shutdown flag.
    #[must_use]
    pub fn behind(self, doors: Doors) -> Self {
        Self { doors, ..self }
    }

    /// Requires a PROXY protocol header at the beginning of every connection.
    #[must_use]
    pub fn proxied(self) -> Self {
        Self { is_proxied: true, ..self }
    }

    /// Returns the bound address, with the port that the system chose if it was 0.
    ///
    /// # Errors
    /// The system does not report the address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Accepts connections until told to stop, and then waits until the requests in progress have been answered. If it
    /// is aborted before, they are cancelled.
    pub async fn serve(self, handler: Arc<dyn Handler>, mut stop: watch::Receiver<bool>) {
        let (tcp, server) = self.with_handler(handler);
        let mut connections = JoinSet::new();
        {
            // One future, because it may be in a pause after an error.
            let mut next = pin!(queue::accept(&tcp));
            loop {
                let accepted = tokio::select! {
                    accepted = next.as_mut() => accepted,
                    Some(_) = connections.join_next() => continue,
                    () = stopped(&mut stop) => break,
                };
                next.set(queue::accept(&tcp));
                if let Some(connection) = server.admit(accepted, &stop) {
                    tasks::spawn_in(&mut connections, connection);
                }
            }
        }
        // The kernel has accepted the connections of its queue already. Closing it would reset them, and balancers
        // report a failed request.
        for accepted in queue::rest(tcp) {
            if let Some(connection) = server.admit(accepted, &stop) {
                tasks::spawn_in(&mut connections, connection);
            }
        }
        while connections.join_next().await.is_some() {}
    }

    fn with_handler(self, handler: Arc<dyn Handler>) -> (TcpListener, Arc<Server>) {
        let Self { tcp, tls, limits, metrics, doors, is_proxied } = self;
        let server = Arc::new(Server {
            opener: Opener::new(
                tls,
                is_proxied.then(|| Arc::clone(&doors.proxies)),
                OpeningBounds { handshake: limits.handshake, stalled: limits.stalled, send_buffer: limits.send_buffer },
                Arc::clone(&metrics),
            ),
            room: WaitingRoom::new(limits.pending, limits.waiting, Arc::clone(&metrics)),
            limits,
            metrics,
            handler,
            doors,
            refused: Arc::new(Semaphore::new(REFUSED_AT_A_TIME)),
            shortage: Summary::default(),
        });
        (tcp, server)
    }
}

/// Waits until told to stop, or until the sender is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Waits until told to stop, and longer if no request has come yet: a client may have sent one already.
async fn stopped_unless_new(stop: &mut watch::Receiver<bool>, signs: &Signs) {
    stopped(stop).await;
    if signs.requests() == 0 {
        tokio::time::sleep(FIRST_REQUEST).await;
    }
}

/// Waits until told to stop, and as long as a new connection may take for its first request.
async fn stopped_for_newcomers(stop: &mut watch::Receiver<bool>) {
    stopped(stop).await;
    tokio::time::sleep(FIRST_REQUEST).await;
}

struct Server {
    opener: Opener,
    limits: ListenLimits,
    metrics: Arc<Metrics>,
    handler: Arc<dyn Handler>,
    doors: Doors,
    refused: Arc<Semaphore>,
    room: WaitingRoom,
    shortage: Summary,
}

/// Notifies the handler when an HTTP connection ends, however it does.
struct Leaving<'h>(&'h dyn Handler, u64);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.left(self.1);
    }
}

impl Server {
    /// Returns what serves an accepted connection, if there is room for it.
    fn admit(self: &Arc<Self>, (stream, peer): (TcpStream, SocketAddr), stop: &watch::Receiver<bool>) -> Option<Work> {
        // IPv4 clients keep their IPv4 address, also on a socket of both families.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if u64::try_from(stream.as_raw_fd()).is_ok_and(|descriptor| descriptor >= self.limits.descriptors) {
            self.metrics.rejected(Rejection::Limited);
            if let Some(suppressed) = self.shortage.count(Instant::now()) {
                tracing::warn!(suppressed, "refusing connections: no file descriptors are left for clients");
            }
            return None;
        }
        let Some(admission) = self.room.enter(peer.ip()) else {
            self.refuse(stream);
            return None;
        };
        let (server, stop) = (Arc::clone(self), stop.clone());
        Some(Box::pin(async move {
            let mut stopping = stop.clone();
            let slot = tokio::select! {
                slot = admission.slot() => slot,
                // Later the request would find nobody to process it.
                () = stopped_for_newcomers(&mut stopping) => None,
            };
            match slot {
                // In a box, so that a newcomer that waits needs little memory.
                Some(slot) => Box::pin(server.connection(stream, peer, slot, stop)).await,
                None => server.refuse(stream),
            }
        }))
    }

    /// Refuses a connection for which there is no slot. With TLS it is only closed, because a response would cost a
    /// handshake.
    fn refuse(&self, stream: TcpStream) {
        self.metrics.rejected(Rejection::Limited);
        if !self.opener.speaks_tls()
            && let Ok(turn) = Arc::clone(&self.refused).try_acquire_owned()
        {
            tasks::spawn(async move {
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
        let mut served = pin!(async {
            let begun = tokio::select! {
                begun = self.opener.open(stream, peer, &slot) => begun,
                () = stopped_unless_new(&mut stop, &signs) => None,
            };
            if let Some((socket, peer)) = begun {
                let caller = Caller::new(peer, &socket, slot);
                self.serve(socket, &caller, &signs, stop).await;
            }
        });
        tokio::select! {
            () = served.as_mut() => return,
            () = cut.notified() => {}
        }
        if !signs.evict() {
            // A request has come since this connection was chosen.
            return served.await;
        }
        self.metrics.rejected(Rejection::Limited);
        tracing::debug!(%peer, "closed an idle or unauthenticated connection to make room for another");
    }

    async fn serve(&self, socket: Socket, caller: &Caller, signs: &Arc<Signs>, mut stop: watch::Receiver<bool>) {
        let peer = caller.peer;
        let _leaving = Leaving(&*self.handler, caller.number);
        let stopping = stop.clone();
        let service = service_fn(|request| {
            let stopping = &stopping;
            // Immediately: a close that is read before the future runs must find the request.
            signs.busy();
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
            () = stopped_unless_new(&mut stop, signs) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, %peer, "HTTP connection ended");
        }
    }

    /// Returns the response to one request, which says whether the connection ends with it.
    async fn answer(
        &self,
        mut request: Request<Incoming>,
        caller: &Caller,
        signs: &Arc<Signs>,
        stopping: &watch::Receiver<bool>,
    ) -> Response<Tracked<Body>> {
        let behind = self.doors.proxies.read(request.headers(), caller.peer).map(|forwarded| caller.behind(forwarded));
        let caller = behind.as_ref().unwrap_or(caller);
        let asked = asks_to_close(&request);
        let reading = Reading::begin(&mut request);
        signs.reads(reading.clone());
        let mut answer = self.handler.handle(request, caller).await;
        let unread = reading.is_some_and(|reading| !reading.is_finished());
        signs.answered(unread);
        if caller.answered(&answer) || answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            signs.upgraded();
            return answer.map(|body| Tracked::new(body, None));
        }
        let evicted = signs.is_evicted();
        if asked || unread || evicted || *stopping.borrow() || self.doors.leaving.load(Ordering::Acquire) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer.map(|body| Tracked::new(body, Some(Arc::clone(signs))))
    }
}

/// Returns whether a client wants the connection to end after this response.
fn asks_to_close<B>(request: &Request<B>) -> bool {
    let values = request.headers().get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut tokens = values.flat_map(|value| value.split(',')).map(str::trim);
    if request.version() == Version::HTTP_11 {
        tokens.any(|token| token.eq_ignore_ascii_case("close"))
    } else {
        !tokens.any(|token| token.eq_ignore_ascii_case("keep-alive"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;

    use super::*;

    /// Answers when told.
    #[derive(Default)]
    struct Slow {
        asked: Notify,
        told: Notify,
        trusts: bool,
    }

    impl Handler for Slow {
        fn handle<'a>(&'a self, _: Request<Incoming>, caller: &'a Caller) -> Answering<'a> {
            Box::pin(async move {
                self.asked.notify_one();
                self.told.notified().await;
                if self.trusts {
                    caller.trust();
                }
                Response::new(Either::Left(Slices::from(hyper::body::Bytes::from_static(b"done"))))
            })
        }
    }

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// A connection whose slot is given to another while its request is being processed. Returns the client's end, and
    /// the connection's task.
    async fn evicted(slow: &Arc<Slow>) -> (TcpStream, tokio::task::JoinHandle<()>) {
        let long = Duration::from_mins(1);
        let limits = ListenLimits {
            handshake: long,
            header: long,
            stalled: long,
            pending: 1,
            waiting: 0,
            descriptors: u64::MAX,
            send_buffer: 0,
        };
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), limits, Arc::new(Metrics::new())).unwrap();
        let address = listener.address().unwrap();
        let handler: Arc<dyn Handler> = slow.clone();
        let (tcp, server) = listener.with_handler(handler);
        let mut client = TcpStream::connect(address).await.unwrap();
        let (stream, peer) = tcp.accept().await.unwrap();
        let place = server.room.enter(peer.ip()).unwrap().slot().await.unwrap();
        let cut = place.cut();
        let serving = tokio::spawn(async move {
            let (_running, stop) = watch::channel(false);
            server.connection(stream, peer, place, stop).await;
        });
        client.write_all(REQUEST).await.unwrap();
        slow.asked.notified().await;
        cut.notify_one();
        // The connection notices.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        slow.told.notify_one();
        (client, serving)
    }

    #[tokio::test]
    async fn a_connection_that_loses_its_slot_within_a_request_ends_with_its_response() {
        let (mut client, serving) = evicted(&Arc::default()).await;
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 200") && response.ends_with("\r\n\r\ndone"), "{response}");
        assert!(response.contains("connection: close"), "{response}");
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn who_has_shown_valid_credentials_meanwhile_needs_no_slot() {
        let slow = Arc::new(Slow { trusts: true, ..Slow::default() });
        let (mut client, serving) = evicted(&slow).await;
        client.write_all(REQUEST).await.unwrap();
        slow.asked.notified().await;
        slow.told.notify_one();
        client.shutdown().await.unwrap();
        let mut responses = String::new();
        client.read_to_string(&mut responses).await.unwrap();
        assert_eq!(responses.matches("HTTP/1.1 200").count(), 2, "{responses}");
        serving.await.unwrap();
    }
}
