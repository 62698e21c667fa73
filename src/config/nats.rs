//! Checks that the NATS settings are consistent with each other.

use super::pem;
use super::raw::{RawSettings, readable};
use super::settings::Settings;

/// Number of the files that are credentials. Those after them are certificates and keys, whose contents are checked.
const LOGINS: usize = 4;

/// Adds errors for settings that contradict each other.
pub(super) fn check(settings: &Settings, raw: &mut RawSettings) {
    let nats = &settings.nats;
    if let Some(reason) = unsupported(cfg!(feature = "nats"), &nats.urls) {
        raw.refuse(&["nats.urls"], reason.to_owned());
    }
    check_stream(settings, raw);
    let files = [
        ("nats.creds_file", &nats.creds_file),
        ("nats.nkey_file", &nats.nkey_file),
        ("nats.token_file", &nats.token_file),
        ("nats.password_file", &nats.password_file),
        ("nats.ca_file", &nats.ca_file),
        ("nats.cert_file", &nats.cert_file),
        ("nats.key_file", &nats.key_file),
    ];
    for (at, (key, path)) in files.into_iter().enumerate() {
        if let Some(path) = path {
            if nats.urls.is_empty() {
                raw.refuse(&[key, "nats.urls"], "has no effect without nats.urls".to_owned());
            }
            if at < LOGINS {
                readable(key, path, raw);
            }
        }
    }
    if let Some(path) = &nats.ca_file {
        pem::authorities("nats.ca_file", path, raw);
    }
    if let (Some(certificate), Some(key)) = (&nats.cert_file, &nats.key_file) {
        pem::pair(("nats.cert_file", certificate), ("nats.key_file", key), raw);
    }
    let mut logins = files[..LOGINS].iter().filter(|(_, path)| path.is_some()).map(|(key, _)| *key);
    if let (Some(first), Some(second)) = (logins.next(), logins.next()) {
        raw.refuse(&[second, first], format!("{first} is set as well; set only one of them"));
    }
    if nats.user.is_empty() != nats.password_file.is_none() {
        let reason = "nats.user and nats.password_file must be set together".to_owned();
        raw.refuse(&["nats.password_file", "nats.user"], reason);
    }
    if nats.cert_file.is_some() != nats.key_file.is_some() {
        raw.refuse(
            &["nats.cert_file", "nats.key_file"],
            "nats.cert_file and nats.key_file must be set together".to_owned(),
        );
    }
}

/// Returns the error if this build cannot share events by NATS although URLs are configured: a node that is configured
/// to share its events must not silently keep them.
fn unsupported(has_nats: bool, urls: &[String]) -> Option<&'static str> {
    (!has_nats && !urls.is_empty())
        .then_some("this build does not support NATS: it was built without the feature `nats`")
}

fn check_stream(settings: &Settings, raw: &mut RawSettings) {
    let nats = &settings.nats;
    if nats.stream.is_empty() {
        return;
    }
    if nats.urls.is_empty() {
        raw.refuse(&["nats.stream", "nats.urls"], "has no effect without nats.urls".to_owned());
    }
    if settings.replay.events == 0 {
        let reason = "requires a history in memory, to join replays to live events, but replay.events is 0".to_owned();
        raw.refuse(&["nats.stream", "replay.events"], reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_nats_refuses_its_addresses_and_nothing_else() {
        let urls = ["nats://127.0.0.1".to_owned()];
        assert!(unsupported(false, &urls).is_some_and(|reason| reason.contains("feature `nats`")));
        assert_eq!(unsupported(false, &[]), None);
        assert_eq!(unsupported(true, &urls), None);
    }
}
