//! Connects a server to DRP endpoints: the one it stands in front of, and those whose events it follows.

use std::sync::Arc;

use tokio::sync::watch;

use super::error::StartError;
use super::{Server, guarded, vital};
use crate::auth::{Authority, StoreError};
use crate::broker::Broker;
use crate::broker::archive::Wake;
use crate::broker::origin::Trace;
use crate::client::Bounds;
use crate::config::{Auth, AuthMode, Proxy, Settings, UpstreamTls};
use crate::endpoint::events::{Link, LinkSettings};
use crate::endpoint::http::{Upstream, UpstreamLimits};
use crate::endpoint::identity::{Delegation, DelegationLimits};
use crate::endpoint::objects;
use crate::metrics::Source;

/// The minimum number of cached identities, because callers of REST need them too.
const LEAST_CACHED_IDENTITIES: usize = 16_384;

impl Server {
    /// Learns which types of objects the endpoint has.
    pub(super) fn learn_types(&mut self, mut stop: watch::Receiver<bool>) {
        let Some(upstream) = self.api.upstream.clone() else { return };
        let pool = Arc::clone(&self.api.pool);
        let learn = async move {
            tokio::select! {
                Some(types) = objects::types(&upstream) => pool.set_types(&types),
                _ = stop.changed() => {}
                else => {}
            }
        };
        self.tasks.push(guarded("the reading of the endpoint's types", learn));
    }

    /// Reads the endpoint's users, roles and tenants when they change.
    pub(super) fn follow_endpoint(&mut self, stop: watch::Receiver<bool>) {
        if let Some(delegation) = self.api.delegation.clone() {
            let stopped = stop.clone();
            let follow = async move { delegation.follow(stop).await };
            self.tasks.push(vital("the reading of the endpoint's users and roles", stopped, follow));
        }
    }
}

/// Returns the endpoint that serves all requests not meant for this server itself.
pub(super) fn proxied(settings: &Settings) -> Option<Arc<Upstream>> {
    let Proxy { connect, answer, idle, requests, .. } = settings.proxy;
    let limits = UpstreamLimits { connect, answer, idle, requests };
    settings.proxied().map(|service| Arc::new(Upstream::new(service, limits)))
}

/// Returns the authenticator of credentials that are not this server's own.
pub(super) fn delegation(
    settings: &Settings,
    upstream: Option<&Arc<Upstream>>,
    authority: &Arc<Authority>,
    broker: &Arc<Broker>,
) -> Result<Option<Arc<Delegation>>, StartError> {
    let Some(upstream) = upstream.filter(|_| settings.auth_mode() != AuthMode::Local) else { return Ok(None) };
    let Auth { fresh, away, refresh, .. } = settings.auth;
    // All connected clients must be able to reconnect while the endpoint is away.
    let cached_identities = settings.limits.connections.max(LEAST_CACHED_IDENTITIES);
    let limits = DelegationLimits { fresh, good: away, refresh, cached_identities };
    let metrics = Arc::clone(broker.metrics());
    let delegation = Delegation::new(Arc::clone(upstream), Arc::clone(authority), limits, metrics);
    let waking = Arc::downgrade(broker);
    let wake = Wake::new(move || waking.upgrade().iter().for_each(|broker| broker.wake_shards()));
    let delegation = Arc::new(delegation.map_err(StoreError::from)?.with_wake(wake));
    let observer = Arc::downgrade(&delegation);
    broker.observe(move |event, source, trace| {
        if let Some(delegation) = observer.upgrade().filter(|_| came_over_a_link(source, trace)) {
            delegation.saw(event.kind(), event.action(), event.key());
        }
    });
    Ok(Some(delegation))
}

/// Returns whether an event came over a link to an endpoint, here or at another node, or is a notice that such events
/// are missing. An event that a client has posted at any node, whatever its Type, is not evidence of the endpoint's
/// state.
fn came_over_a_link(source: Source, trace: Option<Trace>) -> bool {
    match source {
        Source::Upstream => true,
        Source::Nats => trace.is_none_or(|trace| trace.repeat_index.is_some()),
        Source::Post | Source::Demo | Source::Connections => false,
    }
}

/// Creates the links without connecting them.
pub(super) fn links(settings: &Settings, broker: &Arc<Broker>) -> Vec<Link> {
    let upstream = &settings.upstream;
    if upstream.tls == UpstreamTls::Insecure && upstream.urls.iter().any(|url| url.tls) {
        tracing::warn!(
            "upstream.tls = \"insecure\": anyone on the network path to an endpoint can read hydrant's password or \
             token"
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
    let services = upstream.services(settings.limits.socket_buffer).into_iter();
    services.map(|service| Link::new(service, link.clone(), Arc::clone(broker))).collect()
}

/// Returns the position in a chain of hydrants; 0 without upstreams.
pub(super) fn tier(settings: &Settings) -> u64 {
    if settings.upstream.urls.is_empty() { 0 } else { settings.upstream.tier }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::origin::Origin;

    #[test]
    fn what_clients_post_at_any_node_is_no_evidence() {
        let origin = Origin { node: 2, number: 7 };
        let trace = |repeat_index| Some(Trace { origin, repeat_index });
        assert!(came_over_a_link(Source::Upstream, trace(Some(1))) && came_over_a_link(Source::Upstream, None));
        assert!(came_over_a_link(Source::Nats, trace(Some(1))), "another node's link");
        assert!(came_over_a_link(Source::Nats, None), "this node's notice that events of others are missing");
        assert!(!came_over_a_link(Source::Nats, trace(None)), "posted at another node");
        assert!(!came_over_a_link(Source::Post, trace(None)) && !came_over_a_link(Source::Demo, None));
    }
}
