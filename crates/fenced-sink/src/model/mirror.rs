//! The mirror: positions that the engine also commits to Kafka, for lag tools, user interfaces and autoscalers. Pure.
//!
//! The invariant: Kafka never receives a position that the database has not confirmed. Only a confirmed position
//! becomes a [`CommittedPosition`], and only the mirror reads it. The engine never reads the mirror to find a position,
//! because Kafka does not check which process owns a partition.

use crate::model::record::{Partition, Position};

/// A position that the database has confirmed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommittedPosition {
    partition: Partition,
    position: Position,
}

impl CommittedPosition {
    /// The caller has the answer of the database: a successful commit, or a row that was read.
    pub(crate) fn confirmed(partition: Partition, position: Position) -> Self {
        Self { partition, position }
    }

    /// The partition.
    pub(crate) fn partition(&self) -> Partition {
        self.partition
    }

    /// The partition and the position to commit to Kafka.
    #[must_use]
    pub(crate) fn into_parts(self) -> (Partition, Position) {
        (self.partition, self.position)
    }
}
