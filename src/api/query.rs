//! Parses the query of a URL.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::error::ApiError;

/// The characters that are percent-encoded in a path segment, so that no server can misread it.
const ENCODED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

/// Decodes a path segment; bytes that are not UTF-8 are replaced.
pub(super) fn decode(segment: &str) -> String {
    decoded(segment).into_owned()
}

/// Like [`decode`]; a segment that says what it means is not copied.
pub(super) fn decoded(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8_lossy()
}

/// Returns whether every server reads a decoded segment as one segment: it is not empty, not `.` or `..`, and contains
/// nothing that another decoder or server takes for a separator, an end or an escape.
pub(super) fn is_plain(segment: &str) -> bool {
    let steers =
        |c: char| matches!(c, '/' | '\\' | '%' | '?' | '#' | ';' | char::REPLACEMENT_CHARACTER) || c.is_control();
    !matches!(segment, "" | "." | "..") && !segment.contains(steers)
}

/// Decodes and re-encodes each segment of an absolute path, so that every server reads it alike; returns `None` if a
/// segment is not plain.
pub(super) fn plain_path(path: &str) -> Option<String> {
    let segments = path.strip_prefix('/')?.split('/').map(decode);
    let encoded =
        segments.map(|segment| is_plain(&segment).then(|| format!("/{}", utf8_percent_encode(&segment, &ENCODED))));
    encoded.collect()
}

/// Returns the parameters with their values, decoded.
pub(super) fn pairs(query: Option<&str>) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
}

/// Returns the first non-empty value of a parameter.
pub(super) fn value<'q>(query: Option<&'q str>, name: &str) -> Option<Cow<'q, str>> {
    pairs(query).find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value)
}

/// Returns the first value of a parameter, which may be empty.
pub(super) fn first<'q>(query: Option<&'q str>, name: &str) -> Option<Cow<'q, str>> {
    pairs(query).find(|(key, _)| key == name).map(|(_, value)| value)
}

/// Returns the maximum length of a list: the parameter `limit`, or no limit.
pub(super) fn limit(query: Option<&str>) -> Result<usize, ApiError> {
    let Some(limit) = value(query, "limit") else { return Ok(usize::MAX) };
    limit.parse().map_err(|_| ApiError::Bad("limit must be a whole number".to_owned()))
}

/// Returns all registrations of a query, including empty ones. Bytes that are not UTF-8 are an error: replaced, they
/// would be a registration that nobody asked for.
pub(super) fn registrations(query: Option<&str>) -> Result<Vec<Box<str>>, ApiError> {
    let is_register = |pair: &&str| decode(pair.split('=').next().unwrap_or_default()) == "register";
    let mut raw = query.unwrap_or_default().split('&').filter(is_register);
    if raw.any(|pair| percent_decode_str(pair).decode_utf8().is_err()) {
        return Err(ApiError::Bad("register: the value is not UTF-8 after percent-decoding".to_owned()));
    }
    Ok(pairs(query).filter(|(key, _)| key == "register").map(|(_, value)| value.into()).collect())
}

/// Returns whether the parameter with this undecoded name holds a credential: `token` or `Token`, in any encoding.
fn is_credential(name: &str) -> bool {
    matches!(decode(name).as_str(), "token" | "Token")
}

/// Returns the credential in a query. Clients do not encode it, so a `+` stands for itself.
pub(super) fn credential(query: Option<&str>) -> Option<String> {
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(name, value)| is_credential(name) && !value.is_empty())?;
    Some(decode(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_in_both_spellings() {
        assert_eq!(credential(Some("a=b&Token=x%3Ay+z")), Some("x:y+z".to_owned()));
        assert_eq!(credential(Some("token=rocketskates:r0cketsk8ts")), Some("rocketskates:r0cketsk8ts".to_owned()));
        assert_eq!(credential(Some("token=abc==")), Some("abc==".to_owned()));
        assert_eq!(credential(Some("%74oke%6E=abc")), Some("abc".to_owned()));
        assert_eq!(credential(Some("token=&TOKEN=x")), None);
        assert_eq!(credential(None), None);
    }

    #[test]
    fn a_path_means_one_thing_or_nothing() {
        for (path, expected) in [
            ("/api/v3/inf%6f", Some("/api/v3/info")),
            ("/machines/Name:j%C3%B6hn%20x/connections", Some("/machines/Name:j%C3%B6hn%20x/connections")),
            ("/connections/[::1]:80", Some("/connections/%5B::1%5D:80")),
            ("/machines/%2e%2e/connections", None),
            ("/machines/.%2E/connections", None),
            ("/machines/../connections", None),
            ("/machines/%2e/connections", None),
            ("/machines//connections", None),
            ("/machines/a%2fb/connections", None),
            ("/machines/a%5Cb/connections", None),
            ("/machines/%252e%252e/connections", None),
            ("/machines/..%3bx/connections", None),
            ("/machines/a%3fb/connections", None),
            ("/machines/a%23b/connections", None),
            ("/machines/a%00/connections", None),
            ("/machines/a%0d%0ab/connections", None),
            ("/machines/%c0%ae%c0%ae/connections", None),
            ("*", None),
        ] {
            assert_eq!(plain_path(path).as_deref(), expected, "{path}");
        }
    }
}
