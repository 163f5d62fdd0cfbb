//! The state of a run for observers: the status of each partition, whether the database works, and the counts.
//!
//! The pipeline writes it. Only observers read it: the HTTP server, the watchdog and [`until_end`](crate::until_end).
//! No transaction depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::model::batch::ClaimedBatch;
use crate::model::error_class::ErrorClass;
use crate::model::failure::PartitionFailure;
use crate::model::halt::HaltReason;
use crate::model::kafka_refusal::KafkaRefusal;
use crate::model::open_work::OpenWork;
use crate::model::outcome::BatchOutcome;
use crate::model::protocol::{LedgerRow, State};
use crate::model::record::{Partition, Position};
use crate::model::standing::{HeldPartition, Membership, PartitionStatus, SchedulerView};
use crate::model::topic_log::GapReason;
use crate::observe::counts::Counts;

/// A leader that does not answer for this time after its last answer became too old is reported. It is long enough for a
/// broker that restarts.
const UNANSWERED: Duration = Duration::from_secs(30);
/// After [`Health::watch`], the run reads the open work for this time.
const WATCHED: Duration = Duration::from_secs(10);

/// The state of one run. All clones share it.
///
/// It has two locks, one for the state and one for the counts. A thread never holds both, and it holds neither while it
/// asks the scheduler.
#[derive(Clone, Default)]
pub struct Health {
    state: Arc<Mutex<HealthState>>,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct HealthState {
    topic: String,
    scheduler: Option<Arc<dyn SchedulerView>>,
    halt_reasons: BTreeMap<Partition, HaltReason>,
    /// The positions of the rows at their last read or write. The protocol state has a newer one while it reads.
    positions: BTreeMap<Partition, Position>,
    /// The ends of the partition logs, and the time when each answer is too old to use.
    ends: BTreeMap<Partition, (Position, Instant)>,
    stalled: BTreeSet<Partition>,
    /// The number of writers that cannot connect, and of all writers.
    disconnected: (usize, usize),
    connect_error: Option<String>,
    redrive: Option<(RedriveFailure, Instant)>,
    watched_at: Option<Instant>,
    open_work: Option<(OpenWork, Instant)>,
}

/// The state of a run at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSnapshot {
    /// The name of the topic.
    pub topic: String,
    /// Whether this process is a member of the consumer group.
    pub membership: Membership,
    /// What Kafka refuses this process.
    pub kafka_refusals: Vec<KafkaRefusal>,
    /// Whether the process stops.
    pub stopping: bool,
    /// Whether a writer is connected to the database, or has not tried yet.
    pub database_works: bool,
    /// The number of writers that cannot connect to the database.
    pub disconnected_writers: usize,
    /// Why one of these writers cannot connect. `None`: each writer can connect.
    pub connect_error: Option<String>,
    /// Why dead letters are not redriven. `None`: they are redriven.
    pub redrive_failure: Option<RedriveFailure>,
    /// The size of all records that are queued or in a transaction.
    pub buffered_bytes: usize,
    /// The partitions that Kafka assigned to this process.
    pub partitions: Vec<PartitionHealth>,
}

/// The state of one partition of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts for observers")]
pub struct PartitionHealth {
    /// The partition.
    pub partition: Partition,
    /// What the partition does now.
    pub status: PartitionStatus,
    /// Why the partition is halted. `None`: it is not halted, or its row has not been read yet.
    pub halt_reason: Option<HaltReason>,
    /// The position: all records below it are handled. `None`: this process does not own the row.
    pub position: Option<Position>,
    /// The last known end of the partition log. `None`: Kafka does not answer.
    pub log_end: Option<Position>,
    /// The offsets from the position to the last known end of the partition log. `None`: one of the two is unknown.
    pub lag: Option<u64>,
    /// Whether the partition is read, and Kafka has not answered about the end of its log for about a minute.
    pub log_unanswered: bool,
    /// Whether records of the partition are queued or in a transaction.
    pub records_wait: bool,
    /// Whether Kafka throttles this client because of a quota, and no record of the partition waits in this process.
    pub throttled: bool,
    /// Whether the watchdog found the partition stalled: records wait and nothing has been committed for too long, or
    /// the partition is not read for too long.
    pub stalled: bool,
    /// The failures in a row of the partition, if its last database operation failed.
    pub failure: Option<PartitionFailure>,
}

/// The failures in a row of the task that redrives dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedriveFailure {
    /// The text of the last error.
    pub error: String,
    /// The number of failures.
    pub times: u32,
    /// The time since the first failure.
    pub lasts: Duration,
}

/// What waited for an operator at the last reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenWorkReading {
    /// What was read.
    pub work: OpenWork,
    /// The time since the reading.
    pub age: Duration,
}

impl Health {
    /// The state of the run now. `None`: the run has not started yet.
    #[must_use]
    pub fn snapshot(&self) -> Option<HealthSnapshot> {
        let scheduler = Arc::clone(self.lock().scheduler.as_ref()?);
        let mut snapshot = HealthSnapshot {
            topic: String::new(),
            membership: scheduler.membership(),
            kafka_refusals: scheduler.refusals(),
            stopping: scheduler.stopping(),
            database_works: true,
            disconnected_writers: 0,
            connect_error: None,
            redrive_failure: None,
            buffered_bytes: scheduler.buffered_bytes(),
            partitions: Vec::new(),
        };
        // The scheduler has its own lock: release it before this one is taken.
        let held = scheduler.held();
        let state = self.lock();
        let now = Instant::now();
        snapshot.topic.clone_from(&state.topic);
        let (disconnected, writers) = state.disconnected;
        snapshot.database_works = disconnected == 0 || disconnected < writers;
        snapshot.disconnected_writers = disconnected;
        snapshot.connect_error.clone_from(&state.connect_error);
        snapshot.redrive_failure = state
            .redrive
            .as_ref()
            .map(|(failure, since)| RedriveFailure { lasts: now.saturating_duration_since(*since), ..failure.clone() });
        snapshot.partitions = held.into_iter().filter_map(|held| state.partition(held, now)).collect();
        Some(snapshot)
    }

    /// Whether the last record of each row of this process has been compared with the topic log.
    pub(crate) fn last_records_are_compared(&self) -> bool {
        let scheduler = self.lock().scheduler.clone();
        // This process compares nothing of a partition that it does not read.
        let waits = |held: &HeldPartition| {
            held.comparison_waits && PartitionStatus::of(held.state) == Some(PartitionStatus::Running)
        };
        scheduler.is_some_and(|scheduler| !scheduler.held().iter().any(waits))
    }

    /// The counts so far. They are all 0 before the run starts.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counting().clone()
    }

    /// A visitor looks at the run. The run reads the open work every few seconds, until 10 s after the last call of this
    /// function. Without a call it never does.
    pub fn watch(&self) {
        self.lock().watched_at = Some(Instant::now());
    }

    /// The last reading of the open work. `None`: there is none yet.
    #[must_use]
    pub fn open_work(&self) -> Option<OpenWorkReading> {
        let state = self.lock();
        state.open_work.as_ref().map(|(work, at)| OpenWorkReading { work: work.clone(), age: at.elapsed() })
    }

    /// Whether [`Self::watch`] was called within [`WATCHED`].
    pub(crate) fn is_watched(&self) -> bool {
        self.lock().watched_at.is_some_and(|at| at.elapsed() < WATCHED)
    }

    /// The open work has been read, or the database has returned errors.
    pub(crate) fn open_work_read(&self, work: OpenWork) {
        self.lock().open_work = Some((work, Instant::now()));
    }

    /// The run starts. The counts stay as they are.
    pub(crate) fn began(&self, topic: &str, scheduler: Arc<dyn SchedulerView>) {
        *self.lock() = HealthState { topic: topic.to_owned(), scheduler: Some(scheduler), ..HealthState::default() };
    }

    /// A writer has claimed a row. `None`: there is no row.
    pub(crate) fn claimed(&self, partition: Partition, row: Option<LedgerRow>) {
        let mut state = self.lock();
        match row {
            Some(row) => state.positions.insert(partition, row.next),
            None => state.positions.remove(&partition),
        };
    }

    /// A writer has read a row and its halt reason. `None`: there is no row, or it is not halted.
    pub(crate) fn seen(&self, partition: Partition, row: Option<LedgerRow>, halt_reason: Option<HaltReason>) {
        self.claimed(partition, row);
        let mut state = self.lock();
        match halt_reason {
            Some(reason) => state.halt_reasons.insert(partition, reason),
            None => state.halt_reasons.remove(&partition),
        };
    }

    /// This process has halted a partition at this position.
    pub(crate) fn halted(&self, partition: Partition, at: Position, reason: HaltReason) {
        self.counting().halted(reason.clone());
        let mut state = self.lock();
        state.positions.insert(partition, at);
        state.halt_reasons.insert(partition, reason);
    }

    /// Kafka has returned the end of a partition log. The answer is used until a newer one arrives, for at most
    /// `lasts`.
    pub(crate) fn log_end(&self, partition: Partition, end: Position, lasts: Duration) {
        let now = Instant::now();
        self.lock().ends.insert(partition, (end, now.checked_add(lasts).unwrap_or(now)));
    }

    /// A gap of this many offsets is recorded.
    pub(crate) fn gap(&self, reason: GapReason, records: u64) {
        self.counting().gap(reason, records);
    }

    /// A transaction that took `took` has ended at `now`, with the outcome of each of its batches.
    pub(crate) fn written<E>(
        &self,
        batches: &[ClaimedBatch<E>],
        outcomes: &[BatchOutcome],
        took: Duration,
        now: SystemTime,
    ) {
        self.counting().written(batches, outcomes, took, now);
        let mut state = self.lock();
        for (claimed, _) in batches.iter().zip(outcomes).filter(|(_, outcome)| **outcome != BatchOutcome::Fenced) {
            state.positions.insert(claimed.batch.partition(), claimed.batch.step().to());
        }
    }

    /// The dead letters in the table have been counted, by status.
    pub(crate) fn letters(&self, by_status: BTreeMap<String, u64>) {
        self.counting().dead_letters = by_status;
    }

    /// The watchdog has found these partitions stalled, and no others.
    pub(crate) fn stalled(&self, partitions: BTreeSet<Partition>) {
        self.lock().stalled = partitions;
    }

    /// A database operation has failed and will be retried.
    pub(crate) fn retried(&self, class: ErrorClass) {
        self.counting().retried(class);
    }

    /// This number of the writers cannot connect to the database. `error` is the last error of one of them.
    pub(crate) fn disconnected_writers(&self, disconnected: usize, writers: usize, error: Option<String>) {
        let mut state = self.lock();
        state.disconnected = (disconnected, writers);
        state.connect_error = error;
    }

    /// A redrive has failed for a cause outside of its dead letter.
    pub(crate) fn redrive_failed(&self, class: ErrorClass, error: String) {
        self.counting().redrive_failed(class);
        let mut state = self.lock();
        let (times, since) =
            state.redrive.as_ref().map_or((0, Instant::now()), |(before, since)| (before.times, *since));
        state.redrive = Some((RedriveFailure { error, times: times.saturating_add(1), lasts: Duration::ZERO }, since));
    }

    /// Each dead letter that was due could be redriven.
    pub(crate) fn redrive_succeeded(&self) {
        self.lock().redrive = None;
    }

    fn lock(&self) -> MutexGuard<'_, HealthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counting(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HealthState {
    /// `None`: the partition is not assigned to this process.
    fn partition(&self, held: HeldPartition, now: Instant) -> Option<PartitionHealth> {
        let HeldPartition { partition, state, records_wait, throttled, failure, .. } = held;
        let position = match state {
            State::Claimed(_, at) | State::Started(_, at) | State::LogFault(_, at) => Some(at),
            State::InFlight(_, step) => Some(step.from()),
            State::Unknown(_) | State::Draining(_) | State::Halted => self.positions.get(&partition).copied(),
            State::Unassigned | State::Assigned | State::Claiming | State::Fenced => None,
        };
        let answer_ended = self.ends.get(&partition).map(|(_, until)| now.saturating_duration_since(*until));
        let end = self.ends.get(&partition).filter(|(_, until)| now < *until).map(|(end, _)| *end);
        let behind = |(end, at): (Position, Position)| u64::try_from(end.0.saturating_sub(at.0)).unwrap_or_default();
        let status = PartitionStatus::of(state)?;
        let is_read = status == PartitionStatus::Running;
        Some(PartitionHealth {
            partition,
            status,
            halt_reason: self.halt_reasons.get(&partition).filter(|_| state == State::Halted).cloned(),
            position,
            log_end: end,
            lag: end.zip(position).map(behind),
            log_unanswered: is_read && answer_ended.is_some_and(|lasts| lasts >= UNANSWERED),
            records_wait,
            throttled,
            stalled: self.stalled.contains(&partition),
            failure,
        })
    }
}

#[cfg(test)]
mod tests;
