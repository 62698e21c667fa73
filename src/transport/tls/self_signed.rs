//! The self-signed certificate: created at the first start, stored in the data directory, renewed before it expires.
//!
//! Contract: DRP clients pin the first certificate they see, so it is created once and is valid for as long as browsers
//! accept (825 days). A renewed certificate has the same key. Only a certificate created here is ever replaced. If the
//! new one cannot be written, the old one stays. Blocks.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{Span, Timestamp};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::TlsError;
use crate::files::{self, SECRET, is_taken};

/// Days of validity; some clients reject more.
const DAYS: i64 = 825;

/// A certificate that expires within this many days is renewed.
const RENEW_DAYS: i64 = 30;

/// The beginning of the common name.
const NAME: &str = "hydrant on ";

/// Returns the paths of the self-signed certificate and of its key in `data_dir`. Creates the files if they are missing
/// and renews the certificate before it expires.
///
/// # Errors
/// [`TlsError`] that names the file, if one is missing and cannot be created.
pub fn self_signed(data_dir: &Path, addresses: &[IpAddr], now: Timestamp) -> Result<(PathBuf, PathBuf), TlsError> {
    let (certificate, key) = (data_dir.join("tls-cert.pem"), data_dir.join("tls-key.pem"));
    if !is_taken(&key) && is_taken(&certificate) && own(&certificate).is_none() {
        tracing::warn!(
            key = %key.display(),
            certificate = %certificate.display(),
            "the key of a certificate that hydrant did not create is missing; restore it, or remove the certificate"
        );
    } else if !is_taken(&key) {
        let pair = KeyPair::generate().map_err(|source| TlsError::Make { path: key.clone(), source })?;
        write(&key, &pair.serialize_pem(), SECRET)?;
        make(&certificate, &pair, addresses, now)?;
        tracing::info!(certificate = %certificate.display(), "created a self-signed certificate");
    } else if !is_taken(&certificate) {
        // A key may be in use elsewhere, and clients may know it.
        renew(&certificate, &key, addresses, now)?;
        tracing::info!(certificate = %certificate.display(), "created a self-signed certificate");
    } else if ends_soon(&certificate, now) {
        match renew(&certificate, &key, addresses, now) {
            Ok(()) => tracing::info!(certificate = %certificate.display(), "renewed the self-signed certificate"),
            Err(error) => tracing::warn!(%error, "the self-signed certificate expires soon and cannot be renewed"),
        }
    }
    Ok((certificate, key))
}

/// Returns a certificate that was created here. Ignores one that cannot be read: loading it reports the error.
fn own(path: &Path) -> Option<Certificate> {
    let der = CertificateDer::from_pem_file(path).ok()?;
    let certificate = Certificate::from_der(&der).ok()?;
    let name = certificate.tbs_certificate().subject().common_name().ok().flatten();
    let is_own = name.is_some_and(|name| name.value().starts_with(NAME));
    is_own.then_some(certificate)
}

/// Returns whether a certificate was created here and is due for renewal.
fn ends_soon(path: &Path, now: Timestamp) -> bool {
    own(path).is_some_and(|certificate| end_of(&certificate).saturating_sub(now.as_second()) < RENEW_DAYS * 86_400)
}

/// Returns the second since 1970 at which a certificate expires; `None` if it cannot be read.
pub(super) fn expiry(der: &CertificateDer<'_>) -> Option<i64> {
    Certificate::from_der(der).ok().as_ref().map(end_of)
}

fn end_of(certificate: &Certificate) -> i64 {
    let end = certificate.tbs_certificate().validity().not_after.to_unix_duration().as_secs();
    i64::try_from(end).unwrap_or(i64::MAX)
}

fn renew(certificate: &Path, key: &Path, addresses: &[IpAddr], now: Timestamp) -> Result<(), TlsError> {
    let file = |source| TlsError::File { path: key.to_owned(), source };
    let unreadable = |source| TlsError::Make { path: key.to_owned(), source };
    let pair = KeyPair::from_pem(&fs::read_to_string(key).map_err(file)?).map_err(unreadable)?;
    make(certificate, &pair, addresses, now)
}

fn make(certificate: &Path, pair: &KeyPair, addresses: &[IpAddr], now: Timestamp) -> Result<(), TlsError> {
    let host = host();
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let addresses = addresses.iter().filter(|address| !address.is_unspecified()).map(IpAddr::to_string);
    for name in addresses.chain((!host.is_empty()).then(|| host.clone())) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let unmakeable = |source| TlsError::Make { path: certificate.to_owned(), source };
    let mut params = CertificateParams::new(names).map_err(unmakeable)?;
    params.distinguished_name.push(DnType::CommonName, format!("{NAME}{host}"));
    params.distinguished_name.push(DnType::OrganizationName, "hydrant");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Valid since yesterday, for clients whose clocks are slow.
    let from = Offset::UTC.to_datetime(now).date().saturating_sub(Span::new().days(1));
    let until = from.saturating_add(Span::new().days(DAYS));
    params.not_before = date_time_ymd(from.year().into(), month(from), day(from));
    params.not_after = date_time_ymd(until.year().into(), month(until), day(until));
    write(certificate, &params.self_signed(pair).map_err(unmakeable)?.pem(), 0o644)
}

fn month(date: Date) -> u8 {
    date.month().unsigned_abs()
}

fn day(date: Date) -> u8 {
    date.day().unsigned_abs()
}

/// Returns the host name of this machine, reduced to what a certificate may contain; empty if it has none.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    name.trim().chars().filter(fits).take(48).collect()
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let directory = path.parent().expect("a file of the data directory");
    let written = files::replace(directory, &path.with_extension("new"), path, (text, mode));
    written.map_err(|source| TlsError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use x509_cert::der::Encode;
    use x509_cert::time::Time;

    use super::*;
    use crate::transport::tls::from_files;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Returns subject, public key, and first and last second of validity.
    fn read(path: &Path) -> (String, Vec<u8>, i64, i64) {
        let der = CertificateDer::from_pem_file(path).unwrap();
        let certificate = Certificate::from_der(&der).unwrap();
        let certificate = certificate.tbs_certificate();
        let second = |time: Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap();
        let validity = certificate.validity();
        (
            certificate.subject().to_string(),
            certificate.subject_public_key_info().to_der().unwrap(),
            second(validity.not_before),
            second(validity.not_after),
        )
    }

    #[test]
    fn it_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let now = at("2026-02-03T04:05:06Z");
        let (certificate, key) = self_signed(dir.path(), &["10.1.2.3".parse().unwrap()], now).unwrap();
        from_files(&certificate, &key, None).unwrap();
        let first = fs::read(dir.path().join("tls-cert.pem")).unwrap();
        self_signed(dir.path(), &[], now).unwrap();
        assert_eq!(fs::read(dir.path().join("tls-cert.pem")).unwrap(), first);
        let mode = fs::metadata(dir.path().join("tls-key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (subject, _, from, until) = read(&certificate);
        assert!(subject.contains("hydrant on ") && subject.contains(&host()), "{subject}");
        assert!(from <= now.as_second() && until - from == 825 * 86_400);
    }

    /// As while the file system of the files is not mounted.
    #[test]
    fn links_whose_targets_are_missing_are_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["tls-cert.pem", "tls-key.pem"].map(|name| dir.path().join(name));
        paths.iter().for_each(|path| std::os::unix::fs::symlink("not-mounted", path).unwrap());
        let (certificate, key) = self_signed(dir.path(), &[], at("2026-02-03T04:05:06Z")).unwrap();
        assert!(paths.iter().all(|path| path.is_symlink()));
        assert!(from_files(&certificate, &key, None).is_err(), "loading names what is missing");
    }

    #[test]
    fn of_two_files_the_one_that_is_there_is_kept() {
        let (dir, now) = (tempfile::tempdir().unwrap(), at("2026-02-03T04:05:06Z"));
        let (certificate, key) = self_signed(dir.path(), &[], now).unwrap();
        let (first, secret) = (read(&certificate), fs::read(&key).unwrap());
        fs::remove_file(&certificate).unwrap();
        self_signed(dir.path(), &[], now).unwrap();
        assert_eq!((read(&certificate).1, fs::read(&key).unwrap()), (first.1, secret), "with the same key");
        // Without its key a certificate is of no use, but it may be somebody else's.
        let theirs = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let theirs = theirs.self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
        for (text, is_kept) in [(fs::read_to_string(&certificate).unwrap(), false), (theirs, true)] {
            fs::write(&certificate, &text).unwrap();
            fs::remove_file(&key).unwrap();
            self_signed(dir.path(), &[], now).unwrap();
            assert_eq!((fs::read_to_string(&certificate).unwrap() == text, key.exists()), (is_kept, !is_kept));
        }
    }

    #[test]
    fn it_is_renewed_with_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = self_signed(dir.path(), &[], at("2026-02-03T04:05:06Z")).unwrap();
        let first = read(&certificate);
        self_signed(dir.path(), &[], at("2028-04-01T00:00:00Z")).unwrap();
        assert_eq!(read(&certificate), first, "it is not time yet");
        self_signed(dir.path(), &[], at("2028-05-01T00:00:00Z")).unwrap();
        let second = read(&certificate);
        assert!(second.3 > first.3 && second.1 == first.1);
        from_files(&certificate, &key, None).unwrap();
        // A certificate that was put there by someone else must not be replaced.
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(2028, 6, 1);
        fs::write(&certificate, params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()).unwrap();
        let theirs = fs::read(&certificate).unwrap();
        self_signed(dir.path(), &[], at("2028-05-30T00:00:00Z")).unwrap();
        assert_eq!(fs::read(&certificate).unwrap(), theirs);
    }
}
