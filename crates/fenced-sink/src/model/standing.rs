//! The status of this process and its partitions, for health and metrics. Pure.
//!
//! The pipeline implements [`SchedulerView`], and `observe` reads it: so `observe` needs no part of the pipeline.

use crate::model::failure::PartitionFailure;
use crate::model::kafka_refusal::KafkaRefusal;
use crate::model::protocol::{AfterDrain, State};
use crate::model::record::Partition;

/// Whether this process is a member of the consumer group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Membership {
    /// Kafka has not assigned partitions yet.
    #[default]
    Awaited,
    /// Kafka has assigned partitions, possibly none.
    Member,
    /// The membership ended. The process joins again.
    Lost,
}

/// What a partition of this process does, as people and tools see it. Each protocol state has one of these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartitionStatus {
    /// Kafka assigned it; this process does not own its row yet.
    Claiming,
    /// The row is claimed; the topic log is checked before reading starts.
    Starting,
    /// Records are read and committed.
    Running,
    /// Reading stopped. The row or a log fault decides what follows.
    Recovering,
    /// Another process claimed the row. It is claimed again after a delay.
    Fenced,
    /// Halted until an operator resumes it.
    Halted,
}

impl PartitionStatus {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Claiming, Self::Starting, Self::Running, Self::Recovering, Self::Fenced, Self::Halted];

    /// The name that `/readyz` and the metrics use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Claiming => "claiming",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Recovering => "recovering",
            Self::Fenced => "fenced",
            Self::Halted => "halted",
        }
    }

    /// The status of a protocol state. `None`: the partition is not assigned to this process.
    #[must_use]
    pub(crate) fn of(state: State) -> Option<Self> {
        match state {
            State::Unassigned | State::Draining(AfterDrain::Unassigned) => None,
            State::Assigned | State::Claiming => Some(Self::Claiming),
            State::Claimed(..) => Some(Self::Starting),
            State::Started(..) | State::InFlight(..) => Some(Self::Running),
            State::Draining(_) | State::Unknown(_) | State::LogFault(..) => Some(Self::Recovering),
            State::Fenced => Some(Self::Fenced),
            State::Halted => Some(Self::Halted),
        }
    }
}

/// A partition that this process holds.
#[derive(Clone)]
pub(crate) struct HeldPartition {
    pub(crate) partition: Partition,
    pub(crate) state: State,
    /// Records of it are queued or in a transaction.
    pub(crate) records_wait: bool,
    /// Kafka throttles this client, and no record of the partition waits in this process.
    pub(crate) throttled: bool,
    /// Its failure record, if its last database operation failed.
    pub(crate) failure: Option<PartitionFailure>,
    /// The last record of its row has not been compared with the topic log yet.
    pub(crate) comparison_waits: bool,
}

/// What `observe` reads from the scheduler. It hides the type of the event.
pub(crate) trait SchedulerView: Send + Sync {
    /// Whether this process is a member of the consumer group.
    fn membership(&self) -> Membership;
    /// Whether the process stops.
    fn stopping(&self) -> bool;
    /// The size of all records that are queued or in a transaction.
    fn buffered_bytes(&self) -> usize;
    /// What Kafka refuses this process.
    fn refusals(&self) -> Vec<KafkaRefusal>;
    /// The partitions that Kafka assigned to this process.
    fn held(&self) -> Vec<HeldPartition>;
}
