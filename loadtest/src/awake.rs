//! Keeps a peer's event loop busy while clients connect to it.
//!
//! In each turn of its event loop, mosquitto 2.0 checks its websockets once; if its other sockets are quiet, a turn
//! takes 100 ms. A handshake and a subscription need several turns, so connecting a thousand clients one by one would
//! take minutes. An [`Awake`] therefore sends the peer a request in its own protocol every millisecond, until it is
//! dropped.
//!
//! Contract: nothing is measured meanwhile, since the requests cost the peer CPU time. If the connection fails, the
//! requests end, and the clients notice for themselves.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::wire::Wire;

/// Pause between an answer and the next request.
const PAUSE: Duration = Duration::from_millis(1);

/// Time limit for an answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Sends a request every millisecond to keep a peer's event loop busy. Dropping it stops the requests.
#[derive(Debug)]
pub struct Awake {
    /// Dropped to end the thread.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Awake {
    /// Starts sending requests to the peer at `address`, which speaks `wire` there without a websocket.
    ///
    /// # Errors
    /// Fails if the peer cannot be reached.
    pub fn begin(address: SocketAddr, wire: Wire) -> Result<Self> {
        let mut socket =
            TcpStream::connect_timeout(&address, TIMEOUT).context("cannot connect to the peer to keep it awake")?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.write_all(&wire.greeting("awake"))?;
        let (end, ended) = channel::<()>();
        let ask = move || {
            while ask(&mut socket, wire.question()).is_ok()
                && ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout)
            {}
        };
        let thread = thread::Builder::new().name("awake".to_owned()).spawn(ask).context("cannot start a thread")?;
        Ok(Self { end: Some(end), thread: Some(thread) })
    }
}

/// Sends a request and waits for an answer, whatever it says.
fn ask(socket: &mut TcpStream, question: &[u8]) -> io::Result<()> {
    socket.write_all(question)?;
    match socket.read(&mut [0; 4_096])? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        drop(self.end.take());
        // The thread has no result.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
