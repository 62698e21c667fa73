//! `hydrant roles`.

#![expect(clippy::doc_markdown, reason = "the comments on flags are their help texts")]

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::str::FromStr;

use clap::{Args, Subcommand};

use super::error::UsersError;
use super::store::{DataDir, table};
use crate::auth::{Claim, LimitChange, Role, SUPERUSER, Store, Terms};
use crate::cli::console::report;
use crate::overflow::{Overflow, OverflowError};

/// The scopes of DRP and hydrant. Others are accepted too, since plugins have types of their own, but they are
/// reported: a typing mistake would silently grant nothing.
const KNOWN_SCOPES: &str = "activities alerts batches blueprints bootenvs catalog_items clusters connections contents \
    contexts endpoints events filters files hydrant identity_providers info interfaces isos jobs leases log machines \
    objects params pipelines plugin_providers plugins pools preferences profiles raw reservations resource_brokers \
    roles stages store_objects subnets system tasks templates tenants trigger_providers triggers users ux_options \
    ux_settings ux_views version_sets work_orders workflows zones";

/// Roles: named lists of claims
#[derive(Args)]
pub(crate) struct RolesArgs {
    #[command(flatten)]
    data: DataDir,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Create or change a role; an existing one keeps what is not named
    Set {
        /// The role's name
        name: String,
        /// The claims it grants, such as machines/get,list/* or tasks/*/*; each part is *, a value or a comma list.
        /// They replace all claims that the role has. They can be left out if a limit or a policy is given: a new role
        /// then grants nothing, but sets limits and policies for users of the endpoint who have a role of that name
        /// there
        #[arg(long = "claim", required_unless_present_any = ["limits", "overflow", "query_overflow"], num_args = 1..,
            value_name = "SCOPE/ACTION/SPECIFIC")]
        claims: Vec<String>,
        /// Limits for each of its users: connections, registrations (on one connection) or posted_events_per_second.
        /// The largest limit among a user's roles applies; if no role has one, that of the settings. 0 removes a limit
        #[arg(long = "limit", num_args = 1.., value_delimiter = ',', value_name = "NAME=NUMBER")]
        limits: Vec<String>,
        /// Overflow policy for websockets of its users that are slow consumers, instead of outbox.overflow: disconnect,
        /// drop-oldest or conflate; default removes the role's policy
        #[arg(long, value_name = "POLICY")]
        overflow: Option<Policy>,
        /// Policies that such a websocket may choose by ?overflow=, separated by commas, instead of
        /// outbox.query_overflow; an empty value allows none, default removes the role's list
        #[arg(long, num_args = 0.., value_delimiter = ',', value_name = "POLICY")]
        query_overflow: Option<Vec<Policy>>,
    },
    /// List roles with their claims
    List,
    /// Remove a role that no user has
    Remove {
        /// The role's name
        name: String,
    },
}

/// A role's policy; `None`, written `default`, for that of the settings.
#[derive(Clone, Copy)]
struct Policy(Option<Overflow>);

impl FromStr for Policy {
    type Err = OverflowError;

    fn from_str(text: &str) -> Result<Self, OverflowError> {
        if text == "default" { Ok(Self(None)) } else { text.parse().map(|policy| Self(Some(policy))) }
    }
}

pub(crate) fn run(args: &RolesArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), UsersError> {
    let data = &args.data;
    match &args.what {
        What::Set { name, claims, limits, overflow, query_overflow } => {
            let limits: Vec<LimitChange> = limits.iter().map(|limit| limit.parse()).collect::<Result<_, _>>()?;
            let claims = parse_claims(claims, err)?;
            let askable_now = query_overflow.as_deref().map(askable_of).transpose()?;
            data.edit(err, |store| {
                let kept = store.roles().get(name).cloned().unwrap_or_default();
                store.set_role(name, if claims.is_empty() { kept.claims } else { claims })?;
                store.set_role_limits(name, kept.limits.changed(&limits))?;
                store.set_role_overflow(name, overflow.map_or(kept.overflow, |policy| policy.0))?;
                store.set_role_query_overflow(name, askable_now.unwrap_or(kept.query_overflow))
            })
        }
        What::List => Ok(list(&data.read()?, out)?),
        What::Remove { name } => data.edit(err, |store| store.remove_role(name)),
    }
}

/// Returns the policies of a list; `None` for `default`, which stands alone.
fn askable_of(policies: &[Policy]) -> Result<Option<BTreeSet<Overflow>>, UsersError> {
    let is_default = |policy: &Policy| policy.0.is_none();
    if policies.iter().any(is_default) && !policies.iter().all(is_default) {
        return Err(UsersError::Usage("--query-overflow: default stands alone, without policies".to_owned()));
    }
    Ok(policies.iter().map(|policy| policy.0).collect())
}

/// Parses claims, with a note for each scope that DRP does not have.
fn parse_claims(texts: &[String], err: &mut dyn Write) -> Result<Vec<Claim>, UsersError> {
    let claims: Vec<Claim> = texts.iter().map(|claim| claim.parse()).collect::<Result<_, _>>()?;
    for scope in claims.iter().flat_map(unknown_scopes) {
        report(err, format_args!("note: scope {scope:?} is not a scope of DRP; it applies to events of that type"));
    }
    Ok(claims)
}

fn unknown_scopes(claim: &Claim) -> Vec<&str> {
    let Terms::Only(scopes) = &claim.scope else { return Vec::new() };
    let known = |scope: &str| KNOWN_SCOPES.split_whitespace().any(|known| known == scope);
    scopes.iter().map(AsRef::as_ref).filter(|scope| !known(scope)).collect()
}

/// Formats one claim per line, so that each can be copied into `--claim`.
fn list(store: &Store, out: &mut dyn Write) -> io::Result<()> {
    let builtin = [SUPERUSER.to_owned(), Claim::everything().to_string(), String::new(), String::new(), String::new()];
    let claims = |name: &String, Role { claims, limits, overflow, query_overflow }: &Role| -> Vec<[String; 5]> {
        let overflow = overflow.map_or("", Overflow::name);
        let askable = query_overflow.as_ref().map_or(String::new(), askable);
        let row = |claim: String| [name.clone(), claim, limits.to_string(), overflow.to_owned(), askable.clone()];
        if claims.is_empty() {
            return vec![row(String::new())];
        }
        claims.iter().map(|claim| row(claim.to_string())).collect()
    };
    let stored = store.roles().iter().flat_map(|(name, role)| claims(name, role));
    let rows: Vec<[String; 5]> = std::iter::once(builtin).chain(stored).collect();
    table(["NAME", "CLAIM", "LIMITS", "OVERFLOW", "QUERY"], &rows, out)
}

/// Formats the policies that may be chosen, as the command accepts them.
fn askable(policies: &BTreeSet<Overflow>) -> String {
    if policies.is_empty() {
        return "none".to_owned();
    }
    policies.iter().map(|policy| policy.name()).collect::<Vec<_>>().join(",")
}
