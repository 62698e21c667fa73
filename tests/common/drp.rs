//! A DRP endpoint as real ones were seen to behave, for what only an endpoint can do wrong.
//!
//! It is silent until something is registered, answers each `register` once before any event that it admits, matches
//! three parts literally or by `*`, and answers pings. What goes wrong is told by the test: connections are cut, left
//! half open, or get nonsense. Frames are read and written by hand, so that nothing is shared with the client under
//! test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_rustls::TlsAcceptor;

use super::faults::{Faults, Witness};
use super::ports::Held;
use super::socket::Socket;
use super::{LOGIN, basic, patiently};

/// Frames that may wait for one connection.
const WAITING: usize = 1 << 18;

/// A certificate for 127.0.0.1 and who vouches for it.
pub struct Identity {
    /// The CA in PEM.
    pub ca: String,
    /// SHA-256 of the certificate in hexadecimal digits.
    pub fingerprint: String,
    acceptor: TlsAcceptor,
}

impl Identity {
    fn new() -> Self {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca =
            ca.self_signed(&ca_key).map(|certificate| (certificate.pem(), rcgen::Issuer::new(ca, ca_key))).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ca.1).unwrap();
        let digest = Sha256::digest(certificate.der());
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        let fingerprint: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Self { ca: ca.0, fingerprint: fingerprint.join(":"), acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}

/// What a test tells the endpoint, and what it tells the test.
struct State {
    login: Mutex<String>,
    /// Connections are dropped as soon as they are accepted.
    down: AtomicBool,
    /// Commands are not answered.
    mute: AtomicBool,
    /// Connections wait to be greeted.
    hung: watch::Sender<bool>,
    attempts: AtomicUsize,
    sessions: Mutex<Vec<Arc<Session>>>,
    /// Registrations that were ever made.
    registrations: watch::Sender<usize>,
    pongs: watch::Sender<usize>,
    /// Codes of the closes that clients sent.
    closes: watch::Sender<Vec<u16>>,
    faults: Witness,
}

/// What an event is matched by.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Names {
    r#type: String,
    action: String,
    key: String,
}

struct Session {
    registered: Mutex<Vec<String>>,
    outgoing: mpsc::Sender<Vec<u8>>,
    /// Frames that are not yet handed to the kernel.
    waiting: AtomicUsize,
    frozen: AtomicBool,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// See the module's text.
pub struct Drp {
    pub address: SocketAddr,
    pub identity: Option<Identity>,
    port: Held,
    state: Arc<State>,
    acceptor: JoinHandle<()>,
    _faults: Faults,
}

impl Drop for Drp {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.cut();
    }
}

impl Drp {
    /// Without TLS.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// With a certificate of its own.
    pub async fn start_tls() -> Self {
        Self::start_with(Some(Identity::new())).await
    }

    async fn start_with(identity: Option<Identity>) -> Self {
        let (port, faults) = (Held::any(), Faults::default());
        let listener = TcpListener::bind(port.address).await.unwrap();
        let state = Arc::new(State {
            login: Mutex::new(LOGIN.to_owned()),
            down: AtomicBool::new(false),
            mute: AtomicBool::new(false),
            hung: watch::Sender::new(false),
            attempts: AtomicUsize::new(0),
            sessions: Mutex::default(),
            registrations: watch::Sender::new(0),
            pongs: watch::Sender::new(0),
            closes: watch::Sender::new(Vec::new()),
            faults: faults.witness(),
        });
        let acceptor =
            tokio::spawn(accept(listener, identity.as_ref().map(|i| i.acceptor.clone()), Arc::clone(&state)));
        Self { address: port.address, identity, port, state, acceptor, _faults: faults }
    }

    /// The settings of a front of this endpoint alone, with short times.
    pub fn settings(&self, more: &str) -> String {
        settings(&[self], more)
    }

    pub fn url(&self) -> String {
        format!("{}://{}", if self.identity.is_some() { "https" } else { "http" }, self.address)
    }

    /// Whose password is good from now on.
    pub fn set_login(&self, login: &str) {
        login.clone_into(&mut self.state.login.lock());
    }

    /// Whether connections are dropped as soon as they come.
    pub fn set_down(&self, down: bool) {
        self.state.down.store(down, Ordering::SeqCst);
    }

    /// Whether commands stay unanswered.
    pub fn set_mute(&self, mute: bool) {
        self.state.mute.store(mute, Ordering::SeqCst);
    }

    /// How often somebody has tried to connect.
    pub fn attempts(&self) -> usize {
        self.state.attempts.load(Ordering::SeqCst)
    }

    /// Publishes an event to whoever registered for it. Returns how many there are.
    pub fn publish(&self, event: &str) -> usize {
        let Names { r#type, action, key } = serde_json::from_str(event).unwrap();
        let names = [r#type, action, key];
        let sessions = self.state.sessions.lock();
        let wanting =
            sessions.iter().filter(|session| session.registered.lock().iter().any(|spec| matches(spec, &names)));
        wanting.map(|session| session.send(text(event))).count()
    }

    /// Sends bytes that need not be a frame to everybody.
    pub fn send_raw(&self, bytes: &[u8]) {
        self.state.sessions.lock().iter().for_each(|session| session.send(bytes.to_vec()));
    }

    /// Waits until there is a connection.
    pub async fn until_greeted(&self) {
        let greeted = async {
            while self.state.sessions.lock().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        patiently("a connection", greeted).await;
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        for session in std::mem::take(&mut *self.state.sessions.lock()) {
            session.tasks.lock().iter().for_each(AbortHandle::abort);
        }
    }

    /// Cuts the connection that has stood for the longest.
    pub fn cut_first(&self) {
        let session = self.state.sessions.lock().remove(0);
        session.tasks.lock().iter().for_each(AbortHandle::abort);
    }

    /// From now on the present connections are half open: they stand, but nothing is read and nothing is written.
    pub fn freeze(&self) {
        self.state.sessions.lock().iter().for_each(|session| session.frozen.store(true, Ordering::SeqCst));
    }

    /// Whether the endpoint hangs: the present connections are half open for good, and new ones are not greeted before
    /// it ends.
    pub fn set_hung(&self, hung: bool) {
        self.state.hung.send_replace(hung);
        if hung {
            self.freeze();
        }
    }

    /// Cuts all connections and refuses new ones.
    pub async fn unlisten(&mut self) {
        self.acceptor.abort();
        let _ = (&mut self.acceptor).await;
        self.cut();
    }

    /// Takes connections again.
    pub async fn listen(&mut self) {
        let listener = TcpListener::bind(self.port.address).await.unwrap();
        let tls = self.identity.as_ref().map(|identity| identity.acceptor.clone());
        self.acceptor = tokio::spawn(accept(listener, tls, Arc::clone(&self.state)));
    }

    /// Frames that clients have not taken.
    pub fn backlog(&self) -> usize {
        self.state.sessions.lock().iter().map(|session| session.waiting.load(Ordering::SeqCst)).sum()
    }

    /// Waits until so many registrations have ever been made.
    pub async fn until_registered(&self, count: usize) {
        let mut seen = self.state.registrations.subscribe();
        patiently("a registration", seen.wait_for(|all| *all >= count)).await.unwrap();
    }

    /// Registrations that were ever made.
    pub fn registrations(&self) -> usize {
        *self.state.registrations.borrow()
    }

    /// Waits until so many pongs have come.
    pub async fn until_ponged(&self, count: usize) {
        let mut seen = self.state.pongs.subscribe();
        patiently("a pong", seen.wait_for(|all| *all >= count)).await.unwrap();
    }

    /// Waits for the first close that a client sends; its code.
    pub async fn closed(&self) -> u16 {
        let mut seen = self.state.closes.subscribe();
        patiently("a close", seen.wait_for(|all| !all.is_empty())).await.unwrap()[0]
    }
}

/// The settings of a front of these endpoints, with short times.
pub fn settings(endpoints: &[&Drp], more: &str) -> String {
    let urls: Vec<String> = endpoints.iter().map(|drp| format!("{:?}", drp.url())).collect();
    upstream(&urls.join(", "), more)
}

/// The settings of a front of these URLs, quoted and with commas; `more` goes into `[upstream]`, and tables may follow.
pub fn upstream(urls: &str, more: &str) -> String {
    let mut table = format!("[upstream]\nurls = [{urls}]\n{more}");
    let own = more.split("\n[").next().unwrap();
    let mut unless = |given: bool, line: &str| {
        if !given {
            table = table.replacen('\n', &format!("\n{line}\n"), 1);
        }
    };
    unless(own.contains("password") || own.contains("token"), "password = \"r0cketsk8ts\"");
    unless(own.contains("tls ="), "tls = \"insecure\"");
    unless(own.contains("backoff_max"), "backoff_min = \"20ms\"\nbackoff_max = \"100ms\"");
    // What these tests post is for the server itself.
    format!("{table}\n[proxy]\nupstream = \"off\"\n")
}

impl Session {
    fn send(&self, frame: Vec<u8>) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // If the connection is gone nobody wants it.
        let full = matches!(self.outgoing.try_send(frame), Err(mpsc::error::TrySendError::Full(_)));
        assert!(!full, "a test wants more than {WAITING} frames to wait");
    }
}

fn matches(spec: &str, names: &[String; 3]) -> bool {
    spec.splitn(3, '.').zip(names).all(|(part, name)| part == "*" || part == name)
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        state.attempts.fetch_add(1, Ordering::SeqCst);
        if state.down.load(Ordering::SeqCst) {
            continue;
        }
        tokio::spawn(greet(stream, tls.clone(), Arc::clone(&state)));
    }
}

/// Handshakes, and then serves.
async fn greet(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<State>) -> Option<()> {
    state.hung.subscribe().wait_for(|hung| !hung).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let mut socket: Socket = match tls {
        Some(tls) => Box::new(tls.accept(stream).await.ok()?),
        None => Box::new(stream),
    };
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let answer = answer(&head, &state.login.lock(), &state.faults);
    socket.write_all(answer.as_bytes()).await.ok()?;
    socket.flush().await.ok()?;
    if answer.starts_with("HTTP/1.1 101") {
        serve(socket, &state);
    }
    Some(())
}

fn answer(head: &str, login: &str, faults: &Witness) -> String {
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")));
        line.map_or("", |line| line.split_once(':').unwrap().1.trim()).to_owned()
    };
    faults.check(head.starts_with("GET /api/v3/ws HTTP/1.1\r\n"), head);
    if header("authorization") != basic(login) {
        return "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_owned();
    }
    let salted = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", header("sec-websocket-key"));
    let accept = STANDARD.encode(<Sha1 as sha1::Digest>::digest(salted));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

fn serve(socket: Socket, state: &Arc<State>) {
    let (mut read, mut write) = tokio::io::split(socket);
    let (outgoing, mut frames) = mpsc::channel::<Vec<u8>>(WAITING);
    let session = Arc::new(Session {
        registered: Mutex::default(),
        outgoing,
        waiting: AtomicUsize::new(0),
        frozen: AtomicBool::new(false),
        tasks: Mutex::default(),
    });
    // Held until the tasks are known, so that a cut finds them; and listed before anything can be registered.
    let mut tasks = session.tasks.lock();
    state.sessions.lock().push(Arc::clone(&session));
    let writing = Arc::clone(&session);
    let writer = tokio::spawn(async move {
        while let Some(frame) = frames.recv().await {
            frozen(&writing).await;
            if write.write_all(&frame).await.is_err() || write.flush().await.is_err() {
                return;
            }
            writing.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    });
    let (reading, state_too) = (Arc::clone(&session), Arc::clone(state));
    let reader = tokio::spawn(async move {
        while let Some((opcode, payload)) = frame(&mut read).await {
            frozen(&reading).await;
            take(opcode, &payload, &reading, &state_too);
        }
        // What is gone gets nothing more.
        state_too.sessions.lock().retain(|other| !Arc::ptr_eq(other, &reading));
    });
    *tasks = vec![writer.abort_handle(), reader.abort_handle()];
}

/// Never returns once the connection is frozen.
async fn frozen(session: &Session) {
    if session.frozen.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
}

fn take(opcode: u8, payload: &[u8], session: &Session, state: &State) {
    match opcode {
        1 => command(std::str::from_utf8(payload).unwrap(), session, state),
        8 => {
            state.closes.send_modify(|all| all.push(u16::from_be_bytes([payload[0], payload[1]])));
            session.send([&[0x88, 2][..], payload].concat());
        }
        9 => session.send([&[0x8A, u8::try_from(payload.len()).unwrap()][..], payload].concat()),
        10 => state.pongs.send_modify(|all| *all += 1),
        _ => {
            state.faults.check(false, &format!("a frame of opcode {opcode}"));
        }
    }
}

fn command(text_: &str, session: &Session, state: &State) {
    let (verb, spec) = text_.split_once(' ').unwrap_or_default();
    state.faults.check(verb == "register", text_);
    if state.mute.load(Ordering::SeqCst) {
        return;
    }
    let time = hydrant::clock::now();
    let answer =
        serde_json::json!({"Time": time.to_string(), "Type": "websocket", "Action": verb, "Key": spec, "Object": null});
    // The lock is held while the answer is queued, so that it precedes every event that it admits.
    let mut registered = session.registered.lock();
    session.send(text(&answer.to_string()));
    registered.push(spec.to_owned());
    drop(registered);
    state.registrations.send_modify(|all| *all += 1);
}

/// A frame of a client: its opcode and what was masked.
async fn frame(read: &mut ReadHalf<Socket>) -> Option<(u8, Vec<u8>)> {
    let first = read.read_u8().await.ok()?;
    let length = match read.read_u8().await.ok()? & 0x7F {
        126 => usize::from(read.read_u16().await.ok()?),
        127 => usize::try_from(read.read_u64().await.ok()?).ok()?,
        short => usize::from(short),
    };
    let mask = read.read_u32().await.ok()?.to_be_bytes();
    let mut payload = vec![0; length];
    read.read_exact(&mut payload).await.ok()?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Some((first & 0x0F, payload))
}

/// A text frame of a server.
pub fn text(text: &str) -> Vec<u8> {
    part(0x81, text.as_bytes())
}

/// A frame of a server with this first byte.
pub fn part(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    if let Ok(short @ 0..=125) = u8::try_from(payload.len()) {
        frame.push(short);
    } else if let Ok(medium) = u16::try_from(payload.len()) {
        frame.push(126);
        frame.extend_from_slice(&medium.to_be_bytes());
    } else {
        frame.push(127);
        frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    }
    frame.extend_from_slice(payload);
    frame
}
