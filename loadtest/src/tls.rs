//! The client side of TLS, and which certificates it trusts.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CipherSuite, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// The certificates that are trusted.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'p> {
    /// Any certificate.
    Anyone,
    /// Certificates signed by one in this PEM file.
    Authorities(&'p Path),
    /// No certificate: only plain connections can be opened.
    Nobody,
}

/// Returns the client side of TLS with `host`.
///
/// # Errors
/// Fails if no certificate is trusted, or if the file of authorities is unusable.
pub(crate) fn config(trust: Trust<'_>, host: String) -> Result<(Arc<ClientConfig>, ServerName<'static>)> {
    let mut provider = aws_lc_rs::default_provider();
    // Use the same cipher with every system, whatever each would prefer; the negotiated one is reported.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let provider = Arc::new(provider);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let config = match trust {
        Trust::Nobody => bail!("a TLS endpoint requires --insecure or --ca FILE"),
        Trust::Anyone => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
        Trust::Authorities(path) => {
            let mut roots = RootCertStore::empty();
            let file = path.display();
            for certificate in CertificateDer::pem_file_iter(path).with_context(|| format!("cannot read {file}"))? {
                roots.add(certificate.with_context(|| format!("{file} is not PEM"))?)?;
            }
            builder.with_root_certificates(roots)
        }
    };
    let name = ServerName::try_from(host).context("the host name is not valid for TLS")?;
    Ok((Arc::new(config.with_no_client_auth()), name))
}

/// Accepts every certificate, for `--insecure`; signatures of the handshake are still verified.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
