//! The kernel's queue of connections that nobody has accepted yet.
//!
//! Contract: it is long enough for a fleet that reconnects at once. An error while accepting (no file descriptor is
//! left) is logged and retried after a pause, never in a loop without one. When the server stops, connections that are
//! in the queue are still served, or told that there is no room: closing the listener would reset them, and balancers
//! report a failed request.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tracing::field::display;

/// The number of connections that the kernel keeps for the listener until they are accepted, unless
/// `net.core.somaxconn` permits fewer. When the queue is full, the kernel ignores newcomers, who try again after one,
/// three and seven seconds: the standard library's 128 would make most clients of a reconnecting fleet wait for that
/// long.
const LENGTH: u32 = 4096;

/// Binds an address. Must be called in a Tokio runtime.
///
/// # Errors
/// The address cannot be bound.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As the standard library does: a server that is restarted gets its port back at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(LENGTH)
}

/// Accepts one connection, however long it takes.
pub(super) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut pause = Duration::from_millis(10);
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                let address = listener.local_addr().ok().map(display);
                tracing::warn!(%error, address, pause_ms = pause.as_millis(), "cannot accept connections; retrying");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

/// Closes a listener and returns the connections that are in its queue, at most [`LENGTH`].
pub(super) fn rest(listener: TcpListener) -> impl Iterator<Item = (TcpStream, SocketAddr)> {
    let listener = listener.into_std().ok();
    let next = move || {
        let (stream, peer) = accept_now(listener.as_ref()?)?;
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    };
    std::iter::from_fn(next).take(LENGTH as usize)
}

/// Accepts one connection if there is one. A connection that its client has reset does not hide those behind it.
fn accept_now(listener: &std::net::TcpListener) -> Option<(std::net::TcpStream, SocketAddr)> {
    loop {
        match listener.accept() {
            Ok(accepted) => return Some(accepted),
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections while stopping");
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fleet_that_reconnects_at_once_waits_in_the_queue() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let permitted = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let count = permitted.trim().parse::<usize>().unwrap().min(400);
        let clients = (0..count).map(|_| TcpStream::connect(address));
        let all = tokio::time::timeout(Duration::from_mins(1), futures_util::future::try_join_all(clients)).await;
        assert_eq!(all.expect("room in the queue").unwrap().len(), count, "nobody accepts them");
    }
}
