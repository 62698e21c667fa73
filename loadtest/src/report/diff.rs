//! A comparison of two results of the same work.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use super::{Figure, Machine, Outcome, Page, Section, Table};

/// A figure in both results.
#[derive(Debug, Clone, Serialize)]
struct Pair {
    before: Figure,
    after: Figure,
    ratio: f64,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Same,
    Better,
    Worse,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Better => "better",
            Self::Worse => "REGRESSION",
        }
    }
}

/// The figures in which two results of the same work differ.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    machine: Machine,
    tolerance_percent: f64,
    names: [String; 2],
    pairs: Vec<Pair>,
    /// Figures that only one of the results has.
    unmatched: Vec<String>,
}

impl Difference {
    /// Compares two files written by `--json`. A figure is worse (or better) if it differs by more than `tolerance`
    /// percent and its median is outside the other's spread.
    ///
    /// # Errors
    /// Fails if a file cannot be read or has no figures, or if they have no figures in common.
    pub fn of(before: &Path, after: &Path, tolerance: f64) -> Result<Self> {
        let (old, new) = (figures(before)?, figures(after)?);
        let mut rest: HashMap<String, Figure> = new.into_iter().map(|figure| (figure.name.clone(), figure)).collect();
        let (mut pairs, mut unmatched) = (Vec::new(), Vec::new());
        for before in old {
            match rest.remove(&before.name) {
                Some(after) => pairs.push(pair(before, after, tolerance)),
                None => unmatched.push(before.name),
            }
        }
        unmatched.extend(rest.into_keys());
        unmatched.sort();
        ensure!(!pairs.is_empty(), "the two results have no figure in common: they measured different work");
        let names = [before, after].map(|path| path.display().to_string());
        Ok(Self { machine: Machine::here(), tolerance_percent: tolerance, names, pairs, unmatched })
    }
}

fn figures(path: &Path) -> Result<Vec<Figure>> {
    let shown = path.display();
    let text = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let mut value: Value = serde_json::from_slice(&text).with_context(|| format!("{shown} is not JSON"))?;
    let figures = value.get_mut("figures").map(Value::take).with_context(|| format!("{shown} has no figures"))?;
    serde_json::from_value(figures).with_context(|| format!("the figures of {shown} have an unexpected form"))
}

fn pair(before: Figure, after: Figure, tolerance: f64) -> Pair {
    // A figure that was zero and no longer is has no ratio; 1e-9 makes it a large one.
    let is_same = (before.value - after.value).abs() < 1e-9;
    let ratio = if is_same { 1.0 } else { after.value / before.value.max(1e-9) };
    let margin = 1.0 + tolerance / 100.0;
    let verdict = if ratio > margin && after.value > before.max {
        Verdict::Worse
    } else if ratio < 1.0 / margin && after.value < before.min {
        Verdict::Better
    } else {
        Verdict::Same
    };
    Pair { before, after, ratio, verdict }
}

impl Difference {
    fn verdict(&self) -> super::Verdict {
        let worse = self.pairs.iter().filter(|pair| pair.verdict == Verdict::Worse).count();
        let text = match worse {
            0 => "No figure has become worse".to_owned(),
            1 => "One figure has become worse".to_owned(),
            more => format!("{more} figures have become worse"),
        };
        super::Verdict { good: worse == 0, text }
    }
}

impl Outcome for Difference {
    fn is_clean(&self) -> bool {
        self.pairs.iter().all(|pair| pair.verdict != Verdict::Worse)
    }

    fn page(&self) -> Page {
        let mut page = Page::new("hydrant-loadtest report", &self.machine);
        page.fact("A", &self.names[0]);
        page.fact("B", &self.names[1]);
        let mut section = Section::new("B beside A");
        let tolerance = self.tolerance_percent;
        section.note(format!("lower is better; marked if more than {tolerance} % apart and outside the spread of A"));
        let mut table = Table::new("figure|unit|A|B|B by A|verdict");
        for pair in &self.pairs {
            let Pair { before, after, ratio, verdict } = pair;
            let figures = [before.value, after.value, *ratio].map(|figure| format!("{figure:.3}"));
            let [a, b, ratio] = figures;
            let unit = before.unit.replace("us", "µs");
            table.row(vec![before.name.clone(), unit, a, b, ratio, verdict.word().to_owned()]);
        }
        section.table = Some(table);
        for pair in self.pairs.iter().filter(|pair| pair.verdict == Verdict::Worse) {
            section.fault(format!("{}: {:.2} times A", pair.before.name, pair.ratio));
        }
        for name in &self.unmatched {
            section.note(format!("only in one of them: {name}"));
        }
        page.sections.push(section);
        page.verdict = Some(self.verdict());
        page
    }

    fn figures(&self) -> Vec<Figure> {
        self.pairs.iter().map(|pair| Figure::once(&pair.before.name, "B by A", pair.ratio)).collect()
    }

    fn json(&self) -> Result<Value> {
        Ok(serde_json::to_value(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(figures: &Value) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), json!({ "figures": figures }).to_string()).unwrap();
        file
    }

    fn figure(name: &str, value: f64, min: f64, max: f64) -> Value {
        json!({ "name": name, "unit": "us", "value": value, "min": min, "max": max })
    }

    #[test]
    fn worse_is_beyond_the_tolerance_and_beyond_the_spread() {
        let old = json!([
            figure("a", 1.0, 0.9, 1.1),
            figure("b", 1.0, 0.5, 1.5),
            figure("c", 1.0, 1.0, 1.0),
            figure("gone", 1.0, 1.0, 1.0),
        ]);
        let new = json!([figure("a", 1.3, 1.2, 1.4), figure("b", 1.3, 1.2, 1.4), figure("c", 0.5, 0.5, 0.5)]);
        let (old, new) = (file(&old), file(&new));
        let difference = Difference::of(old.path(), new.path(), 10.0).unwrap();
        let verdicts: Vec<Verdict> = difference.pairs.iter().map(|pair| pair.verdict).collect();
        assert_eq!(verdicts, [Verdict::Worse, Verdict::Same, Verdict::Better]);
        assert!(!difference.is_clean());
        assert_eq!(difference.unmatched, ["gone"]);
        let mut text = Vec::new();
        difference.page().write_text(&mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("REGRESSION"));
        assert!(Difference::of(new.path(), old.path(), 10.0).unwrap().pairs[0].verdict == Verdict::Better);
    }

    #[test]
    fn results_of_different_work_are_refused() {
        let (a, b) = (file(&json!([figure("a", 1.0, 1.0, 1.0)])), file(&json!([figure("b", 1.0, 1.0, 1.0)])));
        assert!(Difference::of(a.path(), b.path(), 10.0).is_err());
        fs::write(a.path(), "{}").unwrap();
        assert!(Difference::of(a.path(), b.path(), 10.0).unwrap_err().to_string().contains("no figures"));
    }
}
