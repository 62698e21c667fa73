//! Reading what stands in a URL.

use std::borrow::Cow;

use hyper::Uri;
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

/// The path and the query without its credential.
pub(super) fn without_credential(uri: &Uri) -> Uri {
    let secret = |pair: &&str| !matches!(pair.split('=').next(), Some("token" | "Token"));
    let rest: Vec<&str> = uri.query().unwrap_or("").split('&').filter(|pair| !pair.is_empty()).filter(secret).collect();
    let path = uri.path();
    let text = if rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) };
    text.parse().expect("a part of a URI is one")
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

    #[test]
    fn credentials_are_taken_out() {
        for (uri, expected) in [
            ("/a?token=x", "/a"),
            ("/a?b=c&Token=x%3Ay&d", "/a?b=c&d"),
            ("/a", "/a"),
            ("http://host/a?token=x&tokens=1", "/a?tokens=1"),
        ] {
            assert_eq!(without_credential(&uri.parse().unwrap()).to_string(), expected);
        }
    }
}
