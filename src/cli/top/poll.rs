//! Requests the server's figures periodically, in a task beside the display.
//!
//! One kept-alive connection is used. A failure is reported, and retried after a growing wait. A failure that a retry
//! cannot fix (a user without the claim, a server that is not hydrant) is an error, and the last message sent.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::figures::Status;
use super::state::{List, Look, RegistrationSort, Tab};
use super::view::MOST_ROWS;
use crate::client::{Backoff, ClientError, Http, ListAnswer, RefusedError, Target};

const STATUS: &str = "/api/v3/hydrant/status";
/// Longest wait before a retry.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The reason why there are no figures.
#[derive(Debug, Error)]
pub(crate) enum LookError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}; reading the figures requires the claim connections/list")]
    Hidden(RefusedError),
    #[error("cannot read the answer of {path}: {error}")]
    Answer { path: &'static str, error: serde_json::Error },
}

impl LookError {
    fn of_status(error: ClientError) -> Self {
        match error {
            ClientError::Refused(refusal) if lacks_claim(&refusal) => Self::Hidden(refusal),
            error => Self::Client(error),
        }
    }

    /// Returns the server's refusal, if it is one.
    pub(super) fn refusal(&self) -> Option<&RefusedError> {
        match self {
            Self::Client(ClientError::Refused(refusal)) | Self::Hidden(refusal) => Some(refusal),
            Self::Client(_) | Self::Answer { .. } => None,
        }
    }

    /// Returns whether retrying is useless.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Client(error) => error.is_final(),
            _ => true,
        }
    }
}

/// Returns whether the caller is authenticated but lacks the claim.
fn lacks_claim(refusal: &RefusedError) -> bool {
    refusal.status == 403 && refusal.messages.iter().any(|message| message.starts_with("Requires:"))
}

/// How much of a list to request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// The first rows of those that the display shows.
    Shown,
    /// Everything that the server has.
    All,
}

/// What to request besides the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) tab: Tab,
    pub(super) sort: RegistrationSort,
    pub(super) is_paused: bool,
}

/// The result of a request.
#[derive(Debug)]
pub(super) enum Found {
    Look(Box<Look>),
    /// The connection failed; the next attempt comes after this wait.
    Lost(LookError, Duration),
    /// Retrying is useless; nothing follows.
    Failed(LookError),
}

/// Rows as the server sends them.
#[derive(Debug, Clone)]
pub(super) struct RowsText {
    pub(super) text: Box<RawValue>,
    /// What they lack, as the server names it.
    pub(super) missing: Option<String>,
}

/// Rows, or the server's refusal to show them to this user.
pub(super) type Rows = Result<RowsText, RefusedError>;

/// The client of one server.
#[derive(Debug)]
pub(super) struct Asker {
    target: Target,
    http: Option<Http>,
}

impl Asker {
    pub(super) fn new(target: Target) -> Self {
        Self { target, http: None }
    }

    /// Requests the status, and the rows of the current tab.
    pub(super) async fn look(&mut self, wanted: Wanted) -> Result<Look, LookError> {
        let status = self.status().await?;
        let connections = match wanted.tab {
            Tab::Connections => Some(read_rows(self.connections(Extent::Shown).await?, "connections")?),
            _ => None,
        };
        let registrations = match wanted.tab {
            Tab::Registrations => {
                Some(read_rows(self.registrations(wanted.sort, Extent::Shown).await?, "registrations")?)
            }
            _ => None,
        };
        Ok(Look { status: read(&status, STATUS)?, connections, registrations })
    }

    /// Requests the status, as the server sends it.
    pub(super) async fn status(&mut self) -> Result<Box<RawValue>, LookError> {
        let body = self.get(STATUS).await.map_err(LookError::of_status)?;
        serde_json::from_slice(&body).map_err(|error| LookError::Answer { path: STATUS, error })
    }

    /// Requests the connections, most queued first.
    pub(super) async fn connections(&mut self, extent: Extent) -> Result<Rows, LookError> {
        let shown = match extent {
            // Nothing is queued for connections of requests, such as that of this command.
            Extent::Shown => format!("&limit={MOST_ROWS}&Type=In(websocket,stream)"),
            Extent::All => String::new(),
        };
        self.rows(&format!("/api/v3/connections?sort=queued{shown}"), "connections").await
    }

    /// Requests the registrations.
    pub(super) async fn registrations(&mut self, sort: RegistrationSort, extent: Extent) -> Result<Rows, LookError> {
        let limit = if extent == Extent::Shown { format!("&limit={MOST_ROWS}") } else { String::new() };
        let path = format!("/api/v3/hydrant/registrations?sort={}{limit}", sort.name());
        self.rows(&path, "registrations").await
    }

    async fn rows(&mut self, path: &str, name: &'static str) -> Result<Rows, LookError> {
        let http = Http::kept(&mut self.http, &self.target).await?;
        match http.get_list(path).await {
            Ok(ListAnswer { body, missing }) => {
                let text = serde_json::from_slice(&body).map_err(|error| LookError::Answer { path: name, error })?;
                Ok(Ok(RowsText { text, missing }))
            }
            Err(ClientError::Refused(refusal)) if matches!(refusal.status, 400 | 403 | 404) => Ok(Err(refusal)),
            Err(error) => Err(error.into()),
        }
    }

    async fn get(&mut self, path: &str) -> Result<bytes::Bytes, ClientError> {
        Http::kept(&mut self.http, &self.target).await?.get(path).await
    }
}

/// Parses a response.
pub(super) fn read<T: DeserializeOwned>(text: &RawValue, path: &'static str) -> Result<T, LookError> {
    serde_json::from_str(text.get()).map_err(|error| LookError::Answer { path, error })
}

/// Parses rows, unless the user may not see them.
pub(super) fn read_rows<T: DeserializeOwned>(
    rows: Rows,
    path: &'static str,
) -> Result<Result<List<T>, RefusedError>, LookError> {
    match rows {
        Ok(RowsText { text, missing }) => Ok(Ok(List { rows: read(&text, path)?, missing })),
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// Requests figures every `interval`, and at once when something else is wanted, until the receiver is gone or a
/// failure is final.
pub(super) async fn poll(
    target: Target,
    interval: Duration,
    mut wanted: watch::Receiver<Wanted>,
    found: mpsc::Sender<Found>,
) {
    let mut asker = Asker::new(target);
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let now = *wanted.borrow_and_update();
        let mut wait = interval;
        if !now.is_paused {
            let news = match asker.look(now).await {
                Ok(look) => {
                    backoff.reset();
                    Found::Look(Box::new(look))
                }
                Err(error) if error.is_final() => Found::Failed(error),
                Err(error) => {
                    asker.http = None;
                    wait = FIRST_WAIT.max(backoff.next_wait());
                    Found::Lost(error, wait)
                }
            };
            let is_last = matches!(news, Found::Failed(_));
            if found.send(news).await.is_err() || is_last {
                return;
            }
        }
        tokio::select! {
            () = sleep(wait) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

impl Found {
    /// Returns the message that is shown for a failure.
    pub(super) fn loss(error: &LookError, wait: Duration) -> String {
        format!("{error}; retrying in {:.1} s", wait.as_secs_f64())
    }
}

/// Parses a status: for `--once`, which handles the server's text.
pub(super) fn status_of(text: &RawValue) -> Result<Status, LookError> {
    read(text, STATUS)
}
