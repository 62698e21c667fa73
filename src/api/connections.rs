//! `/api/v3/connections` and its relatives: who is connected.
//!
//! | route | claim |
//! |---|---|
//! | `GET /connections` (filters `Type`, `Principal`, `RemoteAddr`; `sort=queued`, `limit=N`) | connections/list; without it the list is empty, as DRP does it |
//! | `GET /connections/ADDR:PORT` | connections/get/ADDR:PORT; without it 404 |
//! | `DELETE /connections/ADDR:PORT` | connections/delete/ADDR:PORT |
//! | `GET /{machines,clusters,resource_brokers}/UUID/connections` | get of that object |

use std::net::SocketAddr;

use hyper::StatusCode;

use super::{Api, ApiError, answer, query};
use crate::auth::Identity;
use crate::broker::connection::{Connection, Kind};
use crate::transport::listener::Answer;

impl Api {
    pub(super) async fn list_connections(&self, query: Option<&str>, identity: &Identity) -> Result<Answer, ApiError> {
        if !self.permits(identity, "connections", "list", "*")? {
            return Ok(answer::json(StatusCode::OK, "[]"));
        }
        let wanted = |name: &str, value: String| query::value(query, name).is_none_or(|asked| asked == value);
        let limit = limit(query)?;
        let mut all = self.connections().await;
        all.retain(|connection| {
            wanted("Type", kind(connection).to_owned())
                && wanted("Principal", connection.principal.clone())
                && wanted("RemoteAddr", connection.remote_addr.to_string())
        });
        if query::value(query, "sort").is_some_and(|sort| sort == "queued") {
            all.sort_by_key(|connection| std::cmp::Reverse(connection.queued_bytes));
        }
        all.truncate(limit);
        Ok(list(&all))
    }

    pub(super) async fn get_connection(&self, address: &str, identity: &Identity) -> Result<Answer, ApiError> {
        let peer = parse(address)?;
        if self.permits(identity, "connections", "get", address)?
            && let Some(found) = self.connections().await.into_iter().find(|connection| connection.remote_addr == peer)
        {
            return Ok(answer::json(StatusCode::OK, found.to_json()));
        }
        Err(unknown(address))
    }

    pub(super) async fn delete_connection(&self, address: &str, identity: &Identity) -> Result<Answer, ApiError> {
        let peer = parse(address)?;
        self.require(identity, "connections", "delete", address)?;
        let deleted = self.pool.delete(peer).await.ok_or_else(|| unknown(address))?;
        Ok(answer::json(StatusCode::OK, deleted.to_json()))
    }

    pub(super) async fn runner_connections(
        &self,
        scope: &'static str,
        uuid: &str,
        identity: &Identity,
    ) -> Result<Answer, ApiError> {
        if !self.permits(identity, scope, "get", uuid)? {
            return Err(ApiError::Unknown { model: scope, key: uuid.to_owned() });
        }
        let mut all = self.connections().await;
        all.retain(|connection| connection.principal.strip_prefix("runner:") == Some(uuid));
        Ok(list(&all))
    }

    /// Websockets and kept-alive HTTP connections.
    async fn connections(&self) -> Vec<Connection> {
        let mut all = self.pool.connections().await;
        all.extend(self.visitors.list());
        all
    }
}

/// How many connections are wanted at most.
fn limit(query: Option<&str>) -> Result<usize, ApiError> {
    let Some(limit) = query::value(query, "limit") else { return Ok(usize::MAX) };
    limit.parse().map_err(|_| ApiError::Bad("limit is a whole number".to_owned()))
}

fn kind(connection: &Connection) -> &'static str {
    match connection.r#type {
        Kind::Websocket => "websocket",
        Kind::Api => "api",
    }
}

fn list(connections: &[Connection]) -> Answer {
    let body = serde_json::to_string(connections).expect("strings and numbers are always written");
    answer::json(StatusCode::OK, body)
}

fn parse(address: &str) -> Result<SocketAddr, ApiError> {
    address.parse().map_err(|_| unknown(address))
}

fn unknown(address: &str) -> ApiError {
    ApiError::Unknown { model: "connections", key: address.to_owned() }
}
