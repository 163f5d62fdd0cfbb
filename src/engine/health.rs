//! What can be asked about a running engine: where its partitions stand, whether the database does what it is asked, and
//! what was counted.
//!
//! Only told to, never asked, by those who write: nothing that they decide depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::assignment::Assigned;
use super::metrics::Counts;
use super::partition::{Row, State};
use super::record::{Partition, Position};
use super::transaction::Handled;
use super::writer::trouble::Errand;

/// One for each run; its clones tell the same.
#[derive(Clone, Default)]
pub struct Health {
    known: Arc<Mutex<Known>>,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct Known {
    topic: String,
    assignment: Option<Arc<dyn Standings>>,
    halt_reasons: BTreeMap<Partition, String>,
    /// By the rows, when they were last read; a partition that is read knows better.
    positions: BTreeMap<Partition, Position>,
    /// Where the log ends, and until when that counts if nothing newer is heard.
    ends: BTreeMap<Partition, (Position, Instant)>,
    stalled: BTreeSet<Partition>,
    /// What last failed, and until when that counts if nothing is heard of it again.
    trouble: Option<(Errand, Instant)>,
}

/// Where a run stands at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
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
    pub partitions: Vec<Standing>,
}

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

/// Where a partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which one.
    pub partition: Partition,
    /// Its state.
    pub state: State,
    /// The row's reason, once it has been read; halted partitions only.
    pub halt_reason: Option<String>,
    /// Below it, everything is handled; not known before the row has been claimed, nor while it is somebody else's.
    pub position: Option<Position>,
    /// How many offsets the position is behind the end of the log, as of the last look at the log.
    pub lag: Option<u64>,
    /// Records of it wait in this process, or are being written.
    pub records_wait: bool,
    /// The watchdog says so: records wait, and nothing has been committed for too long.
    pub stalled: bool,
}

/// A partition of ours, as the assignment knows it.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    pub(crate) partition: Partition,
    pub(crate) state: State,
    pub(crate) records_wait: bool,
}

/// What the assignment can tell, whatever the event.
pub(crate) trait Standings: Send + Sync {
    /// Whether we are a member of the group.
    fn membership(&self) -> Membership;
    /// The end has begun.
    fn stopping(&self) -> bool;
    /// What records waiting or in flight occupy.
    fn buffered_bytes(&self) -> usize;
    /// The partitions that are ours.
    fn held(&self) -> Vec<Held>;
}

impl Health {
    /// `None` as long as the run has not begun.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let assignment = Arc::clone(self.lock().assignment.as_ref()?);
        let mut snapshot = Snapshot {
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
        snapshot.partitions = held.into_iter().map(|held| known.standing(held, now)).collect();
        Some(snapshot)
    }

    /// What was counted so far; nothing is, before the run has begun.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counting().clone()
    }

    /// The run begins. What was counted before stays.
    pub(crate) fn began(&self, topic: &str, assignment: Arc<dyn Standings>) {
        *self.lock() = Known { topic: topic.to_owned(), assignment: Some(assignment), ..Known::default() };
    }

    /// What a row says that was claimed; `None` if there is none.
    pub(crate) fn claimed(&self, partition: Partition, row: Option<Row>) {
        let mut known = self.lock();
        match row {
            Some(row) => known.positions.insert(partition, row.next),
            None => known.positions.remove(&partition),
        };
    }

    /// What a row says, and about a halt.
    pub(crate) fn seen(&self, partition: Partition, row: Option<Row>, halt_reason: Option<String>) {
        self.claimed(partition, row);
        let mut known = self.lock();
        match halt_reason {
            Some(reason) => known.halt_reasons.insert(partition, reason),
            None => known.halt_reasons.remove(&partition),
        };
    }

    /// This process has halted a partition, which is at this position.
    pub(crate) fn halted(&self, partition: Partition, at: Position, reason: &'static str) {
        self.counting().halted(reason);
        let mut known = self.lock();
        known.positions.insert(partition, at);
        known.halt_reasons.insert(partition, reason.to_owned());
    }

    /// Where the log of a partition ends: past the last record that can be read. That counts for so long if nothing newer
    /// is heard.
    pub(crate) fn log_end(&self, partition: Partition, end: Position, lasts: Duration) {
        let now = Instant::now();
        self.lock().ends.insert(partition, (end, now.checked_add(lasts).unwrap_or(now)));
    }

    /// So many offsets were found to be gone.
    pub(crate) fn gap(&self, reason: &'static str, records: u64) {
        self.counting().gap(reason, records);
    }

    /// A transaction has ended that took so long, and is now `now`.
    pub(crate) fn written<E>(&self, work: &[Assigned<E>], handled: &[Handled], took: Duration, now: SystemTime) {
        self.counting().written(work, handled, took, now);
        let mut known = self.lock();
        for (one, _) in work.iter().zip(handled).filter(|(_, handled)| **handled != Handled::Fenced) {
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
    pub(crate) fn failed(&self, errand: Errand, error: &sqlx::Error, lasts: Duration) {
        self.counting().retried(error);
        let mut known = self.lock();
        let now = Instant::now();
        let until = now.checked_add(lasts).unwrap_or(now);
        let (before, not_sooner) = known.trouble.unwrap_or((errand, until));
        known.trouble = Some((errand.max(before), until.max(not_sooner)));
    }

    /// The database did what it was asked.
    pub(crate) fn done(&self, errand: Errand) {
        self.lock().trouble.take_if(|(failed, until)| errand >= *failed || *until <= Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counting(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn standing(&self, held: Held, now: Instant) -> Standing {
        let Held { partition, state, records_wait } = held;
        let position = match state {
            State::Claimed(_, at) | State::Started(_, at) | State::Faulty(_, at) => Some(at),
            State::InFlight(_, step) => Some(step.from()),
            State::Unsure(_) | State::Draining(_) | State::Halted => self.positions.get(&partition).copied(),
            State::Elsewhere | State::Owned | State::Claiming | State::Fenced => None,
        };
        let end = self.ends.get(&partition).filter(|(_, until)| now < *until).map(|(end, _)| *end);
        let behind = |(end, at): (Position, Position)| u64::try_from(end.0.saturating_sub(at.0)).unwrap_or_default();
        Standing {
            partition,
            state,
            halt_reason: self.halt_reasons.get(&partition).filter(|_| state == State::Halted).cloned(),
            position,
            lag: end.zip(position).map(behind),
            records_wait,
            stalled: self.stalled.contains(&partition),
        }
    }
}

#[cfg(test)]
mod tests;
