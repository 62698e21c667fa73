//! `hydrant tenants`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use clap::{Args, Subcommand};

use super::error::UsersError;
use super::store::{DataDir, names, table};
use crate::auth::{Store, TenantRow};

/// Tenants: which objects their users can see at all
#[derive(Args)]
pub(crate) struct TenantsArgs {
    #[command(flatten)]
    data: DataDir,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Create or replace a tenant
    Set {
        /// The tenant's name
        name: String,
        /// Names of users, as a comma list; a user is in one tenant at most
        #[arg(long, value_delimiter = ',', value_name = "USERS")]
        users: Vec<String>,
        /// The only objects of a type that its users see, such as machines=UUID,UUID; types that are not given are not
        /// restricted
        #[arg(long, num_args = 1.., value_name = "TYPE=KEY,KEY")]
        members: Vec<String>,
    },
    /// List tenants
    List,
    /// Remove a tenant; its users are no longer restricted
    Remove {
        /// The tenant's name
        name: String,
    },
}

pub(crate) fn run(args: &TenantsArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), UsersError> {
    let data = &args.data;
    match &args.what {
        What::Set { name, users, members } => {
            let row = TenantRow { users: names(users).into_iter().collect(), members: parse_members(members)? };
            data.edit(err, |store| store.set_tenant(name, row))
        }
        What::List => Ok(list(&data.read()?, out)?),
        What::Remove { name } => data.edit(err, |store| store.remove_tenant(name)),
    }
}

/// Parses the visible objects. Several lists of the same type are combined; `TYPE=` lists the type with no key.
fn parse_members(texts: &[String]) -> Result<BTreeMap<String, BTreeSet<String>>, UsersError> {
    let mut members: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for text in texts {
        let bad = || UsersError::Usage(format!("--members: {text:?} is not TYPE=KEY,KEY, such as machines=UUID,UUID"));
        let (kind, keys) = text.split_once('=').filter(|(kind, _)| !kind.trim().is_empty()).ok_or_else(bad)?;
        let keys: Vec<String> = keys.split(',').map(ToOwned::to_owned).collect();
        members.entry(kind.trim().to_owned()).or_default().extend(names(&keys));
    }
    Ok(members)
}

fn list(store: &Store, out: &mut dyn Write) -> io::Result<()> {
    let join = |texts: &BTreeSet<String>| texts.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    let row = |(name, row): (&String, &TenantRow)| {
        let members = row.members.iter().map(|(kind, keys)| format!("{kind}={}", join(keys)));
        [name.clone(), join(&row.users), members.collect::<Vec<_>>().join(" ")]
    };
    let rows: Vec<[String; 3]> = store.tenants().iter().map(row).collect();
    table(["NAME", "USERS", "MEMBERS"], &rows, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<Vec<(String, Vec<String>)>, UsersError> {
        let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
        let members = parse_members(&texts)?;
        Ok(members.into_iter().map(|(kind, keys)| (kind, keys.into_iter().collect())).collect())
    }

    #[test]
    fn members_add_up() {
        let parsed = parse(&["machines=a,b", "machines= c ", "profiles=", "params=net/mtu=x"]).unwrap();
        let expected = [("machines", vec!["a", "b", "c"]), ("params", vec!["net/mtu=x"]), ("profiles", vec![])];
        assert_eq!(parsed.len(), 3);
        for ((kind, keys), (expected_kind, expected_keys)) in parsed.iter().zip(expected) {
            assert_eq!((kind.as_str(), keys.iter().map(String::as_str).collect()), (expected_kind, expected_keys));
        }
        for bad in ["machines", "=a", " =a"] {
            assert!(parse(&[bad]).unwrap_err().to_string().contains(bad), "{bad}");
        }
    }
}
