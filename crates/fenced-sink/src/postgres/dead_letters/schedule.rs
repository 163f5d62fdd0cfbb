//! When a dead letter is tried again.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::model::outcome::DeadLetterCause;
use crate::postgres::retry::RetryDelays;

/// When a dead letter is tried again, if a retry may succeed.
#[derive(Clone, Copy, Debug)]
pub struct RetrySchedule {
    /// The maximum number of attempts, the first failure included.
    pub max_attempts: NonZeroU32,
    /// The first wait.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Default for RetrySchedule {
    fn default() -> Self {
        Self {
            max_attempts: NonZeroU32::MIN.saturating_add(4),
            initial: Duration::from_secs(1),
            max: Duration::from_mins(5),
        }
    }
}

impl RetrySchedule {
    /// The wait after this number of failures. `None`: no retry, an operator must decide.
    #[must_use]
    pub fn wait(&self, cause: &DeadLetterCause, failures: u32) -> Option<Duration> {
        let retries = cause.may_heal() && failures < self.max_attempts.get();
        retries.then(|| RetryDelays::new(self.initial, self.max).wait_after(failures))
    }
}
