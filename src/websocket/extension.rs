//! Negotiates permessage-deflate in a handshake (RFC 7692, section 7.1).
//!
//! Contract: pure. The first acceptable offer is accepted. All others, other extensions, and malformed offers are
//! ignored, which leaves the websocket uncompressed. The answer always forbids both sides to keep context between
//! messages: the server, so that one deflated frame serves all connections; the client, so that nothing is stored per
//! connection. Go's gorilla client accepts no other answer.
//!
//! Why only full windows: a shared frame is built with one window size. An offer that requires a smaller window is
//! answered without compression, because it would need every event deflated a second time.

use hyper::header::{HeaderMap, SEC_WEBSOCKET_EXTENSIONS};

const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// The answer to an offer that names the server's window, which must be confirmed (section 7.1.2.1).
const ANSWER_WITH_WINDOW: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15";

/// The base-2 logarithm of the window with which frames are built.
const WINDOW_BITS: u8 = 15;

/// The parameters that an offer may have, each at most once.
const PARAMETERS: [&str; 4] =
    ["server_no_context_takeover", "client_no_context_takeover", "server_max_window_bits", "client_max_window_bits"];

/// Returns the answer to the first acceptable offer, if there is one.
pub fn agree(headers: &HeaderMap) -> Option<&'static str> {
    let values = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| split(value, ',')).find_map(answer)
}

fn answer(offer: &str) -> Option<&'static str> {
    let mut parts = split(offer, ';');
    if !parts.next()?.trim().eq_ignore_ascii_case("permessage-deflate") {
        return None;
    }
    let mut seen = [false; PARAMETERS.len()];
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name, Some(unquoted(value.trim())?)),
            None => (part, None),
        };
        let known = PARAMETERS.iter().position(|known| name.trim().eq_ignore_ascii_case(known))?;
        if std::mem::replace(&mut seen[known], true) || !is_acceptable(PARAMETERS[known], value) {
            return None;
        }
    }
    Some(if seen[2] { ANSWER_WITH_WINDOW } else { ANSWER })
}

fn is_acceptable(parameter: &str, value: Option<&str>) -> bool {
    match (parameter, value) {
        ("server_max_window_bits", value) => value.and_then(bits) == Some(WINDOW_BITS),
        ("client_max_window_bits", Some(value)) => bits(value).is_some(),
        (_, value) => value.is_none(),
    }
}

/// Parses a decimal number from 8 to 15 without leading zeros.
fn bits(value: &str) -> Option<u8> {
    let plain = !value.starts_with('0') && value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|bits| plain && (8..=15).contains(bits))
}

/// Returns a value without its quotes, if it has any. No acceptable value needs escapes.
fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(value),
    }
}

/// Splits at a separator that is not inside quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        let ends = c == separator && !quoted;
        let toggles = c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        quoted ^= toggles;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(values: &[&str]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, value.parse().unwrap());
        }
        agree(&headers)
    }

    #[test]
    fn offers_of_the_usual_clients_are_taken() {
        for (client, offer) in [
            ("RFC", "permessage-deflate"),
            ("Go's gorilla", "permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
            ("browsers, Node's ws, Python's websockets", "permessage-deflate; client_max_window_bits"),
            ("a small window of its own", "permessage-deflate;client_max_window_bits=9"),
            ("quotes", "permessage-deflate; client_max_window_bits=\"10\""),
            ("letter case and spaces", "Permessage-Deflate ;  Client_Max_Window_Bits = 15 "),
        ] {
            assert_eq!(agreed(&[offer]), Some(ANSWER), "{client}");
        }
        assert_eq!(agreed(&["permessage-deflate; server_max_window_bits=15"]), Some(ANSWER_WITH_WINDOW));
    }

    #[test]
    fn the_first_offer_that_can_be_taken_is() {
        let small = "permessage-deflate; server_max_window_bits=10";
        assert_eq!(agreed(&[small]), None);
        assert_eq!(agreed(&[&format!("{small}, permessage-deflate")]), Some(ANSWER));
        assert_eq!(agreed(&[small, "permessage-deflate"]), Some(ANSWER));
        assert_eq!(agreed(&["x-other; a=\"b, c; permessage-deflate\", permessage-deflate"]), Some(ANSWER));
        assert_eq!(agreed(&["x-other; a=\"b\\\", permessage-deflate, c\""]), None, "an escaped quote ends nothing");
        assert_eq!(agreed(&["x-other; a=\"b\\\\\", permessage-deflate"]), Some(ANSWER));
        let both = "permessage-deflate; server_max_window_bits=15, permessage-deflate";
        assert_eq!(agreed(&[both]), Some(ANSWER_WITH_WINDOW));
    }

    #[test]
    fn offers_with_bad_parameters_are_passed_over() {
        for offer in [
            "",
            ",",
            "x-webkit-deflate-frame",
            "a; b=\"permessage-deflate, permessage-deflate\"",
            "permessage-deflate; unknown",
            "permessage-deflate;",
            "permessage-deflate; server_no_context_takeover=true",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=015",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=+9",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"10",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        ] {
            assert_eq!(agreed(&[offer]), None, "{offer}");
        }
        assert_eq!(agreed(&[]), None);
    }
}
