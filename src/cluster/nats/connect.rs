//! Connection setup: TCP, the server's INFO, TLS if either side requires it, and the login.
//!
//! A host name may have several addresses, some of them unreachable. They are tried in turn, [`STAGGER`] apart, without
//! waiting for earlier attempts to fail; the first that connects is used (similar to RFC 8305).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde_json::{Map, Value, json};
use socket2::SockRef;
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::login::{Login, LoginError};
use super::op::{Op, ServerInfo};
use super::session::{Incoming, Session, SessionError, Socket, sides};
use super::tls::{Tls, TlsError};
use crate::tasks;

/// Time limit for the whole connection setup.
const PATIENCE: Duration = Duration::from_secs(5);

/// Delay between attempts at two addresses of one name.
const STAGGER: Duration = Duration::from_millis(250);

/// Bytes not yet sent that the kernel may buffer. It would buffer megabytes otherwise, so that over a slow link a PING
/// reached the server, and its answer came, only after the server had been given up.
const UNSENT_BYTES: u32 = 64 << 10;

/// Maximum number of addresses tried per name; with [`STAGGER`] between them, the last one has a second left.
const ADDRESSES: usize = 16;

/// Why a connection could not be made.
#[derive(Debug, Error)]
pub(in crate::cluster) enum ConnectError {
    #[error("cannot connect to {0}: {1}")]
    Tcp(Address, io::Error),
    #[error("{0} did not answer in time")]
    Late(Address),
    #[error("TLS with {0} failed: {1}")]
    Handshake(Address, io::Error),
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("{0} is not a valid host name for a TLS certificate")]
    Name(Address),
    #[error("{0}: {1}")]
    Session(Address, SessionError),
    #[error("{0} refused the login: {1}")]
    Refused(Address, String),
    #[error(transparent)]
    Login(#[from] LoginError),
}

/// The login, the TLS settings and the name of a connection.
#[derive(Debug)]
pub(super) struct ConnectOptions {
    pub(super) login: std::sync::Arc<Login>,
    pub(super) tls: Tls,
    /// The name of the connection in the server's lists.
    pub(super) name: String,
}

/// Connects to one server.
pub(super) async fn connect(address: &Address, options: &ConnectOptions) -> Result<Session, ConnectError> {
    match timeout(PATIENCE, begin(address, options)).await {
        Ok(session) => session,
        Err(_) => Err(ConnectError::Late(address.clone())),
    }
}

async fn begin(address: &Address, options: &ConnectOptions) -> Result<Session, ConnectError> {
    let tcp = |error| ConnectError::Tcp(address.clone(), error);
    let session = |error| ConnectError::Session(address.clone(), error);
    let addresses = lookup_host((address.host.as_str(), address.port)).await.map_err(tcp)?;
    let socket = first_of(addresses.take(ADDRESSES).collect()).await.map_err(tcp)?;
    prepare(&socket).map_err(tcp)?;
    let (mut incoming, mut outgoing) = sides(Box::new(socket));
    let info = first_word(&mut incoming).await.map_err(session)?;
    let secure = info.tls_required || address.tls || options.tls.is_required();
    if secure {
        let socket = incoming.into_socket(outgoing).ok_or_else(|| session(SessionError::Silent))?;
        (incoming, outgoing) = sides(handshake(socket, address, &options.tls).await?);
    }
    outgoing.line(&format!("CONNECT {}", introduction(&info, options, secure)?));
    outgoing.ping();
    outgoing.flush().await.map_err(|error| session(error.into()))?;
    let info = log_in(&mut incoming, address, info).await?;
    Ok(Session { incoming, outgoing, info, address: address.clone() })
}

/// Sets the options of a socket.
fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    if let Err(error) = SockRef::from(socket).set_tcp_notsent_lowat(UNSENT_BYTES) {
        tracing::debug!(%error, "cannot limit the unsent data of the socket to a NATS server");
    }
    Ok(())
}

/// Returns a connection to whichever of the addresses answers first.
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let (mut rest, mut tries) = (addresses.into_iter(), JoinSet::new());
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name does not resolve to an address");
    loop {
        match rest.next() {
            Some(address) => tasks::spawn_in(&mut tries, Box::pin(TcpStream::connect(address))),
            None if tries.is_empty() => return Err(error),
            None => {}
        }
        tokio::select! {
            Some(result) = tries.join_next() => match result {
                Ok(Ok(socket)) => return Ok(socket),
                Ok(Err(refused)) => error = refused,
                Err(died) => error = died.into(),
            },
            () = sleep(STAGGER), if rest.len() > 0 => {}
        }
    }
}

/// Reads the INFO that the server sends first.
async fn first_word(incoming: &mut Incoming) -> Result<ServerInfo, SessionError> {
    match incoming.next().await? {
        Op::Info(info) => Ok(info),
        Op::Error(text) => Err(SessionError::Refused(text)),
        _ => Err(SessionError::Silent),
    }
}

async fn handshake(socket: Box<dyn Socket>, address: &Address, tls: &Tls) -> Result<Box<dyn Socket>, ConnectError> {
    let name = address.name.clone().unwrap_or_else(|| address.host.clone());
    let name = ServerName::try_from(name).map_err(|_| ConnectError::Name(address.clone()))?;
    let connector = TlsConnector::from(tls.config()?);
    let stream = connector.connect(name, socket).await;
    Ok(Box::new(stream.map_err(|error| ConnectError::Handshake(address.clone(), error))?))
}

fn introduction(info: &ServerInfo, options: &ConnectOptions, secure: bool) -> Result<Value, LoginError> {
    let said = json!({
        "verbose": false, "pedantic": false, "tls_required": secure, "name": options.name, "lang": "rust",
        "version": env!("CARGO_PKG_VERSION"), "protocol": 1, "echo": false, "headers": true, "no_responders": true,
    });
    let mut said: Map<String, Value> = said.as_object().cloned().unwrap_or_default();
    options.login.introduce(&info.nonce, &mut said)?;
    Ok(Value::Object(said))
}

/// Waits for the answer to the PING after the login. Returns the server's latest INFO.
async fn log_in(incoming: &mut Incoming, address: &Address, mut info: ServerInfo) -> Result<ServerInfo, ConnectError> {
    loop {
        match incoming.next().await {
            Ok(Op::Pong) => return Ok(info),
            Ok(Op::Info(newer)) => info = newer,
            Ok(Op::Error(text)) => return Err(ConnectError::Refused(address.clone(), text)),
            Ok(_) => {}
            Err(error) => return Err(ConnectError::Session(address.clone(), error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// Returns an address that neither accepts nor refuses connections because its accept queue is full.
    async fn nowhere() -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let (address, mut queued) = (listener.local_addr().unwrap(), Vec::new());
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            queued.push(stream);
        }
        (listener, queued)
    }

    #[tokio::test]
    async fn an_address_that_leads_nowhere_does_not_keep_from_the_next() {
        let (dead, _queued) = nowhere().await;
        let good = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [&dead, &good].map(|listener| listener.local_addr().unwrap());
        let socket = timeout(PATIENCE, first_of(addresses.to_vec())).await.expect("in time").unwrap();
        assert_eq!(socket.peer_addr().unwrap(), addresses[1]);
        prepare(&socket).unwrap();
        assert_eq!(SockRef::from(&socket).tcp_notsent_lowat().unwrap(), UNSENT_BYTES);
        let refused = good.local_addr().unwrap();
        drop((good, socket));
        assert_eq!(first_of(vec![refused]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(first_of(Vec::new()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
