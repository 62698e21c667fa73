//! Attacks by HTTP requests, TLS handshakes and single messages.

use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Result, ensure};
use flate2::{Compress, Compression, FlushCompress};
use hydrant::client::Credentials;

use super::socket::Socket;
use super::upstream;
use super::worker::{Worker, is_timeout};
use crate::endpoint::{Endpoint, Stream};
use crate::frame::{self, Opcode};
use crate::http::{read_body, read_head};

/// Interval between two bytes of a slow body, and between two reads of a slow download.
const DRIP: Duration = Duration::from_millis(200);

/// Inflated size of a deflate bomb in bytes.
const INFLATED: usize = 48 << 20;

/// Number of bytes at the end of a flushed block that a message omits.
const TAIL: usize = 4;

/// Time limit for a login, including its wait in the queue.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest token that a server examines, in bytes.
const TOKEN: usize = 8_000;

/// Makes one failing login from its own network.
pub(super) fn logins(worker: &Worker) -> Result<()> {
    let number = worker.next_connection();
    let [_, _, a, b] = u32::try_from(number % 60_000 + 256)?.to_be_bytes();
    let source = Ipv4Addr::new(127, a, b, 9);
    // Half of the names do not exist.
    let user = if number.is_multiple_of(2) { "rocketskates".to_owned() } else { format!("user{number}") };
    let wrong = Credentials::Password { user, password: format!("wrong-{number}") };
    let endpoint = worker.guest().clone().within(LOGIN_TIMEOUT).with_credentials(&wrong)?;
    let mut stream = endpoint.connect_from(source)?;
    // It may wait long for its turn, which is part of the attack.
    worker.ready();
    get(&endpoint, &mut stream, "/api/v3/info", worker)
}

/// Posts bodies one byte at a time.
pub(super) fn slow_bodies(worker: &Worker) -> Result<()> {
    let endpoint = worker.guest();
    let head = "Content-Type: application/x-ndjson\r\nContent-Length: 60000000\r\n";
    let head = endpoint.head("POST", "/api/v3/events", head);
    hold(worker, &head, |stream| {
        stream.write_all(b" ")?;
        stream.flush()
    })
}

/// Downloads long public files of the endpoint behind the proxy, hardly reading them.
pub(super) fn slots(worker: &Worker) -> Result<()> {
    let head = worker.guest().clone().without_credentials().head("GET", upstream::PATH, "");
    hold(worker, &head, |_| Ok(()))
}

/// Keeps as many requests in progress as allowed, continuing each by `step`; those that the server has ended are
/// replaced.
fn hold(worker: &Worker, head: &str, step: impl Fn(&mut Stream) -> io::Result<()>) -> Result<()> {
    let mut streams: Vec<Stream> = Vec::new();
    while !worker.is_over() {
        while streams.len() < worker.connections() && !worker.is_over() {
            let mut stream = worker.guest().connect(worker.next_connection())?;
            socket2::SockRef::from(stream.socket()).set_recv_buffer_size(4_096)?;
            stream.write_all(head.as_bytes())?;
            stream.socket().set_read_timeout(Some(Duration::from_millis(1)))?;
            worker.count("begun");
            streams.push(stream);
        }
        worker.ready();
        streams.retain_mut(|stream| match step(stream).and_then(|()| sip(stream)) {
            Ok(None) => true,
            Ok(Some(what)) => {
                worker.count(what);
                false
            }
            Err(error) => {
                worker.count(error.kind().to_string());
                false
            }
        });
        worker.pause(DRIP);
    }
    Ok(())
}

/// Reads some bytes; returns the server's answer if it has ended the request.
fn sip(stream: &mut Stream) -> io::Result<Option<String>> {
    let mut chunk = [0; 64];
    match stream.read(&mut chunk) {
        Ok(0) => Ok(Some("connection closed".to_owned())),
        Ok(got) => {
            let text = String::from_utf8_lossy(&chunk[..got]);
            let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split(' ').next());
            Ok(status.filter(|status| *status != "200").map(|status| format!("HTTP {status}")))
        }
        Err(error) if is_timeout(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends messages that are short on the wire and long once inflated.
pub(super) fn deflate_bombs(worker: &Worker) -> Result<()> {
    let mut bytes = Vec::new();
    frame::write_masked(Opcode::Text, &BOMB, [0; 4], &mut bytes)?;
    // The first reserved bit marks a compressed message.
    bytes[0] |= 0x40;
    let endpoint = worker.guest().clone().deflating(true);
    while !worker.is_over() {
        let mut socket = Socket::open(&endpoint, worker)?;
        let end = socket.write(&bytes).and_then(|()| socket.read(Duration::from_secs(2), 1, worker));
        match end {
            Ok(()) => worker.count("taken"),
            Err(error) => worker.count(format!("{error:#}").chars().take(40).collect::<String>()),
        }
        worker.ready();
    }
    Ok(())
}

/// Creates the bomb in advance, since this would disturb the measurement.
pub(super) fn make_bomb() {
    LazyLock::force(&BOMB);
}

/// As short as deflate can make it, without the end that permessage-deflate omits.
static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut deflater = Compress::new(Compression::best(), false);
    let mut bytes = Vec::with_capacity(INFLATED / 500);
    let zeros = vec![b'0'; INFLATED];
    deflater.compress_vec(&zeros, &mut bytes, FlushCompress::Sync).expect("zeros deflate to less than the buffer");
    bytes.truncate(bytes.len().saturating_sub(TAIL));
    bytes
});

/// Makes complete handshakes, and then disconnects.
pub(super) fn handshakes(worker: &Worker) -> Result<()> {
    ensure!(worker.guest().is_tls(), "the server does not use TLS");
    let stream = worker.guest().connect(worker.next_connection())?;
    worker.count("handshake");
    drop(stream);
    Ok(())
}

/// Sends forged tokens with the header and the maximum length of real ones.
pub(super) fn tokens(worker: &Worker) -> Result<()> {
    let number = worker.next_connection();
    let head = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6IjAwMDAwMDAwIn0";
    let claims = format!("{number:08}").repeat(TOKEN / 8);
    let token = Credentials::Token(format!("{head}.{claims}.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
    let endpoint = worker.guest().clone().with_credentials(&token)?;
    let mut stream = endpoint.connect(number)?;
    while !worker.is_over() {
        get(&endpoint, &mut stream, "/api/v3/info", worker)?;
        worker.ready();
    }
    Ok(())
}

/// Sends a request and counts the status of its answer.
fn get(endpoint: &Endpoint, stream: &mut Stream, path: &str, worker: &Worker) -> Result<()> {
    stream.write_all(endpoint.head("GET", path, "").as_bytes())?;
    stream.flush()?;
    let (head, rest) = read_head(stream)?;
    read_body(stream, &head, rest)?;
    worker.count(format!("HTTP {}", head.status));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_short_and_inflates_to_much() {
        assert!(BOMB.len() < 60_000, "{}", BOMB.len());
        assert_eq!(crate::inflate::Inflater::default().message(&BOMB).unwrap().len(), INFLATED);
    }
}
