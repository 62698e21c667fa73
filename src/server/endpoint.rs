//! A server's ties to the endpoint that it stands in front of.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Server, StartError};
use crate::auth::{Authority, StoreError};
use crate::broker::Broker;
use crate::config::{Auth, AuthMode, Proxy, Settings};
use crate::endpoint::http::{Upstream, UpstreamLimits};
use crate::endpoint::identity::{Delegation, DelegationLimits};
use crate::metrics::Source;
use crate::protocol::gap::HYDRANT;

/// REST has callers too.
const LEAST_VERDICTS: usize = 16_384;

impl Server {
    /// Reads the endpoint's users, roles and tenants when they change.
    pub(super) fn follow_endpoint(&mut self, stop: watch::Receiver<bool>) {
        if let Some(delegation) = self.api.delegation.clone() {
            self.tasks.push(tokio::spawn(async move { delegation.follow(stop).await }));
        }
    }
}

/// The endpoint that gets what is not for this server itself.
pub(super) fn proxied(settings: &Settings) -> Option<Arc<Upstream>> {
    let Proxy { connect, answer, idle, requests, .. } = settings.proxy;
    let limits = UpstreamLimits { connect, answer, idle, requests };
    settings.proxied().map(|service| Arc::new(Upstream::new(service, limits)))
}

/// Who checks credentials that are not this server's own.
pub(super) fn delegation(
    settings: &Settings,
    upstream: Option<&Arc<Upstream>>,
    authority: &Arc<Authority>,
    broker: &Broker,
) -> Result<Option<Arc<Delegation>>, StartError> {
    let Some(upstream) = upstream.filter(|_| settings.auth_mode() != AuthMode::Local) else { return Ok(None) };
    let Auth { fresh, away, refresh, .. } = settings.auth;
    // Whoever is connected may come back while the endpoint is away.
    let verdicts = settings.limits.connections.max(LEAST_VERDICTS);
    let limits = DelegationLimits { fresh, good: away, refresh, verdicts };
    let metrics = Arc::clone(broker.metrics());
    let delegation = Delegation::new(Arc::clone(upstream), Arc::clone(authority), limits, metrics);
    let delegation = delegation.map_err(StoreError::from)?;
    let delegation = Arc::new(delegation);
    let observer = Arc::downgrade(&delegation);
    broker.observe(move |event, source| {
        // A gap that somebody posts here is none.
        let made_up = event.kind() == HYDRANT && !matches!(source, Source::Upstream | Source::Nats);
        if let Some(delegation) = observer.upgrade().filter(|_| !made_up) {
            delegation.saw(event.kind(), event.action(), event.key());
        }
    });
    Ok(Some(delegation))
}
