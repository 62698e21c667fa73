//! The fields of an event and their names.

use crate::json::Member;

/// A field of the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Time,
    Type,
    Action,
    Key,
    Principal,
    Object,
    Original,
}

const NAMES: [(&str, Field); 7] = [
    ("Time", Field::Time),
    ("Type", Field::Type),
    ("Action", Field::Action),
    ("Key", Field::Key),
    ("Principal", Field::Principal),
    ("Object", Field::Object),
    ("Original", Field::Original),
];

impl Field {
    /// Returns the field that a member sets, regardless of the letter case and escapes in its name.
    pub(super) fn of(member: &Member<'_>) -> Option<Self> {
        Self::as_written(member.name).or_else(|| {
            let name = member.name();
            NAMES.iter().find(|(field, _)| name.eq_ignore_ascii_case(field)).map(|(_, field)| *field)
        })
    }

    /// Returns the offset of the value that counts for this field; `None` if no member sets it.
    pub(super) fn offset_in<'t>(self, members: impl Iterator<Item = Member<'t>>) -> Option<usize> {
        members.filter(|member| Self::of(member) == Some(self)).last().map(|member| member.offset)
    }

    /// Returns the field with this quoted name in its usual spelling: the fast path.
    fn as_written(name: &str) -> Option<Self> {
        Some(match name {
            r#""Time""# => Self::Time,
            r#""Type""# => Self::Type,
            r#""Action""# => Self::Action,
            r#""Key""# => Self::Key,
            r#""Principal""# => Self::Principal,
            r#""Object""# => Self::Object,
            r#""Original""# => Self::Original,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::members;

    #[test]
    fn names_are_known_in_any_spelling() {
        for (name, field) in NAMES {
            let escaped = format!("\\u{:04x}{}", name.as_bytes()[0], &name[1..]);
            for spelling in [name.to_owned(), name.to_lowercase(), name.to_uppercase(), escaped] {
                let text = format!("{{\"{spelling}\":1}}");
                assert_eq!(Field::of(&members(&text).next().unwrap()), Some(field), "{text}");
            }
            for other in [format!("{name} "), name[1..].to_owned()] {
                let text = format!("{{\"{other}\":1}}");
                assert_eq!(Field::of(&members(&text).next().unwrap()), None, "{text}");
            }
        }
    }
}
