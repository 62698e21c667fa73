//! A socket, plain or TLS; the certificate is not checked, as DRP's own clients do it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Both kinds.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Either kind.
pub type Socket = Box<dyn Duplex>;

/// A client's certificates, its own first.
pub type ClientChain = Vec<CertificateDer<'static>>;

/// The key that goes with the first of them.
pub type ClientKey = PrivateKeyDer<'static>;

/// Connects.
pub async fn connect(address: SocketAddr, tls: bool) -> Socket {
    over(super::patiently("a connection", TcpStream::connect(address)).await.unwrap(), tls).await
}

/// Puts TLS on top of a connection.
pub async fn over(stream: TcpStream, tls: bool) -> Socket {
    stream.set_nodelay(true).unwrap();
    if !tls {
        return Box::new(stream);
    }
    let name = ServerName::try_from("localhost").unwrap();
    Box::new(super::patiently("a TLS handshake", connector().connect(name, stream)).await.unwrap())
}

/// The same; nothing if the server ends the connection instead.
pub async fn try_over(stream: TcpStream, tls: bool) -> Option<Socket> {
    if !tls {
        return Some(Box::new(stream));
    }
    let name = ServerName::try_from("localhost").unwrap();
    let socket = super::patiently("a TLS handshake", connector().connect(name, stream)).await.ok()?;
    Some(Box::new(socket))
}

/// Connects over TLS and shows this certificate; fails if the server does not take it. TLS 1.3 tells that only at the
/// first read.
pub async fn connect_as(address: SocketAddr, chain: ClientChain, key: ClientKey) -> io::Result<Socket> {
    let stream = TcpStream::connect(address).await?;
    let config = trusting(rustls::ALL_VERSIONS).with_client_auth_cert(chain, key).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let socket =
        super::patiently("a TLS handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await?;
    Ok(Box::new(socket))
}

/// A connection whose kernel holds next to nothing for a reader that does not read.
pub async fn connect_narrow(address: SocketAddr, tls: bool) -> Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    over(TcpStream::from_std(socket.into()).unwrap(), tls).await
}

fn connector() -> TlsConnector {
    TlsConnector::from(config(rustls::ALL_VERSIONS))
}

/// The client's side of TLS, with its own memory of sessions.
pub fn config(versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    Arc::new(trusting(versions).with_no_client_auth())
}

fn trusting(
    versions: &[&'static SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
}

#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
