//! Tests of a session against a real client of rustls, over a pipe in memory.
//!
//! The client is real because a session drives rustls' unbuffered interface itself: only another implementation of the
//! connection shows that each record, key update, alert and announced end is understood, in TLS 1.2 and 1.3. The pipe
//! is in memory because a test decides how many bytes a read returns, when the socket accepts no more, which byte is
//! altered, and when the stream ends; the kernel would decide that by chance. Records that no client would send are
//! encrypted with the keys of the client.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::crypto::cipher::{AeadKey, Iv, OutboundChunks, OutboundPlainMessage};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, CipherSuite, ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, Error,
    ProtocolVersion, RootCertStore, ServerConfig, SupportedProtocolVersion,
};

use super::Session;

/// A socket in memory. It passes a limited number of bytes at a time in each direction.
struct Pipe {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// Maximum number of bytes per read.
    step: usize,
    /// Bytes that may be on their way to the client.
    room: usize,
    has_ended: bool,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.to_server.is_empty() && !self.has_ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let step = self.step.min(into.len());
        self.to_server.read(&mut into[..step])
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room - self.to_client.len().min(self.room));
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.to_client.write(&bytes[..count])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Pair {
    session: Session,
    client: ClientConnection,
    pipe: Pipe,
    /// What the client has decrypted.
    seen: Vec<u8>,
}

fn configs(
    versions: &[&'static SupportedProtocolVersion],
    change: fn(&mut ClientConfig),
) -> (ServerConfig, ClientConfig) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let provider = Arc::new(provider);
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    change(&mut client);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (server, client)
}

impl Pair {
    fn new(version: &'static SupportedProtocolVersion, step: usize, change: fn(&mut ClientConfig)) -> Self {
        let (server, client) = configs(&[version], change);
        let client = ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").unwrap()).unwrap();
        let pipe =
            Pipe { to_server: VecDeque::new(), to_client: VecDeque::new(), step, room: 1 << 20, has_ended: false };
        let mut pair = Self { session: Session::new(Arc::new(server)).unwrap(), client, pipe, seen: Vec::new() };
        loop {
            pair.send();
            match pair.session.handshake(&mut pair.pipe) {
                Ok(()) => break,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}"),
            }
            pair.receive().unwrap();
        }
        pair.receive().unwrap();
        assert!(!pair.client.is_handshaking());
        pair
    }

    /// Passes on what the client has encrypted.
    fn send(&mut self) {
        while self.client.wants_write() {
            self.client.write_tls(&mut self.pipe.to_server).unwrap();
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(1000) {
            self.client.writer().write_all(piece).unwrap();
            self.send();
        }
    }

    /// Makes the client decrypt what has arrived.
    fn receive(&mut self) -> Result<(), Error> {
        while !self.pipe.to_client.is_empty() {
            self.client.read_tls(&mut self.pipe.to_client).unwrap();
            self.client.process_new_packets()?;
            let _ = self.client.reader().read_to_end(&mut self.seen);
        }
        Ok(())
    }

    /// Returns what the session reads now.
    fn heard(&mut self) -> io::Result<Vec<u8>> {
        let (mut heard, mut into) = (Vec::new(), [0; 700]);
        loop {
            match self.session.read(&mut self.pipe, &mut into) {
                Ok(0) => return Ok(heard),
                Ok(count) => heard.extend_from_slice(&into[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(heard),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes all of `text`. The client reads whenever the session accepts no more.
    fn tell(&mut self, text: &[u8]) {
        let mut told = 0;
        while told < text.len() {
            let slices: Vec<IoSlice<'_>> = text[told..].chunks(999).map(IoSlice::new).collect();
            match self.session.write(&mut self.pipe, &slices) {
                Ok(count) => told += count,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
                    self.receive().unwrap();
                }
            }
        }
        while self.session.flush(&mut self.pipe).is_err() {
            self.receive().unwrap();
        }
        self.receive().unwrap();
    }
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn fragmented(config: &mut ClientConfig) {
    config.max_fragment_size = Some(32);
}

fn usual(_: &mut ClientConfig) {}

fn revealing(config: &mut ClientConfig) {
    config.enable_secret_extraction = true;
}

#[test]
fn bytes_pass_both_ways_however_they_are_cut() {
    for version in [&TLS12, &TLS13] {
        for (step, change) in [(1, fragmented as fn(&mut _)), (1, usual), (1 << 20, usual), (1 << 20, fragmented)] {
            let mut pair = Pair::new(version, step, change);
            pair.pipe.room = 10_000;
            pair.say(&text(20_000));
            assert_eq!(pair.heard().unwrap(), text(20_000), "{version:?}, {step}");
            pair.tell(&text(200_000));
            assert!(pair.seen == text(200_000), "{version:?}, {step}");
        }
    }
}

#[test]
fn an_idle_session_holds_no_buffer() {
    let mut pair = Pair::new(&TLS13, 1000, usual);
    pair.pipe.room = 1000;
    pair.say(&text(30_000));
    pair.heard().unwrap();
    pair.tell(&text(30_000));
    let Session { undigested, plain, outgoing, .. } = &pair.session;
    assert_eq!((undigested.capacity(), plain.capacity(), outgoing.capacity()), (0, 0, 0));
}

#[test]
fn a_part_of_a_record_waits_for_the_rest_while_other_bytes_are_sent() {
    let mut pair = Pair::new(&TLS13, 1 << 20, usual);
    pair.say(b"whole");
    pair.say(b"later");
    let rest = pair.pipe.to_server.split_off(40);
    assert_eq!(pair.heard().unwrap(), b"whole");
    pair.tell(b"meanwhile");
    pair.pipe.to_server = rest;
    assert_eq!((pair.heard().unwrap().as_slice(), pair.seen.as_slice()), (&b"later"[..], &b"meanwhile"[..]));
}

#[test]
fn keys_can_be_updated() {
    let mut pair = Pair::new(&TLS13, 7, usual);
    for _ in 0..3 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.say(b"with new keys");
        assert_eq!(pair.heard().unwrap(), b"with new keys");
        pair.tell(b"here too");
    }
    assert_eq!(pair.seen, b"here too".repeat(3));
}

#[test]
fn both_sides_announce_the_end() {
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::new(version, 7, usual);
        pair.say(b"last words");
        pair.client.send_close_notify();
        pair.send();
        assert_eq!(pair.heard().unwrap(), b"last words");
        assert_eq!(pair.session.read(&mut pair.pipe, &mut [0; 10]).unwrap(), 0);
        pair.tell(b"answer");
        for _ in 0..2 {
            pair.session.close(&mut pair.pipe).unwrap();
        }
        pair.receive().unwrap();
        assert_eq!(pair.seen, b"answer");
        assert_eq!(pair.client.reader().read(&mut [0; 10]).unwrap(), 0, "announced");
        let refused = pair.session.write(&mut pair.pipe, &[IoSlice::new(b"more")]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
    }
}

#[test]
fn an_end_without_announcement_is_told_apart() {
    let mut pair = Pair::new(&TLS13, 7, usual);
    pair.pipe.has_ended = true;
    assert_eq!(pair.heard().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_violation_ends_the_session_and_the_client_learns_it() {
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::new(version, 1 << 20, usual);
        pair.say(b"something");
        *pair.pipe.to_server.back_mut().unwrap() ^= 1;
        for _ in 0..2 {
            assert_eq!(pair.heard().unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert!(pair.session.write(&mut pair.pipe, &[IoSlice::new(b"more")]).is_err());
        pair.session.close(&mut pair.pipe).unwrap();
        assert_eq!(pair.receive(), Err(Error::AlertReceived(AlertDescription::BadRecordMac)));
    }
}

#[test]
fn an_alert_follows_what_waits_to_be_sent() {
    let mut pair = Pair::new(&TLS13, 1 << 20, usual);
    // Asks for an update of the server's keys.
    pair.client.refresh_traffic_keys().unwrap();
    pair.say(b"something");
    *pair.pipe.to_server.back_mut().unwrap() ^= 1;
    assert_eq!(pair.heard().unwrap_err().kind(), io::ErrorKind::InvalidData);
    pair.session.close(&mut pair.pipe).unwrap();
    assert_eq!(pair.receive(), Err(Error::AlertReceived(AlertDescription::BadRecordMac)));
}

#[test]
fn nothing_is_read_after_a_violation_that_came_with_it() {
    let mut pair = Pair::new(&TLS13, 1 << 20, usual);
    pair.say(&[b'x'; 500]);
    pair.say(b"altered");
    *pair.pipe.to_server.back_mut().unwrap() ^= 1;
    let mut read = || pair.session.read(&mut pair.pipe, &mut [0; 100]).unwrap_err().kind();
    assert_eq!([read(), read()], [io::ErrorKind::InvalidData; 2]);
}

#[test]
fn one_call_reads_from_the_socket_a_limited_number_of_times() {
    let mut pair = Pair::new(&TLS13, 7, usual);
    pair.say(&[b'x'; 100]);
    let sent = pair.pipe.to_server.len();
    let error = pair.session.read(&mut pair.pipe, &mut [0; 200]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    assert_eq!(sent - pair.pipe.to_server.len(), super::READS * 7);
    assert_eq!(pair.heard().unwrap(), [b'x'; 100]);
}

/// Returns a function that encrypts records like this client, which cannot continue afterwards.
fn forger(client: ClientConnection) -> impl FnMut(&[u8]) -> Vec<u8> {
    let suite = client.negotiated_cipher_suite().unwrap().tls13().unwrap();
    let (mut sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
    let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else { panic!("another cipher") };
    let (key, iv): (AeadKey, Iv) = (key, iv);
    let mut encrypter = suite.aead_alg.encrypter(key, iv);
    move |payload| {
        let payload = OutboundChunks::Single(payload);
        let message = OutboundPlainMessage { typ: ContentType::Handshake, version: ProtocolVersion::TLSv1_2, payload };
        sequence += 1;
        encrypter.encrypt(message, sequence - 1).unwrap().encode()
    }
}

#[test]
fn a_part_of_a_handshake_message_waits_for_the_rest_while_other_bytes_are_sent() {
    let Pair { mut session, client, mut pipe, .. } = Pair::new(&TLS13, 1 << 20, revealing);
    let mut forge = forger(client);
    let read = |session: &mut Session, pipe: &mut Pipe| session.read(pipe, &mut [0; 10]).unwrap_err().kind();
    // A key update that asks for none in return, in two records.
    pipe.to_server.extend(forge(&[24, 0, 0]));
    assert_eq!(read(&mut session, &mut pipe), io::ErrorKind::WouldBlock);
    assert_eq!(session.write(&mut pipe, &[IoSlice::new(b"meanwhile")]).unwrap(), 9);
    pipe.to_server.extend(forge(&[1, 0]));
    assert_eq!(read(&mut session, &mut pipe), io::ErrorKind::WouldBlock);
    assert_eq!((session.undigested.len(), session.has_failed), (0, false), "the message was understood");
    assert_eq!(session.write(&mut pipe, &[IoSlice::new(b"afterwards")]).unwrap(), 10);
    session.close(&mut pipe).unwrap();
}

#[test]
fn a_handshake_message_without_an_end_takes_a_bounded_amount_of_memory() {
    let Pair { mut session, client, mut pipe, .. } = Pair::new(&TLS13, 1 << 20, revealing);
    let mut forge = forger(client);
    pipe.to_server.extend(forge(&[24, 0, 0xff, 0xf0]));
    for _ in 0..100 {
        pipe.to_server.extend(forge(&[0; 1000]));
    }
    let mut ended = None;
    while ended.is_none() {
        ended = session.read(&mut pipe, &mut [0; 10]).err().filter(|error| error.kind() == io::ErrorKind::InvalidData);
        assert!(session.undigested.capacity() < super::UNDIGESTED_BYTES + super::READ_BYTES);
    }
    assert_eq!(ended.unwrap().kind(), io::ErrorKind::InvalidData);
}
