//! Client-side TLS: verification by a CA file, by a certificate's fingerprint, or none.
//!
//! The crypto provider is passed explicitly: a library should not decide which one is installed for the process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use sha2::{Digest, Sha256};

use super::error::ClientError;

/// A certificate's fingerprint: SHA-256 of its DER, as `openssl x509 -fingerprint -sha256` prints it.
pub type Fingerprint = [u8; 32];

/// The certificates that are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Certificates issued, for the name of the endpoint, by the authorities in this PEM file.
    Ca(PathBuf),
    /// Certificates with one of these fingerprints, regardless of names and dates.
    Pinned(Vec<Fingerprint>),
    /// Any certificate.
    Any,
}

/// Returns the TLS configuration for this trust.
pub(super) fn config(trust: &Trust) -> Result<Arc<ClientConfig>, ClientError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for TLS 1.2 and 1.3");
    let known = match trust {
        Trust::Ca(path) => return Ok(Arc::new(builder.with_root_certificates(roots(path)?).with_no_client_auth())),
        Trust::Pinned(pins) => Some(pins.clone()),
        Trust::Any => None,
    };
    let verifier = Arc::new(Known { provider, pins: known });
    Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
}

fn roots(path: &Path) -> Result<RootCertStore, ClientError> {
    let refuse = |reason: String| ClientError::CaFile { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| refuse(e.to_string()))? {
        let certificate = certificate.map_err(|e| refuse(e.to_string()))?;
        roots.add(certificate).map_err(|e| refuse(e.to_string()))?;
    }
    if roots.is_empty() { Err(refuse("it contains no certificate".to_owned())) } else { Ok(roots) }
}

/// Accepts the certificates with these fingerprints, or any certificate if there are none. Signatures are always
/// verified, so that the server at least holds the certificate's key.
#[derive(Debug)]
struct Known {
    provider: Arc<CryptoProvider>,
    pins: Option<Vec<Fingerprint>>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(pins) = &self.pins else { return Ok(ServerCertVerified::assertion()) };
        let found: Fingerprint = Sha256::digest(certificate).into();
        if pins.contains(&found) {
            return Ok(ServerCertVerified::assertion());
        }
        let hex = found.map(|byte| format!("{byte:02x}")).concat();
        Err(Error::General(format!("the certificate is not pinned; its SHA-256 fingerprint is {hex}")))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
