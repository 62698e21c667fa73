//! A minimal endpoint behind a server under attack: it has only one long public file and an empty `info`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::NamedTempFile;

use super::worker::NICE;

/// Path of the file.
pub(super) const PATH: &str = "/files/image.iso";

/// Length of the file in bytes.
const LENGTH: usize = 16 << 20;

/// The body of `info`, and of answers for paths that do not exist.
const EMPTY: &[u8] = b"{}";

/// Time limit for a stalled connection.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The settings that put a server in front of the endpoint, with its own users.
const SETTINGS: &str = "[auth]\nmode = \"local\"\n\n[upstream]\npassword = \"none\"\n";

/// Size of the kernel's send buffer, in bytes.
const SEND_BUFFER: usize = 64 << 10;

/// A minimal endpoint behind a hydrant under attack. Dropping it stops the listener.
#[derive(Debug)]
pub struct Upstream {
    url: String,
    settings: NamedTempFile,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Listens on loopback.
    ///
    /// # Errors
    /// No port, no thread, or no temporary file.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on the loopback interface")?;
        let url = format!("http://{}", listener.local_addr()?);
        let mut settings = NamedTempFile::with_suffix(".toml").context("no temporary file")?;
        settings.write_all(SETTINGS.as_bytes())?;
        let is_over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&is_over);
        let accept = move || {
            // All threads inherit this priority. A real endpoint has its own machine; at full priority the measurement
            // would still be valid.
            let _ = rustix::process::nice(NICE);
            for stream in listener.incoming().filter_map(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                // If no thread can be started, the connection is closed.
                let _ = thread::Builder::new().name("upstream".to_owned()).spawn(move || serve(stream));
            }
        };
        let thread = thread::Builder::new().name("upstream-accept".to_owned()).spawn(accept)?;
        Ok(Self { url, settings, is_over, thread: Some(thread) })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The arguments that make a server stand in front of it.
    pub(super) fn arguments(&self) -> Vec<String> {
        let file = self.settings.path().display().to_string();
        vec!["--upstream".to_owned(), self.url.clone(), "--config".to_owned(), file]
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let address = self.url.trim_start_matches("http://").to_owned();
        // Wakes the thread; if it cannot be reached, it has already ended.
        let _ = TcpStream::connect(address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Answers requests until one is incomplete, or the peer is gone; errors have no receiver.
fn serve(mut stream: TcpStream) {
    let _ = stream.set_read_timeout(Some(TIMEOUT));
    let _ = stream.set_write_timeout(Some(TIMEOUT));
    // A real endpoint would buffer on its own machine, not in the memory that it shares with the server's sockets.
    let _ = socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
    let (mut head, mut chunk) = (Vec::new(), [0; 4_096]);
    loop {
        match stream.read(&mut chunk) {
            Ok(got) if got > 0 && head.len() < 64 << 10 => head.extend_from_slice(&chunk[..got]),
            _ => return,
        }
        while let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let asks_for = |path: &str| head.starts_with(format!("GET {path} ").as_bytes());
            let (status, length) = match () {
                () if asks_for(PATH) => ("200 OK", LENGTH),
                () if asks_for("/api/v3/info") => ("200 OK", EMPTY.len()),
                () => ("404 Not Found", EMPTY.len()),
            };
            head.drain(..end + 4);
            let kind = "Content-Type: application/json";
            let answer = format!("HTTP/1.1 {status}\r\n{kind}\r\nContent-Length: {length}\r\n\r\n");
            if stream.write_all(answer.as_bytes()).is_err() || send(&mut stream, length).is_err() {
                return;
            }
        }
    }
}

fn send(stream: &mut TcpStream, length: usize) -> std::io::Result<()> {
    if length == EMPTY.len() {
        return stream.write_all(EMPTY);
    }
    let block = [b'.'; 16 << 10];
    let mut rest = length;
    while rest > 0 {
        let some = rest.min(block.len());
        stream.write_all(&block[..some])?;
        rest -= some;
    }
    Ok(())
}
