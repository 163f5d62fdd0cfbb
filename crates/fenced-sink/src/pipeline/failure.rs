//! Three counters of failures: how long the database refuses the service, how often a partition met an unclassified
//! error, and how long a writer waits before its next task.
//!
//! A successful operation proves only that the database can do such an operation: between two refused writes there is
//! always a row read that succeeds.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::error_class::{ErrorClass, RetryCause};
use crate::model::operation::DbOperation;
use crate::model::record::Partition;
use crate::postgres::error::{classify, sqlstate_of};
use crate::postgres::retry::Backoff;

/// The time of the first refusal by the database, and the most demanding operation that it refused. The writers of a
/// process share this: the database may grant to one writer what it refuses to another.
#[derive(Debug, Default)]
pub(crate) struct RefusedSince(Mutex<Option<(DbOperation, Instant)>>);

impl RefusedSince {
    /// An operation was refused. Returns the time since the first refusal.
    pub(super) fn failed(&self, operation: DbOperation, now: Instant) -> Duration {
        let mut refused = self.lock();
        let (greatest, since) = refused.map_or((operation, now), |(before, since)| (before.max(operation), since));
        *refused = Some((greatest, since));
        now.saturating_duration_since(since)
    }

    /// An operation succeeded. The refusals end if it was as demanding as the most demanding refused operation.
    pub(super) fn succeeded(&self, operation: DbOperation) {
        self.lock().take_if(|(refused, _)| operation >= *refused);
    }

    fn lock(&self) -> MutexGuard<'_, Option<(DbOperation, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The number of unclassified errors of each partition since its last commit. The writers share it.
#[derive(Debug, Default)]
pub(crate) struct UnclassifiedErrors(Mutex<BTreeMap<Partition, u32>>);

impl UnclassifiedErrors {
    /// A batch of the partition met an unclassified error.
    pub(super) fn met(&self, partition: Partition) {
        let mut times = self.lock();
        let times = times.entry(partition).or_default();
        *times = times.saturating_add(1);
    }

    /// A batch of the partition was committed.
    pub(super) fn committed(&self, partition: Partition) {
        self.lock().remove(&partition);
    }

    /// The count of the partition.
    pub(super) fn times(&self, partition: Partition) -> u32 {
        self.lock().get(&partition).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Partition, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The retry delay of one writer.
#[derive(Debug)]
pub(super) struct RetryDelay {
    backoff: Backoff,
    /// The operation whose success ends the failures.
    until: Option<DbOperation>,
}

impl RetryDelay {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { backoff, until: None }
    }

    /// An operation failed, and the success of `proof` would end the failure. Returns the time to wait.
    pub(super) fn failed(&mut self, proof: DbOperation) -> Duration {
        self.until = self.until.max(Some(proof));
        self.backoff.wait()
    }

    /// An operation succeeded.
    pub(super) fn succeeded(&mut self, operation: DbOperation) {
        if self.until.take_if(|proof| operation >= *proof).is_some() {
            self.backoff.reset();
        }
    }
}

/// The least demanding operation whose success proves that the cause of the error no longer exists.
pub(crate) fn proof_of_recovery(operation: DbOperation, error: &sqlx::Error) -> DbOperation {
    if is_of_the_connection(error) { DbOperation::ReadRows } else { operation }
}

/// Whether the server was unreachable: then any answer proves that it is reachable again. A read-only server was never
/// unreachable.
fn is_of_the_connection(error: &sqlx::Error) -> bool {
    let read_only = sqlstate_of(error).is_some_and(|state| state.as_str() == "25006");
    let broken = ErrorClass::Retry(RetryCause::Connection);
    !read_only
        && [broken, ErrorClass::Retry(RetryCause::Shutdown), ErrorClass::NewConnection].contains(&classify(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn a_row_read_between_refused_writes_does_not_shorten_the_delay() {
        let mut delay = RetryDelay::new(Backoff::with_random(MILLI, 100 * MILLI, || 1.0));
        let mut wait = |operation, done| {
            delay.succeeded(done);
            delay.failed(operation)
        };
        assert_eq!(wait(DbOperation::Write, DbOperation::ReadRows), MILLI);
        assert_eq!(wait(DbOperation::Write, DbOperation::ReadRows), 2 * MILLI);
        assert_eq!(wait(DbOperation::ReadRows, DbOperation::Claim), 4 * MILLI);
        assert_eq!(wait(DbOperation::ReadRows, DbOperation::Write), MILLI);
        assert_eq!(wait(DbOperation::Claim, DbOperation::ReadRows), MILLI);
        assert_eq!(wait(DbOperation::ReadRows, DbOperation::ReadRows), 2 * MILLI);
    }

    #[test]
    fn a_row_read_proves_that_a_broken_connection_is_back() {
        let broken = sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into());
        let proof = proof_of_recovery(DbOperation::Write, &broken);
        let mut delay = RetryDelay::new(Backoff::with_random(MILLI, 100 * MILLI, || 1.0));
        for _ in 0..3 {
            assert_eq!(delay.failed(proof), MILLI);
            delay.succeeded(DbOperation::ReadRows);
        }
    }

    #[test]
    fn a_refusal_lasts_until_an_operation_that_asks_as_much_succeeds() {
        let (refused, start) = (RefusedSince::default(), Instant::now());
        let after = |millis: u32, operation| refused.failed(operation, start + millis * MILLI);
        assert_eq!(after(0, DbOperation::Write), Duration::ZERO);
        refused.succeeded(DbOperation::ReadRows);
        refused.succeeded(DbOperation::Claim);
        assert_eq!(after(10, DbOperation::Write), 10 * MILLI);
        assert_eq!(after(20, DbOperation::ReadRows), 20 * MILLI);
        refused.succeeded(DbOperation::Claim);
        assert_eq!(after(30, DbOperation::ReadRows), 30 * MILLI);
        refused.succeeded(DbOperation::Write);
        assert_eq!(after(40, DbOperation::ReadRows), Duration::ZERO);
        refused.succeeded(DbOperation::ReadRows);
        assert_eq!(after(50, DbOperation::ReadRows), Duration::ZERO);
    }
}
