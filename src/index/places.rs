//! The memberships of one registration. Nearly every registration has one; one of jobs has two.
//!
//! Contract: a list that does not grow, in the space of two words. Up to two memberships are stored inline, more in the
//! heap.

use super::groups::Membership;

/// Stands for no membership.
const NONE: Membership = Membership::numbered(u32::MAX);

#[derive(Debug)]
pub(super) enum Places {
    /// [`NONE`] where there is none.
    Few([Membership; 2]),
    Many(Box<[Membership]>),
}

impl Places {
    pub(super) fn as_slice(&self) -> &[Membership] {
        match self {
            Self::Few([NONE, _]) => &[],
            Self::Few(few @ [_, NONE]) => &few[..1],
            Self::Few(few) => few,
            Self::Many(many) => many,
        }
    }
}

impl FromIterator<Membership> for Places {
    fn from_iter<T: IntoIterator<Item = Membership>>(memberships: T) -> Self {
        let mut rest = memberships.into_iter();
        let few = [rest.next().unwrap_or(NONE), rest.next().unwrap_or(NONE)];
        match rest.next() {
            None => Self::Few(few),
            Some(third) => Self::Many(few.into_iter().chain([third]).chain(rest).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_memberships_is_returned_as_it_came() {
        for count in 0..5 {
            let memberships: Vec<Membership> = (0..count).map(Membership::numbered).collect();
            assert_eq!(memberships.iter().copied().collect::<Places>().as_slice(), memberships);
        }
        assert!(size_of::<Places>() <= 16, "{}", size_of::<Places>());
    }
}
