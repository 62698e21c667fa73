//! What documents say of the code, compared with the code.
//!
//! A table that is written by hand goes out of date in silence. So the tables of close codes, metrics and modules are
//! read here and compared with what the program has, registrations given as examples are registered, and links are
//! followed.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hydrant::config::{Settings, Sources};
use hydrant::index::Spec;
use hydrant::index::filter::Limits;
use hydrant::metrics::Metrics;
use hydrant::protocol::Close;

/// Directories without documents of ours.
const FOREIGN: [&str; 4] = [".git", "target", "node_modules", "corpus"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every Markdown file of the project.
fn documents(dir: &Path, into: &mut Vec<PathBuf>) {
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if FOREIGN.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        if path.is_dir() {
            documents(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            into.push(path);
        }
    }
}

/// The rows of the table with this header, cells trimmed.
fn table(text: &str, header: &str) -> Vec<Vec<String>> {
    let rows: Vec<Vec<String>> = text
        .lines()
        .skip_while(|line| *line != header)
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect())
        .collect();
    assert!(!rows.is_empty(), "no table `{header}`");
    rows
}

#[test]
fn the_close_table_is_that_of_the_code() {
    let written = table(&read("docs/protocol.md"), "| code | reason | label | what a client should do |");
    let row = |close: Close| {
        let reason = match close {
            Close::SlowConsumer { .. } => "slow consumer: N events, M bytes queued".to_owned(),
            Close::Stale { .. } => "slow consumer: an event has waited N s".to_owned(),
            _ => close.reason().into_owned(),
        };
        vec![close.code().to_string(), reason, close.label().to_owned(), close.advice().to_owned()]
    };
    let code: BTreeSet<_> = Close::ALL.into_iter().map(row).collect();
    assert_eq!(written.len(), Close::ALL.len());
    assert_eq!(written.into_iter().collect::<BTreeSet<_>>(), code);
    let slow = Close::SlowConsumer { events: 1, bytes: 2 }.reason().replace('1', "N").replace('2', "M");
    assert_eq!(slow, "slow consumer: N events, M bytes queued");
}

/// What a client may rely on is written in `docs/protocol.md`, so a default does not change without it.
#[test]
fn the_numbers_of_the_protocol_are_the_defaults() {
    let Settings { limits, timeouts, replay, .. } = Settings::load(&Sources::default()).unwrap();
    let filter = Limits::default();
    let seconds = |span: Duration| usize::try_from(span.as_secs()).unwrap();
    let text = read("docs/protocol.md").split_whitespace().collect::<Vec<_>>().join(" ");
    for (default, number, sentence) in [
        (limits.message_bytes, 64 << 10, "Only a message longer than 64 KiB closes the connection (1009)"),
        (limits.registrations, 4096, "4,096 registrations per connection;"),
        (limits.combinations, 65_536, "65,536 (type, action, key) combinations from the lists of one registration,"),
        (limits.filter_nesting, 64, "In one filter: nesting of 64,"),
        (filter.terms, 1024, "1,024 terms,"),
        (filter.list, 4096, "4,096 values in an `In`,"),
        (filter.patterns, 16, "16 regular expressions"),
        (filter.pattern, 1024, "of 1,024 bytes each"),
        (limits.regex_bytes, 1 << 20, "that compile to 1 MiB together."),
        (limits.event_bytes, 16 << 20, "an event is longer than 16 MiB,"),
        (limits.body_bytes, 64 << 20, "the body is longer than 64 MiB as sent or inflated,"),
        (limits.post_events, 65_536, "there are more than 65,536 events |"),
        (seconds(timeouts.ping), 25, "It sends a ping every 25 s,"),
        (seconds(timeouts.idle), 60, "if it has received nothing at all for 60 s."),
        (seconds(timeouts.close), 5, "A client that does not answer a close within 5 s is disconnected"),
        (usize::try_from(replay.events).unwrap(), 65_536, "at most `replay.events` (65,536) events"),
        (replay.bytes, 16 << 20, "and `replay.bytes` (16 MiB)"),
    ] {
        assert!(text.contains(sentence), "{sentence}");
        assert_eq!(default, number, "{sentence}");
    }
}

/// A metric as `/metrics` tells it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    kind: String,
    labels: BTreeSet<String>,
    help: String,
}

/// What `/metrics` says, by name.
fn told(text: &str) -> BTreeMap<String, Told> {
    let mut all: BTreeMap<String, Told> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.clone_into(&mut all.entry(name.to_owned()).or_default().help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kind.clone_into(&mut all.entry(name.to_owned()).or_default().kind);
        } else if let Some((series, labels)) = line.split_once('{') {
            let name = ["_bucket", "_sum", "_count"].into_iter().find_map(|part| series.strip_suffix(part));
            let name = name.filter(|name| all.contains_key(*name)).unwrap_or(series);
            let labels = labels.split('"').step_by(2).filter_map(|part| part.strip_suffix('='));
            let labels = labels.map(|label| label.trim_start_matches(',').to_owned()).filter(|label| label != "le");
            all.entry(name.to_owned()).or_default().labels.extend(labels);
        }
    }
    all
}

/// All metrics, with those that appear only once they count something.
fn registry() -> BTreeMap<String, Told> {
    let metrics = Arc::new(Metrics::new());
    metrics.http_responses.count(200);
    metrics.shard(0).turn(0, std::time::Duration::ZERO);
    metrics.upstream.endpoint("drp:8092");
    metrics.nats.show(true);
    metrics.set_certificate_expiry(Some(1));
    told(&metrics.render(0))
}

#[test]
fn the_metrics_table_is_that_of_the_registry() {
    let code = registry();
    let rows = table(&read("docs/operations.md"), "| name | type | labels | meaning |").into_iter();
    let written = rows.map(|row| {
        let labels = row[2].split(", ").filter(|label| !label.is_empty()).map(str::to_owned).collect();
        (row[0].clone(), Told { kind: row[1].clone(), labels, help: row[3].clone() })
    });
    let written: BTreeMap<_, _> = written.collect();
    for (name, told) in &code {
        assert_eq!(written.get(name), Some(told), "{name}");
    }
    let names = |all: &BTreeMap<String, Told>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&written), names(&code));
}

#[test]
fn every_metric_that_the_documents_name_exists() {
    let (code, mut named) = (registry(), 0);
    for name in ["docs/operations.md", "docs/protocol.md", "docs/architecture.md", "README.md"] {
        let text = read(name);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("hydrant_")) {
            let metric = word.strip_suffix("_bucket").unwrap_or(word);
            assert!(code.contains_key(metric), "{name} names {word}");
            named += 1;
        }
    }
    assert!(named > 100, "only {named} words were looked at");
}

#[test]
fn the_table_of_modules_names_every_module() {
    let header = "| module | what it is | may use |";
    let written: BTreeSet<String> =
        table(&read("docs/architecture.md"), header).into_iter().map(|row| row[0].clone()).collect();
    let library = read("src/lib.rs");
    let modules = library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    assert_eq!(written, modules.map(str::to_owned).collect());
    let head = library.lines().filter(|line| line.starts_with("//! | [`"));
    let listed = head.flat_map(|row| row.split('|').nth(1).unwrap().split(',')).map(str::trim);
    assert_eq!(listed.map(|name| name.trim_matches(['[', '`', ']']).to_owned()).collect::<BTreeSet<_>>(), written);
}

/// The ways through the rooms: the heading of each, and its files in order.
fn ways() -> Vec<(String, Vec<String>)> {
    let text = read("docs/architecture.md");
    let sections = text.split("\n### ").filter_map(|section| section.split_once('\n'));
    let walked = sections.filter(|(_, section)| section.contains("| file | what happens there |"));
    let files =
        |section| table(section, "| file | what happens there |").into_iter().map(|row| row[0].clone()).collect();
    walked.map(|(heading, section)| (heading.to_owned(), files(section))).collect()
}

/// How often a way enters a room that it had left.
fn returns(files: &[String]) -> usize {
    let mut rooms: Vec<&str> = files.iter().filter_map(|file| file.split('/').nth(1)).collect();
    rooms.dedup();
    rooms.iter().enumerate().filter(|(at, room)| rooms[..*at].contains(room)).count()
}

#[test]
fn ways_through_the_rooms_seldom_return_to_one() {
    let ways = ways();
    assert_eq!(ways.len(), 5);
    for (heading, files) in ways {
        let allowed = if heading.contains("`register`") { 5 } else { 6 };
        assert!(returns(&files) <= allowed, "{heading}: {} returns", returns(&files));
    }
    let there_and_back = ["src/a/x.rs", "src/a/y.rs", "src/b/x.rs", "src/a/x.rs", "src/b/y.rs"].map(str::to_owned);
    assert_eq!(returns(&there_and_back), 2);
}

#[test]
fn sources_that_the_architecture_names_exist() {
    let text = read("docs/architecture.md");
    let spans = text.split('`').skip(1).step_by(2);
    let named: Vec<&str> = spans.filter(|name| name.starts_with("src/") || name.starts_with("tests/")).collect();
    assert!(named.len() > 50, "only {named:?}");
    let missing: Vec<&&str> = named.iter().filter(|name| !root().join(name).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn registrations_given_as_examples_can_be_registered() {
    let mut specs: Vec<String> =
        table(&read("docs/protocol.md"), "| SPEC | delivers |").into_iter().map(|row| row[0].clone()).collect();
    let readme = read("README.md");
    let watched = readme.lines().filter(|line| line.contains(" watch ")).filter_map(|line| line.split('\'').nth(1));
    specs.extend(watched.map(str::to_owned));
    assert!(specs.len() >= 7, "{specs:?}");
    for spec in specs {
        let read = Spec::parse(&spec, &Limits::default()).unwrap_or_else(|error| panic!("{spec}: {error}"));
        assert_eq!(read.filter.is_some(), spec.contains('('), "{spec}");
    }
}

/// The targets of `make TARGET` in code: a span between backquotes, a line of a block, a step of `.ci/run`.
fn targets(text: &str) -> Vec<&str> {
    let begins = ["`make ", "\n    make ", "\nstep make "];
    let after = begins.iter().flat_map(|begin| text.match_indices(begin).map(|(at, word)| &text[at + word.len()..]));
    let word = |rest: &'_ str| rest.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(rest.len());
    after.map(|rest| &rest[..word(rest)]).filter(|target| !target.is_empty()).collect()
}

#[test]
fn make_has_the_targets_that_the_documents_name() {
    let makefile = read("Makefile");
    let mut paths = vec![root().join(".ci/run")];
    documents(root(), &mut paths);
    let mut count = 0;
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        for target in targets(&text) {
            count += 1;
            let is_there = makefile.lines().any(|line| line.starts_with(&format!("{target}:")));
            assert!(is_there, "{}: make {target}", path.display());
        }
    }
    assert!(count > 60, "only {count} targets are named");
}

/// A heading as a link names it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept: String = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect();
    kept.replace(' ', "-")
}

/// The targets of the links in a document, without those in code blocks.
fn links(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        fenced ^= line.starts_with("```");
        if fenced || line.starts_with("    ") {
            continue;
        }
        let ends = line.match_indices("](").map(|(at, open)| &line[at + open.len()..]);
        found.extend(ends.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()));
    }
    found
}

/// What is wrong with a link.
fn fault(document: &Path, target: &str) -> Option<String> {
    let (file, heading) = target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
    let path = if file.is_empty() { document.to_owned() } else { document.parent()?.join(file) };
    if !path.exists() {
        return Some(format!("{}: {target}: no such file", document.display()));
    }
    let heading = heading?;
    let text = fs::read_to_string(&path).ok()?;
    let found = text.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
    (!found).then(|| format!("{}: {target}: no such heading", document.display()))
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut paths = Vec::new();
    documents(root(), &mut paths);
    let mut count = 0;
    let mut faults = Vec::new();
    for path in paths {
        for target in links(&fs::read_to_string(&path).unwrap()) {
            if !target.contains("://") {
                count += 1;
                faults.extend(fault(&path, &target));
            }
        }
    }
    assert!(count > 30, "only {count} links were found");
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The value of a line such as `expr: 'up == 0'`, without its quotes.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let value = line.trim_start().trim_start_matches("- ").strip_prefix(key)?.trim();
    Some(value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')).unwrap_or(value))
}

#[test]
fn every_alert_has_its_section_with_its_expression() {
    let (rules, page) = (read("dist/prometheus/alerts.yml"), read("docs/operations.md"));
    let (mut alert, mut expression, mut seen) = ("", String::new(), BTreeSet::new());
    for line in rules.lines() {
        if let Some(name) = value(line, "alert:") {
            alert = name;
        } else if let Some(text) = value(line, "expr:") {
            expression = text.replace("''", "'");
        } else if let Some(runbook) = value(line, "runbook:") {
            assert_eq!(runbook, format!("docs/operations.md#{}", alert.to_lowercase()));
            let section =
                page.split_once(&format!("\n#### {alert}\n\n")).unwrap_or_else(|| panic!("no section {alert}")).1;
            assert!(section.starts_with(&format!("`{expression}`")), "{alert}: {expression}");
            seen.insert(alert);
        }
    }
    let sections: BTreeSet<_> = page.lines().filter_map(|line| line.strip_prefix("#### Hydrant")).collect();
    assert_eq!(seen.len(), sections.len(), "a section without a rule, or a rule without a runbook");
}

/// The source of a test that is named as it is run (`delivery ordering::name`), as far as its module has a file.
fn source_of(binary: &str, path: &[&str]) -> Option<String> {
    let places = match binary {
        "lib" => vec!["src".to_owned()],
        "tidy" | "docs" => return fs::read_to_string(root().join(format!("tests/{binary}.rs"))).ok(),
        of_tests => vec![format!("tests/{of_tests}")],
    };
    // A file of tests may stand beside that of its module (`#[path]`).
    if let [over @ .., _, file] = path
        && let Ok(text) = fs::read_to_string(root().join(format!("{}/{}/{file}.rs", places[0], over.join("/"))))
    {
        return Some(text);
    }
    // The last parts may be modules within the file.
    (0..path.len()).rev().find_map(|length| {
        let (module, place) = (path[..=length].join("/"), &places[0]);
        let files = [format!("{place}/{module}.rs"), format!("{place}/{module}/mod.rs")];
        files.iter().find_map(|file| fs::read_to_string(root().join(file)).ok())
    })
}

/// What is wrong with a test that a document names.
fn missing_test(named: &str) -> Option<String> {
    let (binary, path) = named.split_once(' ')?;
    let parts: Vec<&str> = path.split("::").collect();
    let (name, module) = parts.split_last()?;
    let source = if module.is_empty() { source_of(binary, &parts) } else { source_of(binary, module) };
    let there = source.is_some_and(|text| *name == "*" || text.contains(&format!("fn {name}(")));
    (!there).then(|| named.to_owned())
}

/// The table of tests has the same first column as these together, and a test in each row.
fn assert_tested(header: &str, documented: &[Vec<Vec<String>>]) {
    let tested = table(&read("docs/reliability.md"), header);
    let names = |rows: &[Vec<String>]| rows.iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    assert_eq!(names(&tested), names(&documented.concat()));
    let without: Vec<_> = tested.iter().filter(|row| !row[1].contains("::")).collect();
    assert!(without.is_empty(), "{without:?}");
}

#[test]
fn every_limit_has_a_test() {
    assert_tested("| limit | test |", &[table(&read("docs/security.md"), "| what | default | setting | beyond it |")]);
}

#[test]
fn every_failure_has_a_test() {
    let operations = read("docs/operations.md");
    let behind = table(&operations, "| failure | what is lost | who is notified | what continues |");
    let between = table(&operations, "| failure | what is lost | who is notified |");
    assert_tested("| failure | test |", &[behind, between]);
}

#[test]
fn tests_that_stand_for_promises_exist() {
    const BINARIES: [&str; 13] = [
        "auth", "cli", "delivery", "docs", "filter", "front", "lib", "limits", "nats", "replay", "rights", "tidy",
        "wire",
    ];
    let text = read("docs/reliability.md");
    let spans = text.lines().filter(|line| line.starts_with('|')).flat_map(|line| line.split('`').skip(1).step_by(2));
    let named: Vec<&str> =
        spans.filter(|span| span.split_once(' ').is_some_and(|(binary, _)| BINARIES.contains(&binary))).collect();
    assert!(named.len() > 80, "only {} tests are named", named.len());
    let missing: Vec<String> = named.into_iter().filter_map(missing_test).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(missing_test("delivery ordering::no_such_test").is_some());
    assert!(missing_test("delivery no_such_module::*").is_some());
}

/// A number as documents and rules write it: `512`, `8MiB`, `4 * 1024 * 1024`.
fn number(text: &str) -> f64 {
    let factor = |word: &str| -> f64 {
        let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
        let unit = match word[digits.len()..].trim() {
            "GiB" => 1024.0 * 1024.0 * 1024.0,
            "MiB" => 1024.0 * 1024.0,
            "KiB" => 1024.0,
            "" => 1.0,
            other => panic!("{other}"),
        };
        digits.parse::<f64>().unwrap_or_else(|error| panic!("{word}: {error}")) * unit
    };
    text.split('*').map(|word| factor(word.trim())).product()
}

/// The default of a setting that is a number, in the reference.
fn default_of(reference: &str, setting: &str) -> f64 {
    let variable = format!("`HYDRANT_{}`", setting.replace('.', "_").to_uppercase());
    let line = reference.lines().find(|line| line.contains(&variable)).unwrap_or_else(|| panic!("no {variable}"));
    number(line.split('|').nth(3).unwrap().trim().trim_matches('`'))
}

/// The limit of the example, whose settings may differ from the defaults, and the sum that operations.md tells to make.
#[test]
fn the_memory_of_the_kubernetes_example_is_enough_for_its_settings() {
    let (manifest, reference) = (read("dist/kubernetes/hydrant.yaml"), read("docs/configuration.md"));
    let (_, settings) = manifest.split_once("  hydrant.toml: |\n").unwrap();
    let settings: toml::Table = settings.split_once("\n---\n").unwrap().0.parse().unwrap();
    let amount = |setting: &str| {
        let (table, name) = setting.split_once('.').unwrap();
        let given = settings.get(table).and_then(|table| table.get(name)).and_then(|value| value.as_str());
        given.map_or_else(|| default_of(&reference, setting), number)
    };
    let parts = [
        ("outbox.total_bytes", 1.25),
        ("inbox.bytes", 1.0),
        ("replay.bytes", 1.0),
        ("limits.body_bytes", 4.0),
        ("nats.queue_bytes", 2.0),
    ];
    let page = read("docs/operations.md");
    let (_, told) = page.split_once("For a limit on the process").unwrap();
    let told = told.split_once("\n- ").unwrap().0;
    assert!(parts.iter().all(|(setting, _)| told.contains(&format!("`{setting}`"))), "{told}");
    let needed = parts.iter().map(|(setting, times)| amount(setting) * times).sum::<f64>() + 200e6;
    let limit = value(manifest.lines().find(|line| line.contains("limits: { memory:")).unwrap(), "limits:").unwrap();
    let limit = number(&limit.replace("{ memory: ", "").replace("Gi }", "GiB"));
    assert!(limit > needed, "{limit} are not enough for {needed} and the connections");
}

#[test]
fn thresholds_that_are_shares_of_a_default_follow_it() {
    let (rules, page, reference) =
        (read("dist/prometheus/alerts.yml"), read("docs/operations.md"), read("docs/configuration.md"));
    let rows = table(&page, "| rule | threshold | is |");
    for row in &rows {
        let (alert, threshold, is) = (&row[0], number(&row[1]), &row[2]);
        let setting = is.split('`').nth(1).unwrap();
        let default = default_of(&reference, setting);
        let told = number(is.split(['(', ')']).nth(1).unwrap());
        assert!((told - default).abs() < 1.0, "{alert}: the default of {setting} is {default}");
        let share = if is.starts_with("half") { 0.5 } else { 7.0 / 8.0 };
        assert!((threshold / default - share).abs() < 0.01, "{alert}: {threshold} of {default}");
        let rule = rules.split_once(&format!("alert: {alert}\n")).unwrap_or_else(|| panic!("no rule {alert}")).1;
        let expression = value(rule.lines().next().unwrap(), "expr:").unwrap();
        let compared = number(expression.rsplit_once(" > ").unwrap().1);
        assert!((compared - threshold).abs() < 1.0, "{alert}: {expression}");
    }
    // Each rule whose summary names a default is in the table.
    let named = rules.lines().filter(|line| line.contains("summary:") && line.contains("` (")).count();
    assert_eq!(rows.len(), named);
}
