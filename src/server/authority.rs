//! Builds the authority from the settings.

use std::sync::Arc;

use super::error::StartError;
use crate::auth::{
    AuthOptions, Authority, CertificateName, IssuerOptions, ThrottleLimits, exposure_of_secret, exposures,
};
use crate::config::{AuthMode, ClientName, Settings};

/// Opens the authority over the data directory. Fails if others could log in with the well-known password.
pub(super) fn open(settings: &Settings) -> Result<Arc<Authority>, StartError> {
    let throttle = ThrottleLimits {
        per_minute: u32::try_from(settings.throttle.failures).unwrap_or(u32::MAX),
        longest_wait: settings.throttle.max_wait,
        ..ThrottleLimits::default()
    };
    let options = AuthOptions {
        token_ttl: settings.token.ttl,
        max_token_ttl: settings.token.max_ttl,
        throttle,
        issuer: issuer(settings),
        certificate_name: match settings.tls_client_name {
            ClientName::Common => CertificateName::Common,
            ClientName::Alternative => CertificateName::Alternative,
        },
        ..AuthOptions::default()
    };
    let (authority, opened) = Authority::open(&settings.data_dir, options)?;
    warn_of_exposures(settings);
    if opened.created {
        tracing::warn!(
            "first start: created the user rocketskates with the well-known password r0cketsk8ts; change it, as the \
             user of the server, with `hydrant users passwd rocketskates --password-stdin --data-dir {}`",
            settings.data_dir.display()
        );
    }
    let mut addresses = settings.listen.iter().chain(&settings.listen_proxy_protocol);
    let open_to_others = addresses.find(|address| !address.ip().is_loopback());
    if let Some(&address) = open_to_others
        && !settings.allow_default_credentials
        && settings.auth_mode() != AuthMode::Upstream
        && authority.has_default_password()
    {
        return Err(StartError::DefaultCredentials { address, data_dir: settings.data_dir.clone() });
    }
    Ok(Arc::new(authority))
}

/// Warns of secrets that others on the machine can reach. Not an error: volumes of containers often belong to a group.
fn warn_of_exposures(settings: &Settings) {
    let nats = &settings.nats;
    let elsewhere = [
        &settings.tls_key,
        &settings.upstream.password_file,
        &settings.upstream.token_file,
        &nats.password_file,
        &nats.token_file,
        &nats.nkey_file,
        &nats.creds_file,
        &nats.key_file,
    ];
    let elsewhere = elsewhere.into_iter().flatten().filter_map(|path| exposure_of_secret(path));
    for exposure in exposures(&settings.data_dir).into_iter().chain(elsewhere) {
        tracing::warn!("{exposure}");
    }
}

/// Returns the settings of the external issuer, if one is configured.
fn issuer(settings: &Settings) -> Option<IssuerOptions> {
    let token = &settings.token;
    Some(IssuerOptions {
        jwks: token.jwks.clone()?,
        issuer: token.issuer.clone(),
        audience: token.audience.clone(),
        user_claim: token.principal_claim.clone(),
        roles_claim: Some(token.roles_claim.clone()).filter(|claim| !claim.is_empty()),
    })
}
