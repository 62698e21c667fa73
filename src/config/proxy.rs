//! The endpoint to which hydrant forwards requests, and the checks on the settings about it.

use super::kind::AuthMode;
use super::raw::RawSettings;
use super::settings::Settings;
use crate::client::{Endpoint, Service};

/// The values that are not URLs.
const FIRST: &str = "first";
const OFF: &str = "off";

impl Settings {
    /// Returns the endpoint to which requests that this server does not serve itself are forwarded.
    pub fn proxied(&self) -> Option<Service> {
        let mut services = self.upstream.services(self.limits.socket_buffer).into_iter();
        match self.proxy.upstream.as_str() {
            OFF => None,
            FIRST => services.next(),
            url => services.find(|service| url.parse().is_ok_and(|url: Endpoint| url == service.endpoint)),
        }
    }
}

impl Settings {
    /// Returns who checks credentials; never [`AuthMode::Auto`].
    pub fn auth_mode(&self) -> AuthMode {
        match self.auth.mode {
            AuthMode::Auto if self.proxied().is_some() => AuthMode::Upstream,
            AuthMode::Auto => AuthMode::Local,
            mode => mode,
        }
    }
}

/// Adds errors for settings that contradict each other.
pub(super) fn check(settings: &Settings, raw: &mut RawSettings) {
    let named = settings.proxy.upstream.as_str();
    let known = |url: Endpoint| settings.upstream.urls.contains(&url);
    if !matches!(named, FIRST | OFF) && !named.parse().is_ok_and(known) {
        let reason = "must be `first`, `off` or one of upstream.urls".to_owned();
        raw.refuse(&["proxy.upstream", "upstream.urls"], reason);
    }
    let (mode, away) = (settings.auth_mode(), settings.proxied().is_none());
    if away && matches!(mode, AuthMode::Upstream | AuthMode::Both) {
        let reason = format!("`{}` requires an endpoint that requests are proxied to", mode.name());
        raw.refuse(&["auth.mode", "upstream.urls", "proxy.upstream"], reason);
    }
    if settings.auth.away < settings.auth.fresh {
        raw.refuse(&["auth.away", "auth.fresh"], "must not be shorter than auth.fresh".to_owned());
    }
}
