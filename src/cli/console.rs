//! Messages of commands to the user at the terminal, and the terminal's capabilities.

use std::fmt::Arguments;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Writes a message, each line prefixed with the program's name.
pub(super) fn report(err: &mut dyn Write, message: Arguments<'_>) {
    for line in message.to_string().lines() {
        // Written in one call, so that nothing is interleaved. If standard error is closed, there is nowhere to report
        // to.
        let _ = err.write_all(format!("hydrant: {line}\n").as_bytes());
    }
}

/// Notes that standard input is being read, if it is a terminal: the user might otherwise not know that the program
/// waits for input.
pub(super) fn hint_if_typed(err: &mut dyn Write) {
    if io::stdin().is_terminal() {
        report(err, format_args!("reading events from standard input; press Ctrl-D to end"));
    }
}

/// Returns whether lines on standard error are coloured: on a capable terminal, unless `NO_COLOR` or `CLICOLOR=0` is
/// set, and everywhere with `CLICOLOR_FORCE`.
pub(super) fn is_coloured() -> bool {
    colours(&Wishes {
        no: anstyle_query::no_color(),
        set: anstyle_query::clicolor(),
        force: anstyle_query::clicolor_force(),
        terminal: can_draw(),
    })
}

/// Returns whether standard error is a terminal that supports control sequences.
pub(super) fn can_draw() -> bool {
    io::stderr().is_terminal() && anstyle_query::term_supports_ansi_color()
}

/// Returns whether an output is a pipe, a socket or a terminal whose other end is closed.
pub(super) fn is_reader_gone(out: &impl AsFd) -> bool {
    // Nothing is asked for: these states are always reported.
    let mut polled = [PollFd::new(out, PollFlags::empty())];
    let gone = PollFlags::ERR | PollFlags::HUP;
    poll(&mut polled, Some(&Timespec::default())).is_ok() && polled[0].revents().intersects(gone)
}

/// The properties of standard output that matter for layout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Screen {
    /// The width in columns, if it is a terminal that supports control sequences.
    pub(super) columns: Option<usize>,
    pub(super) is_coloured: bool,
}

impl Screen {
    pub(super) fn of(out: &(impl IsTerminal + AsFd)) -> Self {
        let terminal = out.is_terminal() && anstyle_query::term_supports_ansi_color();
        let size = rustix::termios::tcgetwinsize(out).ok().filter(|size| terminal && size.ws_col > 0);
        let columns = size.map(|size| usize::from(size.ws_col)).or(terminal.then_some(80));
        let (no, set) = (anstyle_query::no_color(), anstyle_query::clicolor());
        let wishes = Wishes { no, set, force: anstyle_query::clicolor_force(), terminal };
        Self { columns, is_coloured: colours(&wishes) }
    }
}

struct Wishes {
    no: bool,
    set: Option<bool>,
    force: bool,
    terminal: bool,
}

fn colours(wishes: &Wishes) -> bool {
    !wishes.no && (wishes.force || (wishes.terminal && wishes.set != Some(false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_unless_somebody_says_otherwise() {
        let coloured = |no, set, force, terminal| colours(&Wishes { no, set, force, terminal });
        assert!(coloured(false, None, false, true));
        assert!(!coloured(false, None, false, false), "no terminal, or TERM=dumb");
        assert!(!coloured(true, None, false, true), "NO_COLOR");
        assert!(!coloured(false, Some(false), false, true), "CLICOLOR=0");
        assert!(coloured(false, None, true, false), "CLICOLOR_FORCE");
        assert!(!coloured(true, None, true, true), "NO_COLOR is the stronger");
    }
}
