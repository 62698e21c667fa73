//! From the settings to the links to upstream endpoints.

use std::sync::Arc;

use crate::broker::Broker;
use crate::client::Bounds;
use crate::config::{Settings, UpstreamTls};
use crate::endpoint::events::{Link, LinkSettings};

/// The links, not connected yet.
pub(super) fn links(settings: &Settings, broker: &Arc<Broker>) -> Vec<Link> {
    let upstream = &settings.upstream;
    if upstream.tls == UpstreamTls::Insecure && upstream.urls.iter().any(|url| url.tls) {
        tracing::warn!(
            "upstream.tls = \"insecure\": whoever stands between here and an endpoint can read the password"
        );
    }
    let link = LinkSettings {
        register: upstream.register.clone(),
        connect: upstream.connect,
        answer: upstream.answer,
        bounds: Bounds { message_bytes: settings.limits.event_bytes, ping: upstream.ping, silence: upstream.idle },
        backoff_min: upstream.backoff_min,
        backoff_max: upstream.backoff_max,
        spread: upstream.spread,
        tier: upstream.tier,
    };
    upstream.services().into_iter().map(|service| Link::new(service, link.clone(), Arc::clone(broker))).collect()
}

/// Place in a chain of hydrants; 0 without upstreams.
pub(super) fn tier(settings: &Settings) -> u64 {
    if settings.upstream.urls.is_empty() { 0 } else { settings.upstream.tier }
}
