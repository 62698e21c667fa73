//! `hydrant top`: shows the state of a broker as it changes, over the network.
//!
//! | part | what it does |
//! |---|---|
//! | [`mod@poll`] | requests the figures, in a task of its own |
//! | [`figures`] | the server's responses |
//! | [`trend`] | rates and percentiles of the last polls |
//! | [`state`] | what is shown, and what keys change |
//! | [`view`] | the display: state in, cells out |
//! | [`mod@paint`] | the display as bytes for a terminal |
//! | [`terminal`] | the terminal, restored however the command ends |
//! | [`once`] | one display as text or JSON |
//!
//! Contract: the figures are those of `GET /api/v3/hydrant/status` and its relatives, with the caller's rights. A lost
//! connection is shown with the last figures, and retried; a failure that a retry cannot fix ends the command with the
//! reason and exit code 1. Ctrl-C, SIGTERM, SIGHUP and a closed terminal end it with 0.

mod error;
mod figures;
mod format;
mod once;
mod paint;
mod poll;
mod state;
mod terminal;
mod trend;
mod view;

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use crossterm::event::{Event, KeyEventKind};
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, watch};

use self::poll::{Found, Wanted, poll};
use self::state::{Outcome, State};
use self::terminal::Screen;
use self::view::Theme;
use super::console;
use super::endpoint;
use super::signals::asked_to_end;
use crate::client::Target;
use crate::tasks;

pub(crate) use self::error::TopError;

/// Maximum number of polls that wait to be shown.
const FOUND: usize = 4;

#[derive(Args)]
#[command(after_help = endpoint::HELP)]
pub(super) struct TopArgs {
    /// Seconds between two polls, 0.5 to 3600
    #[arg(short, long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    interval: Duration,
    /// Print the figures once as text and exit, after one interval, which the rates cover
    #[arg(long)]
    once: bool,
    /// With --once: print JSON, {"Rates":...,"Status":...,"Connections":[...],"Registrations":[...]}
    #[arg(long, requires = "once")]
    json: bool,
    #[command(flatten)]
    pub(super) endpoint: endpoint::EndpointArgs,
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds: f64 = text.strip_suffix('s').unwrap_or(text).parse().map_err(|_| "not a number")?;
    if (0.5..=3600.0).contains(&seconds) { Ok(Duration::from_secs_f64(seconds)) } else { Err("from 0.5 to 3600") }
}

pub(super) fn run(args: &TopArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), TopError> {
    let target = args.endpoint.target()?;
    let screen = console::Screen::of(&io::stdout());
    if !args.once && screen.columns.is_none() {
        return Err(TopError::NoTerminal);
    }
    let runtime = endpoint::runtime()?;
    let result = if args.once {
        runtime.block_on(once::once(target, args.interval, args.json, out, err))
    } else {
        terminal::restore_on_panic();
        runtime.block_on(interactive(target, args.interval, Theme { is_coloured: screen.is_coloured }))
    };
    runtime.shutdown_background();
    result
}

/// Shows the figures until the user quits, or until retrying is useless.
async fn interactive(target: Target, interval: Duration, theme: Theme) -> Result<(), TopError> {
    // Before the terminal is changed: from then on a signal has to restore it.
    let ended = asked_to_end()?;
    let mut screen = Screen::enter()?;
    let mut top = Top::start(target, interval);
    let result = tokio::select! {
        result = top.until_quit(&mut screen, theme) => result,
        () = ended => Ok(()),
    };
    screen.leave().await;
    result
}

struct Top {
    state: State,
    wanted: watch::Sender<Wanted>,
    found: mpsc::Receiver<Found>,
    events: mpsc::Receiver<io::Result<Event>>,
}

impl Top {
    fn start(target: Target, interval: Duration) -> Self {
        let state = State::new(target.endpoint.to_string());
        let (wanted, wanted_now) = watch::channel(wanted(&state));
        let (sender, found) = mpsc::channel(FOUND);
        tasks::spawn(poll(target, interval, wanted_now, sender));
        Self { state, wanted, found, events: terminal::events() }
    }

    /// Draws and reads keys at the same time, so that the user can quit even if the terminal accepts no output.
    async fn until_quit<W: AsyncWrite + Unpin>(
        &mut self,
        screen: &mut Screen<W>,
        theme: Theme,
    ) -> Result<(), TopError> {
        let mut is_news = true;
        loop {
            if is_news && !screen.is_writing() {
                screen.draw(&self.state, theme)?;
                is_news = false;
            }
            tokio::select! {
                result = screen.write(), if screen.is_writing() => {
                    result?;
                    continue;
                }
                found = self.found.recv() => match found {
                    Some(Found::Look(look)) => self.state.looked(*look),
                    Some(Found::Lost(error, wait)) => self.state.lost(Found::loss(&error, wait)),
                    Some(Found::Failed(error)) => return Err(error.into()),
                    None => return Ok(()),
                },
                event = self.events.recv() => match event.transpose()? {
                    Some(Event::Key(key)) if key.kind != KeyEventKind::Release => match self.state.key(key) {
                        Outcome::Quit => return Ok(()),
                        Outcome::Suspend => screen.suspend().await?,
                        Outcome::Asked => self.ask(),
                        Outcome::Shown => {}
                    },
                    Some(_) => {}
                    None => return Ok(()),
                },
            }
            is_news = true;
        }
    }

    /// Requests the figures for the current display now.
    fn ask(&self) {
        self.wanted.send_replace(wanted(&self.state));
    }
}

fn wanted(state: &State) -> Wanted {
    Wanted { tab: state.tab, sort: state.registration_sort, is_paused: state.is_paused }
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyCode;

    use super::*;

    #[test]
    fn intervals_have_bounds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("10s"), Ok(Duration::from_secs(10)));
        for text in ["0", "0.1", "-1", "nan", "1e9", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminal_that_takes_nothing_can_be_quit_by_a_key() {
        let state = State::new("http://127.0.0.1:1".to_owned());
        let (wanted, _wanted) = watch::channel(wanted(&state));
        let ((_found, found), (keys, events)) = (mpsc::channel(1), mpsc::channel(1));
        let mut top = Top { state, wanted, found, events };
        let (out, _nobody_reads) = tokio::io::duplex(16);
        let mut screen = Screen::on(out, || Ok((80, 24)));
        let pressed = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            keys.send(Ok(Event::Key(KeyCode::Char('q').into()))).await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = top.until_quit(&mut screen, Theme { is_coloured: false }) => result.unwrap(),
            () = pressed => unreachable!("it waits"),
            () = tokio::time::sleep(Duration::from_mins(1)) => panic!("it did not end"),
        }
        screen.leave().await;
    }
}
