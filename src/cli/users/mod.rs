//! `hydrant users|roles|tenants|token`: who may do what, kept in the data directory.
//!
//! Contract: these commands need no running server and no credentials, only the right to write the data directory; a
//! server that runs on it takes every change within a second. A change is made whole or not at all. Passwords and tokens
//! are never printed, but for the token that was asked for, which is all that goes to `out`.

#![expect(clippy::doc_markdown, reason = "the comments on flags are their help texts")]

mod roles;
mod tenants;
mod token;

use std::io::{self, Read, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use thiserror::Error;

pub(super) use roles::{RolesArgs, run as run_roles};
pub(super) use tenants::{TenantsArgs, run as run_tenants};
pub(super) use token::{TokenArgs, run as run_token};

use crate::auth::{
    ClaimError, LimitError, MAX_PASSWORD_BYTES, PasswordError, PasswordHash, PrincipalError, Store, StoreError,
    TokenError, TokenFault, TtlError, edit_store, read_store,
};
use crate::config::{ConfigErrors, Settings, Sources};

/// Why a command did not do what was asked.
#[derive(Debug, Error)]
pub(crate) enum UsersError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    Principal(#[from] PrincipalError),
    #[error(transparent)]
    Ttl(#[from] TtlError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Fault(#[from] TokenFault),
    #[error("{0}")]
    Usage(String),
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl UsersError {
    /// Whether what was typed, or the configuration, is at fault.
    pub(super) fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::Claim(_)
                | Self::Limit(_)
                | Self::Principal(_)
                | Self::Ttl(_)
                | Self::Usage(_)
                | Self::Store(StoreError::Name(_) | StoreError::Password(PasswordError::Length))
        )
    }

    /// Whether the reader of the output went away.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Which data directory.
#[derive(Args)]
struct Place {
    /// The server's data directory [env: HYDRANT_DATA_DIR] [default: as `hydrant serve`]
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// TOML file with the server's settings, to find the data directory [env: HYDRANT_CONFIG]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl Place {
    /// The directory that is named, otherwise the one that `hydrant serve` would use.
    fn data_dir(&self) -> Result<PathBuf, ConfigErrors> {
        match &self.data_dir {
            Some(path) => Ok(path.clone()),
            None => Ok(Settings::load(&Sources::environment(self.config.clone()))?.data_dir),
        }
    }
}

/// Users of the server
#[derive(Args)]
pub(super) struct UsersArgs {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Add a user
    Add {
        /// The new user's name
        name: String,
        #[command(flatten)]
        password: FromStdin,
        /// Names of roles, as a comma list
        #[arg(long, value_delimiter = ',', value_name = "ROLES")]
        roles: Vec<String>,
    },
    /// Give a user a new password; its tokens and connections end
    Passwd {
        /// The user's name
        name: String,
        #[command(flatten)]
        password: FromStdin,
    },
    /// List users with their roles and tenants
    List,
    /// Remove a user; its tokens and connections end
    Remove {
        /// The user's name
        name: String,
    },
    /// Give a user these roles instead of those it has
    Roles {
        /// The user's name
        name: String,
        /// Names of roles, as a comma list; "" for none
        roles: String,
    },
}

#[derive(Args)]
struct FromStdin {
    /// Read the password from the first line of standard input (there is no other way: arguments are seen by others)
    #[arg(long, required = true)]
    password_stdin: bool,
}

pub(super) fn run(args: &UsersArgs, input: &mut dyn Read, out: &mut dyn Write) -> Result<(), UsersError> {
    let dir = args.place.data_dir()?;
    match &args.what {
        What::Add { name, roles, .. } => {
            let password = password(input)?;
            edit_store(&dir, |store| store.add_user(name, password, &names(roles)))?;
        }
        What::Passwd { name, .. } => {
            let password = password(input)?;
            edit_store(&dir, |store| store.set_password(name, password))?;
        }
        What::List => list(&read_store(&dir)?, out)?,
        What::Remove { name } => edit_store(&dir, |store| store.remove_user(name))?,
        What::Roles { name, roles } => {
            let roles: Vec<String> = roles.split(',').map(ToOwned::to_owned).collect();
            edit_store(&dir, |store| store.set_user_roles(name, &names(&roles)))?;
        }
    }
    Ok(())
}

/// The names in a comma list that may have blanks or nothing between its commas.
fn names(list: &[String]) -> Vec<String> {
    list.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect()
}

/// The first line of standard input. A line break at its end is not part of the password; white space is.
fn password(input: &mut dyn Read) -> Result<PasswordHash, UsersError> {
    let limit = u64::try_from(MAX_PASSWORD_BYTES).expect("a thousand") + 2;
    let mut bytes = Vec::new();
    input.take(limit).read_to_end(&mut bytes).map_err(UsersError::Input)?;
    let text = String::from_utf8(bytes).map_err(|_| UsersError::Usage("the password is not UTF-8".to_owned()))?;
    let line = text.split('\n').next().unwrap_or_default();
    Ok(PasswordHash::make(line.strip_suffix('\r').unwrap_or(line)).map_err(StoreError::from)?)
}

fn list(store: &Store, out: &mut dyn Write) -> io::Result<()> {
    let tenant = |name: &str| store.tenants().iter().find(|(_, row)| row.users.contains(name));
    let row = |(name, user): (&String, &crate::auth::User)| {
        let roles: Vec<&str> = user.roles.iter().map(String::as_str).collect();
        let password = if user.has_password() { "yes" } else { "no" };
        [
            name.clone(),
            roles.join(","),
            tenant(name).map_or_else(String::new, |(tenant, _)| tenant.clone()),
            password.to_owned(),
        ]
    };
    let rows: Vec<[String; 4]> = store.users().iter().map(row).collect();
    table(["NAME", "ROLES", "TENANT", "PASSWORD"], &rows, out)
}

/// Writes columns as wide as they need to be; an empty cell is a dash, so that scripts can split at white space.
fn table<const N: usize>(header: [&str; N], rows: &[[String; N]], out: &mut dyn Write) -> io::Result<()> {
    let cell = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let lines = std::iter::once(header.map(ToOwned::to_owned))
        .chain(rows.iter().map(|row| row.each_ref().map(|text| cell(text))));
    let lines: Vec<[String; N]> = lines.collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    for line in &lines {
        let padded = |(column, cell): (usize, &String)| format!("{cell:0$}", width(column));
        let cells: Vec<String> = line.iter().enumerate().map(padded).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_the_first_line() {
        for (text, password) in [
            ("secret", "secret"),
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            ("secret\nmore\n", "secret"),
            (" se cret \n", " se cret "),
        ] {
            assert!(super::password(&mut text.as_bytes()).unwrap().verify(password), "{text:?}");
        }
        for bad in ["", "\n", "\r\n", &"x".repeat(1025)] {
            assert!(super::password(&mut bad.as_bytes()).unwrap_err().is_usage(), "{bad:?}");
        }
        assert!(super::password(&mut [0xff_u8, b'\n'].as_slice()).unwrap_err().is_usage());
    }

    #[test]
    fn tables_line_up_and_split_at_white_space() {
        let mut out = Vec::new();
        let rows = [["alice".to_owned(), String::new()], ["b".to_owned(), "reader".to_owned()]];
        table(["NAME", "ROLES"], &rows, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME   ROLES\nalice  -\nb      reader\n");
    }
}
