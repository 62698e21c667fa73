//! Charts as SVG, written by hand: grouped bars with their spread, and lines.
//!
//! Colours are CSS classes of the page (`s0`, `s1`, ...), so that light, dark and paper are one drawing. Every bar has
//! its figure beside it: a chart is read without hovering, and a printer does not hover.

use std::fmt::Write as _;

use super::Spread;

/// A drawing.
#[derive(Debug, Clone, PartialEq)]
pub enum Chart {
    /// Groups of horizontal bars, all on one scale within a group.
    Bars {
        /// What is shown.
        title: String,
        /// What it is measured in.
        unit: String,
        /// Title and bars of each group.
        groups: Vec<(String, Vec<Bar>)>,
    },
    /// Lines over a common axis.
    Lines {
        /// What is shown.
        title: String,
        /// What lies along the bottom.
        x: String,
        /// What goes up.
        y: String,
        /// The lines.
        lines: Vec<Line>,
        /// The vertical axis is logarithmic.
        log: bool,
    },
}

/// A bar with its spread.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    name: String,
    value: Spread,
}

impl Bar {
    /// A bar.
    pub fn new(name: &str, value: Spread) -> Self {
        Self { name: name.to_owned(), value }
    }
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// As shown.
    pub name: String,
    /// From left to right; positions on the axis as text are in `ticks` if there are any.
    pub points: Vec<(f64, f64)>,
}

/// Units of the drawing; it is scaled to the page.
const WIDTH: f64 = 760.0;
const LABELS: f64 = 190.0;
const FIGURES: f64 = 130.0;
const ROW: f64 = 20.0;
const TITLE: f64 = 26.0;
const HEIGHT: f64 = 260.0;

/// As many colours as the page has.
const COLOURS: usize = 6;

impl Chart {
    /// Bars.
    pub fn bars(title: &str, unit: &str, groups: Vec<(String, Vec<Bar>)>) -> Self {
        Self::Bars { title: title.to_owned(), unit: unit.to_owned(), groups }
    }

    pub(super) fn svg(&self) -> String {
        match self {
            Self::Bars { title, unit, groups } => bars(title, unit, groups),
            Self::Lines { title, x, y, lines, log } => line_chart(title, [x, y], lines, *log),
        }
    }
}

fn bars(title: &str, unit: &str, groups: &[(String, Vec<Bar>)]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for bar in groups.iter().flat_map(|(_, bars)| bars) {
        if !names.contains(&bar.name.as_str()) {
            names.push(&bar.name);
        }
    }
    let (mut body, mut y) = (String::new(), 6.0);
    for (name, bars) in groups.iter().filter(|(_, bars)| !bars.is_empty()) {
        let most = bars.iter().map(|bar| bar.value.max).fold(0.0, f64::max).max(1e-9);
        let _ = write!(body, r#"<text class="group" x="0" y="{:.1}">{}</text>"#, y + 14.0, escaped(name));
        y += TITLE;
        for bar in bars {
            let colour = names.iter().position(|name| *name == bar.name).unwrap_or(0) % COLOURS;
            body.push_str(&one_bar(bar, y, most, colour, unit));
            y += ROW;
        }
        y += 8.0;
    }
    drawing(title, y, &body)
}

fn one_bar(bar: &Bar, y: f64, most: f64, colour: usize, unit: &str) -> String {
    let scale = (WIDTH - LABELS - FIGURES) / most;
    let Spread { median, min, max } = bar.value;
    let (end, low, high) = (LABELS + median * scale, LABELS + min * scale, LABELS + max * scale);
    let (middle, text) = (y + ROW / 2.0, y + ROW / 2.0 + 4.0);
    let name = escaped(&bar.name);
    let mut svg = format!(
        r#"<g><title>{name}: {median:.3} {unit} ({min:.3} .. {max:.3})</title><text x="{:.1}" y="{text:.1}" text-anchor="end">{name}</text><rect class="s{colour}" x="{LABELS}" y="{:.1}" width="{:.1}" height="{:.1}" rx="2"/>"#,
        LABELS - 8.0,
        y + 3.0,
        (end - LABELS).max(1.0),
        ROW - 6.0,
    );
    if max > min {
        let _ = write!(
            svg,
            r#"<path class="spread" d="M{low:.1} {middle:.1}H{high:.1}M{low:.1} {0:.1}V{1:.1}M{high:.1} {0:.1}V{1:.1}"/>"#,
            middle - 3.0,
            middle + 3.0
        );
    }
    let _ =
        write!(svg, r#"<text class="figure" x="{:.1}" y="{text:.1}">{} {unit}</text></g>"#, high + 8.0, short(median));
    svg
}

fn line_chart(title: &str, [x_name, y_name]: [&str; 2], lines: &[Line], log: bool) -> String {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let x_most = points().map(|(x, _)| x).fold(0.0, f64::max).max(1e-9);
    let y_most = points().map(|(_, y)| y).fold(0.0, f64::max).max(1e-9);
    let y_least = if log { points().map(|(_, y)| y).fold(y_most, f64::min).max(y_most / 1e6) } else { 0.0 };
    let (left, right, top, bottom) = (70.0, WIDTH - 150.0, 14.0, HEIGHT - 40.0);
    let place_x = |x: f64| left + x / x_most * (right - left);
    let place_y = |y: f64| {
        let share = if log { (y.max(y_least) / y_least).ln() / (y_most / y_least).ln().max(1e-9) } else { y / y_most };
        bottom - share * (bottom - top)
    };
    let mut body = format!(r#"<path class="axis" d="M{left} {top}V{bottom}H{right}"/>"#);
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let value = if log { y_least * (y_most / y_least).powf(share) } else { y_most * share };
        let (y, x) = (place_y(value), left + share * (right - left));
        let _ = write!(body, r#"<path class="grid" d="M{left} {y:.1}H{right}"/>"#);
        let _ =
            write!(body, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#, left - 6.0, y + 4.0, short(value));
        let _ = write!(
            body,
            r#"<text x="{x:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            bottom + 16.0,
            short(x_most * share)
        );
    }
    let axes = format!("{} over {}", escaped(y_name), escaped(x_name));
    let _ = write!(body, r#"<text x="{left}" y="{:.1}">{axes}</text>"#, HEIGHT - 4.0);
    for (at, line) in lines.iter().enumerate() {
        let path: Vec<String> =
            line.points.iter().map(|&(x, y)| format!("{:.1} {:.1}", place_x(x), place_y(y))).collect();
        let colour = at % COLOURS;
        let _ = write!(body, r#"<path class="line l{colour}" d="M{}"/>"#, path.join("L"));
        #[allow(clippy::cast_precision_loss, reason = "a handful of lines")]
        let y = top + 12.0 + at as f64 * 18.0;
        let _ = write!(
            body,
            r#"<rect class="s{colour}" x="{:.1}" y="{:.1}" width="10" height="10"/>"#,
            right + 14.0,
            y - 9.0
        );
        let _ = write!(body, r#"<text x="{:.1}" y="{y:.1}">{}</text>"#, right + 30.0, escaped(&line.name));
    }
    drawing(title, HEIGHT, &body)
}

fn drawing(title: &str, height: f64, body: &str) -> String {
    let title = escaped(title);
    format!(
        r#"<figure><figcaption>{title}</figcaption><svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{title}">{body}</svg></figure>"#
    )
}

/// About three digits.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 100.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}

/// Text within HTML and SVG, also within an attribute.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_figures() {
        let bar = |name, median| Bar::new(name, Spread { median, min: median, max: median });
        let svg = Chart::bars("t", "us", vec![("g<".to_owned(), vec![bar("a", 1.0), bar("b", 2.0)])]).svg();
        let whole = WIDTH - LABELS - FIGURES;
        assert!(
            svg.contains(&format!("width=\"{:.1}\"", whole / 2.0)) && svg.contains(&format!("width=\"{whole:.1}\""))
        );
        assert!(svg.contains("g&lt;") && svg.contains("1.00 us") && !svg.contains("class=\"spread\""));
    }

    #[test]
    fn lines_reach_from_axis_to_edge() {
        let points = vec![(0.0, 1.0), (10.0, 100.0)];
        let lines = vec![Line { name: "p99".to_owned(), points }];
        for log in [false, true] {
            let chart = Chart::Lines { title: String::new(), x: "s".into(), y: "us".into(), lines: lines.clone(), log };
            assert!(chart.svg().contains("L610.0 14.0"), "{}", chart.svg());
        }
    }
}
