//! Keeps a peer awake while clients connect to it.
//!
//! mosquitto 2.0 looks at its websockets once by turn of its loop, and a turn waits for its other sockets, for 100 ms
//! when they are quiet. A handshake and a subscription need several turns, so that a thousand clients one after the
//! other would take minutes. While an [`Awake`] lives, a connection of the peer's own protocol asks it something every
//! millisecond.
//!
//! Contract: nothing that is measured happens meanwhile; questions cost the peer CPU time. When the connection fails
//! the questions end, and the clients find out for themselves.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::wire::Wire;

/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(1);

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Sends a request every millisecond to keep a peer's event loop busy. Dropping it stops the requests.
#[derive(Debug)]
pub struct Awake {
    /// Dropped to end the thread.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Awake {
    /// Begins to ask the peer at `address`, which speaks `wire` there without a websocket.
    ///
    /// # Errors
    /// The peer cannot be reached.
    pub fn begin(address: SocketAddr, wire: Wire) -> Result<Self> {
        let mut socket = TcpStream::connect_timeout(&address, TIMEOUT).context("cannot keep the peer awake")?;
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

/// What is said does not matter, only that there was an answer.
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
        // It has nothing to tell.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
