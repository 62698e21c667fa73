//! Charts as SVG: grouped bars with their spread, and lines.
//!
//! Colours are CSS classes of the page (`s0`, `s1`, ...), so that one drawing serves light, dark and paper, and a
//! system has the same colour in every chart. Every bar is labelled with its figure, so that a chart can be read
//! without hovering, also on paper.

use maud::{Markup, html};

use super::Spread;
use super::axis::{Axis, Ticks};
use super::number::short;

/// A drawing.
#[derive(Debug, Clone, PartialEq)]
pub enum Chart {
    /// Groups of horizontal bars, all on one scale within a group.
    Bars {
        /// Title of the chart.
        title: String,
        /// Unit of the values.
        unit: String,
        /// Title and bars of each group.
        groups: Vec<(String, Vec<Bar>)>,
    },
    /// Lines over a common axis.
    Lines {
        /// Title of the chart.
        title: String,
        /// The horizontal axis.
        x: Ticks,
        /// The vertical axis.
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
    /// Creates a bar.
    pub fn new(name: &str, value: Spread) -> Self {
        Self { name: name.to_owned(), value }
    }
}

/// A line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Display name.
    pub name: String,
    /// Points from left to right.
    pub points: Vec<(f64, f64)>,
    /// Number of the line's colour; related lines share it.
    pub colour: usize,
    /// Whether the line is dashed, because others are compared with it.
    pub dashed: bool,
}

/// Sizes in units of the drawing, which is scaled to the page.
const WIDTH: f64 = 680.0;
const LABELS: f64 = 160.0;
const FIGURES: f64 = 100.0;
const ROW: f64 = 22.0;
const TITLE: f64 = 26.0;
const HEIGHT: f64 = 280.0;
const LEGEND: f64 = 140.0;

/// Number of colours of the page.
const COLOURS: usize = 6;

/// Systems with a fixed colour, by the beginning of their names.
const KNOWN: [(&str, usize); 5] = [("floor", 0), ("hydrant", 1), ("server", 1), ("nats", 2), ("mosquitto", 3)];

impl Chart {
    /// Creates a chart of bars.
    pub fn bars(title: &str, unit: &str, groups: Vec<(String, Vec<Bar>)>) -> Self {
        Self::Bars { title: title.to_owned(), unit: unit.to_owned(), groups }
    }

    /// Returns the drawing; `None` if there is nothing to draw.
    pub(super) fn svg(&self) -> Option<Markup> {
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

/// Returns the colour of a system; for others, that of their position among `names`.
fn colour(name: &str, names: &[&str]) -> usize {
    let known = KNOWN.iter().find(|(start, _)| name.starts_with(start)).map(|&(_, colour)| colour);
    known.unwrap_or_else(|| names.iter().position(|other| *other == name).unwrap_or(0) % COLOURS)
}

fn bars(title: &str, unit: &str, groups: &[(String, Vec<Bar>)]) -> Markup {
    let names: Vec<&str> = groups.iter().flat_map(|(_, bars)| bars).map(|bar| bar.name.as_str()).collect();
    let (mut drawn, mut y) = (Vec::new(), 2.0);
    for (name, bars) in groups.iter().filter(|(_, bars)| !bars.is_empty()) {
        let most = bars.iter().map(|bar| bar.value.max).fold(0.0, f64::max).max(1e-9);
        if !name.is_empty() {
            drawn.push(html! { text class="group" x="0" y=(tenths(y + 14.0)) { (name) } });
            y += TITLE;
        }
        for bar in bars {
            drawn.push(one_bar(bar, y, most, colour(&bar.name, &names), unit));
            y += ROW;
        }
        y += 10.0;
    }
    drawing(title, y, &html! { @for part in &drawn { (part) } })
}

fn one_bar(bar: &Bar, y: f64, most: f64, colour: usize, unit: &str) -> Markup {
    let scale = (WIDTH - LABELS - FIGURES) / most;
    let Spread { median, min, max } = bar.value;
    let (end, low, high) = (LABELS + median * scale, LABELS + min * scale, LABELS + max * scale);
    let (middle, text) = (y + ROW / 2.0, tenths(y + ROW / 2.0 + 4.0));
    let (width, height) = (tenths((end - LABELS).max(1.0)), tenths(ROW - 6.0));
    let [above, below] = [middle - 3.0, middle + 3.0].map(tenths);
    let [low, figure, high, middle] = [low, high + 8.0, high, middle].map(tenths);
    html! {
        g {
            title { (bar.name) ": " (format!("{median:.3} {unit} ({min:.3} .. {max:.3})")) }
            text x=(tenths(LABELS - 10.0)) y=(text) text-anchor="end" { (bar.name) }
            rect class={ "s" (colour) } x=(LABELS) y=(tenths(y + 3.0)) width=(width) height=(height) rx="2" {}
            @if max > min {
                path class="spread" d={
                    "M" (low) " " (middle) "H" (high) "M" (low) " " (above) "V" (below)
                    "M" (high) " " (above) "V" (below)
                } {}
            }
            text class="figure" x=(figure) y=(text) { (short(median)) " " (unit) }
        }
    }
}

fn line_chart(title: &str, [x_ticks, y_ticks]: [&Ticks; 2], lines: &[Line]) -> Markup {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let (left, right, top, bottom) = (64.0, WIDTH - LEGEND, 26.0, HEIGHT - 46.0);
    let x = Axis::over(x_ticks, points().map(|(x, _)| x), [left, right]);
    let y = Axis::over(y_ticks, points().map(|(_, y)| y), [bottom, top]);
    let middle = f64::midpoint(left, right);
    let shown = lines.iter().enumerate().filter(|(_, line)| !line.points.is_empty());
    let body = html! {
        @for (at, name) in y.ticks() {
            path class="grid" d={ "M" (left) " " (tenths(at)) "H" (right) } {}
            text class="tick" x=(tenths(left - 8.0)) y=(tenths(at + 4.0)) text-anchor="end" { (name) }
        }
        @for (at, name) in x.ticks() {
            path class="axis" d={ "M" (tenths(at)) " " (bottom) "V" (bottom + 5.0) } {}
            text class="tick" x=(tenths(at)) y=(bottom + 19.0) text-anchor="middle" { (name) }
        }
        path class="axis" d={ "M" (left) " " (top) "V" (bottom) "H" (right) } {}
        text class="name" x=(middle) y=(HEIGHT - 6.0) text-anchor="middle" { (x_ticks.name()) }
        text class="name" x=(left - 8.0) y="12" text-anchor="end" { (y_ticks.name()) }
        @for (at, line) in shown { (one_line(line, at, [&x, &y], [right + 12.0, top])) }
    };
    drawing(title, HEIGHT, &body)
}

/// Returns a line with its entry in the legend.
fn one_line(line: &Line, row: usize, [x, y]: [&Axis; 2], [left, top]: [f64; 2]) -> Markup {
    let point = |&(a, b): &(f64, f64)| format!("{} {}", tenths(x.position(a)), tenths(y.position(b)));
    let points: Vec<String> = line.points.iter().map(point).collect();
    let class = format!("line l{}{}", line.colour % COLOURS, if line.dashed { " dashed" } else { "" });
    #[allow(clippy::cast_precision_loss, reason = "a handful of lines")]
    let middle = top + 6.0 + row as f64 * 20.0;
    html! {
        path class=(class) d={ "M" (points.join("L")) } {}
        path class=(class) d={ "M" (left) " " (middle) "h18" } {}
        text x=(left + 24.0) y=(middle + 4.0) { (line.name) }
    }
}

fn drawing(title: &str, height: f64, body: &Markup) -> Markup {
    html! {
        figure {
            figcaption { (title) }
            div.wide {
                svg viewBox=(format!("0 0 {WIDTH} {height:.0}")) role="img" aria-label=(title) { (body) }
            }
        }
    }
}

/// Formats a coordinate to a tenth of a unit.
fn tenths(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_figures() {
        let bar = |name, median| Bar::new(name, Spread { median, min: median, max: median });
        let svg = Chart::bars("t", "us", vec![("g<".to_owned(), vec![bar("a", 1.0), bar("b", 2.0)])])
            .svg()
            .unwrap()
            .into_string();
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
            assert!(chart.svg().unwrap().into_string().contains("L540.0 26.0"), "{chart:?}");
        }
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(Chart::bars("t", "us", vec![("g".to_owned(), Vec::new())]).svg().map(Markup::into_string), None);
        let (x, y) = (Ticks::Linear("s".into()), Ticks::Linear("%".into()));
        assert_eq!(Chart::Lines { title: "t".into(), x, y, lines: Vec::new() }.svg().map(Markup::into_string), None);
    }
}
