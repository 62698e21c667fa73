//! Subscribers with a filter each, of whom some are hit: for the benchmarks of filters.

use hydrant::index::{Class, Index, Limits};

pub(super) const SUBSCRIBERS: usize = 1_000;

/// A thousand subscribers of `machines.update.*`. Each has a filter of its own that every event reaches; that of
/// `percent` of them is true.
pub(super) fn index(percent: usize) -> Index<usize> {
    let mut index = Index::new(Limits::default());
    for n in 0..SUBSCRIBERS {
        let stage = if n % 100 < percent { "discover" } else { "local" };
        let slot = index.subscribe(n, Class(0));
        let spec = format!("machines.update.*.And(Stage=Ne({stage}),Field{}=Exists(),Params.p{n}=Ne(1))", n % 40);
        index.register(slot, &spec).expect("a good registration");
    }
    index
}
