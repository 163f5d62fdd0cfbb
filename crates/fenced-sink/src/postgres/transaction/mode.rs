//! How the rows are written, and for which errors a record can be the cause.

use crate::model::error_class::ErrorClass;
use crate::model::outcome::BulkFailure;
use crate::model::sqlstate::SqlState;
use crate::postgres::error::{classify, sqlstate_of};

/// How the rows of a transaction are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteMode {
    /// One `COPY` writes all rows, and returns no ids.
    Copy,
    /// The same, but only for the events whose key has no row. The others are compared with their row.
    CopyMissing,
    /// One statement inserts all rows.
    Bulk,
    /// A statement that compares each row. If a record is the cause of an error, the record becomes a dead letter.
    RowByRow,
    /// The same, but an unclassified error also makes its record a dead letter. For an error that occurred several
    /// times.
    Bisect,
}

impl WriteMode {
    /// The mode in which a transaction is written first. `bulk_failure`: of one of the last batches.
    pub(crate) fn first(copy: bool, bulk_failure: Option<BulkFailure>) -> Self {
        match (copy, bulk_failure) {
            // A copy that fails costs less than to write each of the next batches row by row.
            (true, None | Some(BulkFailure::Refused)) => Self::Copy,
            (true, Some(BulkFailure::Exists)) => Self::CopyMissing,
            (false, None) => Self::Bulk,
            (false, Some(_)) => Self::RowByRow,
        }
    }

    /// The mode in which the transaction is repeated after this error. `None`: no record is the cause, or this mode itself
    /// finds it.
    pub(crate) fn after(self, error: &sqlx::Error) -> Option<Self> {
        let exists = sqlstate_of(error).is_some_and(SqlState::is_unique_violation);
        self.may_blame_a_record(error).then(|| self.after_record_error(exists)).flatten()
    }

    /// `exists`: the error is that a row exists.
    fn after_record_error(self, exists: bool) -> Option<Self> {
        match self {
            Self::Copy if exists => Some(Self::CopyMissing),
            Self::Copy | Self::CopyMissing | Self::Bulk => Some(Self::RowByRow),
            Self::RowByRow | Self::Bisect => None,
        }
    }

    /// Whether one of the records may be the cause of the error. If so, this mode or the one that follows must find it.
    ///
    /// In a bulk mode an unclassified error counts, too: the mode that follows decides.
    pub(crate) fn may_blame_a_record(self, error: &sqlx::Error) -> bool {
        match classify(error) {
            ErrorClass::Record => true,
            ErrorClass::Unknown => self != Self::RowByRow,
            ErrorClass::Retry(_)
            | ErrorClass::TooSlow
            | ErrorClass::NewConnection
            | ErrorClass::Operator
            | ErrorClass::Corrupt => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [WriteMode; 5] =
        [WriteMode::Copy, WriteMode::CopyMissing, WriteMode::Bulk, WriteMode::RowByRow, WriteMode::Bisect];

    #[test]
    fn a_bulk_mode_is_followed_by_one_that_finds_the_record() {
        let (refused, finds) = (sqlx::Error::Encode("too large".into()), Some(WriteMode::RowByRow));
        assert_eq!(ALL.map(|mode| mode.after(&refused)), [finds, finds, finds, None, None]);
        let compares = Some(WriteMode::CopyMissing);
        assert_eq!(ALL.map(|mode| mode.after_record_error(true)), [compares, finds, finds, None, None]);
        assert_eq!(ALL.map(|mode| mode.after(&sqlx::Error::WorkerCrashed)), [finds, finds, finds, None, None]);
        assert_eq!(ALL.map(|mode| mode.after(&sqlx::Error::PoolTimedOut)), [None; 5]);
    }

    #[test]
    fn a_key_that_exists_leads_to_the_look_up_of_the_next_large_batches_and_a_refused_row_does_not() {
        let first = |copy| {
            [None, Some(BulkFailure::Refused), Some(BulkFailure::Exists)]
                .map(|bulk_failure| WriteMode::first(copy, bulk_failure))
        };
        assert_eq!(first(true), [WriteMode::Copy, WriteMode::Copy, WriteMode::CopyMissing]);
        assert_eq!(first(false), [WriteMode::Bulk, WriteMode::RowByRow, WriteMode::RowByRow]);
    }

    fn check(error: &sqlx::Error, blaming: &[WriteMode]) {
        for mode in ALL {
            assert_eq!(mode.may_blame_a_record(error), blaming.contains(&mode), "{mode:?} {error:?}");
        }
    }

    #[test]
    fn only_a_record_error_blames_a_record_in_each_mode() {
        check(&sqlx::Error::Encode("too large".into()), &ALL);
        let unclassified = [WriteMode::Copy, WriteMode::CopyMissing, WriteMode::Bulk, WriteMode::Bisect];
        check(&sqlx::Error::WorkerCrashed, &unclassified);
        check(&sqlx::Error::Configuration("no host".into()), &[]);
        check(&sqlx::Error::Protocol(String::new()), &[]);
        check(&sqlx::Error::PoolTimedOut, &[]);
    }
}
