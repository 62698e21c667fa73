//! Posts batches over one kept-alive connection without blocking, on the thread that also receives.
//!
//! Why not [`crate::publish::Publisher`], which has a thread: that thread would share the readers' core, and every POST
//! would wait until the kernel lets it run, to send, and again to read the answer. The floor has no such thread, so the
//! server would be charged with its delays.
//!
//! Contract: one batch is in progress at a time. [`Poster::send`] begins it, and [`Poster::answered`] proceeds as far
//! as the socket allows; the swarm's poll reports when there is more to do. After a 429 the batch is posted again, a
//! bounded number of times.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mio::Registry;

use crate::client::{Swarm, watch};
use crate::endpoint::{Endpoint, Stream};
use crate::http::{Head, parse_head, said};

/// Maximum number of retries of one body after a 429.
const RETRIES_MAX: u32 = 20;

/// A connection that posts batches.
#[derive(Debug)]
pub(super) struct Poster {
    endpoint: Endpoint,
    registry: Registry,
    stream: Stream,
    request: Vec<u8>,
    /// Bytes of the request that are sent.
    sent: usize,
    reply: Vec<u8>,
    /// How often the server was busy, and until when to wait before the next try.
    busy: u32,
    pause: Option<Instant>,
}

impl Poster {
    /// Connects. What arrives ends a wait of `swarm`.
    pub(super) fn connect(endpoint: &Endpoint, swarm: &Swarm) -> Result<Self> {
        let registry = swarm.registry()?;
        let stream = open(endpoint, &registry)?;
        let endpoint = endpoint.clone();
        Ok(Self { endpoint, registry, stream, request: Vec::new(), sent: 0, reply: Vec::new(), busy: 0, pause: None })
    }

    /// Begins to post a batch. None must be in progress.
    pub(super) fn send(&mut self, body: &[u8]) -> Result<()> {
        let kind = format!("Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n", body.len());
        self.request.clear();
        self.request.extend_from_slice(self.endpoint.head("POST", "/api/v3/events", &kind).as_bytes());
        self.request.extend_from_slice(body);
        (self.sent, self.busy, self.pause) = (0, 0, None);
        // Servers close idle connections, and this one is idle during the turns of others.
        if matches!(self.receive(), Err(_) | Ok(true)) {
            self.stream = open(&self.endpoint, &self.registry)?;
        }
        // They may say why they close it.
        self.reply.clear();
        self.write()
    }

    /// Proceeds. Returns how often the server was busy, once it has accepted the batch.
    pub(super) fn answered(&mut self) -> Result<Option<u32>> {
        if let Some(until) = self.pause {
            if Instant::now() < until {
                return Ok(None);
            }
            (self.pause, self.sent) = (None, 0);
        }
        self.write()?;
        let ended = self.receive().context("no answer to a POST")?;
        let Some((head, body)) = self.whole()? else {
            ensure!(!ended, "the server ended the connection instead of replying");
            return Ok(None);
        };
        ensure!((200..300).contains(&head.status) || head.status == 429, "the server refuses events: {}", said(&body));
        self.reply.clear();
        if head.status != 429 {
            return Ok(Some(self.busy));
        }
        self.busy += 1;
        if self.busy == RETRIES_MAX {
            bail!("the server was busy {RETRIES_MAX} times: it cannot take what is published");
        }
        let pause = Duration::from_secs(head.retry_after.unwrap_or(0).min(5)).max(Duration::from_millis(20));
        self.pause = Some(Instant::now() + pause);
        Ok(None)
    }

    /// Writes as much of the request as the socket accepts.
    fn write(&mut self) -> Result<()> {
        while self.sent < self.request.len() {
            match self.stream.write(&self.request[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot publish"),
            }
        }
        match self.stream.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error).context("cannot publish"),
            _ => Ok(()),
        }
    }

    /// Reads what has arrived. Returns whether the server has ended the connection.
    fn receive(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 4_096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Ok(true),
                Ok(got) => self.reply.extend_from_slice(&chunk[..got]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the reply if it is complete. Replies to a POST have a length.
    fn whole(&self) -> Result<Option<(Head, Vec<u8>)>> {
        let Some((head, start)) = parse_head(&self.reply)? else { return Ok(None) };
        let end = start + head.length.context("a reply to a POST has no length")?;
        Ok(self.reply.get(start..end).map(|body| (head, body.to_vec())))
    }
}

fn open(endpoint: &Endpoint, registry: &Registry) -> Result<Stream> {
    let stream = endpoint.connect(0)?;
    stream.socket().set_nonblocking(true)?;
    watch(registry, stream.socket().as_raw_fd())?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;
    use crate::tls::Trust;
    use crate::wire::Wire;

    /// Answers one POST for each reply, over one connection for each inner list.
    fn server(replies: &'static [&'static [&'static str]]) -> (String, thread::JoinHandle<Vec<usize>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = move |mut stream: TcpStream, replies: &[&str]| {
            replies.iter().fold(0, |read, reply| {
                let mut request = Vec::new();
                while !request.ends_with(b"end\n") {
                    let mut chunk = vec![0; 65_536];
                    let got = stream.read(&mut chunk).unwrap();
                    request.extend_from_slice(&chunk[..got]);
                }
                stream.write_all(reply.as_bytes()).unwrap();
                read + request.len()
            })
        };
        (url, thread::spawn(move || replies.iter().map(|&all| serve(listener.accept().unwrap().0, all)).collect()))
    }

    fn finish(poster: &mut Poster, swarm: &Swarm) -> u32 {
        loop {
            if let Some(busy) = poster.answered().unwrap() {
                return busy;
            }
            swarm.wait(Duration::from_millis(5)).unwrap();
        }
    }

    #[test]
    fn large_bodies_busy_servers_and_ended_connections_are_coped_with() {
        const DONE: &str = "HTTP/1.1 204 No Content\r\n\r\n";
        const BUSY: &str = "HTTP/1.1 429 Too Many\r\nContent-Length: 2\r\n\r\n{}";
        let (url, served) = server(&[&[BUSY, DONE], &[DONE]]);
        let endpoint = Endpoint::new(&url, Trust::Nobody, None).unwrap();
        let swarm = Swarm::empty(Wire::Drp, false).unwrap();
        let mut poster = Poster::connect(&endpoint, &swarm).unwrap();
        // More than the buffers of the sockets take at once.
        let large = [vec![b'x'; 16 << 20], b"end\n".to_vec()].concat();
        poster.send(&large).unwrap();
        assert_eq!(finish(&mut poster, &swarm), 1);
        // The server ends the connection before the next one; it may take a moment until that is seen.
        while !poster.receive().unwrap_or(true) {
            thread::yield_now();
        }
        poster.send(b"end\n").unwrap();
        assert_eq!(finish(&mut poster, &swarm), 0);
        let read = served.join().unwrap();
        assert!(read[0] > 32 << 20 && read[1] < 1_000, "{read:?}");
    }
}
