//! Every `hydrant` command that the documents show is one that the program understands.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;

use super::Cli;

/// Directories with documents for operators and users.
const PLACES: [&str; 4] = ["", "docs", "examples", "dist"];

/// What may stand before a command, or begins another one.
const BETWEEN: [&str; 9] = ["|", "||", "&", "&&", ";", "(", ")", "\n", "$("];

fn files(dir: &Path, deep: bool, into: &mut Vec<PathBuf>) {
    for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        let is_text = ["md", "service", "yaml"].iter().any(|kind| path.extension().is_some_and(|is| is == *kind));
        if path.is_dir() && deep && !path.ends_with("benchmarks") {
            files(&path, deep, into);
        } else if is_text && !path.ends_with("CHANGELOG.md") {
            into.push(path);
        }
    }
}

/// The lines of code in a document, continuation lines joined: blocks between fences, indented blocks, and units.
fn blocks(name: &Path, text: &str) -> Vec<String> {
    let is_markdown = name.extension().is_some_and(|kind| kind == "md");
    let (mut lines, mut fenced) = (Vec::new(), false);
    let joined = text.replace("\\\n", " ");
    for line in joined.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced || !is_markdown || line.starts_with("    ") {
            lines.push(line.trim().trim_start_matches("ExecStart=").to_owned());
        }
    }
    lines
}

/// The words of a shell command; operators are words of their own. Quotes are taken off, comments left out.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut rest) = (Vec::new(), None::<String>, line.chars().peekable());
    let end = |word: &mut Option<String>, words: &mut Vec<String>| words.extend(word.take());
    while let Some(char) = rest.next() {
        match char {
            '\'' | '"' => {
                let quoted: String = rest.by_ref().take_while(|next| *next != char).collect();
                word.get_or_insert_default().push_str(&quoted);
            }
            '#' if word.is_none() => break,
            ' ' => end(&mut word, &mut words),
            '|' | '&' | ';' | '(' | ')' | '<' | '>' => {
                end(&mut word, &mut words);
                let doubled = rest.next_if_eq(&char).is_some();
                words.push(char.to_string().repeat(1 + usize::from(doubled)));
            }
            _ => word.get_or_insert_default().push(char),
        }
    }
    end(&mut word, &mut words);
    words
}

/// The commands of a line that call hydrant, without redirections.
fn calls(line: &str) -> Vec<Vec<String>> {
    let words = words(line);
    let commands = words.split(|word| BETWEEN.contains(&word.as_str()));
    let ours = commands.filter_map(|command| {
        let begin = command.iter().position(|word| !word.contains('=') && word != "sudo" && word != "$")?;
        let is_hydrant = matches!(command[begin].as_str(), "hydrant" | "target/demo/hydrant" | "/usr/bin/hydrant");
        // What `hydrant top` prints begins with the version.
        let is_output = command.get(begin + 1).is_some_and(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let end = command.iter().position(|word| word.starts_with(['<', '>'])).unwrap_or(command.len());
        (is_hydrant && !is_output).then(|| command[begin..end].to_vec())
    });
    ours.collect()
}

/// Commands in the text between backquotes, which may leave arguments out.
fn mentions(text: &str) -> Vec<&str> {
    let spans = text.split('`').skip(1).step_by(2);
    spans.filter(|span| span.starts_with("hydrant ") && !span.contains('\n') && !span.contains("...")).collect()
}

fn fault(command: &[String], is_whole: bool) -> Option<String> {
    let error = Cli::try_parse_from(command).err()?;
    let is_short = matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    (!is_help && (is_whole || !is_short)).then(|| format!("{command:?}: {error}"))
}

#[test]
fn every_command_in_the_documents_is_understood() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    PLACES.iter().for_each(|place| files(&root.join(place), !place.is_empty(), &mut all));
    let (mut faults, mut count) = (Vec::new(), 0);
    for path in all {
        let text = fs::read_to_string(&path).unwrap();
        let whole: Vec<_> = blocks(&path, &text).iter().flat_map(|line| calls(line)).collect();
        let mentioned: Vec<_> = mentions(&text).into_iter().flat_map(calls).collect();
        count += whole.len();
        let told = |fault| format!("{}: {fault}", path.display());
        faults.extend(whole.iter().filter_map(|command| fault(command, true)).map(told));
        faults.extend(mentioned.iter().filter_map(|command| fault(command, false)).map(told));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 20, "only {count} commands were found");
}

#[test]
fn a_line_of_the_shell_is_read() {
    let line = "A=b echo 'x | y' | hydrant post - < file && sudo hydrant top --once  # hydrant no";
    assert_eq!(calls(line), [vec!["hydrant", "post", "-"], vec!["hydrant", "top", "--once"]]);
    assert!(fault(&["hydrant".to_owned(), "wach".to_owned()], false).is_some());
    assert!(fault(&["hydrant".to_owned(), "watch".to_owned(), "--sinc".to_owned()], false).is_some());
}
