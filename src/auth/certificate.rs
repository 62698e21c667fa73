//! Client certificates: the principal that a certificate names.
//!
//! Contract: pure; the caller passes the time. TLS has verified the certificate: no handshake completes unless the
//! chain ends at the configured authority. Here it is only parsed: it must have exactly one name in the configured
//! field, which must be a principal or the name of a user. The dates are checked again, because a resumed session
//! presents the certificate of its first handshake.

use std::fmt;

use jiff::Timestamp;
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::{DirectoryString, GeneralName};
use x509_cert::time::Time;
use x509_cert::{Certificate, TbsCertificate};

use super::principal::Principal;
use crate::clock;

/// The attribute type of a common name (RFC 4519).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// The part of a client certificate that holds the client's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CertificateName {
    /// The only common name (CN) of the subject.
    #[default]
    Common,
    /// The only subject alternative name that is a URI, a mail address or a DNS name.
    Alternative,
}

/// A client certificate in DER, verified by the TLS handshake that presented it.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate(Box<[u8]>);

impl ClientCertificate {
    /// Wraps the DER of a verified certificate.
    pub fn verified(der: &[u8]) -> Self {
        Self(der.into())
    }

    /// Returns the principal it names and its expiry; `None` if it names no valid principal or is not valid at `now`.
    pub(super) fn holder(&self, name: CertificateName, now: Timestamp) -> Option<(Principal, Timestamp)> {
        let certificate = Certificate::from_der(&self.0).ok()?;
        let certificate = certificate.tbs_certificate();
        let validity = certificate.validity();
        let (from, until) = (clock_time(validity.not_before), clock_time(validity.not_after));
        if now < from || until < now {
            return None;
        }
        let text = match name {
            CertificateName::Common => common_name(certificate),
            CertificateName::Alternative => alternative_name(certificate),
        };
        Some((principal(&text?)?, until))
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({} bytes)", self.0.len())
    }
}

/// Returns a time of a certificate. A certificate without expiry (RFC 5280) ends at the latest time that exists here.
fn clock_time(time: Time) -> Timestamp {
    clock::at_second(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
}

fn common_name(certificate: &TbsCertificate) -> Option<String> {
    let names = certificate.subject().iter().filter(|attribute| attribute.oid == COMMON_NAME);
    only(names.map(|attribute| attribute.value.decode_as::<DirectoryString>().ok().map(String::from)))
}

fn alternative_name(certificate: &TbsCertificate) -> Option<String> {
    let (_, SubjectAltName(names)) = certificate.get_extension().ok()??;
    only(names.iter().filter_map(|name| match name {
        GeneralName::UniformResourceIdentifier(text) | GeneralName::Rfc822Name(text) | GeneralName::DnsName(text) => {
            Some(Some(text.to_string()))
        }
        _ => None,
    }))
}

/// Returns the only name; `None` if there are several, because an attacker could choose which of them counts.
fn only(mut names: impl Iterator<Item = Option<String>>) -> Option<String> {
    let first = names.next()?;
    if names.next().is_some() { None } else { first }
}

fn principal(text: &str) -> Option<Principal> {
    if text.contains(':') { text.parse().ok() } else { Principal::user(text).ok() }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    const UUID: &str = "3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e";

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2030, 1, 1));
        change(&mut params);
        ClientCertificate::verified(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der())
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn holder(certificate: &ClientCertificate, name: CertificateName) -> Option<String> {
        certificate.holder(name, at("2025-01-01T00:00:00Z")).map(|(principal, _)| principal.to_string())
    }

    #[test]
    fn the_common_name_is_a_principal_or_a_users_name() {
        for (name, expected) in [
            ("alice", Some("user:alice".to_owned())),
            ("user:alice", Some("user:alice".to_owned())),
            ("plugin:ipmi", Some("plugin:ipmi".to_owned())),
            (&format!("runner:{UUID}"), Some(format!("runner:{UUID}"))),
            ("runner:alice", None),
            ("root:alice", None),
            ("Alice B", None),
            ("*", None),
            ("", None),
        ] {
            let certificate = certificate(|params| params.distinguished_name.push(DnType::CommonName, name));
            assert_eq!(holder(&certificate, CertificateName::Common), expected, "{name:?}");
            assert_eq!(holder(&certificate, CertificateName::Alternative), None, "{name:?}");
        }
        assert_eq!(holder(&certificate(|_| ()), CertificateName::Common), None);
    }

    #[test]
    fn exactly_one_alternative_name_counts() {
        let uri = |text: &str| SanType::URI(text.try_into().unwrap());
        let dns = |text: &str| SanType::DnsName(text.try_into().unwrap());
        let mail = |text: &str| SanType::Rfc822Name(text.try_into().unwrap());
        let address = SanType::IpAddress("192.0.2.1".parse().unwrap());
        for (names, expected) in [
            (vec![uri("user:alice")], Some("user:alice")),
            (vec![dns("alice"), address.clone()], Some("user:alice")),
            (vec![mail("alice@lab.example")], Some("user:alice@lab.example")),
            (vec![uri("https://lab.example/alice")], None),
            (vec![dns("alice"), dns("root")], None),
            (vec![address], None),
        ] {
            let certificate = certificate(|params| {
                params.distinguished_name.push(DnType::CommonName, "root");
                params.subject_alt_names = names;
            });
            assert_eq!(holder(&certificate, CertificateName::Alternative).as_deref(), expected);
        }
    }

    #[test]
    fn a_certificate_that_never_expires_is_good() {
        let certificate = certificate(|params| {
            params.distinguished_name.push(DnType::CommonName, "alice");
            params.not_after = date_time_ymd(9999, 12, 31);
        });
        let (_, until) = certificate.holder(CertificateName::Common, at("2026-01-01T00:00:00Z")).unwrap();
        assert!(until >= at("9999-12-30T00:00:00Z"));
    }

    #[test]
    fn a_certificate_has_its_time() {
        let certificate = certificate(|params| params.distinguished_name.push(DnType::CommonName, "alice"));
        let holds = |now: &str| certificate.holder(CertificateName::Common, at(now)).map(|(_, until)| until);
        assert_eq!(holds("2019-12-31T23:59:59Z"), None);
        assert_eq!(holds("2030-01-01T00:00:00Z"), Some(at("2030-01-01T00:00:00Z")));
        assert_eq!(holds("2030-01-01T00:00:01Z"), None);
        assert!(
            ClientCertificate::verified(b"nothing")
                .holder(CertificateName::Common, at("2025-01-01T00:00:00Z"))
                .is_none()
        );
    }
}
