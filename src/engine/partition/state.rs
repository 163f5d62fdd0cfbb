//! Where a partition can stand.

use crate::engine::record::{Epoch, Position, Step};

/// See the drawing in [`super`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Kafka gave it to somebody else, or to nobody yet.
    Elsewhere,
    /// Kafka gave it to us; the row is not ours yet.
    Owned,
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
    Draining(After),
    /// The commit's answer was lost or the fence missed: nothing is known until the row has been read.
    Unsure(Epoch),
    /// Somebody else holds a higher epoch. If Kafka still says that it is ours, it is claimed again, later.
    Fenced,
    /// An operator has to look: not read until the row's halt is lifted.
    Halted,
}

/// What a partition is once its last commit has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum After {
    /// Somebody else's.
    Elsewhere,
    /// Ours again, to be claimed.
    Owned,
    /// Ours as before; the row says where reading goes on.
    Unsure(Epoch),
}
