//! `/api/v3/connections` and related routes: who is connected.
//!
//! | route | claim |
//! |---|---|
//! | `GET /connections` | connections/list; without it the list is empty, as in DRP |
//! | `GET /connections?Spec=SPEC` | connections/list and, for each connection, connections/get |
//! | `GET /connections/ADDR:PORT` | connections/get/ADDR:PORT; without it 404 |
//! | `DELETE /connections/ADDR:PORT` | connections/delete/ADDR:PORT |
//! | `GET /{machines,clusters,resource_brokers}/UUID/connections` | get of that object |
//!
//! The list has the filters `Type`, `Principal` and `RemoteAddr`, each a value, `Eq(...)`, `Ne(...)` or `In(...)`, and
//! `sort=queued` and `limit=N`. `Spec` lists the connections that hold a registration, which connections/get shows.
//!
//! Callers that ask at the same time, or permit a shared answer, use the same list of connections
//! ([`super::snapshot`]), with the same JSON of each connection. Callers for whom hydrant asks the endpoint with its
//! own credential share the endpoint's list too, and the endpoint sees the address of only one of them. Lists of the
//! endpoint that cannot be shared are requested [`UNSHARED`] at a time for each principal.
//!
//! Behind proxies, several connections can have the same address. `GET` and `DELETE` then refer to one of them, always
//! the same: the first one of the first shard that has any. The search waits for no turn, and [`SEARCHES`] run at a
//! time for each principal. A stuck shard delays only callers who ask for a connection that it may have; they soon get
//! 503.
//!
//! In front of an endpoint, the endpoint's connections follow ours, each marked with the field `Endpoint`. If the
//! endpoint does not return them, only ours are listed, and the header `X-Hydrant-Incomplete` says so. If a shard of
//! ours does not answer, the request fails: no list silently lacks a part.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{ACCEPT, HOST};
use hyper::{HeaderMap, Request, StatusCode};
use serde::Serialize;
use thiserror::Error;
use tokio::time::error::Elapsed;

use super::answer::{self, Incomplete};
use super::body::{Bodies, Held};
use super::list_filter::ListFilter;
use super::proxy::merge::{self, Theirs};
use super::proxy::{FetchError, Inquiry};
use super::snapshot::permitted_age;
use super::turn::Turn;
use super::{Api, ApiError, query};
use crate::auth::{Access, Authority, Identity, Principal};
use crate::broker::connection::Connection;
use crate::endpoint::http::Upstream;
use crate::fanout::control::Wanted;
use crate::fanout::pool::{Found, PoolError};
use crate::fanout::report::{Inspection, Registration};
use crate::transport::caller::Caller;
use crate::transport::listener::Answer;

/// The number of lists of connections that the endpoint is asked for at a time on behalf of one principal, of those
/// that callers do not share. Each may take 16 MiB.
pub(super) const UNSHARED: usize = 8;

/// The number of connections that are searched for by their address at a time on behalf of one principal. A shard looks
/// at all of its connections for each.
pub(super) const SEARCHES: usize = 8;

/// Maximum time for which a search waits for the others of its principal.
const PLACE: Duration = Duration::from_secs(2);

/// The path of the list of all connections.
const ALL: &str = "/api/v3/connections";

/// A connection and, once a caller has requested it, its JSON.
#[derive(Debug)]
pub(super) struct Listed {
    connection: Connection,
    json: OnceLock<String>,
}

impl Listed {
    fn all(connections: Vec<Connection>) -> Vec<Self> {
        connections.into_iter().map(|connection| Self { connection, json: OnceLock::new() }).collect()
    }

    fn json(&self) -> &str {
        self.json.get_or_init(|| self.connection.to_json())
    }
}

/// The endpoint has not returned its connections; the log says why.
#[derive(Debug, Clone, Copy, Error)]
#[error("the endpoint has not returned its connections")]
pub(super) struct MissingError;

impl From<Elapsed> for MissingError {
    fn from(_: Elapsed) -> Self {
        Self
    }
}

impl Api {
    pub(super) async fn list_connections(
        &self,
        request: Request<Incoming>,
        caller: &Caller,
        identity: &Identity,
    ) -> Result<Answer, ApiError> {
        let query = request.uri().query();
        let (filter, limit) = (ListFilter::read(query)?, query::limit(query)?);
        if !self.permits(identity, "connections", "list", "*")? {
            return Ok(answer::json(StatusCode::OK, "[]"));
        }
        let spec = query::value(query, "Spec").map(Cow::into_owned);
        let is_sorted = query::value(query, "sort").is_some_and(|sort| sort == "queued");
        let present = self.present(spec.as_deref(), request.headers(), identity).await?;
        // The endpoint does not say what its connections have registered.
        let theirs = if spec.is_some() { Some(Arc::default()) } else { self.theirs(request, caller, identity).await };
        let access = self.authority.access(identity)?;
        let shows_specs = |one: &Connection| {
            let address = || one.remote_addr.to_string();
            spec.is_none() || Authority::grants(identity, &access, "connections", "get", &address())
        };
        let is_wanted = |Listed { connection, .. }: &&Listed| {
            access.shows_connection(&connection.principal) && filter.fits(connection) && shows_specs(connection)
        };
        Ok(self.at_length(|| {
            let mut all: Vec<&Listed> = present.iter().filter(is_wanted).collect();
            if is_sorted {
                all.sort_by_key(|listed| std::cmp::Reverse(listed.connection.queued_bytes));
            }
            all.truncate(limit);
            let left = limit - all.len();
            let ours = all.into_iter().map(Listed::json);
            let fits = |json: &&str| filter.fits_json(json);
            list(ours, theirs.as_deref().map(|theirs| shown(theirs, &access).filter(fits).take(left)))
        }))
    }

    pub(super) async fn get_connection(
        &self,
        address: &str,
        request: Request<Incoming>,
        caller: &Caller,
        identity: &Identity,
    ) -> Result<Answer, ApiError> {
        let wanted = self.visible(address, identity)?;
        if let Some(found) = self.find(wanted, identity).await? {
            return Ok(self.at_length(|| answer::json(StatusCode::OK, Detailed::of(&found).to_json())));
        }
        let access = self.authority.access(identity)?;
        match self.client_gauge.at(wanted).iter().find(|client| access.shows_connection(&client.principal)) {
            Some(found) => Ok(answer::json(StatusCode::OK, found.to_json())),
            None => self.at_the_endpoint(address, request, caller, identity).await,
        }
    }

    /// Returns a connection of a shard with its registrations, if the caller may see it.
    pub(super) async fn inspect(&self, address: &str, identity: &Identity) -> Result<Inspected, ApiError> {
        let wanted = self.visible(address, identity)?;
        self.find(wanted, identity).await?.ok_or_else(|| unknown(address))
    }

    /// Returns the address of a connection if the caller may read connections from there.
    fn visible(&self, address: &str, identity: &Identity) -> Result<SocketAddr, ApiError> {
        let wanted = parse(address)?;
        let is_permitted = self.permits(identity, "connections", "get", &wanted.to_string())?;
        if is_permitted { Ok(wanted) } else { Err(unknown(address)) }
    }

    /// Returns the connection of a shard from an address with its registrations, if the caller's tenant shows it.
    async fn find(&self, address: SocketAddr, identity: &Identity) -> Result<Option<Inspected>, ApiError> {
        let wanted = Wanted::at(address).shown_to(self.authority.access(identity)?);
        let Some(found) = self.search(&wanted, identity).await? else { return Ok(None) };
        let turn = self.inspecting.take(identity.principal()).await?;
        let inspection = self.pool.inspect(found, &wanted).await?;
        Ok(inspection.map(|inspection| Inspected { inspection, _guard: turn }))
    }

    /// Finds a connection of a shard. Not in a turn, because it may wait for a shard that is stuck.
    async fn search(&self, wanted: &Wanted, identity: &Identity) -> Result<Option<Found>, ApiError> {
        let busy = ApiError::Turn { what: "searches for connections" };
        let _place = self.searching.enter(identity.principal().account(), PLACE).await.ok_or(busy)?;
        Ok(self.pool.find(wanted).await?)
    }

    pub(super) async fn delete_connection(
        &self,
        address: &str,
        request: Request<Incoming>,
        caller: &Caller,
        identity: &Identity,
    ) -> Result<Answer, ApiError> {
        let wanted = parse(address)?;
        self.require(identity, "connections", "delete", &wanted.to_string())?;
        let wanted = Wanted::at(wanted).shown_to(self.authority.access(identity)?);
        if let Some(found) = self.search(&wanted, identity).await?
            && let Some(deleted) = self.pool.delete(found, &wanted).await?
        {
            return Ok(answer::json(StatusCode::OK, deleted.to_json()));
        }
        self.at_the_endpoint(address, request, caller, identity).await
    }

    /// Forwards a request about a connection that is not ours to the endpoint.
    async fn at_the_endpoint(
        &self,
        address: &str,
        request: Request<Incoming>,
        caller: &Caller,
        identity: &Identity,
    ) -> Result<Answer, ApiError> {
        let upstream = self.upstream.as_ref().ok_or_else(|| unknown(address))?;
        // Only the endpoint knows the owner, and it is queried as the service, so the connection could not be hidden
        // from a tenant.
        if self.authority.access(identity)?.has_tenant() {
            return Err(unknown(address));
        }
        let inquiry = self.as_service_unless_known(upstream, request, identity)?;
        let name = upstream.endpoint().to_string();
        self.forward_edited(upstream, inquiry, caller, |theirs| merge::connection(theirs, &name)).await
    }

    /// Returns the endpoint's connections, or `None` if it has not returned them. Callers may see only those that are
    /// [`shown`] to them.
    async fn theirs(
        &self,
        request: Request<Incoming>,
        caller: &Caller,
        identity: &Identity,
    ) -> Option<Arc<Vec<Theirs>>> {
        let Some(upstream) = &self.upstream else { return Some(Arc::default()) };
        let age = permitted_age(request.headers());
        // The endpoint answers each of its users differently, and about each machine.
        let is_same_for_all = !identity.is_endpoints() && request.uri().path() == ALL;
        let inquiry = self.as_service_unless_known(upstream, request, identity).map_err(FetchError::from);
        let inquiry = inquiry.map(|inquiry| if is_same_for_all { without_callers_headers(inquiry) } else { inquiry });
        let asked = Box::pin(self.ask_for_theirs(upstream, inquiry, caller));
        if is_same_for_all {
            return self.theirs.get_for_caller(age, asked).await.ok();
        }
        let _place = self.unshared.enter(identity.principal().account(), upstream.limits().connect).await?;
        Some(Arc::new(asked.await.ok()?))
    }

    async fn ask_for_theirs(
        &self,
        upstream: &Upstream,
        inquiry: Result<Inquiry, FetchError>,
        caller: &Caller,
    ) -> Result<Vec<Theirs>, MissingError> {
        let asked = async { self.fetch(upstream, inquiry?, caller).await };
        let body = match asked.await {
            Ok(body) => body,
            // DRP before 4 has no such list.
            Err(FetchError::Missing) => return Ok(Vec::new()),
            Err(error) => {
                self.failures.connections(&error);
                return Err(MissingError);
            }
        };
        let endpoint = upstream.endpoint().to_string();
        self.at_length(|| merge::connections(&body, &endpoint)).ok_or(MissingError)
    }

    pub(super) async fn runner_connections(
        &self,
        scope: &'static str,
        uuid: &str,
        request: Request<Incoming>,
        caller: &Caller,
        identity: &Identity,
    ) -> Result<Answer, ApiError> {
        // DRP has other keys too, such as `Name:x`, but no agent of that name.
        let agent = Principal::runner(uuid).ok();
        let key = agent.as_ref().map_or(uuid, Principal::name);
        if !query::is_plain(uuid) || !self.permits(identity, scope, "get", key)? {
            return Err(ApiError::Unknown { model: scope, key: uuid.to_owned() });
        }
        let present = self.present(None, request.headers(), identity).await?;
        let theirs = self.theirs(request, caller, identity).await;
        let access = self.authority.access(identity)?;
        let is_wanted = |Listed { connection, .. }: &&Listed| {
            let of_agent = agent.as_ref().is_some_and(|agent| agent.as_str() == connection.principal);
            of_agent && access.shows_connection(&connection.principal)
        };
        Ok(self.at_length(|| {
            let ours = present.iter().filter(is_wanted).map(Listed::json);
            list(ours, theirs.as_deref().map(|theirs| shown(theirs, &access)))
        }))
    }

    /// Returns websockets, streams and kept-alive HTTP connections, or those that hold a registration.
    async fn present(
        &self,
        spec: Option<&str>,
        headers: &HeaderMap,
        identity: &Identity,
    ) -> Result<Arc<Vec<Listed>>, ApiError> {
        let Some(spec) = spec else { return Ok(self.all(headers).await?) };
        // One at a time: each visits every connection of every shard, for one caller.
        let _turn = self.finding.take(identity.principal()).await?;
        Ok(Arc::new(Listed::all(self.pool.connections(Some(spec.trim())).await?)))
    }

    /// Returns websockets, streams and kept-alive HTTP connections. Listing all of them takes long, so it wakes the
    /// shards, and callers that ask at the same time share a list.
    async fn all(&self, headers: &HeaderMap) -> Result<Arc<Vec<Listed>>, PoolError> {
        let (pool, broker, clients) =
            (Arc::clone(&self.pool), Arc::clone(&self.broker), Arc::clone(&self.client_gauge));
        let look = || async move {
            let mut all = pool.connections(None).await?;
            broker.wake_shards();
            all.extend(clients.list());
            Ok(Listed::all(all))
        };
        self.present.get(permitted_age(headers), look).await
    }
}

/// Removes what would make the endpoint's answer depend on the caller.
fn without_callers_headers(mut inquiry: Inquiry) -> Inquiry {
    for name in [ACCEPT, HOST] {
        inquiry.headers_mut().remove(name);
    }
    inquiry
}

/// The connection of a shard with its registrations, which may be thousands: with a turn, one of them is held in memory
/// at a time; otherwise their memory is reserved.
#[derive(Debug)]
pub(super) struct Inspected<G = Turn> {
    inspection: Inspection,
    _guard: G,
}

impl Inspected {
    /// Lets others have a connection inspected, and reserves memory instead.
    pub(super) fn pass_on(self, bodies: &Bodies) -> Result<Inspected<Held>, ApiError> {
        let Self { inspection, _guard: turn } = self;
        let bytes = inspection.registrations.iter().map(|one| size_of::<Registration>() + one.spec.len()).sum();
        let held = bodies.reserve(bytes)?;
        drop(turn);
        Ok(Inspected { inspection, _guard: held })
    }
}

impl<G> Deref for Inspected<G> {
    type Target = Inspection;

    fn deref(&self) -> &Inspection {
        &self.inspection
    }
}

/// A connection with its registrations in JSON.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Detailed<'i> {
    #[serde(flatten)]
    connection: &'i Connection,
    specs: &'i [Registration],
}

impl<'i> Detailed<'i> {
    fn of(inspection: &'i Inspection) -> Self {
        Self { connection: &inspection.connection, specs: &inspection.registrations }
    }

    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are always written")
    }
}

/// Returns the JSON of the endpoint's connections that a caller may see. A tenant shows or hides a connection by its
/// principal, so every tenant hides a connection without a known principal.
fn shown<'t>(theirs: &'t [Theirs], access: &Access) -> impl Iterator<Item = &'t str> {
    let shows = move |principal: &str| access.shows_connection(principal);
    let is_shown = move |one: &&Theirs| one.principal.as_deref().map_or(!access.has_tenant(), shows);
    theirs.iter().filter(is_shown).map(|one| &*one.json)
}

/// Builds the answer with our connections and, if the endpoint has returned them, its own.
fn list<'j>(ours: impl Iterator<Item = &'j str>, theirs: Option<impl Iterator<Item = &'j str>>) -> Answer {
    let missing = theirs.is_none().then_some(Incomplete::Endpoint);
    answer::list(&ours.chain(theirs.into_iter().flatten()).collect::<Vec<_>>(), missing)
}

fn parse(address: &str) -> Result<SocketAddr, ApiError> {
    address.parse().map_err(|_| unknown(address))
}

fn unknown(address: &str) -> ApiError {
    ApiError::Unknown { model: "connections", key: address.to_owned() }
}
