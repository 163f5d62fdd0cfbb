//! How the rows are written, and for which errors a record can be the cause.

use sqlx::error::DatabaseError;

use crate::model::error_class::ErrorClass;
use crate::postgres::error::classify;

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
    /// The mode in which the transaction is repeated after this error. `None`: no record is the cause, or this mode itself
    /// finds it.
    pub(crate) fn after(self, error: &sqlx::Error) -> Option<Self> {
        let exists = error.as_database_error().is_some_and(DatabaseError::is_unique_violation);
        match self {
            Self::Copy | Self::CopyMissing | Self::Bulk if !self.may_blame_a_record(error) => None,
            Self::Copy if exists => Some(Self::CopyMissing),
            Self::Copy | Self::CopyMissing | Self::Bulk => Some(Self::RowByRow),
            Self::RowByRow | Self::Bisect => None,
        }
    }

    /// Whether one of the records may be the cause of the error. If so, this mode or the next one must find it.
    ///
    /// In a bulk mode an unclassified error counts, too: the next mode decides.
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
        assert_eq!(ALL.map(|mode| mode.after(&sqlx::Error::WorkerCrashed)), [finds, finds, finds, None, None]);
        assert_eq!(ALL.map(|mode| mode.after(&sqlx::Error::PoolTimedOut)), [None; 5]);
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
