//! Inspects the PEM files that settings name, so that a bad file is reported before the server starts.
//!
//! Contract: files are only read, and no part of a key is ever repeated. The server reads the files again on its own
//! (`transport::tls`, `client`), so problems found here are the same, reported earlier and with the name of the
//! setting. A certificate that is not valid now is only noted: it works with clients that do not verify it, and the
//! clock of a machine that has just started may be wrong.

use std::path::Path;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::raw::{RawSettings, readable};
use crate::clock;

/// The line with which an encrypted private key begins.
const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";

/// What is wrong with a file.
#[derive(Debug, Error)]
enum PemError {
    #[error("it contains no {0} in PEM")]
    Missing(&'static str),
    #[error("the private key is encrypted; store it without a passphrase, readable for the server's user only")]
    Encrypted,
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
    note_validity(certificate_key, certificate, &chain, raw);
    if let Err(error) = CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider()) {
        let (key, certificate) = (key.display(), certificate.display());
        let reason = match error {
            rustls::Error::InconsistentKeys(_) => format!("{key} is not the key of {certificate}"),
            rustls::Error::General(_) => format!("{key}: the private key is of an unknown kind, or damaged"),
            error => format!("{key} does not match {certificate}: {error}"),
        };
        raw.refuse(&[key_key, certificate_key], reason);
    }
}

/// Checks the certificates of authorities.
pub(super) fn authorities(setting: &'static str, path: &Path, raw: &mut RawSettings) {
    let found = read(setting, path, raw, |path| {
        let (mut roots, chain) = (RootCertStore::empty(), chain(path)?);
        for certificate in &chain {
            roots.add(certificate.clone())?;
        }
        Ok(chain)
    });
    note_validity(setting, path, &found.unwrap_or_default(), raw);
}

/// Notes certificates that have expired or are not valid yet. Those after the first are of its authorities, or of
/// others.
fn note_validity(setting: &str, path: &Path, chain: &[CertificateDer<'_>], raw: &mut RawSettings) {
    let now = clock::now();
    for (index, der) in chain.iter().enumerate() {
        // What cannot be read is for the handshake to judge.
        let Ok(certificate) = Certificate::from_der(der) else { continue };
        let validity = certificate.tbs_certificate().validity();
        let [from, until] = [validity.not_before, validity.not_after]
            .map(|time| clock::at_second(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX)));
        let problem = match () {
            () if until < now => format!("has expired: it was valid until {until}"),
            () if now < from => format!("is not valid yet: it will be from {from}"),
            () => continue,
        };
        let which = if index == 0 { "the certificate".to_owned() } else { format!("certificate {}", index + 1) };
        raw.note(setting, &format!("{}: {which} {problem}; whoever verifies it refuses it", path.display()));
    }
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
    PrivateKeyDer::from_pem_file(path).map_err(|error| {
        let is_encrypted = || std::fs::read_to_string(path).is_ok_and(|text| text.contains(ENCRYPTED));
        match error {
            pem::Error::NoItemsFound if is_encrypted() => PemError::Encrypted,
            error => PemError::of(error, "private key"),
        }
    })
}
