//! TLS: with a self-signed certificate created at the first start, with configured files, or disabled.
//!
//! rustls with aws-lc-rs, TLS 1.2 and 1.3, HTTP/1.1 only. No process-wide provider is installed, so nothing depends on
//! initialization order. Session tickets are enabled, so a storm of reconnects costs no signatures; their keys rotate
//! by themselves and stay in memory. No data is accepted before the handshake is complete (no 0-RTT), so no request
//! can be replayed.

mod reload;
mod self_signed;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;

pub use reload::LiveTls;
pub use self_signed::self_signed;

use crate::files;

/// The reason why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A file has invalid content.
    #[error("{path}: {reason}")]
    Content {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A self-signed certificate or its key could not be created, or its key could not be read.
    #[error("{path}: cannot make a self-signed certificate: {source}")]
    Make {
        /// The path of the key or of the certificate.
        path: PathBuf,
        /// The reason.
        source: rcgen::Error,
    },
    /// Certificate and key do not match, or are of an unsupported kind.
    #[error("cannot use {certificate} with {key}: {source}")]
    Unusable {
        /// The path of the certificate.
        certificate: PathBuf,
        /// The path of the key.
        key: PathBuf,
        /// The reason.
        source: rustls::Error,
    },
}

/// A configuration, and when its certificate expires.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration for handshakes.
    pub config: Arc<ServerConfig>,
    /// The second since 1970 at which the certificate (not those of its authorities) expires; `None` if unknown.
    pub expiry: Option<i64>,
}

/// Creates the configuration from a certificate chain and a key in PEM files. With `client_ca`, clients may present
/// certificates signed by this authority; those without one may authenticate otherwise.
///
/// # Errors
/// [`TlsError`] that names the file.
pub fn from_files(certificate: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Loaded, TlsError> {
    let chain = read_chain(certificate)?;
    let expiry = chain.first().and_then(self_signed::expiry);
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| content(key, "private key", error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients = client_verifier(client_ca, &provider)?;
    let configured = server_config(provider, clients, chain, private);
    let unusable = |source| TlsError::Unusable { certificate: certificate.to_owned(), key: key.to_owned(), source };
    Ok(Loaded { config: Arc::new(configured.map_err(unusable)?), expiry })
}

fn server_config(
    provider: Arc<CryptoProvider>,
    clients: Arc<dyn ClientCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

fn client_verifier(ca: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let Some(path) = ca else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let unusable = |reason: String| TlsError::Content { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    builder.allow_unauthenticated().build().map_err(|error| unusable(error.to_string()))
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&text);
    let chain = certificates.collect::<Result<Vec<_>, _>>().map_err(|error| content(path, "certificate", error))?;
    if chain.is_empty() {
        return Err(TlsError::Content { path: path.to_owned(), reason: "it contains no certificate".to_owned() });
    }
    Ok(chain)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    files::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

fn content(path: &Path, what: &str, error: pem::Error) -> TlsError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(source) => TlsError::File { path, source },
        pem::Error::NoItemsFound => TlsError::Content { path, reason: format!("it contains no {what} in PEM") },
        error => TlsError::Content { path, reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        std::fs::write(&certificate, "nothing").unwrap();
        std::fs::write(&key, "nothing").unwrap();
        let error = from_files(&certificate, &key, None).unwrap_err().to_string();
        assert!(error.contains("c.pem"), "{error}");
    }

    #[test]
    fn files_that_do_not_match_are_both_named() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = "2026-02-03T04:05:06Z".parse().unwrap();
        let (certificate, _) = self_signed(one.path(), &[], now).unwrap();
        let (_, key) = self_signed(other.path(), &[], now).unwrap();
        let error = from_files(&certificate, &key, None).unwrap_err().to_string();
        assert!([certificate, key].iter().all(|path| error.contains(path.to_str().unwrap())), "{error}");
    }

    #[test]
    fn a_key_that_a_certificate_cannot_be_made_with_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("tls-key.pem"), "nothing").unwrap();
        let error = self_signed(dir.path(), &[], "2026-02-03T04:05:06Z".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("tls-key.pem: cannot make a self-signed certificate"), "{error}");
    }
}
