//! Committed positions on their way to Kafka, so that lag tools, UIs and autoscalers keep working.
//!
//! The mirror is written and never believed: Kafka does not check who owns a partition, so what a group's committed
//! offsets say proves nothing. Only what the ledger holds makes a [`CommittedPosition`], and only the mirror consumes it: Kafka
//! can't be told of anything that Postgres has not confirmed.

use crate::model::record::{Partition, Position};

/// Kafka keeps this beside every position that comes from here; how a reader knows our own mirror.
pub(crate) const METADATA: &str = "booking-history";

/// A position that the ledger holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommittedPosition {
    partition: Partition,
    position: Position,
}

impl CommittedPosition {
    /// To be called only for what the database has said: a confirmed commit, or a row that was read.
    pub(crate) fn confirmed(partition: Partition, position: Position) -> Self {
        Self { partition, position }
    }

    pub(crate) fn partition(&self) -> Partition {
        self.partition
    }

    /// What is told to Kafka.
    #[must_use]
    pub(crate) fn into_parts(self) -> (Partition, Position) {
        (self.partition, self.position)
    }
}
