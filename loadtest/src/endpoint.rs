//! The server's address and credentials, and the HTTP that is needed to use them.
//!
//! Connections are opened one by one, blocking, with a time limit on every read; the caller makes them non-blocking
//! afterwards. Credentials appear in no error and no `Debug` output.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use hydrant::client::{Credentials, Endpoint as Location};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use rustls::pki_types::ServerName;
use socket2::{Domain, Protocol, Socket, Type};

use crate::http::{read_body, read_head, said};
use crate::tls::{self, Trust};
use crate::wire::Wire;

/// Default time limit for a handshake or a reply.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Number of connections per loopback address; less than the number of ports that the kernel assigns, also while the
/// ports of earlier connections are in TIME-WAIT.
const PER_SOURCE: usize = 10_000;

/// The offer of permessage-deflate; hydrant and NATS accept it.
const DEFLATE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// A server that speaks the protocol.
#[derive(Clone)]
pub struct Endpoint {
    location: Location,
    address: SocketAddr,
    tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    /// The header line with the credentials, or empty.
    authorization: String,
    /// The user, if the credentials are a password.
    user: Option<String>,
    wire: Wire,
    deflate: bool,
    /// Query of the websocket's path: empty, or including its `?`.
    query: String,
    /// Time limit for a handshake or a reply.
    timeout: Duration,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Creates an endpoint from a URL, as the commands of hydrant parse it: `http`, `https`, `ws` or `wss`, host and
    /// port.
    ///
    /// # Errors
    /// Fails if the URL or the credentials are invalid, if the host has no address, or if TLS is used without trust.
    pub fn new(url: &str, trust: Trust<'_>, credentials: Option<&Credentials>) -> Result<Self> {
        ensure!(url.contains("://"), "{url:?} is not a URL such as https://host:8092");
        let location: Location = url.parse()?;
        let mut addresses = (location.host.as_str(), location.port)
            .to_socket_addrs()
            .with_context(|| format!("cannot resolve {location}"))?;
        let address = addresses.next().with_context(|| format!("{location} does not resolve to an address"))?;
        let tls = location.tls.then(|| tls::config(trust, location.host.clone())).transpose()?;
        let authorization = credentials.map(header).transpose()?.unwrap_or_default();
        let user = match credentials {
            Some(Credentials::Password { user, .. }) => Some(user.clone()),
            _ => None,
        };
        Ok(Self {
            location,
            address,
            tls,
            authorization,
            user,
            wire: Wire::Drp,
            deflate: false,
            query: String::new(),
            timeout: TIMEOUT,
        })
    }

    /// Returns the same endpoint with another protocol.
    #[must_use]
    pub fn speaking(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }

    /// Returns the same endpoint, whose websockets must compress their messages.
    #[must_use]
    pub fn deflating(self, deflate: bool) -> Self {
        Self { deflate, ..self }
    }

    /// Returns the same endpoint, whose websockets are opened with a query.
    #[must_use]
    pub fn with_query(self, query: &str) -> Self {
        Self { query: format!("?{query}"), ..self }
    }

    /// Returns the same endpoint with another time limit for handshakes and replies.
    #[must_use]
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Returns the same endpoint with other credentials.
    ///
    /// # Errors
    /// Fails if the credentials cannot be put into a header.
    pub fn with_credentials(self, credentials: &Credentials) -> Result<Self> {
        Ok(Self { authorization: header(credentials)?, user: None, ..self })
    }

    /// Returns the same endpoint without credentials.
    #[must_use]
    pub fn without_credentials(self) -> Self {
        Self { authorization: String::new(), user: None, ..self }
    }

    /// Returns whether the endpoint uses TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns the protocol of the endpoint.
    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// Returns whether its websockets compress.
    pub fn deflate(&self) -> bool {
        self.deflate
    }

    /// Returns what a non-blocking client needs: the address, and TLS if it is used.
    pub(crate) fn parts(&self) -> (SocketAddr, Option<&(Arc<rustls::ClientConfig>, ServerName<'static>)>) {
        (self.address, self.tls.as_ref())
    }

    /// Returns the URL, without credentials.
    pub fn url(&self) -> String {
        self.location.to_string()
    }

    /// Opens a connection. `index` is the number of earlier ones, so that loopback ports do not run out.
    ///
    /// # Errors
    /// Fails if the server cannot be reached, or if its certificate is not trusted.
    pub fn connect(&self, index: usize) -> Result<Stream> {
        self.over(unconnected(self.address, index))
    }

    /// Opens a connection from another address of this machine.
    ///
    /// # Errors
    /// Fails like [`Endpoint::connect`], and if the address does not belong to this machine.
    pub fn connect_from(&self, source: Ipv4Addr) -> Result<Stream> {
        self.over(bound(self.address, source))
    }

    fn over(&self, socket: io::Result<Socket>) -> Result<Stream> {
        let socket = socket.and_then(|socket| self.tcp(socket));
        let socket = socket.with_context(|| format!("cannot connect to {}", self.url()))?;
        let Some((config, name)) = &self.tls else { return Ok(Stream::Plain(socket)) };
        let mut session = rustls::ClientConnection::new(Arc::clone(config), name.clone())?;
        let mut socket = socket;
        while session.is_handshaking() {
            session.complete_io(&mut socket).with_context(|| format!("TLS with {} failed", self.url()))?;
        }
        Ok(Stream::Tls(Box::new(rustls::StreamOwned::new(session, socket))))
    }

    fn tcp(&self, socket: Socket) -> io::Result<TcpStream> {
        socket.connect_timeout(&self.address.into(), self.timeout)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(self.timeout))?;
        socket.set_write_timeout(Some(self.timeout))?;
        Ok(socket.into())
    }

    /// Opens a websocket. Returns its connection and the bytes that have already arrived on it.
    ///
    /// # Errors
    /// Fails like [`Endpoint::connect`], and if the server refuses; the error contains its reply.
    pub fn websocket(&self, index: usize) -> Result<(Stream, Vec<u8>)> {
        let mut stream = self.connect(index)?;
        stream.write_all(self.upgrade(index).as_bytes())?;
        stream.flush()?;
        let (head, rest) = read_head(&mut stream)?;
        if head.status == 101 {
            ensure!(head.deflate == self.deflate, "{} does not accept permessage-deflate", self.url());
            return Ok((stream, rest));
        }
        let body = read_body(&mut stream, &head, rest)?;
        bail!("{} refused the websocket: {} {}", self.url(), head.status, said(&body))
    }

    /// Returns the request that upgrades a connection to a websocket.
    pub(crate) fn upgrade(&self, index: usize) -> String {
        let nonce = base64::engine::general_purpose::STANDARD.encode((index as u128).to_be_bytes());
        let deflate = if self.deflate { format!("Sec-WebSocket-Extensions: {DEFLATE}\r\n") } else { String::new() };
        let more = self.wire.upgrade();
        let lines = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13";
        let upgrade = format!("{lines}\r\nSec-WebSocket-Key: {nonce}\r\n{deflate}{more}");
        self.head("GET", &format!("{}{}", self.wire.path(), self.query), &upgrade)
    }

    /// Returns the head of a request.
    pub fn head(&self, method: &str, path: &str, more: &str) -> String {
        let (host, authorization) = (self.location.authority(), &self.authorization);
        format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{authorization}{more}\r\n")
    }

    /// Returns the body of a reply to a GET over a new connection.
    ///
    /// # Errors
    /// Fails like [`Endpoint::connect`], and if the reply's status is not 200.
    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        let mut stream = self.connect(0)?;
        stream.write_all(self.head("GET", path, "Connection: close\r\n").as_bytes())?;
        stream.flush()?;
        let (head, rest) = read_head(&mut stream)?;
        let body = read_body(&mut stream, &head, rest)?;
        ensure!(head.status == 200, "GET {path}: {} {}", head.status, said(&body));
        Ok(body)
    }

    /// Waits until the credentials are accepted: a server applies a change of its users within seconds.
    ///
    /// # Errors
    /// Fails if they are not accepted in time; the error contains the last answer.
    pub fn wait_until_known(&self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.get("/api/v3/info") {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(250)),
            }
        }
    }

    /// Returns the same endpoint with a token instead of the password, so that a thousand connections do not cost the
    /// server a thousand password hashes. Unchanged if the server issues no tokens.
    #[must_use]
    pub fn with_token(self) -> Self {
        let Some(user) = &self.user else { return self };
        let reply = self.get(&format!("/api/v3/users/{user}/token?ttl=1d"));
        let value: Option<serde_json::Value> = reply.ok().and_then(|body| serde_json::from_slice(&body).ok());
        let token = value.as_ref().and_then(|value| value["Token"].as_str());
        match token.and_then(|token| header(&Credentials::Token(token.to_owned())).ok()) {
            Some(authorization) => Self { authorization, user: None, ..self },
            None => self,
        }
    }
}

/// Returns the header line with the credentials.
fn header(credentials: &Credentials) -> Result<String> {
    let value = credentials.header()?;
    Ok(format!("Authorization: {}\r\n", value.to_str().context("credentials must be ASCII")?))
}

/// Returns a socket to be connected to `address` as number `index`: the loopback ports of one source address run out.
pub(crate) fn unconnected(address: SocketAddr, index: usize) -> io::Result<Socket> {
    if let IpAddr::V4(target) = address.ip()
        && target.is_loopback()
        && index >= PER_SOURCE
    {
        let source = u8::try_from(1 + index / PER_SOURCE).unwrap_or(u8::MAX);
        return bound(address, Ipv4Addr::new(127, 0, 0, source));
    }
    Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
}

/// Returns a socket to be connected to `address` from `source`.
fn bound(address: SocketAddr, source: Ipv4Addr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // The port is chosen when the socket is connected. If binding chose it, the kernel would search for one that no
    // other connection uses, whatever its destination: milliseconds per socket once many are in use.
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    Ok(socket)
}

/// A connection, plain or TLS.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

impl Stream {
    /// Returns the negotiated cipher; `None` without TLS.
    pub fn cipher(&self) -> Option<String> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(session) => session.conn.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())),
        }
    }

    /// Returns the underlying socket.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(session) => session.get_ref(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf),
            Self::Tls(session) => session.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(buf),
            Self::Tls(session) => session.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(session) => session.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Result<Endpoint> {
        let credentials = Credentials::Password { user: "u".to_owned(), password: "pa55".to_owned() };
        Endpoint::new(url, Trust::Nobody, Some(&credentials))
    }

    #[test]
    fn urls_are_read() {
        assert_eq!(endpoint("ws://127.0.0.1:81").unwrap().address.to_string(), "127.0.0.1:81");
        assert_eq!(endpoint("http://127.0.0.1").unwrap().address.port(), 80);
        assert_eq!(endpoint("http://[::1]:99").unwrap().address.to_string(), "[::1]:99");
        for bad in ["127.0.0.1:81", "ftp://127.0.0.1", "http://no such host:1", "https://127.0.0.1:1"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_do_not_run_short_since_there_are_several_sources() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sources = [(0, "127.0.0.1"), (PER_SOURCE, "127.0.0.2"), (4 * PER_SOURCE, "127.0.0.5")];
        for (index, source) in sources {
            let socket = unconnected(address, index).unwrap();
            socket.connect(&address.into()).unwrap();
            assert_eq!(listener.accept().unwrap().1.ip().to_string(), source);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let endpoint = endpoint("http://127.0.0.1:81").unwrap();
        assert!(!format!("{endpoint:?}").contains("pa55"));
    }
}
