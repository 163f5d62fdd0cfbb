//! How long the database has been of no use, and how long to wait before the next try.
//!
//! Only the success of an errand that asks as much of the database as the one that failed ends the trouble: between two
//! writes that are refused there is always a look that works.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::model::error_class::{ErrorClass, RetryCause};
use crate::model::operation::DbOperation;
use crate::model::record::Partition;
use crate::postgres::error::{classify, sqlstate_of};
use crate::postgres::retry::Backoff;

/// Since when the database refuses who we are or what we ask, and on which errand. All writers of a process share it:
/// what one of them was refused, another may be granted.
#[derive(Debug, Default)]
pub(crate) struct RefusedSince(Mutex<Option<(DbOperation, Instant)>>);

impl RefusedSince {
    /// Notes a refusal, and tells for how long it has been like that.
    pub(super) fn note(&self, errand: DbOperation, now: Instant) -> Duration {
        let mut refused = self.lock();
        let (greatest, since) = refused.map_or((errand, now), |(before, since)| (before.max(errand), since));
        *refused = Some((greatest, since));
        now.saturating_duration_since(since)
    }

    /// An errand was done.
    pub(super) fn done(&self, errand: DbOperation) {
        self.lock().take_if(|(refused, _)| errand >= *refused);
    }

    fn lock(&self) -> MutexGuard<'_, Option<(DbOperation, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often the batches of each partition met an error that nobody has classified, since its last commit. All writers
/// share it, and the traffic of other partitions does not touch it.
#[derive(Debug, Default)]
pub(crate) struct UnclassifiedErrors(Mutex<BTreeMap<Partition, u32>>);

impl UnclassifiedErrors {
    /// A batch met one.
    pub(super) fn met(&self, partition: Partition) {
        let mut times = self.lock();
        let times = times.entry(partition).or_default();
        *times = times.saturating_add(1);
    }

    /// A batch was committed.
    pub(super) fn committed(&self, partition: Partition) {
        self.lock().remove(&partition);
    }

    /// How often, for one partition.
    pub(super) fn times(&self, partition: Partition) -> u32 {
        self.lock().get(&partition).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Partition, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The waits of one writer.
#[derive(Debug)]
pub(super) struct RetryDelay {
    backoff: Backoff,
    with: Option<DbOperation>,
}

impl RetryDelay {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { backoff, with: None }
    }

    /// An errand failed: how long to wait.
    pub(super) fn wait(&mut self, errand: DbOperation, error: &sqlx::Error) -> Duration {
        self.with = self.with.max(Some(ended_by(errand, error)));
        self.backoff.wait()
    }

    /// An errand was done.
    pub(super) fn done(&mut self, errand: DbOperation) {
        if self.with.take_if(|failed| errand >= *failed).is_some() {
            self.backoff.reset();
        }
    }
}

/// The least errand whose success proves that the trouble is over.
pub(crate) fn ended_by(errand: DbOperation, error: &sqlx::Error) -> DbOperation {
    if is_of_the_connection(error) { DbOperation::ReadRows } else { errand }
}

/// The server was away, and is back as soon as it answers anything. A server that takes no writes was never away.
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
    fn a_look_that_works_between_refused_writes_does_not_shorten_the_waits() {
        let mut trouble = RetryDelay::new(Backoff::with_random(MILLI, 100 * MILLI, || 1.0));
        let mut wait = |errand, done| {
            trouble.done(done);
            trouble.wait(errand, &sqlx::Error::RowNotFound)
        };
        assert_eq!(wait(DbOperation::Write, DbOperation::ReadRows), MILLI);
        assert_eq!(wait(DbOperation::Write, DbOperation::ReadRows), 2 * MILLI);
        assert_eq!(wait(DbOperation::ReadRows, DbOperation::Claim), 4 * MILLI);
        assert_eq!(wait(DbOperation::ReadRows, DbOperation::Write), MILLI);
        assert_eq!(wait(DbOperation::Claim, DbOperation::ReadRows), MILLI);
        assert_eq!(wait(DbOperation::ReadRows, DbOperation::ReadRows), 2 * MILLI);
    }

    #[test]
    fn a_look_that_works_ends_the_trouble_of_a_broken_connection() {
        let mut trouble = RetryDelay::new(Backoff::with_random(MILLI, 100 * MILLI, || 1.0));
        for _ in 0..3 {
            assert_eq!(
                trouble.wait(DbOperation::Write, &sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into())),
                MILLI
            );
            trouble.done(DbOperation::ReadRows);
        }
    }

    #[test]
    fn a_refusal_lasts_until_as_much_is_granted_to_any_writer() {
        let (refused, start) = (RefusedSince::default(), Instant::now());
        let after = |millis: u32, errand| refused.note(errand, start + millis * MILLI);
        assert_eq!(after(0, DbOperation::Write), Duration::ZERO);
        refused.done(DbOperation::ReadRows);
        refused.done(DbOperation::Claim);
        assert_eq!(after(10, DbOperation::Write), 10 * MILLI);
        assert_eq!(after(20, DbOperation::ReadRows), 20 * MILLI);
        refused.done(DbOperation::Claim);
        assert_eq!(after(30, DbOperation::ReadRows), 30 * MILLI);
        refused.done(DbOperation::Write);
        assert_eq!(after(40, DbOperation::ReadRows), Duration::ZERO);
        refused.done(DbOperation::ReadRows);
        assert_eq!(after(50, DbOperation::ReadRows), Duration::ZERO);
    }
}
