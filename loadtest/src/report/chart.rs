//! Charts as SVG, written by hand: grouped bars with their spread, and lines.
//!
//! Colours are CSS classes of the page (`s0`, `s1`, ...), so that light, dark and paper are one drawing, and a system has
//! the same in every chart. Every bar has its figure beside it: a chart is read without hovering, and a printer does not hover.

use std::fmt::Write as _;

use super::Spread;
use super::axis::{Axis, Ticks};
use super::number::short;

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
        x: Ticks,
        /// What goes up.
        y: Ticks,
        /// The lines.
        lines: Vec<Line>,
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
    /// From left to right.
    pub points: Vec<(f64, f64)>,
    /// Number of its colour; two lines of one kind have the same.
    pub colour: usize,
    /// What it is compared with.
    pub dashed: bool,
}

/// Units of the drawing; it is scaled to the page.
const WIDTH: f64 = 680.0;
const LABELS: f64 = 160.0;
const FIGURES: f64 = 100.0;
const ROW: f64 = 22.0;
const TITLE: f64 = 26.0;
const HEIGHT: f64 = 280.0;
const LEGEND: f64 = 140.0;

/// As many colours as the page has.
const COLOURS: usize = 6;

/// Systems that have a colour of their own, by the start of their names.
const KNOWN: [(&str, usize); 5] = [("floor", 0), ("hydrant", 1), ("server", 1), ("nats", 2), ("mosquitto", 3)];

impl Chart {
    /// Bars.
    pub fn bars(title: &str, unit: &str, groups: Vec<(String, Vec<Bar>)>) -> Self {
        Self::Bars { title: title.to_owned(), unit: unit.to_owned(), groups }
    }

    /// Nothing if there is nothing to draw.
    pub(super) fn svg(&self) -> Option<String> {
        match self {
            Self::Bars { title, unit, groups } => {
                let is_empty = groups.iter().all(|(_, bars)| bars.is_empty());
                (!is_empty).then(|| bars(title, unit, groups))
            }
            Self::Lines { title, x, y, lines } => {
                let is_empty = lines.iter().all(|line| line.points.is_empty());
                (!is_empty).then(|| line_chart(title, [x, y], lines))
            }
        }
    }
}

/// The colour of a system; of others, that of their place among `names`.
fn colour(name: &str, names: &[&str]) -> usize {
    let known = KNOWN.iter().find(|(start, _)| name.starts_with(start)).map(|&(_, colour)| colour);
    known.unwrap_or_else(|| names.iter().position(|other| *other == name).unwrap_or(0) % COLOURS)
}

fn bars(title: &str, unit: &str, groups: &[(String, Vec<Bar>)]) -> String {
    let names: Vec<&str> = groups.iter().flat_map(|(_, bars)| bars).map(|bar| bar.name.as_str()).collect();
    let (mut body, mut y) = (String::new(), 2.0);
    for (name, bars) in groups.iter().filter(|(_, bars)| !bars.is_empty()) {
        let most = bars.iter().map(|bar| bar.value.max).fold(0.0, f64::max).max(1e-9);
        if !name.is_empty() {
            let _ = write!(body, r#"<text class="group" x="0" y="{:.1}">{}</text>"#, y + 14.0, escaped(name));
            y += TITLE;
        }
        for bar in bars {
            body.push_str(&one_bar(bar, y, most, colour(&bar.name, &names), unit));
            y += ROW;
        }
        y += 10.0;
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
        LABELS - 10.0,
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

fn line_chart(title: &str, [x_ticks, y_ticks]: [&Ticks; 2], lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let (left, right, top, bottom) = (64.0, WIDTH - LEGEND, 26.0, HEIGHT - 46.0);
    let x = Axis::over(x_ticks, points().map(|(x, _)| x), [left, right]);
    let y = Axis::over(y_ticks, points().map(|(_, y)| y), [bottom, top]);
    let mut body = String::new();
    for (at, name) in y.ticks() {
        let _ = write!(
            body,
            r#"<path class="grid" d="M{left} {at:.1}H{right}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{name}</text>"#,
            left - 8.0,
            at + 4.0
        );
    }
    for (at, name) in x.ticks() {
        let (mark, text) = (bottom + 5.0, bottom + 19.0);
        let _ = write!(
            body,
            r#"<path class="axis" d="M{at:.1} {bottom}V{mark}"/><text class="tick" x="{at:.1}" y="{text}" text-anchor="middle">{name}</text>"#
        );
    }
    let (middle, x_name, y_name) = (f64::midpoint(left, right), escaped(x_ticks.name()), escaped(y_ticks.name()));
    let _ = write!(
        body,
        r#"<path class="axis" d="M{left} {top}V{bottom}H{right}"/><text class="name" x="{middle}" y="{}" text-anchor="middle">{x_name}</text><text class="name" x="{}" y="12" text-anchor="end">{y_name}</text>"#,
        HEIGHT - 6.0,
        left - 8.0
    );
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| !line.points.is_empty()) {
        body.push_str(&one_line(line, at, [&x, &y], [right + 12.0, top]));
    }
    drawing(title, HEIGHT, &body)
}

/// A line, and its entry in the legend.
fn one_line(line: &Line, row: usize, [x, y]: [&Axis; 2], [left, top]: [f64; 2]) -> String {
    let points: Vec<String> =
        line.points.iter().map(|&(a, b)| format!("{:.1} {:.1}", x.place(a), y.place(b))).collect();
    let (colour, dashed) = (line.colour % COLOURS, if line.dashed { " dashed" } else { "" });
    #[allow(clippy::cast_precision_loss, reason = "a handful of lines")]
    let middle = top + 6.0 + row as f64 * 20.0;
    format!(
        r#"<path class="line l{colour}{dashed}" d="M{}"/><path class="line l{colour}{dashed}" d="M{left} {middle}h18"/><text x="{}" y="{}">{}</text>"#,
        points.join("L"),
        left + 24.0,
        middle + 4.0,
        escaped(&line.name)
    )
}

fn drawing(title: &str, height: f64, body: &str) -> String {
    let title = escaped(title);
    format!(
        r#"<figure><figcaption>{title}</figcaption><div class="wide"><svg viewBox="0 0 {WIDTH} {height:.0}" role="img" aria-label="{title}">{body}</svg></div></figure>"#
    )
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
        let svg = Chart::bars("t", "us", vec![("g<".to_owned(), vec![bar("a", 1.0), bar("b", 2.0)])]).svg().unwrap();
        let whole = WIDTH - LABELS - FIGURES;
        assert!(
            svg.contains(&format!("width=\"{:.1}\"", whole / 2.0)) && svg.contains(&format!("width=\"{whole:.1}\""))
        );
        assert!(svg.contains("g&lt;") && svg.contains("2.00 us") && !svg.contains("class=\"spread\""));
    }

    #[test]
    fn a_system_has_one_colour_whatever_stands_beside_it() {
        assert_eq!(colour("hydrant, TLS", &["nats-server", "hydrant, TLS"]), 1);
        assert_eq!((colour("floor", &["floor"]), colour("other", &["a", "b", "c", "d", "other"])), (0, 4));
    }

    #[test]
    fn lines_reach_from_axis_to_edge() {
        let line =
            |points: &[(f64, f64)]| Line { name: "p99".into(), points: points.to_vec(), colour: 1, dashed: false };
        for y in [Ticks::Linear("us".into()), Ticks::Logarithmic("us".into())] {
            let lines = vec![line(&[(0.0, 1.0), (10.0, 100.0)])];
            let chart = Chart::Lines { title: String::new(), x: Ticks::Linear("s".into()), y, lines };
            assert!(chart.svg().unwrap().contains("L540.0 26.0"), "{chart:?}");
        }
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(Chart::bars("t", "us", vec![("g".to_owned(), Vec::new())]).svg(), None);
        let (x, y) = (Ticks::Linear("s".into()), Ticks::Linear("%".into()));
        assert_eq!(Chart::Lines { title: "t".into(), x, y, lines: Vec::new() }.svg(), None);
    }
}
