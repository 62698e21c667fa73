//! Rules for every request, whatever its route (RFC 9112, sections 3.2, 3.2.3 and 6.1). Pure.
//!
//! hyper has already parsed the request and refused what cannot be framed. The rules here concern requests that two
//! servers in a chain could interpret differently.

use std::net::Ipv6Addr;

use hyper::header::{HOST, TRANSFER_ENCODING};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Version};

use super::ApiError;
use crate::transport::refusal::MAX_HEAD;

/// Checks a request.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), ApiError> {
    head(request)?;
    host(request)?;
    target(request)?;
    transfer_encoding(request)
}

/// Bounds the head. hyper notices a long one only while the head is incomplete, so that it depends on how the network
/// has divided it. Each line is counted as it is usually written.
fn head<B>(request: &Request<B>) -> Result<(), ApiError> {
    let uri = request.uri();
    let origin = uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len());
    let origin = origin + uri.authority().map_or(0, |authority| authority.as_str().len());
    let target = origin + uri.path_and_query().map_or(0, |path| path.as_str().len());
    let first = request.method().as_str().len() + target + "  HTTP/1.1\r\n".len();
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    if first + headers.sum::<usize>() + "\r\n".len() > MAX_HEAD {
        return Err(ApiError::LargeHead);
    }
    Ok(())
}

/// A target that is only a host is valid for `CONNECT` alone (RFC 9112, section 3.2.3).
fn target<B>(request: &Request<B>) -> Result<(), ApiError> {
    let uri = request.uri();
    if uri.authority().is_some() && uri.scheme().is_none() && request.method() != Method::CONNECT {
        return Err(ApiError::Bad("the request target is neither a path nor an absolute URL".to_owned()));
    }
    Ok(())
}

/// Requires exactly one valid `Host`; HTTP/1.0, which probes use, may omit it.
fn host<B>(request: &Request<B>) -> Result<(), ApiError> {
    let bad = |reason: &str| Err(ApiError::Bad(format!("Host: {reason}")));
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_10 => Ok(()),
        (None, _) => bad("the header is missing"),
        (Some(_), Some(_)) => bad("the header occurs more than once"),
        (Some(host), None) if host.to_str().is_ok_and(is_host) => Ok(()),
        (Some(_), None) => bad("the value must be a host with an optional port"),
    }
}

fn is_host(text: &str) -> bool {
    if is_name(text) {
        return true;
    }
    // A name may contain a comma, but here it means that somebody has joined two headers.
    let Some(authority) = text.parse::<Authority>().ok().filter(|_| !text.contains(',')) else { return false };
    let (host, port) = (authority.host(), text.strip_prefix(authority.host()).unwrap_or("@"));
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_address = inner.is_none_or(|address| address.parse::<Ipv6Addr>().is_ok());
    is_address && !host.is_empty() && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// Returns whether a text is a name or an IPv4 address, with or without a port: the usual case, without an allocation.
fn is_name(text: &str) -> bool {
    let (name, port) = text.split_once(':').unwrap_or((text, ""));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    !name.is_empty() && name.bytes().all(is_plain) && is_port(port)
}

fn is_port(digits: &str) -> bool {
    digits.is_empty() || digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok()
}

/// Requires no transfer coding, or `chunked` alone.
fn transfer_encoding<B>(request: &Request<B>) -> Result<(), ApiError> {
    let values = request.headers().get_all(TRANSFER_ENCODING).iter().map(|value| value.to_str().unwrap_or("?"));
    let codings: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    let is_chunked = |coding: &&str| coding.eq_ignore_ascii_case("chunked");
    match codings.as_slice() {
        [] => Ok(()),
        [one] if is_chunked(one) => Ok(()),
        all if all.iter().all(is_chunked) => {
            Err(ApiError::Bad("Transfer-Encoding: `chunked` occurs more than once".to_owned()))
        }
        _ => Err(ApiError::TransferCoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(version: Version, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::get("/").version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap()).map_or_else(|error| error.status().as_u16(), |()| 200)
    }

    #[test]
    fn there_is_one_host_and_it_is_one() {
        for (host, expected) in [
            ("drp.lab", 200),
            ("drp.lab:8092", 200),
            ("drp.lab:", 200),
            ("[::1]:8092", 200),
            ("192.0.2.1", 200),
            ("", 400),
            (":80", 400),
            ("a b", 400),
            ("user@drp.lab", 400),
            ("drp.lab:99999", 400),
            ("drp.lab:x", 400),
            ("drp.lab/x", 400),
            ("a,b", 400),
            ("[::1", 400),
            ("[::g]", 400),
            ("[]", 400),
        ] {
            assert_eq!(status(Version::HTTP_11, &[("host", host)]), expected, "{host:?}");
        }
        assert_eq!(status(Version::HTTP_11, &[]), 400);
        assert_eq!(status(Version::HTTP_10, &[]), 200);
        assert_eq!(status(Version::HTTP_11, &[("host", "a"), ("host", "a")]), 400);
    }

    #[test]
    fn chunked_stands_alone() {
        for (codings, expected) in [
            ("chunked", 200),
            ("Chunked", 200),
            ("gzip, chunked", 501),
            ("chunked, chunked", 400),
            ("identity, chunked", 501),
        ] {
            let headers = [("host", "a"), ("transfer-encoding", codings)];
            assert_eq!(status(Version::HTTP_11, &headers), expected, "{codings}");
        }
    }
}
