//! A TCP link whose faults are in the test's hand: slow, narrow, reset, broken after so many bytes, or half open. It
//! stands between any client and any server of a test, as toxiproxy would, and needs nothing installed.

use std::net::{SocketAddr, TcpStream as Descriptor};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

/// Bytes that are read at a time, and chunks that may be on their way: less than a test's events, so that a narrow link
/// holds up whoever writes to it.
const CHUNK: usize = 4 << 10;
const CHUNKS: usize = 64;

/// What the kernel holds for the link of what either end has sent. By default it grows to megabytes, and no test's load
/// would ever fill a narrow link.
const HELD: u32 = 64 << 10;

/// See the module's text.
pub struct Link {
    /// Where clients connect to.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
}

struct Shared {
    to: SocketAddr,
    delay: AtomicU64,
    rate: AtomicU64,
    /// Bytes from the server after which a connection breaks.
    most: AtomicU64,
    dark: AtomicBool,
    accepted: AtomicU64,
    pairs: Mutex<Vec<Pair>>,
}

/// A connection: both sockets, and what carries bytes between them.
struct Pair {
    ends: [Descriptor; 2],
    silent: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Pair {
    /// Has both ends closed by RST instead of FIN.
    fn reset(&self) {
        for end in &self.ends {
            // It may be closed already.
            let _ = SockRef::from(end).set_linger(Some(Duration::ZERO));
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.reset();
    }
}

impl Link {
    /// A link without faults to this address.
    pub async fn to(to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(HELD).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        let [delay, rate, accepted] = [(); 3].map(|()| AtomicU64::new(0));
        let (most, dark) = (AtomicU64::new(u64::MAX), AtomicBool::new(false));
        let shared = Arc::new(Shared { to, delay, rate, most, dark, accepted, pairs: Mutex::default() });
        let acceptor = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, acceptor }
    }

    /// From now on every byte takes so much longer, in each direction.
    pub fn delay(&self, by: Duration) {
        self.shared.delay.store(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// From now on no more than so many bytes a second go in each direction of a connection; 0 is no bound.
    pub fn narrow(&self, bytes_per_second: u64) {
        self.shared.rate.store(bytes_per_second, Ordering::SeqCst);
    }

    /// From now on each connection is reset when so many bytes have come from its server. `u64::MAX` is no bound.
    pub fn break_after(&self, bytes: u64) {
        self.shared.most.store(bytes, Ordering::SeqCst);
    }

    /// The present connections are half open from now on: they stand, and what is sent vanishes.
    pub fn silence(&self) {
        self.shared.pairs.lock().iter().for_each(|pair| pair.silent.store(true, Ordering::SeqCst));
    }

    /// While it is dark, the present connections and new ones are half open. Those stay so when it ends.
    pub fn dark(&self, dark: bool) {
        self.shared.dark.store(dark, Ordering::SeqCst);
        if dark {
            self.silence();
        }
    }

    /// Ends all connections by RST, at both ends.
    pub fn reset(&self) {
        for pair in std::mem::take(&mut *self.shared.pairs.lock()) {
            pair.reset();
            pair.task.abort();
        }
    }

    /// Connections that were ever made.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections that stand, half open ones too.
    pub fn connections(&self) -> usize {
        self.shared.pairs.lock().len()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(HELD).unwrap();
        // Without a server the client is closed, as a balancer would.
        if let Ok(server) = socket.connect(shared.to).await {
            carry(&shared, client, server);
        }
    }
}

/// The socket, and the same socket to be reset by.
fn twice(socket: TcpStream) -> (TcpStream, Descriptor) {
    socket.set_nodelay(true).unwrap();
    let socket = socket.into_std().unwrap();
    let again = socket.try_clone().unwrap();
    (TcpStream::from_std(socket).unwrap(), again)
}

fn carry(shared: &Arc<Shared>, client: TcpStream, server: TcpStream) {
    let silent = Arc::new(AtomicBool::new(shared.dark.load(Ordering::SeqCst)));
    let ((client, client_again), (server, server_again)) = (twice(client), twice(server));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Held until the task is known, so that it cannot end before it is listed.
    let mut pairs = shared.pairs.lock();
    let (shared_too, mine) = (Arc::clone(shared), Arc::clone(&silent));
    let task = tokio::spawn(async move {
        let (up, down) = (Way::new(&shared_too, &mine, false), Way::new(&shared_too, &mine, true));
        let both = async { tokio::join!(up.pump(from_client, to_server), down.pump(from_server, to_client)) };
        let broken = tokio::select! { _ = both => false, () = down.broken.notified() => true };
        let mut pairs = shared_too.pairs.lock();
        let at = pairs.iter().position(|pair| Arc::ptr_eq(&pair.silent, &mine));
        if let Some(pair) = at.map(|at| pairs.swap_remove(at))
            && broken
        {
            pair.reset();
        }
    });
    pairs.push(Pair { ends: [client_again, server_again], silent, task: task.abort_handle() });
}

/// One direction of a connection.
struct Way<'s> {
    shared: &'s Shared,
    silent: &'s AtomicBool,
    /// Whether it breaks after so many bytes.
    breaks: bool,
    /// All that it may carry has been written.
    broken: Notify,
}

impl<'s> Way<'s> {
    fn new(shared: &'s Shared, silent: &'s AtomicBool, breaks: bool) -> Self {
        Self { shared, silent, breaks, broken: Notify::new() }
    }

    fn is_silent(&self) -> bool {
        self.silent.load(Ordering::SeqCst)
    }

    /// Bytes that it may carry in all.
    fn most(&self) -> u64 {
        if self.breaks { self.shared.most.load(Ordering::SeqCst) } else { u64::MAX }
    }

    /// Carries bytes until either end closes. A silent connection stays as it is until it is reset.
    async fn pump(&self, from: OwnedReadHalf, to: OwnedWriteHalf) {
        let (sender, chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
        tokio::join!(self.read(from, sender), self.write(to, chunks));
    }

    async fn read(&self, mut from: OwnedReadHalf, sender: mpsc::Sender<(Instant, Vec<u8>)>) {
        let (mut buffer, mut passed) = (vec![0; CHUNK], 0);
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + Duration::from_millis(self.shared.delay.load(Ordering::SeqCst));
            let left = usize::try_from(self.most().saturating_sub(passed)).unwrap();
            let chunk = buffer[..count.min(left)].to_vec();
            passed += chunk.len() as u64;
            if !self.is_silent() && sender.send((due, chunk)).await.is_err() {
                break;
            }
            if passed >= self.most() {
                return;
            }
        }
        if self.is_silent() {
            std::future::pending::<()>().await;
        }
    }

    async fn write(&self, mut to: OwnedWriteHalf, mut chunks: mpsc::Receiver<(Instant, Vec<u8>)>) {
        let mut passed = 0;
        while let Some((due, bytes)) = chunks.recv().await {
            tokio::time::sleep_until(due).await;
            if !self.is_silent() && to.write_all(&bytes).await.is_err() {
                break;
            }
            passed += bytes.len() as u64;
            if passed >= self.most() {
                self.broken.notify_one();
                return std::future::pending().await;
            }
            if let Some(millis) = (bytes.len() as u64 * 1000).checked_div(self.shared.rate.load(Ordering::SeqCst)) {
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
        }
        let _ = to.shutdown().await;
    }
}
