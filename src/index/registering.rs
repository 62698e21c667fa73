//! Registers and deregisters: checks limits and keeps the counts.
//!
//! Contract: see the [index](super). A refused registration changes nothing.

use super::error::check_size;
use super::{Index, IndexError, Slot, Spec, small};

impl<S: Copy> Index<S> {
    /// Registers `text` for a subscriber. Returns whether it is new: registering the same text again changes nothing.
    ///
    /// # Errors
    /// [`IndexError`]; nothing has changed then.
    pub fn register(&mut self, slot: Slot, text: &str) -> Result<bool, IndexError> {
        if !self.is_new(slot, text)? {
            return Ok(false);
        }
        let spec = Spec::parse(text, &self.limits.filter)?;
        self.enter(slot, text, &spec).map(|()| true)
    }

    /// Returns whether a subscriber has registered exactly this text.
    pub fn is_registered(&self, slot: Slot, text: &str) -> bool {
        self.subscribers[slot.0 as usize].as_ref().is_some_and(|subscriber| subscriber.registrations.contains(text))
    }

    /// Returns whether `text` would be a new registration.
    ///
    /// # Errors
    /// [`IndexError::TooManyRegistrations`] at the limit, or an error if the texts of all registrations would be too
    /// long.
    pub fn is_new(&self, slot: Slot, text: &str) -> Result<bool, IndexError> {
        let Some(subscriber) = &self.subscribers[slot.0 as usize] else { return Ok(false) };
        let (limit, count) = (subscriber.most as usize, subscriber.registrations.len());
        let is_new = !subscriber.registrations.contains(text);
        if is_new && count >= limit {
            return Err(IndexError::TooManyRegistrations { limit });
        }
        if is_new {
            self.check_text(slot, text)?;
        }
        Ok(is_new)
    }

    /// Registers a `text` that is new and was parsed as `spec`.
    ///
    /// # Errors
    /// [`IndexError`]; nothing has changed then.
    pub fn enter(&mut self, slot: Slot, text: &str, spec: &Spec) -> Result<(), IndexError> {
        let limits = self.limits;
        let subscriber = self.subscriber(slot);
        check_size(spec.combinations(), subscriber.combinations as usize, &limits)?;
        let class = subscriber.class;
        let filter_bytes = self.check_filter(slot, spec)?;
        self.subscriber(slot).combinations += small(spec.combinations());
        let registration = self.join(slot, class, spec, filter_bytes);
        self.watch(slot, spec, &registration);
        self.count_filter(slot, registration.bytes(), usize::wrapping_add);
        self.count_text(slot, text.len(), usize::wrapping_add);
        self.subscriber(slot).registrations.insert(text.into(), registration);
        self.registrations += 1;
        Ok(())
    }

    /// Removes the registration with exactly this text.
    ///
    /// # Errors
    /// [`IndexError::NotRegistered`], or [`IndexError::Spec`] if the text has fewer than three parts. The text is
    /// looked up without parsing its filter, so deregistering a text that is not registered costs no more than the
    /// lookup.
    pub fn deregister(&mut self, slot: Slot, text: &str) -> Result<(), IndexError> {
        let limits = self.limits;
        let subscriber = self.subscriber(slot);
        let Some(registration) = subscriber.registrations.remove(text) else {
            if text.matches('.').take(2).count() < 2 {
                Spec::parse(text, &limits.filter)?;
            }
            return Err(IndexError::NotRegistered { spec: text.chars().take(128).collect() });
        };
        let (combinations, expanded) = (self.combinations(&registration), self.entries(&registration));
        let subscriber = self.subscriber(slot);
        subscriber.combinations -= small(combinations);
        subscriber.expanded -= small(expanded);
        self.unwatch(slot, &registration);
        self.count_filter(slot, registration.bytes(), usize::wrapping_sub);
        self.count_text(slot, text.len(), usize::wrapping_sub);
        self.registrations -= 1;
        self.leave(&registration);
        Ok(())
    }
}
