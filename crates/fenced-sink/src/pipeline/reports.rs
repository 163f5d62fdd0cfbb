//! What the consumer thread, the writers and the log check task exchange with the scheduler.

use crate::model::batch::{Arrival, ClaimedBatch};
use crate::model::failure::Failure;
use crate::model::kafka_refusal::KafkaRefusal;
use crate::model::leader_epochs::LogDoubt;
use crate::model::mirror::CommittedPosition;
use crate::model::outcome::BulkFailure;
use crate::model::protocol::{Generation, RowReadToken};
use crate::model::record::{Digest, Epoch, LeaderEpoch, Offset, Partition, Position};
use crate::model::stored_row::StoredRow;
use crate::model::topic_log::{Gap, KnownLog, LogQuestion};

/// Everything that the consumer thread can report about Kafka.
#[derive(Debug)]
pub(crate) enum KafkaReport<E> {
    /// This process is a member of the group, perhaps without partitions.
    Joined,
    /// This process is no longer a member of the group.
    MembershipLost,
    /// Kafka assigned these partitions to this process.
    Assigned(Vec<Partition>),
    /// Kafka revoked these partitions.
    Revoked(Vec<Partition>),
    /// Records and reached positions, in their order. The scheduler drops those of an older generation.
    Arrived(Vec<(Partition, Generation, Arrival<E>)>),
    /// An error that is not known to be harmless and names no partition: the delivered records of these partitions
    /// cannot be trusted.
    UnclassifiedError(Vec<Partition>),
    /// Kafka refuses this.
    Refused(KafkaRefusal),
    /// No broker was reachable. A restored broker may serve another log under the same topic id, so these partitions
    /// start again with a check of the log.
    AllBrokersDown(Vec<Partition>),
    /// The fetch of a partition failed behind the delivered records. The consumer thread repeats this report: it has no
    /// effect until they are committed.
    FetchFailed(Partition, Generation, FetchFailure),
    /// A part of a large response of Kafka arrived in the last seconds. Its records follow when it is complete.
    ResponseArrives,
    /// The last record before this position is the record of the row, or it no longer exists.
    LastRecordMatched(Partition, Generation, Position),
    /// The record at this offset is not the record of the row, or there should be no record at it.
    LastRecordDiffers(Partition, Generation, Offset),
    /// The consumer thread has stopped reading and has reported everything.
    ReadingEnded,
}

/// Why the fetch of a partition failed. No later record of it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchFailure {
    /// The broker refused the position: the log must be checked.
    OutOfRange,
    /// An error that is not known to be harmless: a record may be missing behind the delivered records.
    Unclassified,
}

/// Everything that a writer can answer.
#[derive(Debug)]
pub(crate) enum WriterReport<E> {
    /// The claimed row. `None`: there is no row, and none can be created yet.
    Claimed(Partition, Generation, Option<StoredRow>),
    /// The claim failed in the database.
    ClaimFailed(Partition, Generation, Failure),
    /// The row as it was read. `None`: there is no row.
    RowRead(Partition, RowReadToken, Option<StoredRow>),
    /// The database did not return the row.
    RowNotRead(Partition, RowReadToken, Failure),
    /// The writer recorded a log fault, or found that the row has changed. True: the row is halted now.
    LogFaultRecorded(Partition, Generation, bool),
    /// The database did not record the log fault.
    LogFaultNotRecorded(Partition, Generation, Failure),
    /// The database confirmed the commit.
    Committed {
        /// The proof, for the mirror.
        position: CommittedPosition,
        /// Why a bulk insert of all its events fails.
        bulk_failure: Option<BulkFailure>,
        /// The breaker halted the partition in the same transaction.
        halted: bool,
    },
    /// The fence matched no row.
    Fenced(Partition),
    /// The transaction failed before its COMMIT was sent. The batch is handed back.
    RolledBack(ClaimedBatch<E>, Failure),
    /// The answer to COMMIT was an error, or there was none.
    CommitFailed(Partition, Failure),
}

impl<E> WriterReport<E> {
    /// The partition that it is about.
    pub(crate) fn partition(&self) -> Partition {
        match self {
            Self::Claimed(partition, ..)
            | Self::ClaimFailed(partition, ..)
            | Self::RowRead(partition, ..)
            | Self::RowNotRead(partition, ..)
            | Self::LogFaultRecorded(partition, ..)
            | Self::LogFaultNotRecorded(partition, ..)
            | Self::Fenced(partition)
            | Self::CommitFailed(partition, _) => *partition,
            Self::RolledBack(claimed, _) => claimed.batch.partition(),
            Self::Committed { position, .. } => position.partition(),
        }
    }
}

/// The next task of a free writer.
#[derive(Debug)]
pub(crate) enum WriterTask<E> {
    /// Claim the row of a partition.
    Claim(Partition, Generation),
    /// Record a log fault in the row of its partition.
    RecordLogFault(LogFaultReport),
    /// Read the rows and report them.
    ReadRows(Vec<(Partition, RowReadToken)>),
    /// Commit the batches in one transaction.
    Commit(Vec<ClaimedBatch<E>>),
    /// End: no task will follow.
    Stop,
}

/// A log fault, and the state of the row in which it is to be recorded. A row that has changed is left as it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogFaultReport {
    /// The partition.
    pub(crate) partition: Partition,
    /// The generation, which the answer must contain.
    pub(crate) generation: Generation,
    /// The epoch that the partition was claimed under.
    pub(crate) epoch: Epoch,
    /// The position of the row.
    pub(crate) at: Position,
    /// The offsets that are deleted or in doubt.
    pub(crate) gap: Gap,
}

/// A doubt about a log, and the state of the row in which a fault would be recorded.
#[derive(Clone, Debug)]
pub(crate) struct LogDoubtReport {
    /// The partition.
    pub(crate) partition: Partition,
    /// The generation, which the answer must contain.
    pub(crate) generation: Generation,
    /// The epoch that the partition was claimed under.
    pub(crate) epoch: Epoch,
    /// The position of the row.
    pub(crate) at: Position,
    /// What a check found.
    pub(crate) doubt: LogDoubt,
    /// What the row contains about the log.
    pub(crate) known: KnownLog,
}

/// The result of a doubt about a log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SettledDoubt {
    /// The partition.
    pub(crate) partition: Partition,
    /// The generation of the report.
    pub(crate) generation: Generation,
    /// The epoch of the report.
    pub(crate) epoch: Epoch,
    /// The position of the report.
    pub(crate) at: Position,
    /// The offsets that are in doubt. `None`: there is no fault, or Kafka did not answer.
    pub(crate) gap: Option<Gap>,
}

/// Where the consumer thread has to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadTarget {
    /// The partition.
    pub(crate) partition: Partition,
    /// The tag of the records that it reads.
    pub(crate) generation: Generation,
    /// The first position that is not handled.
    pub(crate) at: Position,
    /// The record with which reading starts, one back: it must still be the record that the row has.
    pub(crate) last_record: Option<(Offset, Digest)>,
    /// The leader epoch of that record. `None` without such a record: a marker before the position can have a higher
    /// epoch.
    pub(crate) leader_epoch: Option<LeaderEpoch>,
}

/// A question about the log of one partition, and the generation that it was asked in: an answer to an older generation
/// is void.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartitionQuestion {
    /// The partition.
    pub(crate) partition: Partition,
    /// The generation.
    pub(crate) generation: Generation,
    /// The question.
    pub(crate) question: LogQuestion,
}

/// A probe that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProbeQuestion {
    /// The partition.
    pub(crate) partition: Partition,
    /// The generation.
    pub(crate) generation: Generation,
    /// The position of the partition.
    pub(crate) at: Position,
    /// The position to read.
    pub(crate) read: Position,
    /// What the read must prove.
    pub(crate) purpose: ProbePurpose,
}

/// What a probe must prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbePurpose {
    /// Whether the last record below the position can be read: reading starts with it.
    LastRecord,
    /// How far the partition log is damaged.
    Damage,
    /// Whether the partition log has the position: its known end is below the position.
    OutOfRange,
    /// Whether the partition log has a record that the consumer does not receive.
    FetchStall,
}
