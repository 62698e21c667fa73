//! `hydrant filter`: tries a filter without a broker.
//!
//! Contract: the results are those of the engine that serves registrations. The exit code is that of the last event: 0
//! if the filter matches it, 1 if not. Errors (a bad filter, a file without events) end with 64, so that 1 always means
//! that the filter did not match.
//!
//! The argument is a filter, not a whole registration: `machines.update.*.Stage=Eq(x)` would otherwise be read as a
//! path of many fields.
//!
//! A JSON object counts as an event if it has a Type, an Action, and a Key or an Object; otherwise it is a plain
//! object.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::value::RawValue;
use thiserror::Error;

use super::console::report;
use super::documents::Found;
use super::samples::{Samples, SamplesError};
use crate::clock;
use crate::event::Draft;
use crate::index::excerpt;
use crate::index::filter::{Engine, Evaluation, Filter, FilterId, Limits, ParseError, Term, Test, View};
use crate::json;

/// The common actions: the second part of a registration.
const ACTIONS: [&str; 5] = ["create", "update", "save", "delete", "action"];

/// Filters: the conditions that a registration may set on events
#[derive(Args)]
pub(super) struct FilterArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Print how a filter is parsed, and whether it matches events: exit code 0 if it matches the last event, 1 if not,
    /// 64 if the filter is wrong, or the named file cannot be read or has no event
    Test(TestArgs),
}

#[derive(Args)]
struct TestArgs {
    /// The filter, such as 'And(Stage=Changed(),Params.site=Eq(lab))'
    filter: String,
    /// Events or plain objects as JSON: one per line, several over lines, or an array; - reads standard input, which is
    /// the default
    #[arg(value_name = "EVENT-FILE")]
    file: Option<PathBuf>,
    /// Print JSON, one document per line
    #[arg(long)]
    json: bool,
}

/// The reason why there is no result.
#[derive(Debug, Error)]
pub(crate) enum FilterError {
    #[error("{error}\n  {}\n  {:>2$}", .shown.0, "^", .shown.1)]
    Bad { error: ParseError, shown: (String, usize) },
    #[error(transparent)]
    Samples(#[from] SamplesError),
    #[error(
        "this is a registration, not a filter: `{registered}` is its type.action.key; {}",
        its_filter(filter.as_deref())
    )]
    Spec { registered: String, filter: Option<String> },
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Says which filter to test instead of a whole registration.
fn its_filter(filter: Option<&str>) -> String {
    filter.map_or_else(|| "it has no filter".to_owned(), |filter| format!("its filter is `{filter}`"))
}

/// Returns the exit code.
pub(super) fn run(
    args: &FilterArgs,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, FilterError> {
    let What::Test(args) = &args.what;
    refuse_spec(&args.filter, err)?;
    let filter = Filter::parse(&args.filter, &Limits::default())
        .map_err(|error| FilterError::Bad { shown: excerpt(&args.filter, error.offset), error })?;
    write_filter(&filter, args.json, out)?;
    let samples = Samples::of(args.file.as_deref().unwrap_or(Path::new("-")));
    let mut asker = Asker::new(&filter);
    let mut last = None;
    samples.each(input, err, |found| {
        let answer = asker.answer(found, &samples)?;
        answer.write(args.json, out)?;
        last = Some(u8::from(!answer.matches));
        Ok::<_, FilterError>(())
    })?;
    match last {
        // Without events, the command only shows how the filter is parsed.
        None if args.file.is_some() => Err(samples.empty().into()),
        last => Ok(last.unwrap_or_default()),
    }
}

/// Refuses a whole SPEC, recognized by a `*` among its parts, since no field is called `*`. If the second part is an
/// action, it may be a field, so only a note is printed.
fn refuse_spec(text: &str, err: &mut dyn Write) -> Result<(), FilterError> {
    let head = &text[..text.find(['=', '(']).unwrap_or(text.len())];
    let parts: Vec<&str> = head.splitn(4, '.').map(str::trim).collect();
    let [_, action, _, ..] = parts[..] else { return Ok(()) };
    let registered: usize = head.splitn(4, '.').take(3).map(|part| part.len() + 1).sum();
    let filter = text.get(registered..).map(str::trim).filter(|filter| !filter.is_empty());
    let registered = head[..head.len().min(registered - 1)].trim().to_owned();
    if parts[..3].iter().any(|part| part.split(',').any(|one| one.trim() == "*")) {
        return Err(FilterError::Spec { registered, filter: filter.map(str::to_owned) });
    }
    if ACTIONS.contains(&action) {
        report(
            err,
            format_args!("note: `{registered}` is read as a field path, not as type.action.key of a registration"),
        );
    }
    Ok(())
}

fn write_filter(filter: &Filter, json: bool, out: &mut dyn Write) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", serde_json::json!({ "filter": filter.to_string() }));
    }
    write_tree(filter, out)
}

/// Writes the canonical text with a line for each term; it parses to the same filter.
fn write_tree(filter: &Filter, out: &mut dyn Write) -> io::Result<()> {
    let mut ends = Vec::new();
    for (index, term) in filter.terms().iter().enumerate() {
        write!(out, "{:1$}", "", 2 * ends.len())?;
        let name = match term {
            Term::And(_) => "And",
            Term::Or(_) => "Or",
            Term::Not(_) => "Not",
            Term::Test(test) => {
                write!(out, "{test}")?;
                close(index + 1, &mut ends, out)?;
                continue;
            }
        };
        writeln!(out, "{name}(")?;
        ends.push(index + term.size());
    }
    Ok(())
}

/// Closes the combinators that end before the term at `next`.
fn close(next: usize, ends: &mut Vec<usize>, out: &mut dyn Write) -> io::Result<()> {
    while ends.last() == Some(&next) {
        ends.pop();
        write!(out, "\n{:1$})", "", 2 * ends.len())?;
    }
    writeln!(out, "{}", if ends.is_empty() { "" } else { "," })
}

/// An engine with the filter and each of its terms.
struct Asker<'f> {
    filter: &'f Filter,
    engine: Engine,
    terms: Vec<FilterId>,
}

/// The result for one event.
#[derive(Serialize)]
struct Answer {
    line: u64,
    matches: bool,
    /// The term that decides the result, evaluated from left to right.
    decided_by: String,
    /// The terms evaluated up to that one.
    terms: Vec<Asked>,
}

#[derive(Serialize)]
struct Asked {
    term: String,
    matches: bool,
    /// The value of the field; `None` if it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    /// For `Changed`: the value in Original.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Box<RawValue>>,
    #[serde(skip)]
    compares: bool,
}

impl Asked {
    /// Evaluates the term whose id in the engine is `id`.
    fn new(test: &Test, id: FilterId, evaluation: &mut Evaluation<'_>) -> Self {
        let matches = evaluation.matches(id);
        let raw = |json: Option<_>| json.and_then(|json: &str| RawValue::from_string(json.into()).ok());
        let [value, before] = evaluation.values(id).map(raw);
        Self { term: test.to_string(), matches, value, before, compares: test.op.name() == "Changed" }
    }
}

impl<'f> Asker<'f> {
    fn new(filter: &'f Filter) -> Self {
        let mut engine = Engine::new();
        let terms = (0..filter.terms().len()).map(|index| engine.intern(&filter.subtree(index))).collect();
        Self { filter, engine, terms }
    }

    fn answer(&mut self, found: &Found, samples: &Samples<'_>) -> Result<Answer, FilterError> {
        let text = found.text.as_str();
        if !is_event(text) {
            return Ok(self.ask(found.line, View::object(text)));
        }
        let draft = Draft::read(text).map_err(|error| samples.refuse(found, error))?;
        Ok(self.ask(found.line, View::event(&draft.seal(clock::now()))))
    }

    fn ask(&mut self, line: u64, view: View<'_>) -> Answer {
        let mut evaluation = self.engine.begin(view);
        let mut asked = Vec::new();
        let matches = walk(self.filter, &self.terms, 0, &mut evaluation, &mut asked);
        let decided_by = asked.last().map(|asked: &Asked| asked.term.clone()).unwrap_or_default();
        Answer { line, matches, decided_by, terms: asked }
    }
}

/// Evaluates terms from left to right, no further than needed. Recursion is bounded by the maximum nesting of a filter.
fn walk(
    filter: &Filter,
    ids: &[FilterId],
    index: usize,
    evaluation: &mut Evaluation<'_>,
    asked: &mut Vec<Asked>,
) -> bool {
    let mut child = |child| walk(filter, ids, child, evaluation, asked);
    match &filter.terms()[index] {
        Term::And(_) => filter.children(index).all(child),
        Term::Or(_) => filter.children(index).any(child),
        Term::Not(_) => !child(index + 1),
        Term::Test(test) => {
            asked.push(Asked::new(test, ids[index], evaluation));
            asked.last().is_some_and(|asked| asked.matches)
        }
    }
}

/// Returns whether a JSON object is an event: it has a Type, an Action, and a Key or an Object.
fn is_event(text: &str) -> bool {
    let has = |field: &str| json::members(text).any(|member| member.name().eq_ignore_ascii_case(field));
    has("Type") && has("Action") && (has("Key") || has("Object"))
}

impl Answer {
    fn write(&self, json: bool, out: &mut dyn Write) -> io::Result<()> {
        if !json {
            return self.write_text(out);
        }
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)
    }

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "line {}: {}, decided by {}", self.line, self.matches, self.decided_by)?;
        for asked in &self.terms {
            write!(out, "  {} {}: {}", asked.matches, asked.term, shown(asked.value.as_deref()))?;
            if asked.compares {
                write!(out, ", before {}", shown(asked.before.as_deref()))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Formats a value for people, in at most one line.
fn shown(value: Option<&RawValue>) -> String {
    const LONGEST: usize = 160;
    let Some(value) = value else { return "missing".to_owned() };
    let mut text: String = value.get().chars().take(LONGEST).collect();
    if text.len() < value.get().len() {
        text.push_str("...");
    }
    text
}
