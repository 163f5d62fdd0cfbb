//! What is asked of the database. Pure.

/// What a writer is sent for; each asks more of the database than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DbOperation {
    /// Reads rows of the ledger.
    ReadRows,
    /// Writes a row of the ledger.
    Claim,
    /// Writes every table.
    Write,
}
