//! What a proxy does to headers (RFC 9110, sections 7.6.1 and 7.6.3).
//!
//! Pure. Hop-by-hop headers are removed; all others pass unchanged, including repeated and unknown ones.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE, VIA,
};

/// Hop-by-hop headers, whether `Connection` lists them or not.
const HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Removes hop-by-hop headers; returns the protocol of an upgrade, if there is one. A length that contradicts the
/// chunks in which a body came is removed too (RFC 9112, section 6.3).
fn take_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let names = tokens(headers);
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let upgrade = names.contains(&UPGRADE).then(|| headers.get(UPGRADE).cloned()).flatten();
    for name in HOP.iter().chain(&names) {
        headers.remove(name);
    }
    upgrade
}

/// Returns whether a request asks for an upgrade; `Connection` must list it too.
pub(super) fn asks_for_protocol(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE) && tokens(headers).contains(&UPGRADE)
}

/// Returns the names that `Connection` lists.
fn tokens(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// Sets the headers that request or accept an upgrade.
fn put_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// The origin of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    /// The peer of the connection: the client or a proxy.
    pub(super) peer: SocketAddr,
    /// Whether the client connected over TLS.
    pub(super) secure: bool,
    /// Whether the endpoint receives the addresses in `X-Forwarded-For`.
    pub(super) forwarded: bool,
    /// The client, if the peer is a trusted proxy.
    pub(super) client: Option<IpAddr>,
}

/// Rewrites the headers of a request to the endpoint. Returns whether the client asks for a websocket. Upgrades to
/// other protocols are not forwarded, because hydrant could not limit what they carry (`h2c` would allow any number of
/// requests).
pub(super) fn inbound(headers: &mut HeaderMap, origin: Origin) -> bool {
    let Origin { peer, secure, forwarded, client } = origin;
    let upgrade = take_hop(headers).filter(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let asks = upgrade.is_some();
    if let Some(protocol) = upgrade {
        put_upgrade(headers, protocol);
    }
    if forwarded {
        put_forwarded_for(headers, peer, client);
    } else {
        headers.remove(FORWARDED_FOR);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if secure { "https" } else { "http" }));
    // A client's statement about an earlier hop is only as reliable as the client; the host it requested is a fact.
    let host = headers.get(FORWARDED_HOST).filter(|_| client.is_some()).or_else(|| headers.get(HOST)).cloned();
    match host {
        Some(host) => headers.insert(FORWARDED_HOST, host),
        None => headers.remove(FORWARDED_HOST),
    };
    headers.append(VIA, HeaderValue::from_static("1.1 hydrant"));
    asks
}

/// Appends the peer to the addresses the request has passed through, preceded by the client if the peer names it in
/// another way.
fn put_forwarded_for(headers: &mut HeaderMap, peer: SocketAddr, client: Option<IpAddr>) {
    let mut path: Vec<String> =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok().map(str::to_owned)).collect();
    path.extend(client.filter(|_| path.is_empty()).map(|client| client.to_string()));
    path.push(peer.ip().to_canonical().to_string());
    if let Ok(path) = HeaderValue::from_str(&path.join(", ")) {
        headers.insert(FORWARDED_FOR, path);
    }
}

/// Rewrites the headers of an answer to the client. `changed` says whether the protocol changes.
pub(super) fn outbound(headers: &mut HeaderMap, changed: bool) {
    let upgrade = take_hop(headers);
    if let Some(protocol) = upgrade.filter(|_| changed) {
        put_upgrade(headers, protocol);
    }
}

/// Returns whether the client waits for `100 Continue` before it sends its body.
pub(super) fn waits(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    fn text(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    fn from(peer: &str, secure: bool) -> Origin {
        Origin { peer: peer.parse().unwrap(), secure, forwarded: true, client: None }
    }

    const PEER: &str = "192.0.2.7:1234";

    #[test]
    fn what_is_for_the_neighbour_stays_with_it() {
        let mut headers = map(&[
            ("host", "front:8092"),
            ("connection", "keep-alive, x-mine"),
            ("connection", "X-Forwarded-For"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-mine", "1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-host", "evil"),
            ("authorization", "Bearer t"),
            ("x-theirs", "a"),
            ("x-theirs", "b"),
        ]);
        assert!(!inbound(&mut headers, from(PEER, true)), "an upgrade that `Connection` does not name is none");
        assert_eq!(
            text(&headers),
            [
                "authorization: Bearer t",
                "host: front:8092",
                "via: 1.1 hydrant",
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-host: front:8092",
                "x-forwarded-proto: https",
                "x-theirs: a",
                "x-theirs: b",
            ]
        );
    }

    #[test]
    fn an_answer_in_chunks_has_no_other_length() {
        let mut headers = map(&[("content-length", "2"), ("transfer-encoding", "chunked"), ("x-theirs", "a")]);
        outbound(&mut headers, false);
        assert_eq!(text(&headers), ["x-theirs: a"]);
        let mut headers = map(&[("content-length", "2")]);
        outbound(&mut headers, false);
        assert_eq!(text(&headers), ["content-length: 2"]);
    }

    #[test]
    fn the_path_of_a_request_grows_by_the_peer() {
        let mut headers = map(&[("x-forwarded-for", "10.0.0.1, 10.0.0.2"), ("x-forwarded-for", "10.0.0.3")]);
        inbound(&mut headers, from("[::ffff:192.0.2.7]:1", false));
        assert_eq!(headers["x-forwarded-for"], "10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "http");
        headers.insert("x-forwarded-host", "drp.example".parse().unwrap());
        inbound(&mut headers, Origin { client: Some([192, 0, 2, 1].into()), ..from(PEER, true) });
        assert_eq!(headers["x-forwarded-host"], "drp.example", "a trusted proxy knows what its client asked");
        let mut bare = HeaderMap::new();
        inbound(&mut bare, Origin { client: Some([192, 0, 2, 1].into()), ..from(PEER, true) });
        assert_eq!(bare["x-forwarded-for"], "192.0.2.1, 192.0.2.7", "it said so by `Forwarded`");
        inbound(&mut headers, Origin { forwarded: false, ..from(PEER, false) });
        assert!(!headers.contains_key("x-forwarded-for"), "neither ours nor what the client said");
    }

    #[test]
    fn only_a_websocket_is_asked_for() {
        for (protocol, expected) in
            [("websocket", true), ("WebSocket", true), ("h2c", false), ("websocket, h2c", false)]
        {
            let mut headers = map(&[("connection", "Upgrade, HTTP2-Settings"), ("http2-settings", "AAMAAABk")]);
            headers.insert("upgrade", protocol.parse().unwrap());
            assert_eq!(inbound(&mut headers, from(PEER, true)), expected, "{protocol}");
            assert_eq!(headers.contains_key("upgrade"), expected, "{protocol}");
            assert!(!headers.contains_key("http2-settings"), "{protocol}");
        }
    }

    #[test]
    fn an_upgrade_is_asked_for_anew_and_agreed_to_only_with_the_status() {
        let asked = [("connection", "Upgrade"), ("upgrade", "websocket")];
        let mut headers = map(&asked);
        assert!(inbound(&mut headers, from(PEER, true)));
        assert_eq!(
            (&headers["connection"], &headers["upgrade"]),
            (&"Upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
        for changed in [true, false] {
            let mut headers = map(&asked);
            outbound(&mut headers, changed);
            assert_eq!(headers.contains_key("upgrade"), changed);
            assert_eq!(headers.contains_key("connection"), changed);
        }
    }
}
