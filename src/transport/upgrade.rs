//! Upgrades an HTTP request to a websocket (RFC 6455, section 4.2.1).
//!
//! fastwebsockets answers the handshake. What it does not check (the method, `Connection`, `Upgrade`, the form of the
//! key) is checked here first. The only extension, permessage-deflate, is negotiated in
//! [`crate::websocket::extension`].

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http_body_util::Either;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use hyper::{Method, Request, Version};
use hyper_util::rt::TokioIo;
use thiserror::Error;

use super::listener::Answer;
use super::slices::Slices;
use super::socket::Socket;
use crate::tasks;
use crate::websocket::extension;
use crate::websocket::frame::Encoding;

/// The spare last bits of the key are ignored, as in other servers.
const KEY: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The reason why a request is not a websocket handshake.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeError {
    /// Not a GET over HTTP/1.1.
    #[error("a websocket handshake must be a GET request of HTTP/1.1")]
    Method,
    /// The headers do not request a websocket.
    #[error("not a websocket handshake: `Connection: Upgrade` and `Upgrade: websocket` are required")]
    NotAsked,
    /// Another version of the protocol.
    #[error("`Sec-WebSocket-Version: 13` is required")]
    Version,
    /// There is no key, more than one, or it is not sixteen bytes in base64.
    #[error("exactly one `Sec-WebSocket-Key` of sixteen bytes in base64 is required")]
    Key,
}

/// Checks that a request is a websocket handshake.
///
/// # Errors
/// [`UpgradeError`] with the reason.
pub fn check<B>(request: &Request<B>) -> Result<(), UpgradeError> {
    if request.method() != Method::GET || request.version() != Version::HTTP_11 {
        return Err(UpgradeError::Method);
    }
    let headers = request.headers();
    if !lists(headers, &CONNECTION, "upgrade") || !lists(headers, &UPGRADE, "websocket") {
        return Err(UpgradeError::NotAsked);
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version.as_bytes() != b"13") {
        return Err(UpgradeError::Version);
    }
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let key = keys.next().and_then(|key| KEY.decode(key.as_bytes()).ok());
    if keys.next().is_some() || key.is_none_or(|key| key.len() != 16) {
        return Err(UpgradeError::Key);
    }
    Ok(())
}

fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|element| element.trim().eq_ignore_ascii_case(token))
}

/// Answers a checked handshake, with permessage-deflate if it is offered and `deflate` allows it. Once the response is
/// sent, `then` gets the socket, what the client sent early, and the negotiated encoding.
///
/// # Errors
/// [`UpgradeError`] if the request is not a handshake after all.
pub fn accept<F>(
    request: &mut Request<Incoming>,
    deflate: bool,
    then: impl FnOnce(Socket, Bytes, Encoding) -> F + Send + 'static,
) -> Result<Answer, UpgradeError>
where
    F: Future<Output = ()> + Send,
{
    let agreed = extension::agree(request.headers()).filter(|_| deflate);
    let encoding = if agreed.is_some() { Encoding::Deflate } else { Encoding::Plain };
    let (mut answer, upgraded) = fastwebsockets::upgrade::upgrade(request).map_err(|_| UpgradeError::NotAsked)?;
    tasks::spawn(async move {
        let Ok(websocket) = upgraded.await else { return };
        if let Ok(parts) = websocket.into_inner().into_inner().downcast::<TokioIo<Socket>>() {
            then(parts.io.into_inner(), parts.read_buf, encoding).await;
        }
    });
    if let Some(agreed) = agreed {
        answer.headers_mut().insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(agreed));
    }
    Ok(answer.map(|_| Either::Left(Slices::default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    const GOOD: [(&str, &str); 4] = [
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "WebSocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn a_proper_handshake_passes() {
        assert_eq!(check(&request(Method::GET, &GOOD)), Ok(()));
        let mut spare = GOOD;
        spare[3].1 = "dGhlIHNhbXBsZSBub25jZR==";
        assert_eq!(check(&request(Method::GET, &spare)), Ok(()), "spare bits mean nothing");
    }

    #[test]
    fn two_keys_are_none() {
        let twice = [GOOD.as_slice(), &GOOD[3..]].concat();
        assert_eq!(check(&request(Method::GET, &twice)), Err(UpgradeError::Key));
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        assert_eq!(check(&request(Method::POST, &GOOD)), Err(UpgradeError::Method));
        for (at, value, error) in [
            (0, "keep-alive", UpgradeError::NotAsked),
            (1, "h2c", UpgradeError::NotAsked),
            (2, "8", UpgradeError::Version),
            (3, "short", UpgradeError::Key),
            (3, "c2hvcnQ=", UpgradeError::Key),
        ] {
            let mut headers = GOOD;
            headers[at].1 = value;
            assert_eq!(check(&request(Method::GET, &headers)), Err(error), "{value}");
        }
    }
}
