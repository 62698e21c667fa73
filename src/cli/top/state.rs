//! What `top` shows: the newest figures, and the user's choices.
//!
//! Contract: keys and responses in, state out; it does no I/O and reads no clock, so tests press keys. Rows are sorted
//! here and drawn in `view`. While paused, only the link's state is updated.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::figures::{Connection, Registration, Status};
use super::trend::Trend;
use crate::client::RefusedError;

/// Rows, and what the server says they lack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct List<T> {
    pub(super) rows: Vec<T>,
    pub(super) missing: Option<String>,
}

impl<T> From<Vec<T>> for List<T> {
    fn from(rows: Vec<T>) -> Self {
        Self { rows, missing: None }
    }
}

/// The responses to one poll. Rows that were not requested are `None`; rows that the user may not see are
/// the server's refusal.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    pub(super) status: Status,
    pub(super) connections: Option<Result<List<Connection>, RefusedError>>,
    pub(super) registrations: Option<Result<List<Registration>, RefusedError>>,
}

/// The tab that is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Tab {
    #[default]
    Overview,
    Connections,
    Registrations,
}

impl Tab {
    pub(super) const ALL: [Self; 3] = [Self::Overview, Self::Connections, Self::Registrations];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Connections => "Connections",
            Self::Registrations => "Registrations",
        }
    }

    fn step(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|tab| *tab == self).unwrap_or_default();
        Self::ALL[(at + by) % Self::ALL.len()]
    }
}

/// The column by which connections are sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ConnectionSort {
    #[default]
    Queued,
    Oldest,
    Dropped,
    Rate,
    Delivered,
    Registrations,
    Age,
    Principal,
}

impl ConnectionSort {
    pub(super) const ALL: [Self; 8] = [
        Self::Queued,
        Self::Oldest,
        Self::Dropped,
        Self::Rate,
        Self::Delivered,
        Self::Registrations,
        Self::Age,
        Self::Principal,
    ];
}

/// The column by which the server sorts registrations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum RegistrationSort {
    #[default]
    Work,
    Hits,
    Deliveries,
}

impl RegistrationSort {
    pub(super) const ALL: [Self; 3] = [Self::Work, Self::Hits, Self::Deliveries];

    /// Returns the name in the server's query.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Hits => "hits",
            Self::Deliveries => "deliveries",
        }
    }
}

/// The state of the connection to the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Link {
    #[default]
    Connecting,
    Live,
    /// Disconnected: the error, and when the next attempt is made.
    Lost(String),
}

/// The effect of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Only the display changes.
    Shown,
    /// Other figures must be requested.
    Asked,
    Quit,
    /// Ctrl-Z.
    Suspend,
}

/// The newest figures, and the user's choices.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) endpoint: String,
    pub(super) link: Link,
    pub(super) tab: Tab,
    pub(super) connection_sort: ConnectionSort,
    pub(super) registration_sort: RegistrationSort,
    pub(super) is_reversed: bool,
    pub(super) is_paused: bool,
    pub(super) shows_help: bool,
    /// The index of the first row that is shown.
    pub(super) scroll: usize,
    pub(super) status: Option<Status>,
    pub(super) connections: Option<Result<List<Connection>, RefusedError>>,
    pub(super) registrations: Option<Result<List<Registration>, RefusedError>>,
    pub(super) trend: Trend,
}

impl State {
    pub(super) fn new(endpoint: String) -> Self {
        Self { endpoint, ..Self::default() }
    }

    /// Updates the figures from the responses to a poll.
    pub(super) fn looked(&mut self, look: Look) {
        self.link = Link::Live;
        if self.is_paused {
            return;
        }
        self.trend.add(&look.status);
        if let Some(connections) = look.connections {
            if let Ok(List { rows: all, .. }) = &connections {
                self.trend.add_connections(all, look.status.moment());
            }
            self.connections = Some(connections);
        }
        if let Some(registrations) = look.registrations {
            self.registrations = Some(registrations);
        }
        self.status = Some(look.status);
        self.sort();
    }

    /// Notes that the connection is lost.
    pub(super) fn lost(&mut self, error: String) {
        self.link = Link::Lost(error);
    }

    /// Handles a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Outcome {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Outcome::Quit,
                KeyCode::Char('z') => Outcome::Suspend,
                _ => Outcome::Shown,
            };
        }
        if self.shows_help && key.code != KeyCode::Char('q') {
            self.shows_help = false;
            return Outcome::Shown;
        }
        match key.code {
            KeyCode::Char('q') => return Outcome::Quit,
            KeyCode::Esc | KeyCode::Char('1') => return self.show(Tab::Overview),
            KeyCode::Char('2') => return self.show(Tab::Connections),
            KeyCode::Char('3') => return self.show(Tab::Registrations),
            KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => return self.show(self.tab.step(1)),
            KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => return self.show(self.tab.step(2)),
            KeyCode::Char('s') => return self.sort_by(1),
            KeyCode::Char('S') => return self.sort_by(usize::MAX),
            KeyCode::Char('r') => {
                self.is_reversed ^= true;
                self.sort();
            }
            KeyCode::Char('p' | ' ') => {
                self.is_paused ^= true;
                return Outcome::Asked;
            }
            KeyCode::Char('?') | KeyCode::F(1) => self.shows_help = true,
            code => self.scroll_by(code),
        }
        Outcome::Shown
    }

    fn show(&mut self, tab: Tab) -> Outcome {
        if self.tab != tab {
            (self.tab, self.scroll, self.is_reversed) = (tab, 0, false);
        }
        Outcome::Asked
    }

    /// Changes to the next or the previous sort column.
    fn sort_by(&mut self, step: usize) -> Outcome {
        fn next<T: Copy + PartialEq>(all: &[T], now: T, step: usize) -> T {
            let at = all.iter().position(|one| *one == now).unwrap_or_default();
            all[if step == 1 { at + 1 } else { at + all.len() - 1 } % all.len()]
        }
        match self.tab {
            Tab::Overview => return Outcome::Shown,
            Tab::Connections => self.connection_sort = next(&ConnectionSort::ALL, self.connection_sort, step),
            Tab::Registrations => self.registration_sort = next(&RegistrationSort::ALL, self.registration_sort, step),
        }
        (self.scroll, self.is_reversed) = (0, false);
        self.sort();
        Outcome::Asked
    }

    fn scroll_by(&mut self, code: KeyCode) {
        const PAGE: usize = 10;
        self.scroll = match code {
            KeyCode::Down | KeyCode::Char('j') => self.scroll + 1,
            KeyCode::Up | KeyCode::Char('k') => self.scroll.saturating_sub(1),
            KeyCode::PageDown => self.scroll + PAGE,
            KeyCode::PageUp => self.scroll.saturating_sub(PAGE),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => usize::MAX,
            _ => self.scroll,
        }
        .min(self.rows().saturating_sub(1));
    }

    /// Returns the number of rows that can be scrolled through.
    fn rows(&self) -> usize {
        fn length<T>(list: Option<&Result<List<T>, RefusedError>>) -> usize {
            list.and_then(|list| list.as_ref().ok()).map_or(0, |list| list.rows.len())
        }
        match self.tab {
            Tab::Overview => self.status.as_ref().map_or(0, |status| status.shards.len() + 20),
            Tab::Connections => length(self.connections.as_ref()),
            Tab::Registrations => length(self.registrations.as_ref()),
        }
    }

    fn sort(&mut self) {
        let Self { trend, connection_sort, is_reversed, tab, .. } = self;
        if let Some(Ok(List { rows: all, .. })) = &mut self.connections {
            all.sort_by(|a, b| order(a, b, *connection_sort, trend).then_with(|| a.remote_addr.cmp(&b.remote_addr)));
            if *is_reversed && *tab == Tab::Connections {
                all.reverse();
            }
        }
        if let Some(Ok(List { rows: all, .. })) = &mut self.registrations {
            let by = |one: &Registration| match self.registration_sort {
                RegistrationSort::Work => one.filter_work,
                RegistrationSort::Hits => one.hits,
                RegistrationSort::Deliveries => one.deliveries,
            };
            all.sort_by(|a, b| by(b).cmp(&by(a)).then_with(|| a.spec.cmp(&b.spec)));
            if *is_reversed && *tab == Tab::Registrations {
                all.reverse();
            }
        }
    }
}

/// Compares by value, highest first; by age, oldest first; by name, alphabetically.
fn order(a: &Connection, b: &Connection, sort: ConnectionSort, trend: &Trend) -> std::cmp::Ordering {
    let rate = |one: &Connection| trend.rate_of(&one.remote_addr).unwrap_or(0.0);
    match sort {
        ConnectionSort::Queued => b.queued_bytes.cmp(&a.queued_bytes),
        ConnectionSort::Oldest => b.queued_age_milliseconds.cmp(&a.queued_age_milliseconds),
        ConnectionSort::Dropped => b.dropped_events.cmp(&a.dropped_events),
        ConnectionSort::Rate => rate(b).total_cmp(&rate(a)),
        ConnectionSort::Delivered => b.delivered_events.cmp(&a.delivered_events),
        ConnectionSort::Registrations => b.registrations.cmp(&a.registrations),
        ConnectionSort::Age => a.create_time.cmp(&b.create_time),
        ConnectionSort::Principal => a.principal.cmp(&b.principal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(state: &mut State, code: KeyCode) -> Outcome {
        state.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn connection(principal: &str, queued_bytes: u64) -> Connection {
        Connection {
            principal: principal.to_owned(),
            remote_addr: format!("{principal}:1"),
            queued_bytes,
            ..Connection::default()
        }
    }

    fn shown(state: &State) -> Vec<&str> {
        state.connections.as_ref().unwrap().as_ref().unwrap().rows.iter().map(|one| one.principal.as_str()).collect()
    }

    #[test]
    fn connections_are_sorted_as_asked_and_stay_so_at_the_next_look() {
        let mut state = State::new(String::new());
        let all = || Some(Ok(vec![connection("b", 1), connection("c", 2), connection("a", 0)].into()));
        state.looked(Look { connections: all(), ..Look::default() });
        assert_eq!(shown(&state), ["c", "b", "a"]);
        press(&mut state, KeyCode::Char('2'));
        press(&mut state, KeyCode::Char('r'));
        assert_eq!(shown(&state), ["a", "b", "c"]);
        assert_eq!(press(&mut state, KeyCode::Char('S')), Outcome::Asked);
        assert_eq!((shown(&state), state.connection_sort), (vec!["a", "b", "c"], ConnectionSort::Principal));
        state.looked(Look { connections: all(), ..Look::default() });
        assert_eq!(shown(&state), ["a", "b", "c"]);
        for _ in ConnectionSort::ALL {
            press(&mut state, KeyCode::Char('s'));
        }
        assert_eq!(state.connection_sort, ConnectionSort::Principal, "all the way round");
        press(&mut state, KeyCode::Char('s'));
        assert_eq!(state.connection_sort, ConnectionSort::Queued);
    }

    #[test]
    fn a_paused_picture_stays_and_help_goes_with_the_next_key() {
        let mut state = State::new(String::new());
        state.looked(Look { connections: Some(Ok(vec![connection("a", 1)].into())), ..Look::default() });
        assert_eq!(press(&mut state, KeyCode::Char(' ')), Outcome::Asked);
        state.looked(Look { connections: Some(Ok(List::default())), ..Look::default() });
        assert_eq!(shown(&state), ["a"]);
        press(&mut state, KeyCode::Char('?'));
        assert!(state.shows_help);
        press(&mut state, KeyCode::Char('3'));
        assert_eq!((state.shows_help, state.tab), (false, Tab::Overview));
        press(&mut state, KeyCode::Char('?'));
        assert_eq!(press(&mut state, KeyCode::Char('q')), Outcome::Quit);
        let control = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
        assert_eq!([state.key(control('c')), state.key(control('z'))], [Outcome::Quit, Outcome::Suspend]);
    }

    #[test]
    fn tabs_go_round_and_scrolling_stays_within_the_rows() {
        let mut state = State::new(String::new());
        let tabs: Vec<Tab> = [KeyCode::Tab, KeyCode::Tab, KeyCode::Tab, KeyCode::BackTab]
            .map(|code| {
                press(&mut state, code);
                state.tab
            })
            .to_vec();
        assert_eq!(tabs, [Tab::Connections, Tab::Registrations, Tab::Overview, Tab::Registrations]);
        press(&mut state, KeyCode::Char('2'));
        let all: Vec<Connection> = (0..25).map(|n| connection(&n.to_string(), n)).collect();
        state.looked(Look { connections: Some(Ok(all.into())), ..Look::default() });
        for (code, row) in [
            (KeyCode::Up, 0),
            (KeyCode::PageDown, 10),
            (KeyCode::Down, 11),
            (KeyCode::End, 24),
            (KeyCode::Down, 24),
            (KeyCode::PageUp, 14),
            (KeyCode::Home, 0),
        ] {
            press(&mut state, code);
            assert_eq!(state.scroll, row, "{code:?}");
        }
        press(&mut state, KeyCode::End);
        press(&mut state, KeyCode::Char('3'));
        assert_eq!(state.scroll, 0);
    }
}
