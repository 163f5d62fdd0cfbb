//! Where the partitions of this process stand, for those who observe.

use crate::model::protocol::{AfterDrain, State};
use crate::model::record::Partition;

/// Whether we are a member of the group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Membership {
    /// Not yet.
    #[default]
    Awaited,
    /// Kafka has said which partitions are ours, even if that was none.
    Member,
    /// Not any more: the session was over.
    Lost,
}

/// What a partition of this process does, for people and tools. Each protocol state has one of these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartitionStatus {
    /// Kafka assigned it; this process does not own its row yet.
    Claiming,
    /// The row is claimed; the topic log is checked before reading starts.
    Starting,
    /// Records are read and committed.
    Running,
    /// Reading stopped; the row or a log fault decides how it goes on.
    Recovering,
    /// Another process claimed the row. It is claimed again after a delay.
    Fenced,
    /// Halted until an operator resumes it.
    Halted,
}

impl PartitionStatus {
    /// All of them.
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

    /// `None`: the partition is not assigned to this process.
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

/// A partition of ours, as the assignment knows it.
#[derive(Clone, Copy)]
pub(crate) struct HeldPartition {
    pub(crate) partition: Partition,
    pub(crate) state: State,
    pub(crate) records_wait: bool,
}

/// What the assignment can tell, whatever the event.
pub(crate) trait SchedulerView: Send + Sync {
    /// Whether we are a member of the group.
    fn membership(&self) -> Membership;
    /// The end has begun.
    fn stopping(&self) -> bool;
    /// What records waiting or in flight occupy.
    fn buffered_bytes(&self) -> usize;
    /// The partitions that are ours.
    fn held(&self) -> Vec<HeldPartition>;
}
