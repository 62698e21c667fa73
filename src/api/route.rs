//! Which requests are hydrant's own to answer. Pure.

use hyper::Method;

/// Models whose objects have agents that connect as `runner:UUID`.
const RUNNERS: [&str; 3] = ["machines", "clusters", "resource_brokers"];

/// A request that is ours, with what stands in its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'p> {
    /// `/ws`, whatever the method.
    Websocket,
    /// `GET /connections`.
    Connections,
    /// `GET /connections/ADDR:PORT`.
    Connection(&'p str),
    /// `DELETE /connections/ADDR:PORT`.
    DeleteConnection(&'p str),
    /// `GET /{machines,clusters,resource_brokers}/UUID/connections`.
    RunnerConnections(&'static str, &'p str),
    /// `GET /events`, if it asks for a stream.
    Stream,
    /// `POST /events`.
    Events,
    /// `GET /hydrant/status`.
    Status,
    /// `GET /hydrant/registrations`.
    Registrations,
    /// `POST /hydrant/explain`.
    Explain,
    /// `POST /hydrant/check`.
    Check,
    /// `GET /hydrant/me`.
    Me,
    /// `GET /info`.
    Info,
    /// `GET /users/NAME/token`.
    UserToken(&'p str),
    /// `POST /users/NAME/token`.
    PostUserToken(&'p str),
    /// `GET /machines/UUID/token`.
    MachineToken(&'p str),
}

/// The route of a request, if it is ours; `HEAD` is where `GET` is. `segments` are those behind `/api/v3/`, decoded.
pub(super) fn find<'p>(method: &Method, segments: &[&'p str]) -> Option<Route<'p>> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    Some(match (method, segments) {
        (_, ["ws"]) => Route::Websocket,
        (&Method::GET, ["connections"]) => Route::Connections,
        (&Method::GET, ["connections", address]) => Route::Connection(address),
        (&Method::DELETE, ["connections", address]) => Route::DeleteConnection(address),
        (&Method::GET, [model, uuid, "connections"]) => {
            let model = RUNNERS.iter().find(|other| *other == model)?;
            Route::RunnerConnections(model, uuid)
        }
        (&Method::GET, ["events"]) => Route::Stream,
        (&Method::POST, ["events"]) => Route::Events,
        (&Method::GET, ["hydrant", "status"]) => Route::Status,
        (&Method::GET, ["hydrant", "registrations"]) => Route::Registrations,
        (&Method::POST, ["hydrant", "explain"]) => Route::Explain,
        (&Method::POST, ["hydrant", "check"]) => Route::Check,
        (&Method::GET, ["hydrant", "me"]) => Route::Me,
        (&Method::GET, ["info"]) => Route::Info,
        (&Method::GET, ["users", name, "token"]) => Route::UserToken(name),
        (&Method::POST, ["users", name, "token"]) => Route::PostUserToken(name),
        (&Method::GET, ["machines", uuid, "token"]) => Route::MachineToken(uuid),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_the_rest_are_told_apart() {
        let uuid = "3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e";
        for (method, path, expected) in [
            (Method::GET, "ws", Some(Route::Websocket)),
            (Method::POST, "ws", Some(Route::Websocket)),
            (Method::HEAD, "info", Some(Route::Info)),
            (Method::HEAD, "events", Some(Route::Stream)),
            (Method::GET, "connections/1.2.3.4:5", Some(Route::Connection("1.2.3.4:5"))),
            (Method::GET, "machines/u/connections", Some(Route::RunnerConnections("machines", "u"))),
            (Method::GET, "tasks/u/connections", None),
            (Method::GET, "machines/3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e/token", Some(Route::MachineToken(uuid))),
            (Method::GET, "machines/u", None),
            (Method::OPTIONS, "events", None),
            (Method::GET, "events", Some(Route::Stream)),
            (Method::GET, "", None),
        ] {
            let segments: Vec<&str> = path.split('/').collect();
            assert_eq!(find(&method, &segments), expected, "{method} {path}");
        }
    }
}
