//! How the rows are written, and for which errors a record can be the cause.

use crate::model::error_class::ErrorClass;
use crate::postgres::error::classify;

/// How the rows of a transaction are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteMode {
    /// One `COPY` writes all rows, and returns no ids. If it fails because of a record, the transaction is repeated in
    /// another mode.
    Copy,
    /// One statement inserts all rows. If it fails because of a record, the transaction is repeated in another mode.
    Bulk,
    /// A statement that compares each row. If a record is the cause of an error, the record becomes a dead letter.
    RowByRow,
    /// The same, but an unclassified error also makes its record a dead letter. For an error that occurred several
    /// times.
    Bisect,
}

impl WriteMode {
    /// Whether one statement writes all rows or none.
    pub(crate) fn is_bulk(self) -> bool {
        matches!(self, Self::Copy | Self::Bulk)
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

    fn check(error: &sqlx::Error, blaming: &[WriteMode]) {
        for mode in [WriteMode::Copy, WriteMode::Bulk, WriteMode::RowByRow, WriteMode::Bisect] {
            assert_eq!(mode.may_blame_a_record(error), blaming.contains(&mode), "{mode:?} {error:?}");
        }
    }

    #[test]
    fn only_a_record_error_blames_a_record_in_each_mode() {
        let all = [WriteMode::Copy, WriteMode::Bulk, WriteMode::RowByRow, WriteMode::Bisect];
        check(&sqlx::Error::Encode("too large".into()), &all);
        check(&sqlx::Error::WorkerCrashed, &[WriteMode::Copy, WriteMode::Bulk, WriteMode::Bisect]);
        check(&sqlx::Error::Configuration("no host".into()), &[]);
        check(&sqlx::Error::Protocol(String::new()), &[]);
        check(&sqlx::Error::PoolTimedOut, &[]);
    }
}
