//! Asking a server for its figures, again and again: the task beside the picture.
//!
//! One kept-alive connection; what fails is reported and tried again with a growing wait. What trying again cannot mend
//! (a user who may not see it, a server that is none of hydrant's) is an error, and the last thing that is sent.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::figures::Status;
use super::state::{Look, RegistrationSort, Tab};
use super::view::MOST_ROWS;
use crate::client::{Backoff, ClientError, Http, RefusedError, Target};

const STATUS: &str = "/api/v3/hydrant/status";
/// Longest wait for the next try.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Why there are no figures.
#[derive(Debug, Error)]
pub(crate) enum LookError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}; the figures are for users with the claim connections/list")]
    Hidden(RefusedError),
    #[error("{0}; is it a hydrant server?")]
    Unknown(RefusedError),
    #[error("the answer of {path} cannot be read: {error}")]
    Answer { path: &'static str, error: serde_json::Error },
}

impl LookError {
    fn of_status(error: ClientError) -> Self {
        match error {
            ClientError::Refused(refusal) if lacks_claim(&refusal) => Self::Hidden(refusal),
            ClientError::Refused(refusal) if refusal.status == 404 => Self::Unknown(refusal),
            error => Self::Client(error),
        }
    }

    /// Whether trying again is of no use.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Client(error) => error.is_final(),
            _ => true,
        }
    }
}

/// Whether the caller is known, but may not.
fn lacks_claim(refusal: &RefusedError) -> bool {
    refusal.status == 403 && refusal.messages.iter().any(|message| message.starts_with("Requires:"))
}

/// What is asked for, besides the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) tab: Tab,
    pub(super) sort: RegistrationSort,
    pub(super) is_paused: bool,
}

/// What is found.
#[derive(Debug)]
pub(super) enum Found {
    Look(Box<Look>),
    /// It is tried again after so long.
    Lost(LookError, Duration),
    /// The end.
    Failed(LookError),
}

/// One server that is asked.
#[derive(Debug)]
pub(super) struct Asker {
    target: Target,
    http: Option<Http>,
}

impl Asker {
    pub(super) fn new(target: Target) -> Self {
        Self { target, http: None }
    }

    /// One look.
    pub(super) async fn look(&mut self, wanted: Wanted) -> Result<Look, LookError> {
        let status = self.status().await?;
        let connections = match wanted.tab {
            Tab::Connections => Some(read_rows(self.connections().await?, "connections")?),
            _ => None,
        };
        let registrations = match wanted.tab {
            Tab::Registrations => Some(read_rows(self.registrations(wanted.sort).await?, "registrations")?),
            _ => None,
        };
        Ok(Look { status: read(&status, STATUS)?, connections, registrations })
    }

    /// The status, as the server tells it.
    pub(super) async fn status(&mut self) -> Result<Box<RawValue>, LookError> {
        let body = self.get(STATUS).await.map_err(LookError::of_status)?;
        serde_json::from_slice(&body).map_err(|error| LookError::Answer { path: STATUS, error })
    }

    /// Connections, most queued first; or why they may not be seen.
    pub(super) async fn connections(&mut self) -> Result<Result<Box<RawValue>, String>, LookError> {
        self.rows(&format!("/api/v3/connections?sort=queued&limit={MOST_ROWS}"), "connections").await
    }

    /// Registrations; or why they may not be seen.
    pub(super) async fn registrations(
        &mut self,
        sort: RegistrationSort,
    ) -> Result<Result<Box<RawValue>, String>, LookError> {
        let path = format!("/api/v3/hydrant/registrations?sort={}&limit={MOST_ROWS}", sort.name());
        self.rows(&path, "registrations").await
    }

    async fn rows(&mut self, path: &str, name: &'static str) -> Result<Result<Box<RawValue>, String>, LookError> {
        match self.get(path).await {
            Ok(body) => serde_json::from_slice(&body).map(Ok).map_err(|error| LookError::Answer { path: name, error }),
            Err(ClientError::Refused(refusal)) if matches!(refusal.status, 400 | 403 | 404) => {
                Ok(Err(refusal.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn get(&mut self, path: &str) -> Result<bytes::Bytes, ClientError> {
        let mut kept = self.http.take();
        if let Some(http) = &mut kept
            && !http.is_ready().await
        {
            kept = None;
        }
        let http = match kept {
            Some(http) => http,
            None => Http::open(&self.target).await?,
        };
        self.http.insert(http).get(path).await
    }
}

/// Reads an answer.
pub(super) fn read<T: DeserializeOwned>(text: &RawValue, path: &'static str) -> Result<T, LookError> {
    serde_json::from_str(text.get()).map_err(|error| LookError::Answer { path, error })
}

/// Reads rows, if they may be seen.
pub(super) fn read_rows<T: DeserializeOwned>(
    rows: Result<Box<RawValue>, String>,
    path: &'static str,
) -> Result<Result<T, String>, LookError> {
    match rows {
        Ok(text) => read(&text, path).map(Ok),
        Err(reason) => Ok(Err(reason)),
    }
}

/// Looks every `interval`, and at once when something else is wanted, until nobody listens or it fails for good.
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
    /// What is shown of a loss.
    pub(super) fn loss(error: &LookError, wait: Duration) -> String {
        format!("{error}; trying again in {:.1} s", wait.as_secs_f64())
    }
}

/// A status that a script gave, or a look of one moment.
pub(super) fn status_of(text: &RawValue) -> Result<Status, LookError> {
    read(text, STATUS)
}
