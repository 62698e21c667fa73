//! Ports that a test may leave and come back to, and ports for programs that have to be told one.
//!
//! A port that is only closed belongs to nobody: while nothing is bound to it, any `bind` to port 0 and any outgoing
//! connection of this machine may get it, and a test that wants it back fails, or meets a stranger there.

#![allow(dead_code, unreachable_pub, reason = "every test binary takes its own part of it")]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::TcpSocket;

/// A port of 127.0.0.1 that is bound and does not listen. The kernel gives it to nobody who asks for any port, and
/// refuses who connects. Whoever names it, and sets `SO_REUSEADDR` as servers do, listens there and goes again.
pub struct Held {
    pub address: SocketAddr,
    _socket: TcpSocket,
}

impl Held {
    pub fn any() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        Self { address: socket.local_addr().unwrap(), _socket: socket }
    }
}

/// A port that is free at every address. The kernel gives none below 32,768 to whoever asks for any, so nobody else
/// gets it by chance before it is used.
pub fn free_port() -> u16 {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let ports = std::iter::repeat_with(|| std::process::id() * 97 + ASKED.fetch_add(1, Ordering::Relaxed));
    let mut ports = ports.map(|number| 10_000 + u16::try_from(number % 20_000).unwrap());
    ports.find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok()).unwrap()
}
