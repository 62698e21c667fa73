//! Reads the events that a command evaluates, from a file or from standard input.
//!
//! Contract: documents are read and processed one after the other, in order; the first error ends the input, after the
//! documents before it have been processed. Errors name the file, and the line where there is one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use thiserror::Error;

use super::console::hint_if_typed;
use super::documents::{Document, Documents, Found, InputError};
use super::zstd;
use crate::event::EventError;

const STANDARD_INPUT: &str = "standard input";

/// The reason why events cannot be read.
#[derive(Debug, Error)]
pub(super) enum SamplesError {
    #[error("cannot open {file}: {error}")]
    Open { file: String, error: io::Error },
    #[error("{file}:{error}")]
    Input { file: String, error: InputError },
    #[error("{file}:{line}: {}", error.fault)]
    Event { file: String, line: u64, error: EventError },
    #[error("{0}: no events in it")]
    Empty(String),
}

/// The source of events.
pub(super) struct Samples<'p> {
    /// The path; `None` for standard input.
    path: Option<&'p Path>,
    name: String,
}

impl<'p> Samples<'p> {
    /// Reads from a file; `-` means standard input.
    pub(super) fn of(file: &'p Path) -> Self {
        let path = (file != Path::new("-")).then_some(file);
        Self { path, name: path.map_or_else(|| STANDARD_INPUT.to_owned(), |path| path.display().to_string()) }
    }

    /// Calls `look` with each event. Reads `input` if the source is standard input; on a terminal, a note on `err` says
    /// so.
    ///
    /// # Errors
    /// [`SamplesError`], or the error of `look`.
    pub(super) fn each<E: From<SamplesError>>(
        &self,
        input: &mut dyn BufRead,
        err: &mut dyn Write,
        look: impl FnMut(&Found) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(path) = self.path else {
            hint_if_typed(err);
            return self.read(input, look);
        };
        let refuse = |error| SamplesError::Open { file: self.name.clone(), error };
        let file = File::open(path).and_then(|file| zstd::plain(Box::new(file))).map_err(refuse)?;
        self.read(&mut BufReader::new(file), look)
    }

    fn read<E: From<SamplesError>>(
        &self,
        input: &mut dyn BufRead,
        mut look: impl FnMut(&Found) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut documents = Documents::new(input);
        let failed = |error| SamplesError::Input { file: self.name.clone(), error };
        while let Some(document) = documents.next().map_err(failed)? {
            match document {
                Document::Object(found) => look(&found)?,
                Document::Array { events, .. } => events.iter().try_for_each(&mut look)?,
            }
        }
        Ok(())
    }

    /// Returns the error for a document that is not an event.
    pub(super) fn refuse(&self, found: &Found, error: EventError) -> SamplesError {
        SamplesError::Event { file: self.name.clone(), line: found.line, error }
    }

    /// Returns the error for a file without events.
    pub(super) fn empty(&self) -> SamplesError {
        SamplesError::Empty(self.name.clone())
    }
}
