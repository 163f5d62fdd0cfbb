//! What the consumer thread, the writers and whoever looks at the log are given to do, and what they answer.

use crate::model::batch::ClaimedBatch;
use crate::model::mirror::CommittedPosition;
use crate::model::protocol::{Generation, RowReadToken};
use crate::model::record::{Digest, Epoch, Offset, Partition, Position};
use crate::model::topic_log::{Gap, LogQuestion};

/// What a free writer is to do next.
#[derive(Debug)]
pub(crate) enum Work<E> {
    /// Take the row over.
    Claim(Partition, Generation),
    /// Note a fault of the log in the row.
    Note(LogFaultReport),
    /// Read the rows and report them.
    Look(Vec<(Partition, RowReadToken)>),
    /// Write the batches in one transaction.
    Write(Vec<ClaimedBatch<E>>),
    /// Nothing will come any more.
    Stop,
}

/// A fault of the log, and the row that it is to be noted in, if that is still as it was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogFaultReport {
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
pub(crate) struct ReadTarget {
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
pub(crate) struct PartitionQuestion {
    /// The partition.
    pub(crate) partition: Partition,
    /// An answer to an older one is void.
    pub(crate) generation: Generation,
    /// What is in doubt.
    pub(crate) doubt: LogQuestion,
}

/// How the writing of a batch ended.
#[derive(Debug)]
pub(crate) enum CommitResult {
    /// The database confirmed the commit.
    Committed {
        /// The proof, for the mirror.
        token: CommittedPosition,
        /// It had to be written with care.
        careful: bool,
        /// The breaker halted the partition.
        halted: bool,
    },
    /// It was too much for the database's time limit: rolled back.
    TooSlow,
    /// The fence was missed, or nobody knows how it ended.
    Unknown,
}
