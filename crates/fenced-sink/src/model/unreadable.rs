//! How far a damaged part of a partition log reaches. Pure: the caller reads, and reports what a read proved.

use crate::model::record::Position;

/// This many positions are tried one by one before the stride grows.
const ONE_BY_ONE: u32 = 32;

/// The search for the first readable position of a partition log at or above a position.
///
/// Kafka delivers a batch as a whole or not at all, and only the damaged bytes contain the end of the batch. So the
/// search first tries one position after the other: that finds a readable batch between two damaged ones. Then it
/// doubles the stride until it finds a readable position. Then it searches the last stride by bisection.
///
/// The invariant: only a proven answer moves the search. After a read without an answer, the same position is read
/// again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DamageSearch {
    from: Position,
    /// The highest position that is proven unreadable. `None`: `from` is not proven unreadable.
    unreadable: Option<Position>,
    /// The lowest position that is proven readable, or the end of the partition log.
    readable: Position,
    tries: u32,
    stride: i64,
}

impl DamageSearch {
    /// Nothing is proven yet. At the end of the partition log there is nothing to read, so the search has ended there.
    pub(crate) fn new(from: Position, end: Position) -> Self {
        Self { from, unreadable: None, readable: end.max(from), tries: 0, stride: 1 }
    }

    /// Where the search began.
    pub(crate) fn from(&self) -> Position {
        self.from
    }

    /// Whether the position where the search began is proven unreadable.
    pub(crate) fn is_damaged(&self) -> bool {
        self.unreadable.is_some()
    }

    /// The position to read next. `None`: the search has ended, see [`Self::readable`].
    pub(crate) fn next(&self) -> Option<Position> {
        let Some(Position(unreadable)) = self.unreadable else {
            return (self.from < self.readable).then_some(self.from);
        };
        let left = self.readable.0.saturating_sub(unreadable);
        let step = if self.stride == 1 { 1 } else { self.stride.min(left / 2) };
        (left > 1).then(|| Position(unreadable.saturating_add(step)))
    }

    /// A read at this position proved that it is readable, or that it is not. Another position than [`Self::next`]
    /// proves nothing.
    pub(crate) fn proven(&mut self, at: Position, readable: bool) {
        if self.next() != Some(at) {
            return;
        }
        let first = at == self.from;
        if readable {
            self.readable = at;
        } else {
            self.unreadable = Some(at);
        }
        if !first {
            self.tries = self.tries.saturating_add(1);
        }
        if !first && !readable && self.tries >= ONE_BY_ONE {
            self.stride = self.stride.saturating_mul(2);
        }
    }

    /// The first readable position, after the search has ended. If nothing is readable, it is the end.
    pub(crate) fn readable(&self) -> Position {
        self.readable
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;

    const END: Position = Position(1_000_000);

    /// These positions are damaged; the search begins at 10.
    fn check(damaged: &[RangeInclusive<i64>], expected: i64, reads_at_most: usize) {
        let (mut search, mut reads) = (DamageSearch::new(Position(10), END), 0);
        while let Some(at) = search.next() {
            reads += 1;
            // A read without an answer, and a late answer, move nothing.
            let before = search;
            search.proven(Position(at.0 + 1), true);
            search.proven(Position(at.0 - 1), false);
            assert_eq!(search, before);
            search.proven(at, !damaged.iter().any(|range| range.contains(&at.0)));
        }
        assert_eq!(search.readable(), Position(expected), "{damaged:?}");
        assert_eq!(search.is_damaged(), expected > 10);
        assert!(reads <= reads_at_most, "{reads} reads for {damaged:?}");
    }

    #[test]
    fn the_search_ends_at_the_first_readable_position() {
        check(&[], 10, 1);
        check(&[10..=10], 11, 2);
        check(&[10..=14], 15, 6);
        check(&[10..=14, 16..=20], 15, 6);
        check(&[10..=70_000], 70_001, 81);
        check(&[10..=1_000_000], 1_000_000, 81);
    }

    #[test]
    fn nothing_is_read_at_or_above_the_end() {
        assert_eq!(DamageSearch::new(Position(10), Position(10)).next(), None);
        let mut search = DamageSearch::new(Position(10), Position(11));
        search.proven(Position(10), false);
        assert_eq!((search.next(), search.readable()), (None, Position(11)));
    }
}
