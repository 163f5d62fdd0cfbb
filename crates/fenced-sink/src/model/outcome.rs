//! What became of records and of batches. Pure.

use crate::model::event::{Reason, Refusal};
use crate::model::sqlstate::SqlState;

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordOutcome {
    /// A new row, with its id.
    Stored(i64),
    /// The row was there.
    Duplicate,
    /// Not an event of ours.
    Ignored,
    /// It is in `dead_letters`.
    DeadLettered(DeadLetterCause),
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BatchOutcome {
    /// The fence was missed: the partition is somebody else's, or somewhere else.
    Fenced,
    /// Committed; one outcome for each entry, in order.
    Committed(Vec<RecordOutcome>),
    /// The same, and the breaker has halted the partition.
    Halted(Vec<RecordOutcome>),
}

/// Why a record is a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterCause {
    /// What kind of fault it is.
    pub reason: Reason,
    /// The path of the field at fault.
    pub field: Option<&'static str>,
    /// One sentence, without any of the record's content.
    pub detail: String,
    /// What Postgres refused it with.
    pub sqlstate: Option<String>,
    /// The constraint that it broke.
    pub constraint: Option<String>,
}

impl From<Refusal> for DeadLetterCause {
    fn from(refusal: Refusal) -> Self {
        Self { reason: refusal.reason, field: refusal.field, detail: refusal.detail, sqlstate: None, constraint: None }
    }
}

impl DeadLetterCause {
    /// Whether the same bytes may succeed later: the row that it refers to may come, a trigger may change its mind, and
    /// what nobody has classified may pass.
    #[must_use]
    pub fn may_heal(&self) -> bool {
        let state = self.sqlstate.as_deref().and_then(SqlState::parse);
        self.reason == Reason::Unclassified || state.is_some_and(SqlState::may_heal)
    }
}

/// What became of the records of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// New rows.
    pub stored: u64,
    /// Rows that were there, with the same content.
    pub duplicates: u64,
    /// Events of another type.
    pub ignored: u64,
    /// Records that went into `dead_letters`.
    pub dead_lettered: u64,
}

/// Counts outcomes by kind; they add up to the records handled.
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
