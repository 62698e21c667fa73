//! TLS: a self-signed certificate made at first start, own files, or none.
//!
//! rustls with aws-lc-rs, TLS 1.2 and 1.3, HTTP/1.1 only. No process-wide provider is installed, so nothing depends on
//! who came first. The self-signed certificate is kept in the data directory, because DRP clients pin what they saw first.
//! Session tickets are on, so a storm of reconnects costs no signatures; their keys change by themselves and stay in memory.
//! Nothing is read before the handshake is over (no 0-RTT), so no request can be replayed.

mod reload;

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;

pub use reload::LiveTls;

/// Why there is no TLS.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {reason}")]
    Content {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate could not be made.
    #[error("cannot make a self-signed certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Certificate and key do not go together, or are of a kind that is not supported.
    #[error("certificate and key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// The configuration from a certificate chain and a key in PEM files. With `client_ca`, clients may show certificates that
/// this authority has signed; those who show none are let through to show something else.
///
/// # Errors
/// [`TlsError`] that names the file.
pub fn from_files(certificate: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = read_chain(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| content(key, &error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients = client_verifier(client_ca, &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
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
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| content(path, &error))?;
    let chain = certificates.collect::<Result<Vec<_>, _>>().map_err(|error| content(path, &error))?;
    if chain.is_empty() {
        return Err(TlsError::Content { path: path.to_owned(), reason: "no certificate in it".to_owned() });
    }
    Ok(chain)
}

fn content(path: &Path, error: &rustls::pki_types::pem::Error) -> TlsError {
    TlsError::Content { path: path.to_owned(), reason: error.to_string() }
}

/// The files of the self-signed certificate in `data_dir` and of its key, which are made there if they are missing.
///
/// # Errors
/// [`TlsError`] that names the file.
pub fn self_signed(data_dir: &Path, addresses: &[IpAddr]) -> Result<(PathBuf, PathBuf), TlsError> {
    let (certificate, key) = (data_dir.join("tls-cert.pem"), data_dir.join("tls-key.pem"));
    if !certificate.exists() || !key.exists() {
        make(&certificate, &key, addresses)?;
        tracing::info!(certificate = %certificate.display(), "made a self-signed certificate");
    }
    Ok((certificate, key))
}

fn make(certificate: &Path, key: &Path, addresses: &[IpAddr]) -> Result<(), TlsError> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    for address in addresses.iter().filter(|address| !address.is_unspecified()).map(IpAddr::to_string) {
        if !names.contains(&address) {
            names.push(address);
        }
    }
    let params = CertificateParams::new(names)?;
    let pair = KeyPair::generate()?;
    let made = params.self_signed(&pair)?;
    write(key, pair.serialize_pem().as_bytes(), 0o600)?;
    write(certificate, made.pem().as_bytes(), 0o644)
}

/// Writes a file beside its place first, so that no half of it is ever there.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
    let file = |source| TlsError::File { path: path.to_owned(), source };
    let temporary = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    let mut out = options.write(true).create(true).truncate(true).mode(mode).open(&temporary).map_err(file)?;
    out.write_all(bytes).and_then(|()| out.sync_all()).map_err(file)?;
    fs::rename(&temporary, path).map_err(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_certificate_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = self_signed(dir.path(), &["10.1.2.3".parse().unwrap()]).unwrap();
        from_files(&certificate, &key, None).unwrap();
        let first = fs::read(dir.path().join("tls-cert.pem")).unwrap();
        self_signed(dir.path(), &[]).unwrap();
        assert_eq!(fs::read(dir.path().join("tls-cert.pem")).unwrap(), first);
        let mode = fs::metadata(dir.path().join("tls-key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_bad_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        fs::write(&certificate, "nothing").unwrap();
        fs::write(&key, "nothing").unwrap();
        let error = from_files(&certificate, &key, None).unwrap_err().to_string();
        assert!(error.contains("c.pem"), "{error}");
    }
}
