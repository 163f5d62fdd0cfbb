//! The states of a partition, the row that moves it between them, and the effect of a row.

use crate::model::record::{Epoch, Position, Step};

/// The state of one partition in this process. The table in [`super`] has the transitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// Kafka has not assigned the partition to this process.
    Unassigned,
    /// Kafka has assigned the partition. The process does not own the row yet.
    Assigned,
    /// A transaction that raises the epoch of the row is running.
    Claiming,
    /// The process owns the row under this epoch. The consumer thread must start to read at this position.
    Claimed(Epoch, Position),
    /// The consumer thread reads. All records below the position are committed.
    Started(Epoch, Position),
    /// A transaction that moves the row by this step is running.
    InFlight(Epoch, Step),
    /// A transaction is running, and the process commits no other batch after it.
    Draining(AfterDrain),
    /// The process does not know the position of the row until it has read the row.
    Unknown(Epoch),
    /// Another process has claimed the row. This process claims it again after a delay, if Kafka still assigns it.
    Fenced,
    /// The check of the partition log found a fault. A writer must record it in the row, which has this epoch and
    /// position.
    LogFault(Epoch, Position),
    /// The row is halted. The partition is not read until an operator resumes it.
    Halted,
}

/// The state that follows [`State::Draining`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AfterDrain {
    /// Kafka revoked the partition.
    Unassigned,
    /// Kafka assigned the partition again. It must be claimed.
    Assigned,
    /// The partition is still assigned. Reading starts again at the position of the row.
    Unknown(Epoch),
}

/// The part of a row of `consumer_offsets` that the protocol needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LedgerRow {
    /// The next position to read.
    pub next: Position,
    /// The epoch of the last claim.
    pub epoch: Epoch,
    /// Whether the partition is halted.
    pub halted: bool,
}

/// The effect of a claim, or of a row that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RowEffect {
    /// The row is as expected, or the event came too late.
    Unchanged,
    /// Reading starts at this position. The records that were read before are dropped.
    Start(Position),
    /// Another process has claimed the row.
    Fenced,
    /// The row is halted.
    Halted,
    /// The process must claim the row: the claim failed, the row is missing, its epoch is lower, or it is no longer
    /// halted.
    ClaimAgain,
}

/// Counts how often reading of the partition started or ended in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Generation(u64);

impl Generation {
    /// The next generation.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}
