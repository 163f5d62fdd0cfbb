//! The limit on log lines about single records. Pure: time is an argument.

use std::time::{Duration, Instant};

/// The number of lines about single records that may still be written in the current second.
///
/// A batch gets all its lines or none. With half of them, the other records would seem not to be stored.
#[derive(Debug)]
pub(crate) struct LineBudget {
    per_second: u32,
    left: u32,
    second: Option<Instant>,
    left_out: u64,
}

impl LineBudget {
    /// At most `per_second` lines per second; 0 = none.
    #[must_use]
    pub(crate) fn new(per_second: u32) -> Self {
        Self { per_second, left: 0, second: None, left_out: 0 }
    }

    /// Whether the lines of a batch may be written. If not, they count as left out.
    #[must_use]
    pub(crate) fn take(&mut self, lines: usize, now: Instant) -> bool {
        let over = |second: Instant| now.saturating_duration_since(second) >= Duration::from_secs(1);
        if self.second.is_none_or(over) {
            self.second = Some(now);
            self.left = self.per_second;
        }
        if let Some(left) = u32::try_from(lines).ok().and_then(|lines| self.left.checked_sub(lines)) {
            self.left = left;
            true
        } else {
            self.left_out = self.left_out.saturating_add(lines.try_into().unwrap_or(u64::MAX));
            false
        }
    }

    /// The number of lines left out since the last call, for the line of the batch.
    #[must_use]
    pub(crate) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rows of `(millisecond, lines, written)`, in order of time.
    fn check(per_second: u32, batches: &[(u64, usize, bool)]) {
        let start = Instant::now();
        let mut budget = LineBudget::new(per_second);
        for (millis, lines, written) in batches {
            let now = start + Duration::from_millis(*millis);
            assert_eq!(budget.take(*lines, now), *written, "{lines} lines at {millis} ms of {per_second} a second");
        }
    }

    #[test]
    fn a_batch_above_what_is_left_has_no_lines() {
        check(100, &[(0, 60, true), (1, 60, false), (2, 40, true), (3, 1, false)]);
        check(100, &[(0, 101, false), (1, 100, true)]);
    }

    #[test]
    fn each_second_has_its_own_limit() {
        check(100, &[(0, 100, true), (999, 1, false), (1_000, 100, true), (5_000, 100, true)]);
    }

    #[test]
    fn zero_is_none() {
        check(0, &[(0, 1, false), (2_000, 1, false), (3_000, 0, true)]);
    }

    #[test]
    fn what_is_left_out_is_counted_once() {
        let now = Instant::now();
        let mut budget = LineBudget::new(10);
        assert!(!budget.take(1_000, now));
        assert!(!budget.take(11, now));
        assert_eq!(budget.take_left_out(), 1_011);
        assert_eq!(budget.take_left_out(), 0);
    }

    proptest! {
        #[test]
        fn no_second_has_more_lines_than_its_cap(
            per_second in 0_u32..50,
            batches in proptest::collection::vec((0_u64..300, 0_usize..60), 0..50),
        ) {
            let start = Instant::now();
            let mut budget = LineBudget::new(per_second);
            prop_assert!(budget.take(0, start)); // here the budget's seconds and the test's start together
            let (mut at, mut window, mut written) = (0, 0, 0_usize);
            for (pause, lines) in batches {
                at += pause;
                if at - window >= 1_000 {
                    (window, written) = (at, 0);
                }
                if budget.take(lines, start + Duration::from_millis(at)) {
                    written += lines;
                }
                prop_assert!(written <= usize::try_from(per_second).unwrap());
            }
        }
    }
}
