//! The partitions that Kafka has given to this process, shared by the consumer thread and the writers.
//!
//! The consumer thread reports what it was given and what it has read; a writer that is free takes the next piece of
//! [`Work`] and reports what came of it. At any moment a partition is in the hands of one writer at most. A lock is held
//! for a step of bookkeeping, never across Kafka or the database.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

use crate::model::batch::{Arrival, BatchLimits};
use crate::model::mirror::CommittedPosition;
use crate::model::protocol::{Generation, RowEffect, RowReadToken};
use crate::model::record::{Offset, Partition, Position};
use crate::model::standing::{HeldPartition, Membership, SchedulerView};
use crate::model::stored_row::StoredRow;
use crate::model::topic_log::LogObservation;
use crate::pipeline::scheduler::Scheduler;
use crate::pipeline::work::{CommitResult, LogFaultReport, PartitionQuestion, ReadTarget, Work};

/// See the module.
#[derive(Debug)]
pub(crate) struct SharedScheduler<E> {
    schedule: Mutex<Scheduler<E>>,
    commit_ended: Condvar,
    work: Notify,
    log: Notify,
    stopping: watch::Sender<bool>,
    membership: Mutex<Membership>,
    consumer_is_deaf: AtomicBool,
}

impl<E> SharedScheduler<E> {
    /// Without any partition; no claim of a fenced partition waits longer than `longest_wait`.
    #[must_use]
    pub(crate) fn new(limits: BatchLimits, longest_wait: Duration) -> Self {
        Self {
            schedule: Mutex::new(Scheduler::new(limits, longest_wait)),
            commit_ended: Condvar::new(),
            work: Notify::new(),
            log: Notify::new(),
            stopping: watch::Sender::new(false),
            membership: Mutex::default(),
            consumer_is_deaf: AtomicBool::new(false),
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

    /// Kafka takes partitions away. Waits, up to `timeout`, for commits of theirs that are in flight.
    pub(crate) fn revoked(&self, partitions: &[Partition], timeout: Duration) {
        let mut schedule = self.lock();
        for partition in partitions {
            schedule.slot(*partition).revoked();
        }
        let in_flight = |schedule: &mut Scheduler<E>| partitions.iter().any(|p| schedule.slot(*p).commit_in_flight());
        let waited = self.commit_ended.wait_timeout_while(schedule, timeout, in_flight);
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

    /// What the consumer thread should be reading.
    #[must_use]
    pub(crate) fn wanted(&self) -> Vec<ReadTarget> {
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

    /// These partitions start again where the ledger says, after a look at the log and at the last record.
    pub(crate) fn read_again(&self, partitions: impl IntoIterator<Item = Partition>) {
        self.change(|schedule| partitions.into_iter().for_each(|partition| schedule.slot(partition).read_again()));
    }

    /// The broker refused the position behind all that was read of a partition. To be told again and again: it has no effect
    /// before all of that is committed.
    pub(crate) fn out_of_range(&self, partition: Partition, generation: Generation) {
        self.change(|schedule| schedule.slot(partition).out_of_range(generation));
    }

    /// The record before the position is the one that the ledger remembers, or none is there any more.
    pub(crate) fn last_record_matched(&self, partition: Partition, generation: Generation, at: Position) {
        self.change(|schedule| schedule.slot(partition).last_record_matched(generation, at));
    }

    /// The record at this offset, below the position, is another one than the ledger remembers, or should not be there.
    pub(crate) fn last_record_differs(&self, partition: Partition, generation: Generation, offset: Offset) {
        self.change(|schedule| schedule.slot(partition).last_record_differs(generation, offset));
    }

    /// Something is strange about the topic: its log is looked at now.
    pub(crate) fn look_at_the_log(&self) {
        self.log.notify_one();
    }

    /// The positions committed since the last call, for the mirror.
    #[must_use]
    pub(crate) fn take_committed(&self) -> Vec<CommittedPosition> {
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

    /// Whether the consumer does not hear of records that are there. Told once.
    #[must_use]
    pub(crate) fn take_deaf(&self) -> bool {
        self.consumer_is_deaf.swap(false, Ordering::Relaxed)
    }

    /// The consumer thread reads no more, and has reported everything.
    pub(crate) fn reading_ended(&self) {
        self.change(Scheduler::reading_ended);
        self.work.notify_waiters();
    }

    // ---- whoever looks at the log ----

    /// Waits until a partition may not be read before its log was looked at, or something is strange.
    pub(crate) async fn until_in_doubt(&self) {
        if !self.lock().waits_for_a_look_at_the_log() {
            self.log.notified().await;
        }
    }

    /// What is to be asked now.
    #[must_use]
    pub(crate) fn questions(&self) -> Vec<PartitionQuestion> {
        self.lock().questions()
    }

    /// What the log looked like after the questions were made. True: the consumer is deaf, and is told to begin anew.
    pub(crate) fn saw(&self, questions: &[PartitionQuestion], seen: &LogObservation) -> bool {
        let deaf = self.change(|schedule| schedule.saw(questions, seen));
        self.consumer_is_deaf.fetch_or(deaf, Ordering::Relaxed);
        deaf
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
        self.change(|schedule| schedule.slot(partition).claim_failed(generation));
    }

    /// The claim's answer; `None` if there is no row, and none can be made yet.
    pub(crate) fn claimed(&self, partition: Partition, generation: Generation, found: Option<StoredRow>) -> RowEffect {
        self.placed(self.change(|schedule| schedule.claimed(partition, generation, found)))
    }

    /// What the look found in the row; `None` if there is none.
    pub(crate) fn seen(&self, partition: Partition, belief: RowReadToken, found: Option<StoredRow>) -> RowEffect {
        self.placed(self.change(|schedule| schedule.seen(partition, belief, found)))
    }

    /// A fault of the log was noted, or could not be: whether the row is halted now.
    pub(crate) fn noted(&self, noting: &LogFaultReport, halted: bool) {
        self.change(|schedule| schedule.slot(noting.partition).noted(noting.generation, halted));
    }

    /// How the writing of a partition's batch ended.
    pub(crate) fn written(&self, partition: Partition, how: CommitResult) {
        self.change(|schedule| schedule.written(partition, how));
        self.commit_ended.notify_all();
    }

    fn placed(&self, finding: RowEffect) -> RowEffect {
        if let RowEffect::Start(_) = finding {
            self.look_at_the_log();
        }
        finding
    }

    fn change<T>(&self, change: impl FnOnce(&mut Scheduler<E>) -> T) -> T {
        let changed = change(&mut self.lock());
        self.work.notify_one();
        changed
    }

    fn member(&self) -> MutexGuard<'_, Membership> {
        self.membership.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Scheduler<E>> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Send> SchedulerView for SharedScheduler<E> {
    fn membership(&self) -> Membership {
        *self.member()
    }

    fn stopping(&self) -> bool {
        self.is_stopping()
    }

    fn buffered_bytes(&self) -> usize {
        self.lock().buffered_bytes()
    }

    fn held(&self) -> Vec<HeldPartition> {
        self.lock().held()
    }
}
