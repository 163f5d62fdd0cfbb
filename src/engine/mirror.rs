//! Committed positions on their way to Kafka, so that lag tools, UIs and autoscalers keep working.
//!
//! The mirror is written and never believed: Kafka does not check who owns a partition, so what a group's committed
//! offsets say proves nothing. Only what the ledger holds makes a [`Committed`], and only the mirror consumes it: Kafka
//! can't be told of anything that Postgres has not confirmed.

use super::record::{Partition, Position};

/// Kafka keeps this beside every position that comes from here; how a reader knows our own mirror.
pub const METADATA: &str = "booking-history";

/// A position that the ledger holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Committed {
    partition: Partition,
    position: Position,
}

impl Committed {
    /// To be called only for what the database has said: a confirmed commit, or a row that was read.
    pub(in crate::engine) fn confirmed(partition: Partition, position: Position) -> Self {
        Self { partition, position }
    }

    /// What is told to Kafka.
    #[must_use]
    pub fn into_parts(self) -> (Partition, Position) {
        (self.partition, self.position)
    }
}
