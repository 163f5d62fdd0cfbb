//! What can be asked about a running engine: where its partitions stand, whether the database does what it is asked, and
//! what was counted.
//!
//! Only told to, never asked, by those who write: nothing that they decide depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::model::batch::ClaimedBatch;
use crate::model::error_class::ErrorClass;
use crate::model::halt::HaltReason;
use crate::model::operation::DbOperation;
use crate::model::outcome::BatchOutcome;
use crate::model::protocol::{LedgerRow, State};
use crate::model::record::{Partition, Position};
use crate::model::standing::{HeldPartition, Membership, PartitionStatus, SchedulerView};
use crate::model::topic_log::GapReason;
use crate::observe::counts::Counts;

/// One for each run; its clones tell the same.
#[derive(Clone, Default)]
pub struct Health {
    known: Arc<Mutex<HealthState>>,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct HealthState {
    topic: String,
    assignment: Option<Arc<dyn SchedulerView>>,
    halt_reasons: BTreeMap<Partition, HaltReason>,
    /// By the rows, when they were last read; a partition that is read knows better.
    positions: BTreeMap<Partition, Position>,
    /// Where the log ends, and until when that counts if nothing newer is heard.
    ends: BTreeMap<Partition, (Position, Instant)>,
    stalled: BTreeSet<Partition>,
    /// What last failed, and until when that counts if nothing is heard of it again.
    trouble: Option<(DbOperation, Instant)>,
}

/// Where a run stands at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSnapshot {
    /// The topic that is read.
    pub topic: String,
    /// Whether we are a member of the group.
    pub membership: Membership,
    /// The end has begun.
    pub stopping: bool,
    /// The last work on the database was done.
    pub database_works: bool,
    /// What the records that wait or are being written occupy.
    pub buffered_bytes: usize,
    /// The partitions that are ours.
    pub partitions: Vec<PartitionHealth>,
}

/// Where a partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionHealth {
    /// Which one.
    pub partition: Partition,
    /// What it does.
    pub status: PartitionStatus,
    /// The row's reason, once it has been read; halted partitions only.
    pub halt_reason: Option<HaltReason>,
    /// Below it, everything is handled; not known before the row has been claimed, nor while it is somebody else's.
    pub position: Option<Position>,
    /// How many offsets the position is behind the end of the log, as of the last look at the log.
    pub lag: Option<u64>,
    /// Records of it wait in this process, or are being written.
    pub records_wait: bool,
    /// The watchdog says so: records wait, and nothing has been committed for too long.
    pub stalled: bool,
}

impl Health {
    /// `None` as long as the run has not begun.
    #[must_use]
    pub fn snapshot(&self) -> Option<HealthSnapshot> {
        let assignment = Arc::clone(self.lock().assignment.as_ref()?);
        let mut snapshot = HealthSnapshot {
            topic: String::new(),
            membership: assignment.membership(),
            stopping: assignment.stopping(),
            database_works: true,
            buffered_bytes: assignment.buffered_bytes(),
            partitions: Vec::new(),
        };
        // Asked for before our own lock is taken, so that there is no order of locks to get wrong.
        let held = assignment.held();
        let known = self.lock();
        let now = Instant::now();
        snapshot.topic.clone_from(&known.topic);
        snapshot.database_works = known.trouble.is_none();
        snapshot.partitions = held.into_iter().filter_map(|held| known.standing(held, now)).collect();
        Some(snapshot)
    }

    /// What was counted so far; nothing is, before the run has begun.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counting().clone()
    }

    /// The run begins. What was counted before stays.
    pub(crate) fn began(&self, topic: &str, assignment: Arc<dyn SchedulerView>) {
        *self.lock() = HealthState { topic: topic.to_owned(), assignment: Some(assignment), ..HealthState::default() };
    }

    /// What a row says that was claimed; `None` if there is none.
    pub(crate) fn claimed(&self, partition: Partition, row: Option<LedgerRow>) {
        let mut known = self.lock();
        match row {
            Some(row) => known.positions.insert(partition, row.next),
            None => known.positions.remove(&partition),
        };
    }

    /// What a row says, and about a halt.
    pub(crate) fn seen(&self, partition: Partition, row: Option<LedgerRow>, halt_reason: Option<HaltReason>) {
        self.claimed(partition, row);
        let mut known = self.lock();
        match halt_reason {
            Some(reason) => known.halt_reasons.insert(partition, reason),
            None => known.halt_reasons.remove(&partition),
        };
    }

    /// This process has halted a partition, which is at this position.
    pub(crate) fn halted(&self, partition: Partition, at: Position, reason: HaltReason) {
        self.counting().halted(reason.clone());
        let mut known = self.lock();
        known.positions.insert(partition, at);
        known.halt_reasons.insert(partition, reason);
    }

    /// Where the log of a partition ends: past the last record that can be read. That counts for so long if nothing newer
    /// is heard.
    pub(crate) fn log_end(&self, partition: Partition, end: Position, lasts: Duration) {
        let now = Instant::now();
        self.lock().ends.insert(partition, (end, now.checked_add(lasts).unwrap_or(now)));
    }

    /// So many offsets were found to be gone.
    pub(crate) fn gap(&self, reason: GapReason, records: u64) {
        self.counting().gap(reason, records);
    }

    /// A transaction has ended that took so long, and is now `now`.
    pub(crate) fn written<E>(
        &self,
        work: &[ClaimedBatch<E>],
        handled: &[BatchOutcome],
        took: Duration,
        now: SystemTime,
    ) {
        self.counting().written(work, handled, took, now);
        let mut known = self.lock();
        for (one, _) in work.iter().zip(handled).filter(|(_, handled)| **handled != BatchOutcome::Fenced) {
            known.positions.insert(one.batch.partition(), one.batch.step().to());
        }
    }

    /// How many letters the table holds, by status.
    pub(crate) fn letters(&self, by_status: BTreeMap<String, u64>) {
        self.counting().dead_letters = by_status;
    }

    /// What the watchdog found.
    pub(crate) fn stalled(&self, partitions: BTreeSet<Partition>) {
        self.lock().stalled = partitions;
    }

    /// The database did not do what it was asked, and is asked again. That counts until it does as much, or for so long: a
    /// partition that was taken away in the middle leaves nobody who would try again.
    pub(crate) fn failed(&self, errand: DbOperation, class: ErrorClass, lasts: Duration) {
        self.counting().retried(class);
        let mut known = self.lock();
        let now = Instant::now();
        let until = now.checked_add(lasts).unwrap_or(now);
        let (before, not_sooner) = known.trouble.unwrap_or((errand, until));
        known.trouble = Some((errand.max(before), until.max(not_sooner)));
    }

    /// The database did what it was asked.
    pub(crate) fn done(&self, errand: DbOperation) {
        self.lock().trouble.take_if(|(failed, until)| errand >= *failed || *until <= Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, HealthState> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counting(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HealthState {
    fn standing(&self, held: HeldPartition, now: Instant) -> Option<PartitionHealth> {
        let HeldPartition { partition, state, records_wait } = held;
        let position = match state {
            State::Claimed(_, at) | State::Started(_, at) | State::LogFault(_, at) => Some(at),
            State::InFlight(_, step) => Some(step.from()),
            State::Unknown(_) | State::Draining(_) | State::Halted => self.positions.get(&partition).copied(),
            State::Unassigned | State::Assigned | State::Claiming | State::Fenced => None,
        };
        let end = self.ends.get(&partition).filter(|(_, until)| now < *until).map(|(end, _)| *end);
        let behind = |(end, at): (Position, Position)| u64::try_from(end.0.saturating_sub(at.0)).unwrap_or_default();
        Some(PartitionHealth {
            partition,
            status: PartitionStatus::of(state)?,
            halt_reason: self.halt_reasons.get(&partition).filter(|_| state == State::Halted).cloned(),
            position,
            lag: end.zip(position).map(behind),
            records_wait,
            stalled: self.stalled.contains(&partition),
        })
    }
}

#[cfg(test)]
mod tests;
