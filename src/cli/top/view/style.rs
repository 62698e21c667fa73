//! The styles of `top`. Without colours only weight and reversal are used; colour alone carries no meaning.

use ratatui_core::style::{Color, Modifier, Style};

/// Whether colours are used.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::cli::top) struct Theme {
    pub(in crate::cli::top) is_coloured: bool,
}

impl Theme {
    fn colour(self, style: Style, colour: Color) -> Style {
        if self.is_coloured { style.fg(colour) } else { style }
    }

    /// Returns the style of the title, the selected tab and the help.
    pub(super) fn bar() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Returns the style of heads of tables and labels.
    pub(super) fn head(self) -> Style {
        self.colour(Style::new().add_modifier(Modifier::BOLD), Color::Cyan)
    }

    pub(super) fn strong() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn quiet() -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn good(self) -> Style {
        self.colour(Style::new(), Color::Green)
    }

    pub(super) fn attention(self) -> Style {
        self.colour(Style::new().add_modifier(Modifier::BOLD), Color::Yellow)
    }

    pub(super) fn bad(self) -> Style {
        self.colour(Style::new().add_modifier(Modifier::BOLD), Color::Red)
    }
}
