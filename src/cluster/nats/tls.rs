//! TLS to NATS servers.
//!
//! The crypto provider is passed explicitly: a library should not decide which one is installed for the process.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// Why TLS cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file that cannot be read as certificates or a key.
    #[error("{path}: {source}")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with the file.
        source: pem::Error,
    },
    /// A certificate or key that cannot be used.
    #[error("{path}: {source}")]
    Unusable {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with the certificate or key.
        source: rustls::Error,
    },
    /// The system's certificate authorities cannot be read.
    #[error("this system has no certificate authorities: set nats.ca_file ({0})")]
    System(String),
}

/// TLS settings in addition to the addresses' scheme (`tls://`).
#[derive(Debug, Default, Clone)]
pub struct Tls {
    /// A file with the authorities to trust instead of the system's; makes TLS required.
    pub ca_file: Option<PathBuf>,
    /// A client certificate and its key; makes TLS required.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Returns whether TLS is required, whatever the server says.
    pub(super) fn is_required(&self) -> bool {
        self.ca_file.is_some() || self.certificate.is_some()
    }

    /// Builds the configuration of a connection. Files are read each time, so renewed ones apply from the next
    /// connection on.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for TLS 1.2 and 1.3")
            .with_root_certificates(self.roots()?);
        let config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let refuse = |source| TlsError::File { path: key.clone(), source };
                let private = PrivateKeyDer::from_pem_file(key).map_err(refuse)?;
                let unusable = |source| TlsError::Unusable { path: certificate.clone(), source };
                builder.with_client_auth_cert(certificates(certificate)?, private).map_err(unusable)?
            }
        };
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = &self.ca_file {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|source| TlsError::Unusable { path: path.clone(), source })?;
            }
            return Ok(roots);
        }
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let reasons = found.errors.iter().map(ToString::to_string).collect::<Vec<_>>();
            return Err(TlsError::System(reasons.join("; ")));
        }
        Ok(roots)
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.and_then(|found| if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) });
    found.map_err(|source| TlsError::File { path: path.clone(), source })
}
