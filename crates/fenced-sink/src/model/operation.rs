//! The kinds of database operations for a partition, ordered by what they prove. Pure.

/// A database operation of a writer.
///
/// The order has a meaning: an operation that succeeds for a partition proves that the database can do every operation
/// listed before it for this partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DbOperation {
    /// Reads rows of `consumer_offsets`.
    ReadRow,
    /// Writes one row of `consumer_offsets`.
    Claim,
    /// Records a gap, and changes one row of `consumer_offsets`.
    RecordGap,
    /// Writes a batch, with all tables that it needs.
    Commit,
}

impl DbOperation {
    /// The name in log lines and in `/readyz`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadRow => "read_row",
            Self::Claim => "claim",
            Self::RecordGap => "record_gap",
            Self::Commit => "commit",
        }
    }
}
