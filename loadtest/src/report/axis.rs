//! Axes of the charts: they map values to positions, and choose the round values that are marked.

use super::number::round;

/// The name and the marks of an axis.
#[derive(Debug, Clone, PartialEq)]
pub enum Ticks {
    /// Round values, from 0.
    Linear(String),
    /// Powers of ten.
    Logarithmic(String),
    /// The given values with their texts, from 0.
    Named(String, Vec<(f64, &'static str)>),
}

impl Ticks {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Linear(name) | Self::Logarithmic(name) | Self::Named(name, _) => name,
        }
    }
}

/// An axis of a drawing.
#[derive(Debug)]
pub(super) struct Axis {
    /// The values at both ends, or their logarithms.
    ends: [f64; 2],
    /// The positions of both ends.
    positions: [f64; 2],
    logarithmic: bool,
    marks: Vec<(f64, String)>,
}

/// Values below this share of the greatest are drawn at the same position on a logarithmic axis.
const LEAST: f64 = 1e-6;

impl Axis {
    /// Creates an axis that covers all `values`, between two positions of the drawing.
    pub(super) fn over(ticks: &Ticks, values: impl Iterator<Item = f64> + Clone, positions: [f64; 2]) -> Self {
        let most = values.clone().fold(0.0, f64::max).max(1e-9);
        match ticks {
            Ticks::Logarithmic(_) => {
                let least = values.fold(most, f64::min).max(most * LEAST);
                let (low, high) = (least.log10().floor(), most.log10().ceil());
                let high = if high > low { high } else { low + 1.0 };
                Self { ends: [low, high], positions, logarithmic: true, marks: decades(low, high) }
            }
            Ticks::Linear(_) => {
                let step = round_step(most);
                let high = (most / step).ceil() * step;
                Self { ends: [0.0, high], positions, logarithmic: false, marks: steps(step, high) }
            }
            Ticks::Named(_, named) => {
                let marks = named.iter().filter(|(value, _)| *value <= most * 1.001);
                let marks = marks.map(|&(value, name)| (value, name.to_owned())).collect();
                Self { ends: [0.0, most], positions, logarithmic: false, marks }
            }
        }
    }

    /// Returns the position of a value.
    pub(super) fn position(&self, value: f64) -> f64 {
        let [low, high] = self.ends;
        let value = if self.logarithmic { value.max(10_f64.powf(low)).log10() } else { value };
        let [from, to] = self.positions;
        from + (value - low) / (high - low) * (to - from)
    }

    /// Returns positions and texts of the marks.
    pub(super) fn ticks(&self) -> impl Iterator<Item = (f64, &str)> {
        self.marks.iter().map(|(value, name)| (self.position(*value), name.as_str()))
    }
}

/// Returns a step of 1, 2 or 5 times a power of ten, at most five of which reach `most`.
fn round_step(most: f64) -> f64 {
    let power = 10_f64.powf((most / 5.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
    steps.into_iter().find(|step| most / step <= 5.0).unwrap_or(most)
}

fn steps(step: f64, high: f64) -> Vec<(f64, String)> {
    let (mut marks, mut value) = (Vec::new(), 0.0);
    while value <= high + step / 2.0 {
        marks.push((value, round(value)));
        value += step;
    }
    marks
}

fn decades(low: f64, high: f64) -> Vec<(f64, String)> {
    let (mut marks, mut power) = (Vec::new(), low);
    while power <= high + 0.5 {
        let value = 10_f64.powf(power);
        marks.push((value, round(value)));
        power += 1.0;
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(ticks: &Ticks, values: &[f64]) -> Vec<String> {
        Axis::over(ticks, values.iter().copied(), [0.0, 100.0]).ticks().map(|(_, name)| name.to_owned()).collect()
    }

    #[test]
    fn marks_are_round_values() {
        let linear = Ticks::Linear(String::new());
        assert_eq!(names(&linear, &[1.46]), ["0", "0.5", "1", "1.5"]);
        assert_eq!(names(&linear, &[100.0]), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(
            names(&Ticks::Logarithmic(String::new()), &[20.0, 96_319.0]),
            ["10", "100", "1,000", "10,000", "100,000"]
        );
        let named = Ticks::Named(String::new(), vec![(1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %")]);
        assert_eq!(names(&named, &[2.0]), ["90 %", "99 %"]);
    }

    #[test]
    fn ends_lie_at_the_ends() {
        let axis = Axis::over(&Ticks::Logarithmic(String::new()), [10.0, 1_000.0].into_iter(), [50.0, 10.0]);
        assert_eq!(
            (axis.position(10.0), axis.position(100.0), axis.position(1_000.0), axis.position(0.0)),
            (50.0, 30.0, 10.0, 50.0)
        );
        let one = Axis::over(&Ticks::Logarithmic(String::new()), [10.0].into_iter(), [0.0, 1.0]);
        assert!(one.position(10.0).abs() < 1e-9);
    }
}
