//! Checks that settings are consistent with each other.

use std::net::SocketAddr;

use super::kind::{AuthMode, DeflateMode, TlsMode};
use super::raw::{RawSettings, readable};
use super::settings::Settings;
use super::{nats, pem, proxy, upstream};

/// Events are framed with 32-bit offsets; this limit leaves room for both objects and the envelope.
const LONGEST_EVENT: usize = 1 << 30;

/// Adds errors for settings that contradict each other.
pub(super) fn all(settings: &Settings, raw: &mut RawSettings) {
    tls(settings, raw);
    client_ca(settings, raw);
    issuer(settings, raw);
    addresses(settings, raw);
    limits(settings, raw);
    times(settings, raw);
    upstream::check(settings, raw);
    proxy::check(settings, raw);
    nats::check(settings, raw);
    otel(settings, raw);
    deflate(settings, raw);
}

/// Notes that nothing will be compressed, though it is asked for.
fn deflate(settings: &Settings, raw: &mut RawSettings) {
    let (least, most) = (settings.deflate.min_bytes, settings.deflate.max_bytes);
    if settings.deflate.mode == DeflateMode::On && least > most {
        let note = format!("{least} bytes is more than deflate.max_bytes ({most} bytes), so no event is compressed");
        raw.note("deflate.min_bytes", &note);
    }
}

/// Refuses a collector in a build that cannot send spans: an operator would wait for them in vain.
fn otel(settings: &Settings, raw: &mut RawSettings) {
    if cfg!(not(feature = "otel")) && settings.otel.endpoint.is_some() {
        let reason = "this build cannot send spans: it was built without the feature `otel`";
        raw.refuse(&["otel.endpoint"], reason.to_owned());
    }
}

fn tls(settings: &Settings, raw: &mut RawSettings) {
    let files = [("tls_cert", &settings.tls_cert), ("tls_key", &settings.tls_key)];
    for (key, path) in files {
        match (settings.tls, path) {
            (TlsMode::Files, None) => raw.refuse(&[key, "tls"], "required with tls = \"files\"".to_owned()),
            (TlsMode::Files, Some(_)) | (_, None) => {}
            (_, Some(_)) => {
                let mode = settings.tls.name();
                raw.refuse(&[key, "tls"], format!("has no effect with tls = \"{mode}\"; set tls = \"files\""));
            }
        }
    }
    if let (TlsMode::Files, Some(certificate), Some(key)) = (settings.tls, &settings.tls_cert, &settings.tls_key) {
        pem::pair(("tls_cert", certificate), ("tls_key", key), raw);
    }
}

fn client_ca(settings: &Settings, raw: &mut RawSettings) {
    match (&settings.tls_client_ca, settings.tls) {
        (Some(_), TlsMode::Off) => {
            raw.refuse(&["tls_client_ca", "tls"], "has no effect with tls = \"off\"".to_owned());
        }
        (Some(path), _) => pem::authorities("tls_client_ca", path, raw),
        (None, _) => {}
    }
}

fn issuer(settings: &Settings, raw: &mut RawSettings) {
    let token = &settings.token;
    let needed = [("token.issuer", &token.issuer), ("token.audience", &token.audience)];
    let Some(path) = &token.jwks else {
        for (key, _) in
            needed.into_iter().chain([("token.roles_claim", &token.roles_claim)]).filter(|(_, text)| !text.is_empty())
        {
            raw.refuse(&[key, "token.jwks"], "has no effect without token.jwks".to_owned());
        }
        return;
    };
    readable("token.jwks", path, raw);
    if settings.auth_mode() == AuthMode::Upstream {
        let reason = "has no effect with auth.mode = \"upstream\" (which `auto` means in front of an endpoint), \
            because the endpoint then checks every token; set auth.mode = \"both\" to accept these tokens as well";
        raw.refuse(&["token.jwks", "auth.mode"], reason.to_owned());
    }
    for (key, _) in needed
        .into_iter()
        .chain([("token.principal_claim", &token.principal_claim)])
        .filter(|(_, text)| text.is_empty())
    {
        raw.refuse(&[key, "token.jwks"], "required with token.jwks".to_owned());
    }
}

fn addresses(settings: &Settings, raw: &mut RawSettings) {
    let of = |key: &'static str, all: &[SocketAddr]| all.iter().map(|address| (key, *address)).collect::<Vec<_>>();
    let all = [of("listen", &settings.listen), of("listen_proxy_protocol", &settings.listen_proxy_protocol)].concat();
    for (i, (key, one)) in all.iter().enumerate() {
        if let Some((_, other)) = all[..i].iter().find(|(_, other)| clash(one, other)) {
            raw.refuse(&[key, "listen"], format!("{one} and {other} cannot both be bound"));
        }
    }
    if !settings.listen_proxy_protocol.is_empty() && settings.trusted_proxies.is_empty() {
        let reason = "requires trusted_proxies, the balancer's network: without it every connection is refused";
        raw.refuse(&["listen_proxy_protocol", "trusted_proxies"], reason.to_owned());
    }
    let Some(metrics) = settings.metrics_listen else { return };
    if let Some((key, other)) = all.iter().find(|(_, other)| clash(&metrics, other)) {
        raw.refuse(&["metrics_listen", key], format!("{metrics} conflicts with {key} ({other})"));
    }
}

/// Returns whether two addresses cannot both be bound. Port 0 is any free port and clashes with nothing. The IPv6
/// wildcard also covers the ports of IPv4.
fn clash(a: &SocketAddr, b: &SocketAddr) -> bool {
    let covers = |a: &SocketAddr, b: &SocketAddr| a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || covers(a, b) || covers(b, a))
}

fn limits(settings: &Settings, raw: &mut RawSettings) {
    let event = settings.limits.event_bytes;
    let below = [("limits.body_bytes", settings.limits.body_bytes), ("inbox.bytes", settings.inbox.bytes)];
    for (key, bytes) in below {
        if bytes < event {
            let reason = format!("{bytes} bytes is less than limits.event_bytes ({event} bytes)");
            raw.refuse(&[key, "limits.event_bytes"], reason);
        }
    }
    if event > LONGEST_EVENT {
        raw.refuse(&["limits.event_bytes"], format!("{event} bytes is more than the maximum of 1 GiB"));
    }
}

fn times(settings: &Settings, raw: &mut RawSettings) {
    let (ping, idle) = (settings.timeouts.ping, settings.timeouts.idle);
    if ping >= idle {
        let reason =
            format!("{ping:?} must be shorter than timeouts.idle ({idle:?}), otherwise idle clients are disconnected");
        raw.refuse(&["timeouts.ping", "timeouts.idle"], reason);
    }
    let (ttl, max) = (settings.token.ttl, settings.token.max_ttl);
    if ttl > max {
        raw.refuse(&["token.ttl", "token.max_ttl"], format!("{ttl:?} is longer than token.max_ttl ({max:?})"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_clash_by_port_and_reach() {
        let clashes = |a: &str, b: &str| clash(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(clashes("127.0.0.1:1", "127.0.0.1:1"));
        assert!(clashes("0.0.0.0:1", "127.0.0.1:1"));
        assert!(clashes("127.0.0.1:1", "[::]:1"));
        assert!(clashes("[::1]:1", "[::]:1"));
        assert!(!clashes("0.0.0.0:1", "[::1]:1"));
        assert!(!clashes("127.0.0.1:1", "127.0.0.2:1"));
        assert!(!clashes("127.0.0.1:0", "127.0.0.1:0"));
    }
}
