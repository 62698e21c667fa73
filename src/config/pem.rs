//! Inspects the PEM files that settings name, so that a bad file is reported before the server starts.
//!
//! Contract: files are only read, and no part of a key is ever repeated. The server reads the files again on its own
//! (`transport::tls`, `client`), so problems found here are the same, reported earlier and with the name of the
//! setting.

use std::path::Path;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;

use super::raw::{RawSettings, readable};

/// What is wrong with a file.
#[derive(Debug, Error)]
enum PemError {
    #[error("it contains no {0} in PEM")]
    Missing(&'static str),
    #[error("not a {what} in PEM: {error}")]
    Malformed { what: &'static str, error: pem::Error },
    #[error(transparent)]
    Unusable(#[from] rustls::Error),
}

impl PemError {
    fn of(error: pem::Error, what: &'static str) -> Self {
        match error {
            pem::Error::NoItemsFound => Self::Missing(what),
            error => Self::Malformed { what, error },
        }
    }
}

/// Checks a certificate chain and its key, each under its setting. A missing setting is reported elsewhere.
pub(super) fn pair(
    (certificate_key, certificate): (&'static str, &Path),
    (key_key, key): (&'static str, &Path),
    raw: &mut RawSettings,
) {
    let chain = read(certificate_key, certificate, raw, chain);
    let private = read(key_key, key, raw, private_key);
    let (Some(chain), Some(private)) = (chain, private) else { return };
    if let Err(error) = CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider()) {
        let reason = format!("{} does not match {}: {error}", key.display(), certificate.display());
        raw.refuse(&[key_key, certificate_key], reason);
    }
}

/// Checks the certificates of authorities.
pub(super) fn authorities(setting: &'static str, path: &Path, raw: &mut RawSettings) {
    read(setting, path, raw, |path| {
        let mut roots = RootCertStore::empty();
        for certificate in chain(path)? {
            roots.add(certificate)?;
        }
        Ok(())
    });
}

fn read<T>(
    setting: &'static str,
    path: &Path,
    raw: &mut RawSettings,
    look: impl Fn(&Path) -> Result<T, PemError>,
) -> Option<T> {
    if !readable(setting, path, raw) {
        return None;
    }
    look(path).map_err(|error| raw.refuse(&[setting], format!("{}: {error}", path.display()))).ok()
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = found.map_err(|error| PemError::of(error, "certificate"))?;
    if chain.is_empty() { Err(PemError::Missing("certificate")) } else { Ok(chain) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| PemError::of(error, "private key"))
}
