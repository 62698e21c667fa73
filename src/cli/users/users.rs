//! `hydrant users`.

use std::io::{self, BufRead, Write};

use clap::{Args, Subcommand};

use super::error::UsersError;
use super::store::{DataDir, first_line, names, table};
use crate::auth::{MAX_PASSWORD_BYTES, PasswordHash, Store, StoreError, User};

/// Users of the server
#[derive(Args)]
pub(crate) struct UsersArgs {
    #[command(flatten)]
    data: DataDir,
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
    /// Replace the roles of a user
    Roles {
        /// The user's name
        name: String,
        /// Names of roles, as a comma list; "" for none
        roles: String,
    },
}

#[derive(Args)]
struct FromStdin {
    /// Read the password from the first line of standard input (there is no other way, since other users can see
    /// arguments)
    #[arg(long, required = true)]
    password_stdin: bool,
}

pub(crate) fn run(
    args: &UsersArgs,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), UsersError> {
    let data = &args.data;
    match &args.what {
        What::Add { name, roles, .. } => {
            let password = password(input)?;
            data.edit(err, |store| store.add_user(name, password, &names(roles)))
        }
        What::Passwd { name, .. } => {
            let password = password(input)?;
            data.edit(err, |store| store.set_password(name, password))
        }
        What::List => Ok(list(&data.read()?, out)?),
        What::Remove { name } => data.edit(err, |store| store.remove_user(name)),
        What::Roles { name, roles } => {
            let roles: Vec<String> = roles.split(',').map(ToOwned::to_owned).collect();
            data.edit(err, |store| store.set_user_roles(name, &names(&roles)))
        }
    }
}

/// Reads the first line of standard input. A line break at its end is not part of the password; white space is.
fn password(input: &mut dyn BufRead) -> Result<PasswordHash, UsersError> {
    let bytes = first_line(input, MAX_PASSWORD_BYTES + 2)?;
    let line = String::from_utf8(bytes).map_err(|_| UsersError::Usage("the password is not valid UTF-8".to_owned()))?;
    Ok(PasswordHash::make(line.strip_suffix('\r').unwrap_or(&line)).map_err(StoreError::from)?)
}

fn list(store: &Store, out: &mut dyn Write) -> io::Result<()> {
    let tenant = |name: &str| store.tenants().iter().find(|(_, row)| row.users.contains(name));
    let row = |(name, user): (&String, &User)| {
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

#[cfg(test)]
mod tests {
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
}
