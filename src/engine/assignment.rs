//! The partitions that Kafka has given to this process, shared by the consumer thread and the writers.
//!
//! The consumer thread reports what it was given and what it has read; a writer that is free takes the next piece of
//! [`Work`] and reports what came of it. At any moment a partition is in the hands of one writer at most. A lock is held
//! for a step of bookkeeping, never across Kafka or the database.

mod schedule;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use self::schedule::Schedule;
use super::batch::{Arrival, Batch, Limits};
use super::health::{Held, Membership, Standings};
use super::ledger::Claimed;
use super::mirror::Committed;
use super::partition::{Belief, Finding, Generation, Row};
use super::record::{Epoch, Partition, Position};

/// What a free writer is to do next.
#[derive(Debug)]
pub(crate) enum Work<E> {
    /// Take the row over.
    Claim(Partition, Generation),
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

/// See the module.
#[derive(Debug)]
pub(crate) struct Assignment<E> {
    schedule: Mutex<Schedule<E>>,
    commit_ended: Condvar,
    work: Notify,
    stopping: watch::Sender<bool>,
    membership: Mutex<Membership>,
}

impl<E> Assignment<E> {
    /// Without any partition; no claim of a fenced partition waits longer than `longest_wait`.
    #[must_use]
    pub(crate) fn new(limits: Limits, longest_wait: Duration) -> Self {
        Self {
            schedule: Mutex::new(Schedule::new(limits, longest_wait)),
            commit_ended: Condvar::new(),
            work: Notify::new(),
            stopping: watch::Sender::new(false),
            membership: Mutex::default(),
        }
    }

    /// From here only what is in flight is finished. Records that wait are left for whoever reads them next.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether [`Self::stop`] was called.
    #[must_use]
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Returns when [`Self::stop`] is called.
    pub(crate) async fn until_stopping(&self) {
        // The sender is a field of ours, so the wait can't fail for want of it.
        drop(self.stopping.subscribe().wait_for(|stopping| *stopping).await);
    }

    // ---- the consumer thread ----

    /// Kafka has given partitions to this process, or none where there are more processes than partitions.
    pub(crate) fn assigned(&self, partitions: &[Partition]) {
        self.change(|schedule| partitions.iter().for_each(|partition| schedule.slot(*partition).assigned()));
        self.is_member();
    }

    /// Kafka takes partitions away. Waits, up to `patience`, for commits of theirs that are in flight.
    pub(crate) fn revoked(&self, partitions: &[Partition], patience: Duration) {
        let mut schedule = self.lock();
        for partition in partitions {
            schedule.slot(*partition).revoked();
        }
        let in_flight = |schedule: &mut Schedule<E>| partitions.iter().any(|p| schedule.slot(*p).commit_in_flight());
        let waited = self.commit_ended.wait_timeout_while(schedule, patience, in_flight);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// The group has this process as a member, even if with nothing to read.
    pub(crate) fn is_member(&self) {
        *self.member() = Membership::Member;
    }

    /// The group does not have this process as a member. True if it had.
    pub(crate) fn membership_lost(&self) -> bool {
        let mut membership = self.member();
        let had = *membership == Membership::Member;
        if had {
            *membership = Membership::Lost;
        }
        had
    }

    /// What the consumer thread should be reading, and from where if it isn't yet.
    #[must_use]
    pub(crate) fn wanted(&self) -> Vec<(Partition, Generation, Position)> {
        self.lock().wanted()
    }

    /// The consumer thread is about to start reading. False: it must not, things have moved on.
    #[must_use]
    pub(crate) fn started(&self, partition: Partition, generation: Generation) -> bool {
        self.lock().slot(partition).started(generation)
    }

    /// What the consumer thread has read, in its order. Whatever belongs to an older generation is dropped.
    pub(crate) fn arrived(&self, arrivals: Vec<(Partition, Generation, Arrival<E>)>) {
        self.change(|schedule| {
            for (partition, generation, arrival) in arrivals {
                schedule.slot(partition).arrived(generation, arrival);
            }
        });
    }

    /// What was delivered of these partitions can't be trusted: they start again where the ledger says, after a moment.
    pub(crate) fn restart(&self, partitions: impl IntoIterator<Item = Partition>) {
        self.change(|schedule| partitions.into_iter().for_each(|partition| schedule.slot(partition).restart()));
    }

    /// The positions committed since the last call, for the mirror.
    #[must_use]
    pub(crate) fn take_committed(&self) -> Vec<Committed> {
        self.lock().take_committed()
    }

    /// What records waiting or in flight occupy.
    #[must_use]
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.lock().buffered_bytes()
    }

    /// Whether Kafka has given this process nothing.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The consumer thread reads no more, and has reported everything.
    pub(crate) fn reading_ended(&self) {
        self.change(Schedule::reading_ended);
        self.work.notify_waiters();
    }

    // ---- the writers ----

    /// Waits for something to do.
    pub(crate) async fn next_work(&self) -> Work<E> {
        loop {
            let next = self.lock().next_work(Instant::now(), self.is_stopping());
            match next {
                Ok(work) => {
                    self.work.notify_one(); // there may be more, for another writer
                    return work;
                }
                Err(due) => {
                    // A wait that ends early only looks again.
                    let wait = due.saturating_duration_since(Instant::now());
                    drop(tokio::time::timeout(wait, self.work.notified()).await);
                }
            }
        }
    }

    /// Whether the claim is still wanted.
    #[must_use]
    pub(crate) fn is_claiming(&self, partition: Partition, generation: Generation) -> bool {
        self.lock().slot(partition).is_claiming(generation)
    }

    /// The database could not be asked.
    pub(crate) fn claim_failed(&self, partition: Partition, generation: Generation) {
        self.change(|schedule| schedule.claim_failed(partition, generation));
    }

    /// The claim's answer; `None` if there is no row, and none can be made yet.
    pub(crate) fn claimed(&self, partition: Partition, generation: Generation, row: Option<Row>) -> Finding {
        self.change(|schedule| schedule.claimed(partition, generation, row))
    }

    /// What the look found in the row; `None` if there is none.
    pub(crate) fn seen(&self, partition: Partition, belief: Belief, row: Option<Row>) -> Finding {
        self.change(|schedule| schedule.seen(partition, belief, row))
    }

    /// How the writing of a partition's batch ended.
    pub(crate) fn written(&self, partition: Partition, how: Written) {
        self.change(|schedule| schedule.written(partition, how));
        self.commit_ended.notify_all();
    }

    fn change<T>(&self, change: impl FnOnce(&mut Schedule<E>) -> T) -> T {
        let changed = change(&mut self.lock());
        self.work.notify_one();
        changed
    }

    fn member(&self) -> MutexGuard<'_, Membership> {
        self.membership.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Schedule<E>> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Send> Standings for Assignment<E> {
    fn membership(&self) -> Membership {
        *self.member()
    }

    fn stopping(&self) -> bool {
        self.is_stopping()
    }

    fn buffered_bytes(&self) -> usize {
        self.lock().buffered_bytes()
    }

    fn held(&self) -> Vec<Held> {
        self.lock().held()
    }
}
