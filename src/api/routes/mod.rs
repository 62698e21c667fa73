//! The table of the requests that hydrant answers itself, and their complete description.
//!
//! The router looks up a request's row here, and the documents of [`super::openapi`] are generated from the same rows,
//! so a route cannot exist without its description. Pure.

mod declare;
mod headers;
mod table;

use hyper::Method;

pub(super) use declare::{Access, Content, Header, ParameterIn, Route, Row, Verb};
pub(super) use table::TABLE;

/// A request that hydrant answers itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found<'p> {
    pub(super) route: Route,
    pub(super) access: Access,
    /// The value of the parameter in the path; empty if there is none.
    pub(super) value: &'p str,
}

/// Returns the route of a request, if it has one; `HEAD` uses that of `GET`. `segments` are the decoded ones after
/// `/api/v3/`.
pub(super) fn find<'p>(method: &Method, segments: &[&'p str]) -> Option<Found<'p>> {
    let takes = |verb: Verb| match verb {
        Verb::Get => method == Method::GET || method == Method::HEAD,
        Verb::Post => method == Method::POST,
        Verb::Delete => method == Method::DELETE,
        Verb::Any => true,
    };
    TABLE.iter().filter(|row| takes(row.verb)).find_map(|row| {
        let value = value(row.path, segments)?;
        Some(Found { route: row.route, access: row.access, value })
    })
}

/// Returns the value of the path's parameter if the segments match the path.
fn value<'p>(path: &str, segments: &[&'p str]) -> Option<&'p str> {
    let mut names = path.split('/').skip(1);
    let mut value = "";
    for segment in segments {
        match names.next()? {
            name if name.starts_with('{') => value = segment,
            name if name == *segment => {}
            _ => return None,
        }
    }
    names.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ours_and_the_rest_are_told_apart() {
        let uuid = "3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e";
        for (method, path, expected) in [
            (Method::GET, "ws", Some((Route::Websocket, ""))),
            (Method::POST, "ws", Some((Route::Websocket, ""))),
            (Method::HEAD, "info", Some((Route::Info, ""))),
            (Method::HEAD, "events", Some((Route::Stream, ""))),
            (Method::GET, "connections/1.2.3.4:5", Some((Route::Connection, "1.2.3.4:5"))),
            (Method::GET, "connections/", Some((Route::Connection, ""))),
            (Method::GET, "machines/u/connections", Some((Route::RunnerConnections("machines"), "u"))),
            (Method::GET, "tasks/u/connections", None),
            (Method::GET, "machines/3f2b8c1e-0d4a-4c7b-9e55-6a1f0b2c3d4e/token", Some((Route::MachineToken, uuid))),
            (Method::GET, "machines/u", None),
            (Method::GET, "info/", None),
            (Method::OPTIONS, "events", None),
            (Method::GET, "events", Some((Route::Stream, ""))),
            (Method::GET, "", None),
        ] {
            let segments: Vec<&str> = path.split('/').collect();
            let found = find(&method, &segments).map(|found| (found.route, found.value));
            assert_eq!(found, expected, "{method} {path}");
        }
    }

    #[test]
    fn every_row_is_found_by_its_own_path_and_says_what_it_is() {
        let mut names = BTreeSet::new();
        for row in TABLE {
            let method = match row.verb {
                Verb::Get | Verb::Any => Method::GET,
                Verb::Post => Method::POST,
                Verb::Delete => Method::DELETE,
            };
            let segments: Vec<&str> = row.path.split('/').skip(1).collect();
            assert_eq!(find(&method, &segments).map(|found| found.route), Some(row.route), "{}", row.path);
            assert!(names.insert(row.name) && !row.summary.is_empty() && !row.answers.is_empty(), "{}", row.name);
            assert_eq!(row.path.contains('{'), row.in_path.is_some(), "{}", row.path);
        }
    }
}
