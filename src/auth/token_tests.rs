//! Lifetimes of tokens, as text.

use super::*;

#[test]
fn lifetimes() {
    for (text, seconds) in
        [("3600", 3600), ("1", 1), ("90s", 90), ("30m", 1800), (" 1h ", 3600), ("7d", 604_800), ("2w", 1_209_600)]
    {
        assert_eq!(parse_ttl(text).unwrap(), Duration::from_secs(seconds), "{text:?}");
    }
    for text in ["", "0", "-1", "1.5h", "h", "1y", "1 h", "0m", "99999999999999999999", "99999999999999999w"] {
        assert_eq!(parse_ttl(text), Err(TtlError { text: text.to_owned() }), "{text:?}");
    }
}
