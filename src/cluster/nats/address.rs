//! The address of a NATS server: `nats://HOST:PORT`, `tls://HOST:PORT`, or `HOST:PORT` as servers advertise each other.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// The default port of NATS servers.
const PORT: u16 = 4222;

/// The text is not the address of a NATS server.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0} is not the address of a NATS server, such as nats://host:4222")]
pub struct AddressError(String);

/// The address of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cluster) struct Address {
    /// A host name or IP address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Whether to use TLS even if the server does not require it.
    pub(super) tls: bool,
    /// The name its certificate is verified against, if that is not the host: servers advertise others by IP address.
    pub(super) name: Option<String>,
}

impl Address {
    /// Parses the address of a server that this one advertised. If it is an IP address, its certificate is verified
    /// against this server's name, unless this one has no name either.
    pub(super) fn named(&self, text: &str) -> Result<Self, AddressError> {
        let named: Self = text.parse()?;
        let own = self.name.as_ref().or_else(|| (!self.is_ip()).then_some(&self.host));
        let name = own.filter(|_| named.is_ip()).cloned();
        Ok(Self { tls: self.tls || named.tls, name, ..named })
    }

    /// Returns whether the host is an IP address.
    fn is_ip(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    /// Returns whether both have the same host and port.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError(text.to_owned());
        let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
        let ("nats" | "tls") = scheme else { return Err(error()) };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(error)?;
                (host, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or_else(error)?)
            }
            None => rest.rsplit_once(':').unwrap_or((rest, "")),
        };
        let port = if port.is_empty() { PORT } else { port.parse().map_err(|_| error())? };
        if host.is_empty() || host.contains(['/', '@', ' ']) {
            return Err(error());
        }
        Ok(Self { host: host.to_owned(), port, tls: scheme == "tls", name: None })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, bool)> {
        text.parse::<Address>().ok().map(|address| (address.to_string(), address.tls))
    }

    #[test]
    fn addresses_are_read() {
        assert_eq!(read("nats://a"), Some(("a:4222".to_owned(), false)));
        assert_eq!(read("tls://a.b:1/"), Some(("a.b:1".to_owned(), true)));
        assert_eq!(read("tls://[::1]"), Some(("[::1]:4222".to_owned(), true)));
        assert_eq!(read("10.0.0.1:9"), Some(("10.0.0.1:9".to_owned(), false)));
        for bad in ["", "http://a", "nats://", "nats://u@a", "nats://a:x", "nats://[::1]x", "nats://[::1"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn who_is_named_by_a_server_has_its_certificate() {
        let server: Address = "tls://nats.example".parse().unwrap();
        let named = server.named("10.0.0.2:4222").unwrap();
        assert_eq!((named.tls, named.name.as_deref()), (true, Some("nats.example")));
        assert!(!named.is_same(&server));
        assert_eq!(named.named("10.0.0.3").unwrap().name.as_deref(), Some("nats.example"), "it is passed on");
        assert_eq!(named.named("other.example").unwrap().name, None);
    }

    #[test]
    fn who_is_named_by_a_server_without_a_name_has_a_certificate_of_its_own() {
        for server in ["tls://10.0.0.1", "tls://[fd00::1]:4222"] {
            let server: Address = server.parse().unwrap();
            for named in ["10.0.0.2:4222", "[fd00::2]:4222", "nats.example"] {
                let named = server.named(named).unwrap();
                assert_eq!((named.tls, named.name), (true, None), "{server}");
            }
        }
    }
}
