//! How far a damaged part of a partition log reaches. Pure: the caller reads.

use crate::model::record::Position;

/// This many positions are tried one by one before the stride grows.
const ONE_BY_ONE: u32 = 32;

/// Returns the first readable position above `unreadable`, or `end` if there is none below it.
///
/// Kafka delivers a batch as a whole or not at all, and only the damaged bytes contain the end of the batch. So the
/// search first tries one position after the other: that finds a readable batch between two damaged ones. Then it
/// doubles the stride until it finds a readable position. Then it searches the last stride by bisection.
///
/// # Errors
/// `is_readable` failed.
pub(crate) fn first_readable<E>(
    unreadable: Position,
    end: Position,
    mut is_readable: impl FnMut(Position) -> Result<bool, E>,
) -> Result<Position, E> {
    let (mut unreadable, mut readable, mut tries, mut stride) = (unreadable.0, end.0, 0, 1);
    while readable.saturating_sub(unreadable) > 1 {
        let middle = unreadable.saturating_add(readable.saturating_sub(unreadable) / 2);
        let next =
            if stride == 1 { unreadable.saturating_add(1) } else { middle.min(unreadable.saturating_add(stride)) };
        tries += 1;
        if is_readable(Position(next))? {
            readable = next;
        } else {
            unreadable = next;
            stride = if tries < ONE_BY_ONE { 1 } else { stride.saturating_mul(2) };
        }
    }
    Ok(Position(readable))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::ops::RangeInclusive;

    use super::*;

    /// Position 10 is damaged, and so are these; the partition log ends at 1,000,000.
    fn check(damaged: &[RangeInclusive<i64>], expected: i64, tries_at_most: usize) {
        let mut tries = 0;
        let is_readable = |at: Position| {
            tries += 1;
            Ok::<_, Infallible>(!damaged.iter().any(|range| range.contains(&at.0)))
        };
        let Ok(found) = first_readable(Position(10), Position(1_000_000), is_readable);
        assert_eq!(found, Position(expected), "{damaged:?}");
        assert!(tries <= tries_at_most, "{tries} tries for {damaged:?}");
    }

    #[test]
    fn the_search_ends_at_the_first_readable_position() {
        check(&[], 11, 1);
        check(&[11..=14], 15, 5);
        check(&[11..=14, 16..=20], 15, 5);
        check(&[11..=70_000], 70_001, 80);
        check(&[11..=1_000_000], 1_000_000, 80);
    }

    #[test]
    fn nothing_is_read_at_or_above_the_end() {
        let found = first_readable(Position(10), Position(11), |_| Err("read"));
        assert_eq!(found, Ok(Position(11)));
    }
}
