//! Where a partition can stand, and what moves it: what the row says, and what that led to.

use crate::model::record::{Epoch, Position, Step};

/// See the drawing in [`super`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// Kafka gave it to somebody else, or to nobody yet.
    Unassigned,
    /// Kafka gave it to us; the row is not ours yet.
    Assigned,
    /// A transaction that raises the epoch is under way.
    Claiming,
    /// The row is ours, under this epoch; the consumer thread is to start reading here.
    Claimed(Epoch, Position),
    /// Records arrive; everything below the position is committed.
    Started(Epoch, Position),
    /// A transaction that moves the row is under way.
    InFlight(Epoch, Step),
    /// A transaction is under way and nothing follows it: Kafka took the partition away, or what it delivers can't be
    /// trusted.
    Draining(AfterDrain),
    /// The commit's answer was lost or the fence missed: nothing is known until the row has been read.
    Unknown(Epoch),
    /// Somebody else holds a higher epoch. If Kafka still says that it is ours, it is claimed again, later.
    Fenced,
    /// The log is not the one that the ledger knows, or lacks what comes next: a writer is to note that in the row, which is
    /// ours under this epoch and stands here.
    LogFault(Epoch, Position),
    /// An operator has to look: not read until the row's halt is lifted.
    Halted,
}

/// What a partition is once its last commit has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AfterDrain {
    /// Somebody else's.
    Unassigned,
    /// Ours again, to be claimed.
    Assigned,
    /// Ours as before; the row says where reading goes on.
    Unknown(Epoch),
}

/// What the ledger's row says about a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LedgerRow {
    /// Where reading goes on.
    pub next: Position,
    /// The epoch of whoever claimed it last.
    pub epoch: Epoch,
    /// Whether it must not be read until an operator says so.
    pub halted: bool,
}

/// What a look at the row, or a claim, led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RowEffect {
    /// All is as believed, or things moved on meanwhile.
    Unchanged,
    /// Reading goes on from here; what was read before is dropped.
    Start(Position),
    /// Somebody else claimed it.
    Fenced,
    /// The row is halted.
    Halted,
    /// It has to be claimed (again): there is no row, its epoch went back, or its halt was lifted.
    ClaimAgain,
}

/// Counts the times that reading of a partition began or ended here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Generation(u64);

impl Generation {
    /// A newer one than this.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}
