//! How long to wait before the next attempt. The only file that names the `backoff` crate.
//!
//! The longest wait doubles up to a limit. Each wait is a random part of it ("full jitter"), so that instances that
//! lost the database at the same moment do not reconnect at the same moment.

use backoff::{ExponentialBackoff, backoff::Backoff as _};
use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// Exponential backoff with full jitter. `Random` returns numbers from 0 to 1.
#[derive(Debug)]
pub struct Backoff<Random = fn() -> f64> {
    longest: ExponentialBackoff,
    random: Random,
}

impl Backoff {
    /// Waits of at most `initial`, then at most twice that, and so on up to `max`.
    #[must_use]
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self::with_random(initial, max, random)
    }
}

impl<Random: FnMut() -> f64> Backoff<Random> {
    /// The same with another source of random numbers.
    #[must_use]
    pub fn with_random(initial: Duration, max: Duration, random: Random) -> Self {
        let longest = ExponentialBackoff {
            current_interval: initial,
            initial_interval: initial,
            max_interval: max,
            multiplier: 2.0,
            randomization_factor: 0.0, // the crate's jitter is around the interval, ours is between 0 and the interval
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Self { longest, random }
    }

    /// The wait before the next attempt. Each call counts as one failure.
    pub fn wait(&mut self) -> Duration {
        // Without `max_elapsed_time` the crate always returns a wait.
        let longest = self.longest.next_backoff().unwrap_or(self.longest.max_interval);
        longest.min(self.longest.max_interval).mul_f64((self.random)().clamp(0.0, 1.0))
    }

    /// Call it after a success: the next failure starts with the initial wait.
    pub fn reset(&mut self) {
        self.longest.reset();
    }
}

/// The delays of retries whose number of failures is stored elsewhere, such as those of a partition or a dead letter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryDelays {
    /// The longest wait after the first failure. It doubles with each failure.
    pub(crate) initial: Duration,
    /// No wait is longer.
    pub(crate) max: Duration,
    /// Returns numbers from 0 to 1.
    pub(crate) random: fn() -> f64,
}

impl RetryDelays {
    pub(crate) fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, random }
    }

    /// The wait after this number of failures: between half of the longest wait and all of it.
    #[must_use]
    pub(crate) fn wait_after(&self, failures: u32) -> Duration {
        let mut backoff = Backoff::with_random(self.initial, self.max, || 1.0);
        // After 64 doublings the wait has reached any bound.
        let wait = (0..failures.clamp(1, 64)).map(|_| backoff.wait()).last().unwrap_or(self.initial);
        wait.mul_f64(0.5 + (self.random)().clamp(0.0, 1.0) / 2.0)
    }
}

/// Each `RandomState` has its own random keys, so the hash of any fixed value is a random number.
fn random() -> f64 {
    let bits = RandomState::new().hash_one(());
    f64::from(u32::try_from(bits >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INITIAL: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(30);

    fn check(random: f64, expected_millis: &[u64]) {
        let mut backoff = Backoff::with_random(INITIAL, MAX, || random);
        let waits: Vec<_> = expected_millis.iter().map(|_| backoff.wait()).collect();
        assert_eq!(waits, expected_millis.iter().copied().map(Duration::from_millis).collect::<Vec<_>>());
    }

    #[test]
    fn the_longest_wait_doubles_up_to_the_bound_and_stays_there() {
        check(1.0, &[100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000, 30_000]);
    }

    #[test]
    fn a_wait_is_any_part_of_the_longest() {
        check(0.5, &[50, 100, 200, 400]);
        check(0.0, &[0, 0, 0]);
    }

    #[test]
    fn the_waits_never_end() {
        let mut backoff = Backoff::with_random(INITIAL, MAX, || 1.0);
        assert!((0..10_000).map(|_| backoff.wait()).skip(10).all(|wait| wait == MAX));
    }

    #[test]
    fn a_success_starts_with_the_initial_wait_again() {
        let mut backoff = Backoff::with_random(INITIAL, MAX, || 1.0);
        for _ in 0..5 {
            backoff.wait();
        }
        backoff.reset();
        assert_eq!(backoff.wait(), INITIAL);
    }

    #[test]
    fn two_instances_have_different_waits() {
        let waits = || {
            let mut backoff = Backoff::new(INITIAL, MAX);
            (0..8).map(|_| backoff.wait()).collect::<Vec<_>>()
        };
        assert_ne!(waits(), waits());
    }

    #[test]
    fn a_wait_after_failures_is_at_least_half_of_the_longest() {
        for (failures, longest) in
            [(0, 100), (1, 100), (2, 200), (5, 1_600), (9, 25_600), (10, 30_000), (u32::MAX, 30_000)]
        {
            let wait = RetryDelays::new(INITIAL, MAX).wait_after(failures);
            let longest = Duration::from_millis(longest);
            assert!(wait >= longest / 2 && wait <= longest, "{failures}: {wait:?}");
        }
    }

    proptest! {
        #[test]
        fn no_wait_is_longer_than_the_bound(initial in 1_u64..60_000, max in 1_u64..60_000, tries in 1_usize..50) {
            let (initial, max) = (Duration::from_millis(initial), Duration::from_millis(max));
            let mut backoff = Backoff::new(initial, max);
            prop_assert!((0..tries).all(|_| backoff.wait() <= max));
        }
    }
}
