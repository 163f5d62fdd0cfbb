//! The outcomes of records and batches, and their totals. Pure.

use crate::model::event::{Reason, Refusal};
use crate::model::sqlstate::SqlState;

/// The outcome of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordOutcome {
    /// The record has a new row, with this id. `COPY` returns no id.
    Stored(Option<i64>),
    /// A row with the same key and the same content existed.
    Duplicate,
    /// The event has a type that is not stored.
    Ignored,
    /// The record is in `dead_letters`.
    DeadLettered(DeadLetterCause),
}

/// Why a bulk insert of all events of a batch fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BulkFailure {
    /// The database refuses the row of an event.
    Refused,
    /// A row with a unique value of an event exists.
    Exists,
}

impl BulkFailure {
    /// Why a bulk insert fails at an event with this outcome. `None`: it does not.
    pub(crate) fn of_event(outcome: &RecordOutcome) -> Option<Self> {
        match outcome {
            RecordOutcome::Stored(_) | RecordOutcome::Ignored => None,
            RecordOutcome::Duplicate => Some(Self::Exists),
            RecordOutcome::DeadLettered(cause) => {
                let state = cause.sqlstate.as_deref().and_then(SqlState::parse);
                let exists =
                    cause.reason == Reason::ConflictingDuplicate || state.is_some_and(SqlState::is_unique_violation);
                Some(if exists { Self::Exists } else { Self::Refused })
            }
        }
    }
}

/// The outcome of one batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BatchOutcome {
    /// The fence refused the batch: another process claimed the partition, or an operator moved it.
    Fenced,
    /// The batch is committed. There is one outcome for each entry, in the order of the entries.
    Committed(Vec<RecordOutcome>),
    /// The batch is committed, and the partition is halted because of too many dead letters in a row.
    Halted(Vec<RecordOutcome>),
}

/// Why a record is a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterCause {
    /// The kind of fault.
    pub reason: Reason,
    /// The path of the faulty field.
    pub field: Option<&'static str>,
    /// One sentence for an operator, without content of the record.
    pub detail: String,
    /// The SQLSTATE, if the database refused the record.
    pub sqlstate: Option<String>,
    /// The violated constraint.
    pub constraint: Option<String>,
}

impl From<Refusal> for DeadLetterCause {
    fn from(refusal: Refusal) -> Self {
        Self { reason: refusal.reason, field: refusal.field, detail: refusal.detail, sqlstate: None, constraint: None }
    }
}

impl DeadLetterCause {
    /// Whether the same record can succeed later. If it can, the letter is retried. Otherwise it is parked at once.
    #[must_use]
    pub fn may_heal(&self) -> bool {
        let state = self.sqlstate.as_deref().and_then(SqlState::parse);
        self.reason == Reason::Unclassified || state.is_some_and(SqlState::may_heal)
    }
}

/// The number of records by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records with a new row.
    pub stored: u64,
    /// Records whose row existed with the same content.
    pub duplicates: u64,
    /// Events of a type that is not stored.
    pub ignored: u64,
    /// Records that became dead letters.
    pub dead_lettered: u64,
}

/// Counts the outcomes. The sum of the totals is the number of outcomes.
pub(crate) fn totals(outcomes: &[RecordOutcome]) -> Totals {
    let mut totals = Totals::default();
    for outcome in outcomes {
        *match outcome {
            RecordOutcome::Stored(_) => &mut totals.stored,
            RecordOutcome::Duplicate => &mut totals.duplicates,
            RecordOutcome::Ignored => &mut totals.ignored,
            RecordOutcome::DeadLettered(_) => &mut totals.dead_lettered,
        } += 1;
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_exists_is_another_bulk_failure_than_a_row_that_is_refused() {
        let letter = |reason, sqlstate: Option<&str>| {
            let cause = DeadLetterCause::from(Refusal { reason, field: None, detail: String::new() });
            RecordOutcome::DeadLettered(DeadLetterCause { sqlstate: sqlstate.map(str::to_owned), ..cause })
        };
        let check = |outcome, expected| assert_eq!(BulkFailure::of_event(&outcome), expected, "{outcome:?}");
        check(RecordOutcome::Stored(None), None);
        check(RecordOutcome::Duplicate, Some(BulkFailure::Exists));
        check(letter(Reason::ConflictingDuplicate, None), Some(BulkFailure::Exists));
        check(letter(Reason::DatabaseRejected, Some("23505")), Some(BulkFailure::Exists));
        check(letter(Reason::DatabaseRejected, Some("23514")), Some(BulkFailure::Refused));
        check(letter(Reason::DatabaseRejected, None), Some(BulkFailure::Refused));
    }
}
