//! What the consumer thread, the writers and whoever looks at the log are given to do, and what they answer.

use crate::engine::batch::Batch;
use crate::engine::gap::{Doubt, Gap, KnownLog};
use crate::engine::ledger::Claimed;
use crate::engine::mirror::Committed;
use crate::engine::partition::{Belief, Generation};
use crate::engine::record::{Digest, Epoch, Offset, Partition, Position};

/// What a free writer is to do next.
#[derive(Debug)]
pub(crate) enum Work<E> {
    /// Take the row over.
    Claim(Partition, Generation),
    /// Note a fault of the log in the row.
    Note(Noting),
    /// Read the rows and report them.
    Look(Vec<(Partition, Belief)>),
    /// Write the batches in one transaction.
    Write(Vec<Assigned<E>>),
    /// Nothing will come any more.
    Stop,
}

/// A batch and the right to write it.
#[derive(Debug)]
pub(crate) struct Assigned<E> {
    /// All records of the next step.
    pub(crate) batch: Batch<E>,
    /// The epoch that the partition was claimed under.
    pub(crate) epoch: Epoch,
    /// Its last batches could not be written the fast way.
    pub(crate) careful: bool,
    /// The log that it was read from.
    pub(crate) known: Option<KnownLog>,
}

/// A fault of the log, and the row that it is to be noted in, if that is still as it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noting {
    /// The partition.
    pub(crate) partition: Partition,
    /// To answer with.
    pub(crate) generation: Generation,
    /// The epoch that it was claimed under.
    pub(crate) epoch: Epoch,
    /// The position that it stood at.
    pub(crate) at: Position,
    /// What is missing, or in doubt.
    pub(crate) gap: Gap,
}

/// What the consumer thread should be reading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// The partition.
    pub(crate) partition: Partition,
    /// What its records are to be tagged with.
    pub(crate) generation: Generation,
    /// The first position to be handled, if it isn't read yet.
    pub(crate) at: Position,
    /// The record that reading has to begin with, to see whether it is still the same.
    pub(crate) last: Option<(Offset, Digest)>,
}

/// What is asked about the log of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    /// The partition.
    pub(crate) partition: Partition,
    /// An answer to an older one is void.
    pub(crate) generation: Generation,
    /// What is in doubt.
    pub(crate) doubt: Doubt,
}

impl<E> Assigned<E> {
    /// What the fence has to find.
    #[must_use]
    pub(crate) fn claimed(&self) -> Claimed {
        Claimed { partition: self.batch.partition(), epoch: self.epoch, step: self.batch.step() }
    }
}

/// How the writing of a batch ended.
#[derive(Debug)]
pub(crate) enum Written {
    /// The database confirmed the commit.
    Committed {
        /// The proof, for the mirror.
        token: Committed,
        /// It had to be written with care.
        careful: bool,
        /// The breaker halted the partition.
        halted: bool,
    },
    /// It was too much for the database's time limit: rolled back.
    TooSlow,
    /// The fence was missed, or nobody knows how it ended.
    Unsure,
}
