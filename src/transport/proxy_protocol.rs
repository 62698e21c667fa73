//! The PROXY protocol, versions 1 and 2: the header in which a balancer names its client at the start of a connection.
//!
//! Contract: reads exactly the header, so what follows (a TLS handshake, a request) stays in the socket. At most
//! [`LONGEST`] bytes are read. The caller limits the time and has checked that the peer is trusted. On a listener with
//! this protocol the header is mandatory, as the specification requires, because otherwise a client could write one
//! itself.

use std::io;
use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The longest header in bytes: addresses take 52 bytes at most, the rest is what balancers add about TLS and networks.
const LONGEST: usize = 4096;

/// The reason why there is no header.
#[derive(Debug, Error)]
pub(super) enum ProxyHeaderError {
    /// The connection ended within the header, or failed.
    #[error("the connection ended within the header: {0}")]
    Io(#[from] io::Error),
    /// The data received is not a header.
    #[error("the data is not a PROXY protocol header")]
    NotOne,
    /// The header has no end within the limit.
    #[error("the header is longer than {LONGEST} bytes")]
    TooLong,
}

/// Returns the client's address, or `None` if the balancer speaks for itself, as its health checks do.
pub(super) async fn read(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let mut buffer = vec![0; LONGEST];
    let mut taken = 0;
    loop {
        let there = taken + stream.peek(&mut buffer[taken..]).await?;
        if there == taken {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let parsed = parse(&buffer[..there])?;
        // Until the header has ended, everything received belongs to it.
        let end = parsed.map_or(there, |(_, end)| end);
        stream.read_exact(&mut buffer[taken..end]).await?;
        taken = end;
        match parsed {
            Some((client, _)) => return Ok(client),
            None if taken == LONGEST => return Err(ProxyHeaderError::TooLong),
            None => {}
        }
    }
}

/// Returns the client's address and where the header ends, or `None` if it has not ended yet.
fn parse(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, ProxyHeaderError> {
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    match ProxyHeader::parse(bytes, config) {
        Ok((header, end)) => {
            let source = header.proxied_address().map(|address| address.source);
            Ok(Some((source.map(|source| SocketAddr::new(source.ip().to_canonical(), source.port())), end)))
        }
        Err(Error::BufferTooShort) => Ok(None),
        Err(_) => Err(ProxyHeaderError::NotOne),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proxy_header::ProxiedAddress;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// Returns what is read of `sent`, which arrives in pieces of `piece` bytes, and what is left in the socket.
    async fn given(sent: &[u8], piece: usize) -> (Result<Option<SocketAddr>, ProxyHeaderError>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let sent = sent.to_vec();
        let sending = tokio::spawn(async move {
            for part in sent.chunks(piece) {
                // The reader closes the connection if it finds no header.
                let _ = client.write_all(part).await;
                tokio::task::yield_now().await;
            }
        });
        let found = read(&mut stream).await;
        let mut rest = Vec::new();
        if found.is_ok() {
            stream.read_to_end(&mut rest).await.unwrap();
        }
        drop(stream);
        sending.await.unwrap();
        (found, rest)
    }

    fn v2(source: &str, destination: &str) -> Vec<u8> {
        let address = ProxiedAddress::stream(source.parse().unwrap(), destination.parse().unwrap());
        let mut bytes = vec![0; 256];
        let length = ProxyHeader::with_address(address).encode_to_slice_v2(&mut bytes).unwrap();
        bytes.truncate(length);
        bytes
    }

    #[tokio::test]
    async fn exactly_the_header_is_taken_however_it_comes() {
        let headers: [(Vec<u8>, Option<&str>); 6] = [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n".to_vec(), Some("192.0.2.1:4711")),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n".to_vec(), Some("[2001:db8::1]:4711")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (v2("192.0.2.1:4711", "10.0.0.1:443"), Some("192.0.2.1:4711")),
            (v2("[::ffff:192.0.2.1]:4711", "[::1]:443"), Some("192.0.2.1:4711")),
            // LOCAL: the balancer's own, with no addresses.
            (b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00".to_vec(), None),
        ];
        for (header, expected) in headers {
            for piece in [1, 7, 1000] {
                let sent = [header.as_slice(), b"GET / HTTP/1.1\r\n"].concat();
                let (found, rest) = given(&sent, piece).await;
                assert_eq!(found.unwrap().map(|address| address.to_string()).as_deref(), expected);
                assert_eq!(rest, b"GET / HTTP/1.1\r\n");
            }
        }
    }

    #[tokio::test]
    async fn whatever_else_comes_is_no_header() {
        let endless = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".as_slice(), &[0; 8000]].concat();
        for sent in [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice(), b"\x16\x03\x01\x02\x00", b"PROXY", b"", &endless]
        {
            assert!(given(sent, 1000).await.0.is_err(), "{sent:?}");
        }
        let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 8000]].concat();
        assert!(matches!(given(&endless, 64).await.0, Err(ProxyHeaderError::NotOne)));
    }

    proptest! {
        /// No bytes cause a panic, and a header ends within the given bytes.
        #[test]
        fn any_bytes_are_taken(
            start in proptest::sample::select(vec![b"PROXY ".to_vec(), b"\r\n\r\n\0\r\nQUIT\n".to_vec(), vec![]]),
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [start, rest].concat();
            if let Ok(Some((_, end))) = parse(&bytes) {
                prop_assert!(end <= bytes.len());
            }
        }

        /// Every proper prefix of a valid header counts as not ended.
        #[test]
        fn a_part_has_not_ended(
            a in any::<u32>(), b in any::<u32>(), port in any::<u16>(), cut in any::<proptest::sample::Index>()
        ) {
            let (a, b) = (std::net::Ipv4Addr::from(a), std::net::Ipv4Addr::from(b));
            let source = format!("{a}:{port}");
            for header in [format!("PROXY TCP4 {a} {b} {port} \
                443\r\n").into_bytes(), v2(&source, &format!("{b}:443"))] {
                let (found, end) = parse(&header).unwrap().unwrap();
                prop_assert_eq!((found.map(|found| found.to_string()), end), (Some(source.clone()), header.len()));
                prop_assert!(matches!(parse(&header[..cut.index(header.len())]), Ok(None)));
            }
        }
    }
}
