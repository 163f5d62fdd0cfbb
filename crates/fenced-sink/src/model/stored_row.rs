//! A row of the ledger as a writer read it. Pure.

use crate::model::halt::HaltReason;
use crate::model::protocol::LedgerRow;
use crate::model::topic_log::KnownLog;

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredRow {
    /// Position, epoch and halt: what the protocol needs.
    pub row: LedgerRow,
    /// What the row has of the partition log.
    pub known: KnownLog,
    /// Why the partition is halted. `None`: it is not halted.
    pub halt_reason: Option<HaltReason>,
}
