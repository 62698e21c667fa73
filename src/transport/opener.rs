//! What precedes HTTP on a new connection: the PROXY protocol header where one is expected, and the TLS handshake.
//!
//! Contract: part of [`super::listener`] and bound by its contract. Each of the two steps must finish within the time
//! limit of a handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::TcpStream;

use super::forwarded::TrustedProxies;
use super::pending::PendingSlot;
use super::proxy_protocol;
use super::refusal::Refusal;
use super::secured::Secured;
use super::signs::Signs;
use super::socket::Socket;
use super::tls::LiveTls;
use crate::logging::summary::Summary;
use crate::metrics::{Metrics, Rejection};

/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

/// Limits on a client's time and on the kernel's memory for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpeningBounds {
    /// Time for the PROXY protocol header, and for the handshake.
    pub(super) handshake: Duration,
    /// Time for the client to accept some of what is written to it later.
    pub(super) stalled: Duration,
    /// Bytes that the kernel buffers for a client until it accepts them (it doubles the number); 0 is the kernel's own
    /// limit. That is up to 4 MiB for a client that does not read, and some hundred of these exhaust the memory of all
    /// TCP connections of the machine, so that every sender waits.
    pub(super) send_buffer: usize,
}

/// Opens the connections of one listener.
#[derive(Debug)]
pub(super) struct Opener {
    tls: Option<Arc<LiveTls>>,
    /// The proxies that may send the PROXY protocol header, if every connection begins with one.
    proxies: Option<Arc<TrustedProxies>>,
    bounds: OpeningBounds,
    metrics: Arc<Metrics>,
    /// TLS handshakes that failed.
    failures: Summary,
    /// Connections without the PROXY protocol header that is required.
    misdirected: Summary,
}

impl Opener {
    /// Creates an opener. With `proxies`, every connection must come from one of them and begin with a PROXY protocol
    /// header.
    pub(super) fn new(
        tls: Option<Arc<LiveTls>>,
        proxies: Option<Arc<TrustedProxies>>,
        bounds: OpeningBounds,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { tls, proxies, bounds, metrics, failures: Summary::default(), misdirected: Summary::default() }
    }

    /// Returns whether a client has to begin with a handshake.
    pub(super) fn speaks_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns a socket ready for HTTP and the client's address, or `None` if the connection was refused.
    pub(super) async fn open(
        &self,
        mut stream: TcpStream,
        peer: SocketAddr,
        slot: &PendingSlot,
    ) -> Option<(Socket, SocketAddr)> {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        if self.bounds.send_buffer > 0
            && let Err(error) = SockRef::from(&stream).set_send_buffer_size(self.bounds.send_buffer)
        {
            tracing::debug!(%error, "cannot bound the send buffer");
        }
        let signs = slot.signs();
        let mut client = peer;
        if let Some(proxies) = &self.proxies {
            client = self.proxied(&mut stream, peer, proxies).await?;
            slot.belongs_to(client.ip());
        }
        Some((self.handshake(stream, client, &signs).await?, client))
    }

    /// Returns the client that a balancer names at the start of a connection, or the balancer itself if it names none.
    async fn proxied(&self, stream: &mut TcpStream, peer: SocketAddr, proxies: &TrustedProxies) -> Option<SocketAddr> {
        let read = async {
            if !proxies.trusts(peer.ip()) {
                return Err("the address is not in trusted_proxies".to_owned());
            }
            proxy_protocol::read(stream).await.map_err(|error| error.to_string())
        };
        let read = tokio::time::timeout(self.bounds.handshake, read).await;
        match read.unwrap_or_else(|_| Err("the header did not arrive in time".to_owned())) {
            Ok(client) => Some(client.unwrap_or(peer)),
            Err(reason) => {
                self.metrics.rejected(Rejection::BadRequest);
                if let Some(suppressed) = self.misdirected.count(Instant::now()) {
                    tracing::warn!(
                        %peer, reason, suppressed,
                        "closed a connection without a valid PROXY protocol header"
                    );
                }
                None
            }
        }
    }

    async fn handshake(&self, stream: TcpStream, peer: SocketAddr, signs: &Arc<Signs>) -> Option<Socket> {
        let stalled = self.bounds.stalled;
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
            match Secured::accept(stream, tls.current()).await {
                Ok(tls) => Some(Socket::tls(tls, stalled, Arc::clone(signs))),
                Err(error) => {
                    self.report(&error, peer);
                    None
                }
            }
        };
        let socket = tokio::time::timeout(self.bounds.handshake, handshake).await.ok().flatten();
        if socket.is_none() {
            self.metrics.rejected(Rejection::Tls);
        }
        socket
    }

    /// Logs a failed handshake, now or with a later one. Ignores clients that disconnect in the middle.
    fn report(&self, error: &io::Error, peer: SocketAddr) {
        if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) {
            return;
        }
        let Some(suppressed) = self.failures.count(Instant::now()) else { return };
        let error = error.to_string().escape_debug().take(200).collect::<String>();
        tracing::warn!(%peer, error, suppressed, "a TLS handshake failed");
    }
}
