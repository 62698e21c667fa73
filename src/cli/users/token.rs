//! `hydrant token`.

use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::error::UsersError;
use super::store::{DataDir, first_line, report_change};
use crate::auth::{
    AuthOptions, Authority, MAX_TOKEN_BYTES, Principal, Secret, TokenRequest, parse_ttl, token_keys_file,
};
use crate::cli::console::report;
use crate::clock;

/// The longest lifetime of a token, ten years. The server's limit does not apply here, since the owner of the data
/// directory may do everything.
const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

/// Tokens: credentials for programs, instead of a password
#[derive(Args)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    data: DataDir,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Issue a token and print it
    Issue(IssueArgs),
    /// Show what a token grants, or why it is invalid
    Check {
        /// The token; - reads it from standard input, where others cannot see it
        token: String,
    },
    /// Replace the signing key; tokens signed with the key before the previous one become invalid
    Rotate,
}

#[derive(Args)]
struct IssueArgs {
    /// A user's name, runner:UUID for a machine's agent, or plugin:NAME
    name: String,
    /// Lifetime: seconds, or 30m, 12h, 7d
    #[arg(long, default_value = "1h")]
    ttl: String,
    /// Only these roles, as a comma list
    #[arg(long, value_delimiter = ',')]
    roles: Vec<String>,
    /// Only these object types
    #[arg(long)]
    scope: Option<String>,
    /// Only these actions
    #[arg(long)]
    action: Option<String>,
    /// Only these keys
    #[arg(long)]
    specific: Option<String>,
}

pub(crate) fn run(
    args: &TokenArgs,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), UsersError> {
    let dir = args.data.path()?;
    match &args.what {
        What::Issue(args) => issue(&dir, args, out, err),
        What::Check { token } => check(&dir, token, input, out),
        What::Rotate => {
            open(&dir)?.rotate_keys()?;
            report_change(&dir, &token_keys_file(&dir), err);
            Ok(())
        }
    }
}

fn open(dir: &Path) -> Result<Authority, UsersError> {
    let options = AuthOptions { max_token_ttl: LONGEST, ..AuthOptions::default() };
    Ok(Authority::open_existing(dir, options)?)
}

fn issue(dir: &Path, args: &IssueArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), UsersError> {
    let subject = if args.name.contains(':') { args.name.parse()? } else { Principal::user(&args.name)? };
    let request = TokenRequest {
        ttl: Some(parse_ttl(&args.ttl)?),
        roles: args.roles.iter().map(|role| role.trim().to_owned()).collect(),
        scope: args.scope.clone(),
        action: args.action.clone(),
        specific: args.specific.clone(),
    };
    let issued = open(dir)?.issue_local(&subject, &request, clock::now())?;
    for role in request
        .roles
        .iter()
        .filter(|role| !role.is_empty() && !issued.info.roles.as_ref().is_none_or(|kept| kept.contains(role)))
    {
        report(
            err,
            format_args!("note: {subject} has no role that contains {role:?}, so the token does not include it"),
        );
    }
    report(err, format_args!("issued a token for {subject}, valid until {}", issued.expires_at));
    Ok(writeln!(out, "{}", issued.token.expose())?)
}

fn check(dir: &Path, token: &str, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<(), UsersError> {
    let token = if token == "-" { from_stdin(input)? } else { token.to_owned() };
    let info = open(dir)?.inspect(&Secret::new(token.trim()), clock::now())?;
    let text = serde_json::to_string_pretty(&info).expect("texts and lists");
    Ok(writeln!(out, "{text}")?)
}

fn from_stdin(input: &mut dyn BufRead) -> Result<String, UsersError> {
    let line = first_line(input, MAX_TOKEN_BYTES + 64)?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}
