//! The terminal while `top` uses it: raw, on the alternate screen, without a cursor; it is restored however the command
//! ends.
//!
//! Output is drawn into memory and written to standard output by the runtime, beside keys and signals, so that a
//! terminal that accepts no output (a stalled connection) blocks neither. While it accepts none, nothing more is drawn.
//! A panic restores the terminal before its message is written.
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
use tokio::io::{AsyncWrite, AsyncWriteExt, Stdout};
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
pub(super) struct Screen<W = Stdout> {
    /// Output that is drawn but not written yet.
    drawn: Vec<u8>,
    /// Whether something has been drawn since all was written.
    is_writing: bool,
    /// The current content of the terminal.
    shown: Buffer,
    out: W,
    /// Returns columns and rows of the terminal.
    size: fn() -> io::Result<(u16, u16)>,
    _raw: Option<Raw>,
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
    /// Sets the terminal up; what that needs is written with the first display.
    ///
    /// # Errors
    /// If it is not a terminal.
    pub(super) fn enter() -> io::Result<Self> {
        let raw = Raw::enter()?;
        let mut screen = Self { _raw: Some(raw), ..Self::on(tokio::io::stdout(), size) };
        screen.begin()?;
        Ok(screen)
    }
}

impl<W: AsyncWrite + Unpin> Screen<W> {
    /// Shows displays on `out`, which is set up already.
    pub(super) fn on(out: W, size: fn() -> io::Result<(u16, u16)>) -> Self {
        Self { drawn: Vec::new(), is_writing: false, shown: Buffer::default(), out, size, _raw: None }
    }

    fn begin(&mut self) -> io::Result<()> {
        self.shown = Buffer::default();
        queue!(self.drawn, EnterAlternateScreen, Hide)
    }

    /// Draws a state into memory.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub(super) fn draw(&mut self, state: &State, theme: Theme) -> io::Result<()> {
        let (width, height) = (self.size)()?;
        let area = Rect { x: 0, y: 0, width, height };
        if self.shown.area != area {
            queue!(self.drawn, Clear(ClearType::All))?;
            self.shown = Buffer::empty(area);
        }
        let mut next = Buffer::empty(area);
        draw(state, theme, area, &mut next);
        paint(self.shown.diff_iter(&next), &mut self.drawn)?;
        self.shown = next;
        self.is_writing = true;
        Ok(())
    }

    /// Returns whether [`Screen::write`] has something left to do.
    pub(super) fn is_writing(&self) -> bool {
        self.is_writing
    }

    /// Writes what is drawn.
    ///
    /// # Errors
    /// If the terminal is gone.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn write(&mut self) -> io::Result<()> {
        while !self.drawn.is_empty() {
            match self.out.write(&self.drawn).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => drop(self.drawn.drain(..written)),
            }
        }
        self.out.flush().await?;
        self.is_writing = false;
        Ok(())
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
        self.begin()
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
