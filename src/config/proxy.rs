//! The endpoint that hydrant stands in front of: which one it is, and what must hold for it.

use super::kind::AuthMode;
use super::raw::RawSettings;
use super::settings::Settings;
use crate::client::{Endpoint, Service};

/// The words that are no URLs.
const FIRST: &str = "first";
const OFF: &str = "off";

impl Settings {
    /// The endpoint that gets what is not for this server itself.
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
    /// Who checks credentials; never [`AuthMode::Auto`].
    pub fn auth_mode(&self) -> AuthMode {
        match self.auth.mode {
            AuthMode::Auto if self.proxied().is_some() => AuthMode::Upstream,
            AuthMode::Auto => AuthMode::Local,
            mode => mode,
        }
    }
}

/// Adds what does not go together to `raw`'s errors.
pub(super) fn check(settings: &Settings, raw: &mut RawSettings) {
    let named = settings.proxy.upstream.as_str();
    let known = |url: Endpoint| settings.upstream.urls.contains(&url);
    if !matches!(named, FIRST | OFF) && !named.parse().is_ok_and(known) {
        let reason = "neither `first` nor `off` nor one of upstream.urls".to_owned();
        raw.refuse(&["proxy.upstream", "upstream.urls"], reason);
    }
    let (mode, away) = (settings.auth_mode(), settings.proxied().is_none());
    if away && matches!(mode, AuthMode::Upstream | AuthMode::Both) {
        let reason = format!("`{}` needs an endpoint that is proxied to", mode.name());
        raw.refuse(&["auth.mode", "upstream.urls", "proxy.upstream"], reason);
    }
    if settings.auth.away < settings.auth.fresh {
        raw.refuse(&["auth.away", "auth.fresh"], "shorter than auth.fresh".to_owned());
    }
}
