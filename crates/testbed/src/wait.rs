//! Waits for conditions, in place of sleeps.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use tokio::time::sleep;

/// Longer than any successful step takes, also on a machine under load.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Reads the state every 50 ms until `wanted` accepts it, and returns it. Fails with the last state after `limit`.
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
