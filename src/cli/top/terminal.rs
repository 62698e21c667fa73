//! The terminal while `top` uses it: raw, on the alternate screen, without a cursor; it is restored however the command
//! ends.
//!
//! Output is drawn into memory and written to standard output by the runtime, so that a terminal that accepts no output
//! (a stalled connection) blocks neither keys nor signals. A panic restores the terminal before its message is written.
//!
//! Only changes are written. ratatui's own `Terminal` would do that too, but it queries the cursor position whenever it
//! clears the terminal, and fails if the terminal does not answer.

use std::io;
use std::time::Duration;

use crossterm::cursor::{Hide, Show};
use crossterm::event::{self, Event};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::paint::paint;
use super::state::State;
use super::view::{Theme, draw};

/// How often the thread that reads keys checks whether it is still needed.
const LOOK: Duration = Duration::from_millis(200);
/// Timeout for the last write, in case the terminal accepts no output.
const LAST_WRITE: Duration = Duration::from_secs(1);
/// Maximum number of queued keys.
const KEYS: usize = 64;

/// The terminal, in use until it is restored by [`Screen::leave`] or dropped.
pub(super) struct Screen {
    /// Output that is drawn but not written yet.
    drawn: Vec<u8>,
    /// The current content of the terminal.
    shown: Buffer,
    out: tokio::io::Stdout,
    _raw: Raw,
}

/// Raw mode, until dropped.
struct Raw;

impl Raw {
    fn enter() -> io::Result<Self> {
        enable_raw_mode()?;
        Ok(Self)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nowhere left to report an error.
        let _ = disable_raw_mode();
    }
}

/// Installs a panic hook that restores the terminal before the panic message is written.
pub(super) fn restore_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let _ = disable_raw_mode();
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        before(panic);
    }));
}

impl Screen {
    /// Sets the terminal up.
    ///
    /// # Errors
    /// If it is not a terminal, or cannot be written to.
    pub(super) async fn enter() -> io::Result<Self> {
        let raw = Raw::enter()?;
        let mut screen = Self { drawn: Vec::new(), shown: Buffer::default(), out: tokio::io::stdout(), _raw: raw };
        screen.begin()?;
        screen.write().await?;
        Ok(screen)
    }

    fn begin(&mut self) -> io::Result<()> {
        self.shown = Buffer::default();
        queue!(self.drawn, EnterAlternateScreen, Hide)
    }

    /// Draws a state.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub(super) async fn draw(&mut self, state: &State, theme: Theme) -> io::Result<()> {
        let (width, height) = size()?;
        let area = Rect { x: 0, y: 0, width, height };
        if self.shown.area != area {
            queue!(self.drawn, Clear(ClearType::All))?;
            self.shown = Buffer::empty(area);
        }
        let mut next = Buffer::empty(area);
        draw(state, theme, area, &mut next);
        paint(self.shown.diff_iter(&next), &mut self.drawn)?;
        self.shown = next;
        self.write().await
    }

    /// Restores the terminal.
    pub(super) async fn leave(mut self) {
        let _ = self.restore().await;
    }

    async fn restore(&mut self) -> io::Result<()> {
        queue!(self.drawn, LeaveAlternateScreen, Show)?;
        timeout(LAST_WRITE, self.write()).await?
    }

    /// Suspends the program, as Ctrl-Z does by default, and sets the terminal up again afterwards.
    ///
    /// # Errors
    /// As [`Screen::enter`].
    pub(super) async fn suspend(&mut self) -> io::Result<()> {
        self.restore().await?;
        disable_raw_mode()?;
        rustix::process::kill_current_process_group(rustix::process::Signal::TSTP)?;
        enable_raw_mode()?;
        self.begin()?;
        self.write().await
    }

    async fn write(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.drawn);
        self.out.write_all(&bytes).await?;
        self.out.flush().await
    }
}

/// Returns keys and changes of the size as they arrive. The thread that reads them ends shortly after the receiver is
/// dropped.
pub(super) fn events() -> mpsc::Receiver<io::Result<Event>> {
    let (sender, receiver) = mpsc::channel(KEYS);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let event = match event::poll(LOOK) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let is_last = event.is_err();
            if sender.blocking_send(event).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}
