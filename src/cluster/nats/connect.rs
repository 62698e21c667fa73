//! The beginning of a connection: TCP, what the server says of itself, TLS if either side wants it, and the login.

use std::io;
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde_json::{Map, Value, json};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::address::Address;
use super::login::{Login, LoginError};
use super::op::{Op, ServerInfo};
use super::session::{Incoming, Session, SessionError, Socket, sides};
use super::tls::{Tls, TlsError};

/// All of it takes no longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, Error)]
pub(in crate::cluster) enum ConnectError {
    #[error("no connection to {0}: {1}")]
    Tcp(Address, io::Error),
    #[error("{0} does not answer in time")]
    Late(Address),
    #[error("TLS with {0}: {1}")]
    Handshake(Address, io::Error),
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("{0} is no name that a certificate could be for")]
    Name(Address),
    #[error("{0}: {1}")]
    Session(Address, SessionError),
    #[error("{0} refuses the login: {1}")]
    Refused(Address, String),
    #[error(transparent)]
    Login(#[from] LoginError),
}

/// As whom and how one connects.
#[derive(Debug)]
pub(super) struct ConnectOptions {
    pub(super) login: std::sync::Arc<Login>,
    pub(super) tls: Tls,
    /// How the connection is called in the server's lists.
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
    let socket = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(tcp)?;
    socket.set_nodelay(true).map_err(tcp)?;
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

/// What the server says of itself before anything is said to it.
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

/// Waits for the answer to the PING behind the login. Returns the last that the server has said of itself.
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
