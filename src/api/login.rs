//! Decides who checks a caller's credentials, and which requests belong to the endpoint.
//!
//! A caller authenticated by the endpoint belongs to the endpoint: it posts events there, so that the endpoint's
//! plugins see them (they come back by the stream), and fetches tokens and `info` there. A caller with hydrant's own
//! credentials, which the endpoint does not know, is served by hydrant.

use std::net::IpAddr;

use hyper::body::{Body as _, Incoming};
use hyper::{Method, Request};

use super::proxy::{BodyLimit, vouch};
use super::routes::Route;
use super::{Api, ApiError};
use crate::auth::{AuthError, Credential, Identity};
use crate::endpoint::http::UpstreamError;
use crate::transport::caller::Caller;
use crate::transport::listener::Answer;

impl Api {
    /// Checks credentials: those of this server's own users and tokens here, others at the endpoint.
    pub(super) async fn login(&self, credential: Credential, peer: IpAddr) -> Result<Identity, AuthError> {
        let Some(delegation) = &self.delegation else { return self.authority.login(credential, peer).await };
        let ours = match &credential {
            Credential::Basic { user, .. } => self.own_users && self.authority.has_user(user),
            Credential::Bearer(_) => self.own_users,
            Credential::Certificate(_) => true,
        };
        if ours {
            match self.authority.login(credential.clone(), peer).await {
                // The token may be the endpoint's.
                Err(AuthError::Denied) if matches!(credential, Credential::Bearer(_)) => {}
                decision => return decision,
            }
        }
        delegation.login(&credential, peer).await
    }

    /// Returns whether the endpoint answers a request although it is one of our routes; without an identity, whether
    /// that holds for every caller.
    pub(super) fn is_endpoints(&self, route: Route, identity: Option<&Identity>) -> bool {
        let theirs = identity.map_or(self.delegation.is_some() && !self.own_users, Identity::is_endpoints);
        let callers = matches!(
            route,
            Route::Events | Route::Info | Route::UserToken | Route::PostUserToken | Route::MachineToken
        );
        callers && theirs
    }

    /// Has the endpoint answer such a request.
    pub(super) async fn pass_to_endpoint(
        &self,
        route: Route,
        mut request: Request<Incoming>,
        caller: &Caller,
    ) -> Result<Answer, ApiError> {
        let upstream = self.upstream.as_ref().ok_or(ApiError::NoRoute)?;
        if route == Route::Events {
            self.bound_event(&mut request)?;
        }
        if route != Route::Info {
            return self.forward_and_check_trust(upstream, request, caller).await;
        }
        if request.method() == Method::HEAD {
            *request.method_mut() = Method::GET;
        }
        let shown = vouch::shown(&request);
        let answer = self.their_info(upstream, request.map(Some), caller).await?;
        self.check_trust(upstream, shown, answer.status(), caller).await;
        Ok(answer)
    }

    /// Limits an event for the endpoint: a longer one would exceed the limit when it comes back in the endpoint's
    /// stream.
    fn bound_event(&self, request: &mut Request<Incoming>) -> Result<(), ApiError> {
        let allowed = self.limits.event_bytes;
        if request.body().size_hint().lower() > allowed as u64 {
            return Err(UpstreamError::TooLong { allowed }.into());
        }
        request.extensions_mut().insert(BodyLimit(allowed));
        Ok(())
    }
}
