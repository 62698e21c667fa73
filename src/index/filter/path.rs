//! The path to a field: names and array indexes, outermost first.
//!
//! There are two spellings with one meaning: `Params.cluster/wait-filter` (names separated by dots) and
//! `/Params/cluster~1wait-filter` (RFC 6901). A path prints in the first spelling wherever that parses to the same
//! path.

use std::fmt;

use thiserror::Error;

/// Maximum number of names in a path; a lookup descends that deep.
const MOST_SEGMENTS: usize = 128;

/// A path of at least one name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path {
    segments: Box<[Box<str>]>,
}

/// The reason why a text is not a path.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// The text is empty.
    #[error("a field path is missing")]
    Empty,
    /// There are two dots in a row, or a dot at an end.
    #[error("an empty name in a dotted path (if it is intended, write the path as a pointer: /A//B)")]
    EmptyName,
    /// There are more names than the limit.
    #[error("a path of more than {MOST_SEGMENTS} names")]
    Long,
    /// A `~` is followed by neither 0 nor 1.
    #[error("`~` in a pointer must be followed by 0 or 1")]
    Escape,
}

impl Path {
    /// Parses a path; white space around it must already be removed.
    ///
    /// # Errors
    /// [`PathError`] with the byte offset in `text`.
    pub fn parse(text: &str) -> Result<Self, (usize, PathError)> {
        let path = match text.strip_prefix('/') {
            _ if text.is_empty() => return Err((0, PathError::Empty)),
            Some(pointer) => Self::pointer(pointer)?,
            None => Self::dotted(text)?,
        };
        if path.segments.len() > MOST_SEGMENTS { Err((0, PathError::Long)) } else { Ok(path) }
    }

    fn pointer(text: &str) -> Result<Self, (usize, PathError)> {
        let mut at = 1;
        let mut segments = Vec::new();
        for raw in text.split('/') {
            let segment = unescape(raw).map_err(|inside| (at + inside, PathError::Escape))?;
            segments.push(segment.into_boxed_str());
            at += raw.len() + 1;
        }
        Ok(Self { segments: segments.into() })
    }

    fn dotted(text: &str) -> Result<Self, (usize, PathError)> {
        let mut at = 0;
        let mut segments = Vec::new();
        for segment in text.split('.') {
            if segment.is_empty() {
                return Err((at, PathError::EmptyName));
            }
            segments.push(Box::from(segment));
            at += segment.len() + 1;
        }
        Ok(Self { segments: segments.into() })
    }

    /// Returns the names, outermost first.
    pub fn segments(&self) -> &[Box<str>] {
        &self.segments
    }

    /// Returns the names below Object and Original that `Changed` compares: a leading `Object` is dropped.
    pub fn within_object(&self) -> &[Box<str>] {
        match self.segments.split_first() {
            Some((first, rest)) if &**first == "Object" => rest,
            _ => &self.segments,
        }
    }

    fn reads_back_dotted(&self) -> bool {
        let first = &self.segments[0];
        let plain = |segment: &str| !segment.is_empty() && !segment.contains('.');
        !first.starts_with('/')
            && !first.starts_with(char::is_whitespace)
            && self.segments.iter().all(|segment| plain(segment))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reads_back_dotted() {
            return f.write_str(&self.segments.join("."));
        }
        for segment in &self.segments {
            write!(f, "/{}", segment.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}

/// Decodes `~0` and `~1`; the error is the offset of a `~` that is neither.
fn unescape(raw: &str) -> Result<String, usize> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('~') {
        out.push_str(&rest[..at]);
        out.push(match rest.as_bytes().get(at + 1) {
            Some(b'0') => '~',
            Some(b'1') => '/',
            _ => return Err(raw.len() - rest.len() + at),
        });
        rest = &rest[at + 2..];
    }
    out.push_str(rest);
    Ok(out)
}

/// Returns the array index that a name stands for: decimal digits without leading zeros.
pub fn array_index(segment: &str) -> Option<usize> {
    let canonical = segment == "0" || !segment.starts_with('0');
    let digits = !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit());
    if canonical && digits { segment.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(text: &str) -> Vec<String> {
        Path::parse(text).unwrap().segments().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn both_spellings_name_the_same_field() {
        assert_eq!(segments("Params.cluster/wait-filter"), ["Params", "cluster/wait-filter"]);
        assert_eq!(segments("/Params/cluster~1wait-filter"), ["Params", "cluster/wait-filter"]);
        assert_eq!(segments("/Params/a.b"), ["Params", "a.b"]);
        assert_eq!(segments("/Params/"), ["Params", ""]);
        assert_eq!(segments("/"), [""]);
        assert_eq!(segments("/~01~10"), ["~1/0"]);
    }

    #[test]
    fn the_canonical_spelling_reads_back() {
        for (text, canonical) in [
            ("/Params/cluster~1wait-filter", "Params.cluster/wait-filter"),
            ("/Params/a.b", "/Params/a.b"),
            ("/~1a/b", "/~1a/b"),
            ("/ a/b", "/ a/b"),
            ("/Params/", "/Params/"),
            ("Errors.0", "Errors.0"),
            ("/a/~0", "a.~"),
        ] {
            let path = Path::parse(text).unwrap();
            assert_eq!(path.to_string(), canonical);
            assert_eq!(Path::parse(canonical).unwrap(), path);
        }
    }

    #[test]
    fn bad_paths_are_refused_with_the_place() {
        for (text, at, error) in [
            ("", 0, PathError::Empty),
            ("a..b", 2, PathError::EmptyName),
            ("a.", 2, PathError::EmptyName),
            (".a", 0, PathError::EmptyName),
            ("/ab/c~2", 5, PathError::Escape),
            ("/~0~", 3, PathError::Escape),
        ] {
            assert_eq!(Path::parse(text).unwrap_err(), (at, error), "{text}");
        }
        assert!(Path::parse(&"/a".repeat(MOST_SEGMENTS)).is_ok());
        assert_eq!(Path::parse(&"/a".repeat(MOST_SEGMENTS + 1)), Err((0, PathError::Long)));
    }

    #[test]
    fn only_canonical_numbers_are_indexes() {
        let cases = [("0", Some(0)), ("12", Some(12)), ("01", None), ("", None), ("-1", None), ("1a", None)];
        for (text, index) in cases {
            assert_eq!(array_index(text), index, "{text}");
        }
        assert_eq!(array_index("99999999999999999999999"), None);
    }
}
