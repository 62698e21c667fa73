//! Reading what stands in a URL.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A path segment, decoded; bytes that are not UTF-8 are replaced.
pub(super) fn decode(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

/// The first non-empty value of a parameter.
pub(super) fn value<'q>(query: Option<&'q str>, name: &str) -> Option<Cow<'q, str>> {
    let pairs = form_urlencoded::parse(query?.as_bytes());
    pairs.into_iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value)
}

/// The credential of a query: `token=` or `Token=`. Clients put it in raw, so a `+` stands for itself.
pub(super) fn credential(query: Option<&str>) -> Option<String> {
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(key, value)| matches!(*key, "token" | "Token") && !value.is_empty())?;
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
        assert_eq!(credential(Some("token=&TOKEN=x")), None);
        assert_eq!(credential(None), None);
    }
}
