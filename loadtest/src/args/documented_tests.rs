//! Every `hydrant-loadtest` command that the documents show is one that the program understands.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use clap::error::ErrorKind;

use super::Cli;

/// README and the documents, without the pages of figures, whose commands are those of their time.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    docs.filter(|path| path.extension().is_some_and(|kind| kind == "md")).chain([root.join("README.md")]).collect()
}

/// The commands of a document, without variables before them: up to the end of a line or of a span of code.
fn commands(text: &str) -> Vec<Vec<&str>> {
    let begins = text.match_indices("hydrant-loadtest ").map(|(at, _)| &text[at..]);
    let whole = begins.map(|rest| &rest[..rest.find(['`', '\n', '#']).unwrap_or(rest.len())]);
    whole.map(|command| command.split_whitespace().collect()).collect()
}

#[test]
fn every_command_in_the_documents_is_understood() {
    let (mut faults, mut count) = (Vec::new(), 0);
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap().replace("\\\n", " ").replace("\"$(pidof hydrant)\"", "1");
        for command in commands(&text) {
            // In prose it is only the program's name.
            if command.get(1).is_none_or(|word| !word.starts_with(|c: char| c.is_ascii_lowercase())) {
                continue;
            }
            count += 1;
            let error = Cli::try_parse_from(&command).err();
            // A command in a sentence may leave out what it needs.
            let fault = error.filter(|error| error.kind() != ErrorKind::MissingRequiredArgument);
            faults.extend(fault.map(|error| format!("{}: {command:?}: {error}", path.display())));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 12, "only {count} commands were found");
}
