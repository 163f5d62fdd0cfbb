//! A row of the ledger as it was read.

use crate::model::protocol::LedgerRow;
use crate::model::topic_log::KnownLog;

/// A row that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRow {
    /// Who may write it, and from where.
    pub row: LedgerRow,
    /// What it remembers of the log.
    pub known: KnownLog,
    /// Why it is halted.
    pub halt_reason: Option<String>,
}
