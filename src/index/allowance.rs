//! How many registrations a single subscriber may have, where that is not what all may.

use super::{Index, Slot, small};

impl<S: Copy> Index<S> {
    /// Lets a subscriber have so many registrations; nothing is what [`Limits`](super::Limits) say. Those that it has already
    /// stay.
    pub fn allow(&mut self, slot: Slot, registrations: Option<usize>) {
        let most = registrations.unwrap_or(self.limits.registrations);
        self.subscriber(slot).most = small(most);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Class, IndexError, Limits};
    use super::*;

    #[test]
    fn a_subscriber_can_have_a_limit_of_its_own() {
        let mut index = Index::new(Limits { registrations: 2, ..Limits::default() });
        let (more, fewer) = (index.subscribe(1, Class(0)), index.subscribe(2, Class(0)));
        index.allow(more, Some(3));
        index.allow(fewer, Some(1));
        let taken =
            |index: &mut Index<i32>, slot| (0..5).filter(|n| index.register(slot, &format!("a.b.{n}")).is_ok()).count();
        assert_eq!((taken(&mut index, more), taken(&mut index, fewer)), (3, 1));
        assert_eq!(index.register(fewer, "a.b.9"), Err(IndexError::TooManyRegistrations { limit: 1 }));
        index.allow(more, None);
        assert_eq!(index.registrations(more), 3, "what is there stays");
        assert_eq!(index.register(more, "a.b.9"), Err(IndexError::TooManyRegistrations { limit: 2 }));
        assert_eq!(index.register(more, "a.b.0"), Ok(false), "the same again changes nothing");
    }
}
