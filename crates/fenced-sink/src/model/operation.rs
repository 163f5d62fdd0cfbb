//! The kinds of database operations, ordered by what they prove. Pure.

/// A database operation of a writer.
///
/// The order has a meaning: an operation that succeeds proves that the database can do every operation listed before
/// it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DbOperation {
    /// Reads rows of `consumer_offsets`.
    ReadRows,
    /// Writes one row of `consumer_offsets`.
    Claim,
    /// Writes all tables.
    Write,
}
