//! List filters as in DRP's REST API: `?Type=websocket`, `?Type=Eq(websocket)`, `Ne(...)`, `In(a,b)`.
//!
//! Contract: pure. A field has one condition, with at most [`VALUES`] values, so that the time for each connection of a
//! long list is bounded.

use std::borrow::Cow;

use super::ApiError;
use crate::broker::connection::Connection;
use crate::json;

/// The fields that connections can be filtered by.
const FIELDS: [&str; 3] = ["Type", "Principal", "RemoteAddr"];

/// Maximum number of values of `In`.
const VALUES: usize = 256;

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Eq(String),
    Ne(String),
    In(Vec<String>),
}

impl Wanted {
    /// Parses a condition; a value without an operator means equality.
    fn read(field: &str, text: &str) -> Result<Self, ApiError> {
        let call = text.strip_suffix(')').and_then(|rest| rest.split_once('('));
        let call = call.filter(|(name, _)| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic()));
        let value = |argument: &str| argument.trim().to_owned();
        match call {
            None => Ok(Self::Eq(text.to_owned())),
            Some(("Eq", argument)) => Ok(Self::Eq(value(argument))),
            Some(("Ne", argument)) => Ok(Self::Ne(value(argument))),
            Some(("In", arguments)) if arguments.split(',').nth(VALUES).is_some() => {
                Err(ApiError::Bad(format!("{field}: In takes at most {VALUES} values")))
            }
            Some(("In", arguments)) => Ok(Self::In(arguments.split(',').map(value).collect())),
            Some((name, _)) => {
                let name: String = name.chars().take(32).collect();
                Err(ApiError::Bad(format!(
                    "{field}: the operator `{name}` is not supported for connections; use Eq, Ne or In"
                )))
            }
        }
    }

    fn fits(&self, value: &str) -> bool {
        match self {
            Self::Eq(wanted) => wanted == value,
            Self::Ne(unwanted) => unwanted != value,
            Self::In(wanted) => wanted.iter().any(|wanted| wanted == value),
        }
    }
}

/// The conditions of a query on a list of connections, all of which must hold.
#[derive(Debug)]
pub(super) struct ListFilter(Vec<(&'static str, Wanted)>);

impl ListFilter {
    /// Parses a query; parameters that are not about a field are ignored. A field may occur once.
    pub(super) fn read(query: Option<&str>) -> Result<Self, ApiError> {
        let pairs = form_urlencoded::parse(query.unwrap_or("").as_bytes());
        let known = pairs.filter_map(|(name, value)| Some((*FIELDS.iter().find(|field| **field == name)?, value)));
        let mut conditions: Vec<(&'static str, Wanted)> = Vec::new();
        for (field, value) in known.filter(|(_, value)| !value.is_empty()) {
            if conditions.iter().any(|(other, _)| *other == field) {
                return Err(ApiError::Bad(format!("{field} is given more than once")));
            }
            conditions.push((field, Wanted::read(field, &value)?));
        }
        Ok(Self(conditions))
    }

    /// Returns whether a connection fits.
    pub(super) fn fits(&self, connection: &Connection) -> bool {
        self.0.iter().all(|(field, wanted)| match *field {
            "Type" => wanted.fits(connection.r#type.name()),
            "Principal" => wanted.fits(&connection.principal),
            _ => wanted.fits(&connection.remote_addr.to_string()),
        })
    }

    /// Returns whether a connection of the endpoint, given as JSON, fits. A missing field counts as empty.
    pub(super) fn fits_json(&self, connection: &str) -> bool {
        self.0.iter().all(|(field, wanted)| wanted.fits(&value(connection, field)))
    }
}

/// Returns a field of an object if it is a string; the last of several wins.
fn value<'c>(connection: &'c str, field: &str) -> Cow<'c, str> {
    let found = json::members(connection).filter(|member| member.name() == field).last();
    found.and_then(|member| json::as_string(member.value)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::broker::connection::Kind;

    #[test]
    fn operators_are_those_of_drp() {
        let peer = "1.2.3.4:5".parse().unwrap();
        let connection = Connection::new(Kind::Websocket, ("user:a", "user:a"), peer, Timestamp::UNIX_EPOCH, None);
        let json = connection.to_json();
        for (query, expected) in [
            ("", Some(true)),
            ("Type=websocket", Some(true)),
            ("Type=Eq(websocket)", Some(true)),
            ("Type=Eq(%20websocket%20)", Some(true)),
            ("Type=api", Some(false)),
            ("Type=Ne(api)", Some(true)),
            ("Type=Ne(websocket)", Some(false)),
            ("Type=In(api,websocket)", Some(true)),
            ("Type=In(api)", Some(false)),
            ("Type=Eq(websocket)&Principal=Ne(user:a)", Some(false)),
            ("RemoteAddr=1.2.3.4:5", Some(true)),
            ("Other=Gt(1)&limit=1", Some(true)),
            ("Type=", Some(true)),
            ("Type=Re(web.*)", None),
            ("Type=eq(websocket)", None),
            ("Principal=user:(a)", Some(false)),
        ] {
            let filter = ListFilter::read(Some(query)).ok();
            assert_eq!(filter.as_ref().map(|filter| filter.fits(&connection)), expected, "{query}");
            assert_eq!(filter.map(|filter| filter.fits_json(&json)), expected, "{query}, as JSON");
        }
        assert!(!ListFilter::read(Some("Type=websocket")).unwrap().fits_json("{}"));
    }

    #[test]
    fn a_field_has_one_condition_with_so_many_values() {
        let error = |query: &str| ListFilter::read(Some(query)).map(drop).map_err(|error| error.to_string());
        assert_eq!(
            error("RemoteAddr=Ne(a)&Type=api&RemoteAddr=Ne(b)"),
            Err("RemoteAddr is given more than once".into())
        );
        assert_eq!(error("Type=&Type=api&Principal=Ne(a)"), Ok(()), "an empty value is the same as none");
        let values = |count| format!("RemoteAddr=In({})", vec!["a"; count].join(","));
        assert_eq!(error(&values(VALUES)), Ok(()));
        assert_eq!(error(&values(VALUES + 1)), Err("RemoteAddr: In takes at most 256 values".into()));
    }
}
