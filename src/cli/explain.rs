//! `hydrant explain`: why an event does or does not match a registration, or reach a user or connection.
//!
//! Without `--user` and `--connection` no server is needed: the registration and the event are enough. With either of
//! them the server answers, by the rights that it knows and by its own rules about who may ask.
//!
//! Contract: the exit code is 0 if the (last) event is delivered, 1 if it is not, 64 if there is no answer.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use serde_json::Value;
use thiserror::Error;

use super::documents::Found;
use super::endpoint::{self, EndpointError};
use super::samples::{Samples, SamplesError};
use super::text::printable;
use crate::client::{ClientError, Http};
use crate::clock;
use crate::event::Draft;
use crate::explain::explain;
use crate::index::{IndexError, Spec, excerpt, filter};

const PATH: &str = "/api/v3/hydrant/explain";

#[derive(Args)]
#[command(after_help = endpoint::HELP)]
pub(super) struct ExplainArgs {
    /// The registration: type.action.key or type.action.key.filter
    spec: String,
    /// Events as JSON: one per line, several over lines, or an array; - reads standard input
    #[arg(value_name = "EVENT-FILE")]
    file: PathBuf,
    /// Ask the server whether this user may see it too
    #[arg(long, value_name = "NAME", conflicts_with = "connection")]
    user: Option<String>,
    /// Ask the server about an open connection, with its registrations besides this one
    #[arg(long, value_name = "ADDR:PORT")]
    connection: Option<String>,
    /// Print JSON, one document per event
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) endpoint: endpoint::EndpointArgs,
}

/// The reason why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum ExplainError {
    #[error("{reason}{}", shown.as_ref().map_or_else(String::new, caret))]
    Spec { reason: String, shown: Option<(String, usize)> },
    #[error(transparent)]
    Samples(#[from] SamplesError),
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("there is no user `{0}` at this server, or your own lacks the claim users/get/{0}")]
    NoUser(String),
    #[error(
        "there is no connection from {0} at this server, or your user lacks the claim connections/get; `hydrant top` \
         lists the open ones"
    )]
    NoConnection(String),
    #[error("cannot read the server's answer: {0}")]
    Answer(serde_json::Error),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Formats the text, and a caret below the column.
fn caret((text, column): &(String, usize)) -> String {
    format!("\n  {text}\n  {:>column$}", "^")
}

/// Returns the exit code.
pub(super) fn run(
    args: &ExplainArgs,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, ExplainError> {
    let spec = read(args.spec.trim())?;
    let samples = Samples::of(&args.file);
    let mut last = None;
    samples.each(input, err, |found| {
        last = Some(one(args, &spec, &samples, found, out)?);
        Ok::<_, ExplainError>(())
    })?;
    last.map(|delivered| u8::from(!delivered)).ok_or_else(|| samples.empty().into())
}

fn read(text: &str) -> Result<Spec, ExplainError> {
    Spec::parse(text, &filter::Limits::default()).map_err(|error| {
        let error = IndexError::Spec(error);
        ExplainError::Spec { reason: error.to_string(), shown: error.offset().map(|at| excerpt(text, at)) }
    })
}

fn one(
    args: &ExplainArgs,
    spec: &Spec,
    samples: &Samples<'_>,
    found: &Found,
    out: &mut dyn Write,
) -> Result<bool, ExplainError> {
    let draft = Draft::read_named(&found.text).map_err(|error| samples.refuse(found, error))?;
    let event = draft.seal(clock::now());
    let text = args.spec.trim();
    let answer = if args.user.is_some() || args.connection.is_some() {
        ask(args, event.json())?
    } else {
        let explanation = explain(&event, &[(text, spec)], None);
        serde_json::to_value(&explanation).expect("texts and flags are always written")
    };
    if args.json {
        writeln!(out, "{answer}")?;
    } else {
        write(&answer, out)?;
    }
    Ok(answer["Delivered"] == true)
}

/// Asks the server for the explanation.
fn ask(args: &ExplainArgs, event: &str) -> Result<Value, ExplainError> {
    let named = [("User", &args.user), ("Connection", &args.connection)];
    let named = named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let named: Vec<String> =
        named.map(|(name, value)| format!(r#","{name}":{}"#, Value::from(value.as_str()))).collect();
    // Built as text, so that the event is passed on byte for byte.
    let question = format!(r#"{{"Event":{event},"Spec":{}{}}}"#, Value::from(args.spec.trim()), named.concat());
    let target = args.endpoint.target()?;
    let body = endpoint::runtime()?.block_on(async {
        let mut http = Http::open(&target).await?;
        http.ask(PATH, "application/json", Bytes::from(question)).await
    });
    serde_json::from_slice(&body.map_err(|error| refused(args, error))?).map_err(ExplainError::Answer)
}

/// Names what the server does not know, or does not show to this user.
fn refused(args: &ExplainArgs, error: ClientError) -> ExplainError {
    let model = if let ClientError::Refused(refusal) = &error { refusal.model.as_str() } else { "" };
    match (model, &args.user, &args.connection) {
        ("users", Some(user), _) => ExplainError::NoUser(printable(user).into_owned()),
        ("connections", _, Some(address)) => ExplainError::NoConnection(printable(address).into_owned()),
        _ => error.into(),
    }
}

/// Writes the answer for people: a sentence, then a line for each step.
fn write(answer: &Value, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", text(&answer["Reason"]))?;
    let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let roles: Vec<String> = list("Roles").iter().map(text).collect();
    if !roles.is_empty() {
        writeln!(out, "roles that may see it: {}", roles.join(", "))?;
    }
    if let Some(loss) = answer["Loss"].as_str() {
        writeln!(out, "{}", printable(loss))?;
    }
    if answer["Rights"].is_object() {
        write_step(&answer["Rights"], 1, out)?;
    }
    for registration in list("Registrations") {
        writeln!(out, "{}", text(&registration["Spec"]))?;
        for step in registration["Steps"].as_array().into_iter().flatten() {
            write_step(step, 1, out)?;
        }
    }
    Ok(())
}

/// Recursion is bounded by the maximum nesting of a filter.
fn write_step(step: &Value, depth: usize, out: &mut dyn Write) -> io::Result<()> {
    let mark = match step["Verdict"].as_str() {
        Some("held") => "yes",
        Some("failed") => "no ",
        _ => "-  ",
    };
    write!(out, "{:1$}{mark} {2}", "", 2 * depth, text(&step["Asked"]))?;
    if let Some(found) = step["Found"].as_str() {
        write!(out, ": {}", printable(found))?;
    }
    writeln!(out)?;
    step["Steps"].as_array().into_iter().flatten().try_for_each(|step| write_step(step, depth + 1, out))
}

fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or_default()).into_owned()
}
