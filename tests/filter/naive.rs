//! Filters the obvious way, for comparison: own JSON, own tree, own evaluation, written from `docs/protocol.md` and not
//! from the code. Slow and simple on purpose. A case is made from a number, so a failure can be made again.

#![allow(clippy::format_collect, reason = "a model for tests fails the test")]

use std::fmt::Write;

/// JSON with everything that its text tells.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(Text),
    Array(Vec<Json>),
    Object(Vec<(Text, Json)>),
}

/// A string and how it is spelt, quotes included.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) value: String,
    pub(crate) raw: String,
}

impl Json {
    /// Compact text.
    pub(crate) fn compact(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(b) => b.to_string(),
            Self::Number(text) => text.clone(),
            Self::Text(text) => text.raw.clone(),
            Self::Array(items) => {
                format!("[{}]", items.iter().map(Self::compact).collect::<Vec<_>>().join(","))
            }
            Self::Object(members) => {
                let members: Vec<_> = members.iter().map(|(n, v)| format!("{}:{}", n.raw, v.compact())).collect();
                format!("{{{}}}", members.join(","))
            }
        }
    }

    fn child(&self, name: &str) -> Option<&Json> {
        match self {
            Self::Object(members) => members.iter().rev().find(|(n, _)| n.value == name).map(|(_, v)| v),
            Self::Array(items) => {
                let index: usize = name.parse().ok()?;
                if index.to_string() == name { items.get(index) } else { None }
            }
            _ => None,
        }
    }

    fn walk(&self, path: &[String]) -> Option<&Json> {
        path.iter().try_fold(self, |value, name| value.child(name))
    }

    /// Deep equality.
    pub(crate) fn same(&self, other: &Json) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => fixed_point(a) == fixed_point(b),
            (Self::Text(a), Self::Text(b)) => a.value == b.value,
            (Self::Array(a), Self::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
            (Self::Object(a), Self::Object(b)) => {
                let covers = |a: &Json, b: &Json, names: &[(Text, Json)]| {
                    names.iter().all(|(name, _)| match (a.child(&name.value), b.child(&name.value)) {
                        (Some(a), Some(b)) => a.same(b),
                        _ => false,
                    })
                };
                covers(self, other, a) && covers(self, other, b)
            }
            _ => false,
        }
    }
}

/// Sign, whole part and fraction of a number written out without an exponent.
fn fixed_point(text: &str) -> (bool, String, String) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().unwrap();
    let negative = mantissa.starts_with('-');
    let mantissa = mantissa.trim_start_matches('-');
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let (mut whole, mut fraction) = (whole.to_owned(), fraction.to_owned());
    for _ in 0..exponent {
        whole.push(if fraction.is_empty() { '0' } else { fraction.remove(0) });
    }
    for _ in exponent..0 {
        fraction.insert(0, whole.pop().unwrap_or('0'));
    }
    let whole = whole.trim_start_matches('0').to_owned();
    let fraction = fraction.trim_end_matches('0').to_owned();
    let zero = whole.is_empty() && fraction.is_empty();
    (negative && !zero, whole, fraction)
}

#[derive(Clone, Debug)]
pub(crate) enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Exists(Vec<String>),
    Eq(Vec<String>, Json),
    Ne(Vec<String>, Json),
    In(Vec<String>, Vec<Json>),
    Nin(Vec<String>, Vec<Json>),
    Re(Vec<String>, &'static str),
    Changed(Vec<String>, Option<Json>, Option<Json>),
}

/// An event, or a plain object in place of one.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) action: String,
    pub(crate) key: String,
    pub(crate) principal: String,
    pub(crate) object: Json,
    pub(crate) original: Json,
    pub(crate) plain: bool,
}

impl Event {
    fn look_up(&self, path: &[String]) -> Option<Json> {
        if self.object.child(&path[0]).is_some() {
            return self.object.walk(path).cloned();
        }
        let text = |value: &str| Json::Text(Text { value: value.into(), raw: serde_json::to_string(value).unwrap() });
        let path = if path[0] == "event" && path.len() > 1 { &path[1..] } else { path };
        let top = match path[0].as_str() {
            "Object" => self.object.clone(),
            _ if self.plain => return None,
            "Original" => self.original.clone(),
            "Type" => text(&self.kind),
            "Action" => text(&self.action),
            "Key" => text(&self.key),
            "Principal" => text(&self.principal),
            _ => return None,
        };
        top.walk(&path[1..]).cloned()
    }
}

impl Filter {
    pub(crate) fn is_true(&self, event: &Event) -> bool {
        let equals = |path: &[String], value: &Json| event.look_up(path).is_some_and(|found| found.same(value));
        match self {
            Self::And(terms) => terms.iter().all(|term| term.is_true(event)),
            Self::Or(terms) => terms.iter().any(|term| term.is_true(event)),
            Self::Not(term) => !term.is_true(event),
            Self::Exists(path) => event.look_up(path).is_some(),
            Self::Eq(path, value) => equals(path, value),
            Self::Ne(path, value) => !equals(path, value),
            Self::In(path, values) => values.iter().any(|value| equals(path, value)),
            Self::Nin(path, values) => !values.iter().any(|value| equals(path, value)),
            Self::Re(path, pattern) => match event.look_up(path) {
                None => false,
                Some(Json::Text(text)) => regex::Regex::new(pattern).unwrap().is_match(&text.value),
                Some(other) => regex::Regex::new(pattern).unwrap().is_match(&other.compact()),
            },
            Self::Changed(path, from, to) => changed(path, from.as_ref(), to.as_ref(), event),
        }
    }

    /// Filter text in one of its spellings.
    pub(crate) fn text(&self, random: &mut Random) -> String {
        let space = |random: &mut Random| if random.below(6) == 0 { " " } else { "" };
        let list = |terms: &[Filter], random: &mut Random| {
            let terms: Vec<_> =
                terms.iter().map(|t| format!("{}{}{}", space(random), t.text(random), space(random))).collect();
            terms.join(",")
        };
        match self {
            Self::And(terms) => format!("And({})", list(terms, random)),
            Self::Or(terms) => format!("Or({})", list(terms, random)),
            Self::Not(term) => format!("Not({})", term.text(random)),
            Self::Exists(path) => format!("{}=Exists()", spell_path(path, random)),
            Self::Eq(path, value) => format!("{}=Eq({})", spell_path(path, random), spell_value(value, random)),
            Self::Ne(path, value) => format!("{} = Ne( {} )", spell_path(path, random), spell_value(value, random)),
            Self::In(path, values) | Self::Nin(path, values) => {
                let name = if matches!(self, Self::In(..)) { "In" } else { "Nin" };
                let values: Vec<_> = values.iter().map(|value| spell_value(value, random)).collect();
                format!("{}={name}({})", spell_path(path, random), values.join(&format!("{},", space(random))))
            }
            // A bare pattern that starts with a quote would be taken for a JSON string.
            Self::Re(path, pattern) if !pattern.starts_with('"') && random.below(2) == 0 => {
                format!("{}=Re({pattern})", spell_path(path, random))
            }
            Self::Re(path, pattern) => {
                format!("{}=Re({})", spell_path(path, random), serde_json::to_string(pattern).unwrap())
            }
            Self::Changed(path, from, to) => {
                let mut text = format!("{}=Changed(", spell_path(path, random));
                from.iter().for_each(|from| text.push_str(&spell_value(from, random)));
                to.iter().for_each(|to| write!(text, ",{}", spell_value(to, random)).unwrap());
                text + ")"
            }
        }
    }
}

fn changed(path: &[String], from: Option<&Json>, to: Option<&Json>, event: &Event) -> bool {
    let path = if path[0] == "Object" { &path[1..] } else { path };
    let new = event.object.walk(path);
    let old = event.original.walk(path);
    let is = |found: Option<&Json>, wanted: &Json| found.is_some_and(|found| found.same(wanted));
    if event.plain {
        return to.is_none_or(|to| is(new, to));
    }
    if !matches!(event.object, Json::Null) && !matches!(event.original, Json::Null) {
        match (new, old) {
            (None, None) => return false,
            (Some(new), Some(old)) if new.same(old) => return false,
            _ => {}
        }
    }
    from.is_none_or(|from| is(old, from)) && to.is_none_or(|to| is(new, to))
}

fn spell_path(path: &[String], random: &mut Random) -> String {
    let dotted = path.iter().all(|name| !name.is_empty() && !name.contains('.')) && !path[0].starts_with('/');
    if dotted && random.below(3) > 0 {
        return path.join(".");
    }
    path.iter().map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1"))).collect()
}

fn spell_value(value: &Json, random: &mut Random) -> String {
    if let Json::Text(text) = value {
        let bare = text.value.chars().all(|c| c.is_alphanumeric() || c == ' ') && !text.value.trim().is_empty();
        let json = serde_json::from_str::<serde_json::Value>(&text.value).is_ok();
        if bare && !json && text.value.trim() == text.value && random.below(2) == 0 {
            return text.value.clone();
        }
    }
    value.compact()
}

/// A small generator of numbers (splitmix64), so that a case is its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    fn times(&mut self, limit: u64) -> std::ops::Range<u64> {
        0..self.below(limit)
    }
}

const NAMES: [&str; 16] = [
    "Stage", "Stage", "Params", "Params", "a", "b", "a.b", "a/b", "~", "", "0", "1", "Object", "Original", "Type",
    "event",
];
const NUMBERS: [&str; 20] = [
    "1",
    "1.0",
    "1e0",
    "10e-1",
    "0",
    "-0",
    "0.0",
    "100",
    "1E+2",
    "1.5",
    "15e-1",
    "-3",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "18446744073709551617",
    "18446744073709551616.0",
    "123456789012345678901234567890",
    "123456789012345678901234567891",
];
const TEXTS: [&str; 12] =
    ["local", "local", "none", "", "1", "true", "null", "é", "a b", "x,y)", "a\"b\\", "long enough to leave a block"];
const PATTERNS: [&str; 9] = ["^l", "o", "^$", "(lo|no)", "^[0-9]+$", "a", "\"", "[{]", "^(true|null)$"];

/// A string, now and then with more escapes than it needs.
fn text(random: &mut Random, value: &str) -> Text {
    let mut raw = serde_json::to_string(value).unwrap();
    if random.below(5) == 0 {
        raw = raw.replace('a', "\\u0061").replace('l', "\\u006c").replace('/', "\\/").replace('é', "\\u00e9");
    }
    Text { value: value.to_owned(), raw }
}

pub(crate) fn json(random: &mut Random, depth: u64) -> Json {
    match random.below(if depth == 0 { 6 } else { 9 }) {
        0 => Json::Null,
        1 => Json::Bool(random.below(2) == 0),
        2 | 3 => Json::Number(random.pick(&NUMBERS).to_owned()),
        4 | 5 => {
            let value = random.pick(&TEXTS);
            Json::Text(text(random, value))
        }
        6 => Json::Array(random.times(4).map(|_| json(random, depth - 1)).collect()),
        _ => object(random, depth - 1),
    }
}

fn object(random: &mut Random, depth: u64) -> Json {
    let member = |random: &mut Random| {
        let name = random.pick(&NAMES);
        (text(random, name), json(random, depth))
    };
    let count = if random.below(8) == 0 { 20 } else { 7 };
    Json::Object(random.times(count).map(|_| member(random)).collect())
}

/// The object with some of its values exchanged.
fn variant(random: &mut Random, of: &Json) -> Json {
    match of {
        Json::Object(members) => {
            let mut members = members.clone();
            for (_, value) in &mut members {
                if random.below(3) == 0 {
                    *value = variant(random, value);
                }
            }
            if random.below(4) == 0 {
                members.pop();
            }
            Json::Object(members)
        }
        _ => json(random, 1),
    }
}

pub(crate) fn event(random: &mut Random) -> Event {
    let object = if random.below(8) == 0 { json(random, 2) } else { object(random, 3) };
    let original = match random.below(4) {
        0 => Json::Null,
        1 => json(random, 2),
        _ => variant(random, &object),
    };
    Event {
        kind: random.pick(&["machines", "local", "1"]).into(),
        action: random.pick(&["update", "create"]).into(),
        key: random.pick(&["", "a b", "k"]).into(),
        principal: random.pick(&["", "user:é\"\\"]).into(),
        object,
        original,
        plain: false,
    }
}

fn path(random: &mut Random) -> Vec<String> {
    let mut path: Vec<String> = (0..=random.below(3)).map(|_| random.pick(&NAMES).to_owned()).collect();
    if random.below(12) == 0 {
        path[0] = String::from(random.pick(&["Action", "Principal", "Object", "Original", "Object"]));
    }
    if random.below(12) == 0 {
        path.insert(0, "event".to_owned());
    }
    path
}

pub(crate) fn filter(random: &mut Random, depth: u64) -> Filter {
    if depth > 0 && random.below(3) > 0 {
        let terms = |random: &mut Random| (0..=random.below(3)).map(|_| filter(random, depth - 1)).collect();
        return match random.below(5) {
            0 | 1 => Filter::And(terms(random)),
            2 | 3 => Filter::Or(terms(random)),
            _ => Filter::Not(Box::new(filter(random, depth - 1))),
        };
    }
    let path = path(random);
    let values = |random: &mut Random| (0..=random.below(4)).map(|_| json(random, 1)).collect();
    match random.below(12) {
        0 => Filter::Exists(path),
        1..=3 => Filter::Eq(path, json(random, 2)),
        4 => Filter::Ne(path, json(random, 2)),
        5 | 6 => Filter::In(path, values(random)),
        7 => Filter::Nin(path, values(random)),
        8 => Filter::Re(path, random.pick(&PATTERNS)),
        _ => {
            let value = |random: &mut Random| (random.below(3) == 0).then(|| json(random, 1));
            let from = value(random);
            Filter::Changed(path, from, value(random))
        }
    }
}
