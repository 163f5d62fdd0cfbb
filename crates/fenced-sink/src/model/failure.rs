//! The failure record of one partition: which database operation failed, since when, and how often. Pure: time is an
//! argument.
//!
//! The failure record decides the retry delay, whether the partition is written alone, whether the writer searches for
//! the record that causes the error, the end of the run, and what readiness reports. The invariant: only the partition
//! itself ends it, by a success, another position, a halt, a new assignment, or a minute without an attempt. So no
//! partition hides or prolongs the failure of another one.

use std::fmt;
use std::time::{Duration, Instant};

use crate::model::error_class::{ErrorClass, RetryCause};
use crate::model::operation::DbOperation;
use crate::model::record::{Position, Step};
use crate::model::sqlstate::SqlState;

/// After this number of unclassified errors in a row at one position, the writer looks for a record that causes them.
const UNCLASSIFIED_TIMES: u32 = 3;

/// A database operation for a partition that failed, as the writer reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The operation.
    pub operation: DbOperation,
    /// The class of the error.
    pub class: ErrorClass,
    /// The code of the error. `None`: the server did not report the error.
    pub sqlstate: Option<SqlState>,
    /// The text of the error. It can contain a value of a record.
    pub error: String,
    /// The offsets of the batch that was not committed.
    pub step: Option<Step>,
    /// The transaction also had batches of other partitions. One of them can be the cause.
    pub shared: bool,
}

/// The failures of one partition in a row.
#[derive(Clone, Debug)]
pub(crate) struct FailureRecord {
    last: Failure,
    /// The success of this operation, or of one that proves more, ends the failure.
    proof: DbOperation,
    /// The position of the last batch that failed.
    at: Option<Position>,
    since: Instant,
    last_at: Instant,
    times: u32,
    unclassified: u32,
    /// Since this instant the database has refused each operation, and a retry cannot help.
    refused_since: Option<Instant>,
}

impl FailureRecord {
    /// The failure record after one more failure.
    pub(crate) fn after(before: Option<Self>, now: Instant, failure: Failure) -> Self {
        // Another position: the earlier failures say nothing about it.
        let before = before.filter(|before| before.concerns(failure.position()));
        let (proof, at) = before.as_ref().map_or((failure.operation, None), |before| (before.proof, before.at));
        let refused = failure.refuses().then_some(now);
        let (since, times, unclassified, refused_before) = before.map_or((now, 0, 0, refused), |before| {
            (before.since, before.times, before.unclassified, before.refused_since)
        });
        Self {
            since,
            last_at: now,
            times: times.saturating_add(1),
            unclassified: if failure.class == ErrorClass::Unknown { unclassified.saturating_add(1) } else { 0 },
            refused_since: refused.and(refused_before.or(refused)),
            proof: proof.max(failure.operation),
            at: failure.position().or(at),
            last: failure,
        }
    }

    /// Whether the success of an operation ends the failure.
    pub(crate) fn is_ended_by(&self, operation: DbOperation) -> bool {
        operation >= self.proof
    }

    /// Whether no operation failed for so long that the failure says nothing about the database now. `pause` must be
    /// longer than each delay between two attempts.
    pub(crate) fn is_outdated(&self, now: Instant, pause: Duration) -> bool {
        now.saturating_duration_since(self.last_at) >= pause
    }

    /// Whether the failure can concern a partition at this position. A failure without a batch concerns each position.
    pub(crate) fn concerns(&self, position: Option<Position>) -> bool {
        self.at.zip(position).is_none_or(|(failed, now)| failed == now)
    }

    /// The number of failures in a row.
    pub(crate) fn times(&self) -> u32 {
        self.times
    }

    /// Whether a record of the batch may be the cause of errors without a class.
    pub(crate) fn suspects_a_record(&self) -> bool {
        self.unclassified >= UNCLASSIFIED_TIMES
    }

    /// Whether another transaction holds a lock. Then the wait for the lock was already a delay.
    pub(crate) fn is_contention(&self) -> bool {
        self.last.class == ErrorClass::Retry(RetryCause::Contention)
    }

    /// Since when the database has refused each operation of the partition. `None`: it did not, or a retry can help.
    pub(crate) fn refused_since(&self) -> Option<Instant> {
        self.refused_since
    }

    /// The failure record as observers see it.
    pub(crate) fn observed(&self, now: Instant) -> PartitionFailure {
        PartitionFailure {
            failure: self.last.clone(),
            lasts: now.saturating_duration_since(self.since),
            times: self.times,
        }
    }
}

impl Failure {
    fn position(&self) -> Option<Position> {
        self.step.map(Step::from)
    }

    /// Whether only an operator can end the failure, and no other partition can be the cause. An error that a record
    /// can cause counts too, because the records were tried one by one before.
    pub(crate) fn refuses(&self) -> bool {
        !self.shared && self.class.without_a_record() == ErrorClass::Operator
    }
}

/// The text of the cause, without a value of a record. The text of an error that a record can cause is left out: it can
/// come from a trigger or a constraint, and contain values of the row.
pub(crate) fn cause(class: ErrorClass, sqlstate: Option<SqlState>, error: &str) -> String {
    let text = if matches!(class, ErrorClass::Record | ErrorClass::Unknown) { None } else { Some(error.to_owned()) };
    let state = sqlstate.map(|state| format!("SQLSTATE {state}"));
    [state, text].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// The failures of one partition in a row, as observers see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFailure {
    /// The last failure.
    pub failure: Failure,
    /// The time since the first failure.
    pub lasts: Duration,
    /// The number of failures.
    pub times: u32,
}

/// The text has no value of a record.
impl fmt::Display for PartitionFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { operation, class, sqlstate, error, step, .. } = &self.failure;
        write!(f, "{} failed {} times in {} s", operation.as_str(), self.times, self.lasts.as_secs())?;
        if let Some(step) = step {
            write!(f, ", offsets {} to {}", step.from(), step.to().0.saturating_sub(1))?;
        }
        let cause = cause(*class, *sqlstate, error);
        if cause.is_empty() { Ok(()) } else { write!(f, ", {cause}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn failure(operation: DbOperation, class: ErrorClass, from: Option<i64>) -> Failure {
        let step = from.and_then(|from| Step::new(Position(from), Position(from + 10)));
        Failure {
            operation,
            class,
            sqlstate: SqlState::parse("42501"),
            error: "permission denied".to_owned(),
            step,
            shared: false,
        }
    }

    /// The record after these failures, one each second.
    fn record(failures: &[(DbOperation, ErrorClass, Option<i64>)]) -> (FailureRecord, Instant) {
        let (mut now, mut record) = (Instant::now(), None);
        for (operation, class, from) in failures {
            now += SECOND;
            record = Some(FailureRecord::after(record, now, failure(*operation, *class, *from)));
        }
        (record.unwrap(), now)
    }

    const CONNECTION: ErrorClass = ErrorClass::Retry(RetryCause::Connection);

    #[test]
    fn failures_at_one_position_count_and_another_position_begins_again() {
        use DbOperation::{Commit, ReadRow};
        let check = |failures: &[_], times, lasts, refused: Option<u32>| {
            let (record, now) = record(failures);
            let found = record.observed(now);
            assert_eq!((found.times, found.lasts), (times, lasts * SECOND), "{failures:?}");
            let refused_for = record.refused_since().map(|since| now - since);
            assert_eq!(refused_for, refused.map(|seconds| seconds * SECOND), "{failures:?}");
        };
        let refused = (Commit, ErrorClass::Operator, Some(5));
        check(&[refused], 1, 0, Some(0));
        check(&[refused, refused, refused], 3, 2, Some(2));
        check(&[refused, refused, (Commit, ErrorClass::Operator, Some(6))], 1, 0, Some(0));
        check(&[refused, (ReadRow, CONNECTION, None), refused], 3, 2, Some(0));
        check(&[refused, (Commit, CONNECTION, Some(5))], 2, 1, None);
        check(&[(Commit, ErrorClass::Unknown, Some(5)), refused], 2, 1, Some(1));
        let shared = Failure { shared: true, ..failure(Commit, ErrorClass::Operator, Some(5)) };
        let record = FailureRecord::after(None, Instant::now(), shared);
        assert_eq!(record.refused_since(), None, "another partition can be the cause");
    }

    #[test]
    fn a_failure_that_is_not_followed_by_another_one_becomes_outdated() {
        let (record, now) = record(&[(DbOperation::Commit, CONNECTION, Some(5)); 2]);
        assert!(!record.is_outdated(now + 59 * SECOND, 60 * SECOND));
        assert!(record.is_outdated(now + 60 * SECOND, 60 * SECOND));
    }

    #[test]
    fn only_a_success_that_proves_enough_ends_a_failure() {
        use DbOperation::{Claim, Commit, ReadRow, RecordGap};
        let check = |failures: &[DbOperation], ended_by: &[DbOperation]| {
            let failures: Vec<_> = failures.iter().map(|operation| (*operation, CONNECTION, None)).collect();
            let (record, _) = record(&failures);
            for operation in [ReadRow, Claim, RecordGap, Commit] {
                assert_eq!(record.is_ended_by(operation), ended_by.contains(&operation), "{failures:?} {operation:?}");
            }
        };
        check(&[ReadRow], &[ReadRow, Claim, RecordGap, Commit]);
        check(&[Claim], &[Claim, RecordGap, Commit]);
        check(&[RecordGap], &[RecordGap, Commit]);
        check(&[Commit], &[Commit]);
        check(&[Commit, ReadRow], &[Commit]);
    }

    #[test]
    fn three_unclassified_errors_in_a_row_make_a_record_suspect() {
        let check = |classes: &[ErrorClass], expected| {
            let failures: Vec<_> = classes.iter().map(|class| (DbOperation::Commit, *class, Some(5))).collect();
            assert_eq!(record(&failures).0.suspects_a_record(), expected, "{classes:?}");
        };
        check(&[ErrorClass::Unknown; 2], false);
        check(&[ErrorClass::Unknown; 3], true);
        check(&[ErrorClass::Unknown, ErrorClass::Unknown, CONNECTION, ErrorClass::Unknown], false);
    }

    #[test]
    fn the_text_names_the_operation_the_offsets_and_the_cause() {
        let (record, now) = record(&[(DbOperation::Commit, ErrorClass::Operator, Some(5)); 2]);
        let text = record.observed(now).to_string();
        assert_eq!(text, "commit failed 2 times in 1 s, offsets 5 to 14, SQLSTATE 42501: permission denied");
        let (record, now) = self::record(&[(DbOperation::Claim, ErrorClass::Unknown, None)]);
        assert_eq!(record.observed(now).to_string(), "claim failed 1 times in 0 s, SQLSTATE 42501");
    }
}
