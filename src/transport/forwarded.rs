//! The client of a request behind proxies.
//!
//! Contract: pure. Only proxies in [`TrustedProxies`] are trusted, each about its own neighbour only: the list of
//! addresses is read from its end, where the nearest proxy writes, and whatever precedes the first address that is not
//! a trusted proxy is only the client's claim. `X-Forwarded-For` and `Forwarded` (RFC 7239) are read. If a request has
//! both and they name different clients, a proxy has passed one of them through, and the client may have forged it:
//! then neither is trusted, and the request counts as the proxy's. The same holds for an address that cannot be parsed.
//! So no client can choose the address by which failed logins are limited.
//!
//! At most [`MOST`] addresses are read, from the end.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName};
use ipnet::IpNet;

/// Maximum number of addresses of one header that are read.
const MOST: usize = 32;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Networks whose proxies and balancers are trusted.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// An address with its port, where one is given.
type Node = (IpAddr, Option<u16>);

/// What a trusted proxy reports about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarded {
    /// The client's address, with the proxy's port if none is given.
    pub client: SocketAddr,
    /// Whether the client used TLS, if that is given.
    pub secure: Option<bool>,
}

impl TrustedProxies {
    /// Creates the set of the proxies in these networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Returns whether this address belongs to one of the networks.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Returns what `peer` reports about the request with these headers; `None` if it is not trusted, or reports
    /// nothing.
    pub fn read(&self, headers: &HeaderMap, peer: SocketAddr) -> Option<Forwarded> {
        if self.0.is_empty() || !self.trusts(peer.ip()) {
            return None;
        }
        let plain = texts(headers, &FORWARDED_FOR).map(|text| self.client(&plain_nodes(&text), peer.ip()));
        let standard = texts(headers, &FORWARDED).map(|text| self.client(&standard_nodes(&text), peer.ip()));
        let node = match (plain, standard) {
            (None, None) => return None,
            (Some(one), None) | (None, Some(one)) => one,
            (Some(one), Some(other)) if one.0 == other.0 => (one.0, one.1.or(other.1)),
            _ => (peer.ip(), None),
        };
        let client = SocketAddr::new(node.0, node.1.unwrap_or(peer.port()));
        Some(Forwarded { client, secure: secure(headers) })
    }

    /// Returns the first address from the end that is not a trusted proxy's, or the last one before an address that
    /// cannot be parsed.
    fn client(&self, nodes: &[Option<Node>], peer: IpAddr) -> Node {
        let mut client = (peer, None);
        for node in nodes.iter().rev().take(MOST) {
            let Some(node) = node else { break };
            client = *node;
            if !self.trusts(client.0) {
                break;
            }
        }
        client
    }
}

/// Returns the values of a header as one list, if there is one.
fn texts(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or("?")).collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// Returns the addresses of `X-Forwarded-For`.
fn plain_nodes(text: &str) -> Vec<Option<Node>> {
    text.split(',').map(node).collect()
}

/// Returns the addresses of `Forwarded`; a header that violates the grammar counts as an address that cannot be parsed.
fn standard_nodes(text: &str) -> Vec<Option<Node>> {
    let Some(elements) = split(text, ',') else { return vec![None] };
    let of_element = |element: &str| {
        let pairs = split(element, ';')?;
        let mut values = pairs.iter().filter_map(|pair| pair.split_once('='));
        let (_, value) = values.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
        node(unquoted(value.trim()))
    };
    elements.into_iter().map(of_element).collect()
}

/// Splits outside quotes; returns `None` if a quote is not closed.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut quoted, mut escaped, mut start, mut parts) = (false, false, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

/// Returns a value without its quotes. No address needs an escape.
fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// Parses `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1` or `[2001:db8::1]:4711`.
fn node(text: &str) -> Option<Node> {
    let text = text.trim();
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some((address.ip().to_canonical(), Some(address.port())));
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    Some((bare.parse::<IpAddr>().ok()?.to_canonical(), None))
}

/// Returns whether the client used TLS, according to the proxy that wrote last.
fn secure(headers: &HeaderMap) -> Option<bool> {
    let told = texts(headers, &FORWARDED_PROTO)?;
    match told.rsplit(',').next()?.trim().to_ascii_lowercase().as_str() {
        "https" | "wss" => Some(true),
        "http" | "ws" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.9:4000";

    fn client(headers: &[(&'static str, &str)]) -> Option<String> {
        let trusted = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()]);
        client_at(&trusted, headers, PROXY)
    }

    fn client_at(trusted: &TrustedProxies, headers: &[(&'static str, &str)], peer: &str) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        trusted.read(&map, peer.parse().unwrap()).map(|forwarded| forwarded.client.to_string())
    }

    #[test]
    fn the_first_address_from_the_end_that_is_no_proxys_is_the_clients() {
        let xff = "x-forwarded-for";
        for (headers, expected) in [
            (vec![(xff, "192.0.2.1")], "192.0.2.1:4000"),
            (vec![(xff, "192.0.2.1:77")], "192.0.2.1:77"),
            (vec![(xff, "203.0.113.5, 192.0.2.1")], "192.0.2.1:4000"),
            (vec![(xff, "203.0.113.5, 192.0.2.1, 10.1.2.3")], "192.0.2.1:4000"),
            (vec![(xff, "203.0.113.5"), (xff, "192.0.2.1")], "192.0.2.1:4000"),
            (vec![(xff, "::ffff:192.0.2.1")], "192.0.2.1:4000"),
            (vec![(xff, "2001:db8::5")], "[2001:db8::5]:4000"),
            (vec![(xff, "[2001:db8::5]:9, 2001:db8:1::1")], "[2001:db8::5]:9"),
            (vec![(xff, "10.1.1.1, 10.2.2.2")], "10.1.1.1:4000"),
            (vec![(xff, "192.0.2.1, unknown")], PROXY),
            (vec![(xff, "192.0.2.1, unknown, 10.5.5.5")], "10.5.5.5:4000"),
            (vec![(xff, "")], PROXY),
            (vec![("forwarded", "for=192.0.2.1")], "192.0.2.1:4000"),
            (vec![("forwarded", "For=\"[2001:db8::5]:4711\";proto=https, for=10.1.1.1;by=x")], "[2001:db8::5]:4711"),
            (vec![("forwarded", "proto=http;for=192.0.2.1;by=\"a,for=203.0.113.9\"")], "192.0.2.1:4000"),
            (vec![("forwarded", "for=\"192.0.2.1"), ("forwarded", "for=203.0.113.9")], PROXY),
            (vec![("forwarded", "for=_hidden")], PROXY),
            (vec![("forwarded", "proto=https")], PROXY),
            (vec![(xff, "192.0.2.1"), ("forwarded", "for=\"192.0.2.1:5\"")], "192.0.2.1:5"),
            (vec![(xff, "192.0.2.1"), ("forwarded", "for=203.0.113.9")], PROXY),
        ] {
            assert_eq!(client(&headers).as_deref(), Some(expected), "{headers:?}");
        }
        assert_eq!(client(&[]), None);
    }

    #[test]
    fn nobody_else_is_believed() {
        let headers = [("x-forwarded-for", "203.0.113.9")];
        assert_eq!(client_at(&TrustedProxies::default(), &headers, PROXY), None);
        let trusted = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        for peer in ["192.0.2.7:1", "[::1]:1", "[2001:db8:1::1]:1"] {
            assert_eq!(client_at(&trusted, &headers, peer), None, "{peer}");
        }
        assert!(client_at(&trusted, &headers, "[::ffff:10.0.0.1]:1").is_some());
    }

    #[test]
    fn the_last_proxy_says_whether_the_client_used_tls() {
        let trusted = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        for (value, expected) in
            [("https", Some(true)), ("HTTP", Some(false)), ("https, http", Some(false)), ("x", None)]
        {
            let mut map = HeaderMap::new();
            map.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
            map.insert("x-forwarded-proto", value.parse().unwrap());
            assert_eq!(trusted.read(&map, PROXY.parse().unwrap()).unwrap().secure, expected, "{value}");
        }
    }

    proptest! {
        /// Whatever a client sends, it cannot pass for another one once a proxy has appended its address.
        #[test]
        fn a_client_cannot_be_another(
            claims in proptest::collection::vec("[ -~]{0,40}", 0..4), standard in any::<bool>()
        ) {
            let name = if standard { "forwarded" } else { "x-forwarded-for" };
            let added = if standard { "for=192.0.2.1" } else { "192.0.2.1" };
            let mut headers: Vec<(&'static str, &str)> = claims.iter().map(|claim| (name, claim.as_str())).collect();
            headers.push((name, added));
            let found = client(&headers).unwrap();
            prop_assert!(found == "192.0.2.1:4000" || found == PROXY, "{} of {:?}", found, headers);
            // The other header is entirely the client's own.
            let other = if standard { "x-forwarded-for" } else { "forwarded" };
            headers.extend(claims.iter().map(|claim| (other, claim.as_str())));
            let found = client(&headers).unwrap();
            prop_assert!(found.starts_with("192.0.2.1:") || found == PROXY, "{} of {:?}", found, headers);
        }
    }
}
