//! Conditions, not sleeps.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use tokio::time::sleep;

/// Longer than anything takes that works, also on a machine with better things to do.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Looks every 50 ms until `state` has what `wanted` asks for, and gives it; fails with the last state after `limit`.
pub async fn eventually<T: Debug>(limit: Duration, wanted: impl Fn(&T) -> bool, state: impl AsyncFn() -> T) -> T {
    let started = Instant::now();
    loop {
        let now = state().await;
        if wanted(&now) {
            return now;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}; the last state was {now:#?}");
        sleep(Duration::from_millis(50)).await;
    }
}
