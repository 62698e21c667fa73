//! A TCP link whose faults are in the test's hand: slow, narrow, reset, or half open. It stands between any client and
//! any server of a test, as toxiproxy would, and needs nothing installed.

use std::net::{SocketAddr, TcpStream as Descriptor};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

/// Bytes that are read at a time, and chunks that may be on their way: less than a test's events, so that a narrow link
/// holds up whoever writes to it.
const CHUNK: usize = 4 << 10;
const CHUNKS: usize = 64;

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
    dark: AtomicBool,
    pairs: Mutex<Vec<Pair>>,
}

/// A connection: both sockets, and what carries bytes between them.
struct Pair {
    ends: [Descriptor; 2],
    silent: Arc<AtomicBool>,
    task: Option<AbortHandle>,
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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (delay, rate) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Arc::new(Shared { to, delay, rate, dark: AtomicBool::new(false), pairs: Mutex::default() });
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
            for end in &pair.ends {
                // It may be closed already.
                let _ = SockRef::from(end).set_linger(Some(Duration::ZERO));
            }
            if let Some(task) = pair.task {
                task.abort();
            }
        }
    }

    /// Connections that stand, half open ones too.
    pub fn connections(&self) -> usize {
        self.shared.pairs.lock().len()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        // Without a server the client is closed, as a balancer would.
        if let Ok(server) = TcpStream::connect(shared.to).await {
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
        tokio::join!(
            pump(from_client, to_server, &shared_too, &mine),
            pump(from_server, to_client, &shared_too, &mine)
        );
        shared_too.pairs.lock().retain(|pair| !Arc::ptr_eq(&pair.silent, &mine));
    });
    pairs.push(Pair { ends: [client_again, server_again], silent, task: Some(task.abort_handle()) });
}

/// Carries bytes one way until either end closes. A silent connection stays as it is until it is reset.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, silent: &AtomicBool) {
    let (sender, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let read = async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + Duration::from_millis(shared.delay.load(Ordering::SeqCst));
            if !silent.load(Ordering::SeqCst) && sender.send((due, buffer[..count].to_vec())).await.is_err() {
                break;
            }
        }
        if silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    };
    let write = async move {
        while let Some((due, bytes)) = chunks.recv().await {
            tokio::time::sleep_until(due).await;
            if !silent.load(Ordering::SeqCst) && to.write_all(&bytes).await.is_err() {
                break;
            }
            if let Some(millis) = (bytes.len() as u64 * 1000).checked_div(shared.rate.load(Ordering::SeqCst)) {
                tokio::time::sleep(Duration::from_millis(millis)).await;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(read, write);
}
