//! The scheduler behind a lock, shared by the consumer thread, the writers and the tasks that ask Kafka about the topic
//! log, and the signals that wake them.
//!
//! The lock is held for one step of bookkeeping, never across a call to Kafka or the database. It is never held while
//! another lock of this crate is taken.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::model::batch::BatchLimits;
use crate::model::kafka_refusal::{KafkaFact, KafkaNeed, KafkaRefusal};
use crate::model::mirror::CommittedPosition;
use crate::model::protocol::{Generation, RowEffect};
use crate::model::record::{Epoch, Partition, TopicId};
use crate::model::standing::{HeldPartition, Membership, SchedulerView};
use crate::model::topic_log::{LogObservation, Probe};
use crate::pipeline::reports::{
    KafkaReport, LogDoubtReport, PartitionQuestion, ProbeQuestion, ReadTarget, SettledDoubt, WriterReport, WriterTask,
};
use crate::pipeline::scheduler::Scheduler;
use crate::postgres::retry::RetryDelays;

/// The interval at which the probe task looks for a due probe.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The scheduler behind its lock, with the signals that wake its users.
#[derive(Debug)]
pub(crate) struct SharedScheduler<E> {
    scheduler: Mutex<Scheduler<E>>,
    writer_reported: Condvar,
    task: Notify,
    log_check: Notify,
    probe: Notify,
    log_doubt: Notify,
    stopping: watch::Sender<bool>,
}

impl<E> SharedScheduler<E> {
    /// A scheduler without partitions. A fenced partition waits at most `longest_claim_wait` before the next claim.
    #[must_use]
    pub(crate) fn new(limits: BatchLimits, longest_claim_wait: Duration, delays: RetryDelays, writers: usize) -> Self {
        Self {
            scheduler: Mutex::new(Scheduler::new(Instant::now(), limits, longest_claim_wait, delays, writers)),
            writer_reported: Condvar::new(),
            task: Notify::new(),
            log_check: Notify::new(),
            probe: Notify::new(),
            log_doubt: Notify::new(),
            stopping: watch::Sender::new(false),
        }
    }

    /// After this call only the transactions in flight end. The waiting records are read again later.
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
        // It cannot fail: the sender is a field of `self`, so it outlives the wait.
        drop(self.stopping.subscribe().wait_for(|stopping| *stopping).await);
    }

    // ---- the consumer thread ----

    /// Applies a report of the consumer thread.
    pub(crate) fn report(&self, report: KafkaReport<E>) {
        let ended = matches!(report, KafkaReport::ReadingEnded);
        self.lock().kafka_reported(Instant::now(), report);
        self.task.notify_one();
        self.log_doubt.notify_one();
        if ended {
            self.task.notify_waiters(); // a writer without a task must stop now
        }
    }

    /// Waits until no transaction of these partitions is in flight, for at most `limit`.
    pub(crate) fn wait_for_commits(&self, partitions: &[Partition], limit: Duration) {
        let in_flight = |scheduler: &mut Scheduler<E>| scheduler.commit_in_flight(partitions);
        let waited = self.writer_reported.wait_timeout_while(self.lock(), limit, in_flight);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// The partitions of which no record may be read now, while the records that wait exceed `limit` bytes.
    #[must_use]
    pub(crate) fn without_room(&self, limit: usize) -> Vec<Partition> {
        self.lock().without_room(limit)
    }

    /// The partitions that the consumer thread must read, each with its position.
    #[must_use]
    pub(crate) fn read_targets(&self) -> Vec<ReadTarget> {
        self.lock().read_targets()
    }

    /// The consumer thread is about to start reading. False: it must not, the target has changed.
    #[must_use]
    pub(crate) fn started(&self, partition: Partition, generation: Generation) -> bool {
        self.lock().started(Instant::now(), partition, generation)
    }

    /// The positions committed since the last call, for the mirror.
    #[must_use]
    pub(crate) fn take_committed(&self) -> Vec<CommittedPosition> {
        self.lock().take_committed()
    }

    /// Whether no partition is assigned to this process.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Whether the consumer must leave the group and join again. Returns true once.
    #[must_use]
    pub(crate) fn take_rejoin(&self) -> bool {
        self.lock().take_rejoin()
    }

    /// Kafka throttles this client for this time. True: it did not throttle the client before.
    pub(crate) fn throttled(&self, time: Duration) -> bool {
        self.lock().throttled(Instant::now(), time)
    }

    /// Asks for a check of the topic log now.
    pub(crate) fn request_log_check(&self) {
        self.log_check.notify_one();
    }

    // ---- the log check task ----

    /// Returns when a partition waits for a check of its log, or a check was requested.
    pub(crate) async fn log_check_needed(&self) {
        if !self.lock().waits_for_log_check() {
            self.log_check.notified().await;
        }
    }

    /// The questions for Kafka.
    #[must_use]
    pub(crate) fn questions(&self) -> Vec<PartitionQuestion> {
        self.lock().questions()
    }

    /// An answer of Kafka about topic id, bounds or leader epochs.
    pub(crate) fn observed(&self, asked: &[PartitionQuestion], seen: &LogObservation) {
        self.lock().observed(Instant::now(), asked, seen);
        self.task.notify_one();
        self.probe.notify_one();
        self.log_doubt.notify_one();
    }

    /// Kafka has answered what this process may do.
    pub(crate) fn learned(&self, facts: Vec<KafkaFact>) {
        self.lock().learned(Instant::now(), facts);
    }

    /// Kafka has answered no question since this instant.
    pub(crate) fn unanswered(&self, from: Instant) {
        self.lock().unanswered(from, Instant::now());
    }

    /// Whether Kafka refuses this.
    #[must_use]
    pub(crate) fn is_refused(&self, need: KafkaNeed) -> bool {
        self.lock().refusals().contains(need)
    }

    /// The refusal that has lasted longest, if the process has never had all that it needs.
    #[must_use]
    pub(crate) fn refused_since_start(&self) -> Option<KafkaRefusal> {
        self.lock().refusals().since_start(Instant::now())
    }

    // ---- the probe task ----

    /// The next probe, as soon as one is due.
    pub(crate) async fn next_probe(&self) -> ProbeQuestion {
        loop {
            let next = self.lock().next_probe(Instant::now());
            if let Some(next) = next {
                return next;
            }
            // If the wait ends early, the task only asks again.
            drop(tokio::time::timeout(PROBE_INTERVAL, self.probe.notified()).await);
        }
    }

    /// The answer of a probe. True: the fetch has stalled, and the consumer thread joins the group again.
    pub(crate) fn probed(&self, asked: &ProbeQuestion, probe: Probe) -> bool {
        let rejoin = self.lock().probed(Instant::now(), asked, probe);
        self.task.notify_one();
        self.request_log_check(); // the partition may wait for nothing but this proof
        rejoin
    }

    // ---- the log doubt task ----

    /// Returns when there may be a doubt about a log.
    pub(crate) async fn log_doubt_possible(&self) {
        self.log_doubt.notified().await;
    }

    /// A doubt about a log. Each is returned once.
    pub(crate) fn take_log_doubt(&self) -> Option<LogDoubtReport> {
        self.lock().take_log_doubt()
    }

    /// A doubt is settled.
    pub(crate) fn log_doubt_settled(&self, settled: SettledDoubt) {
        self.lock().log_doubt_settled(Instant::now(), settled);
        self.task.notify_one();
    }

    // ---- the writers ----

    /// Waits for a task.
    pub(crate) async fn next_task(&self) -> WriterTask<E> {
        loop {
            let (next, needs_check) = {
                let mut scheduler = self.lock();
                (scheduler.next_task(Instant::now(), self.is_stopping()), scheduler.waits_for_log_check())
            };
            if needs_check {
                self.request_log_check();
            }
            match next {
                Ok(task) => {
                    self.task.notify_one(); // there may be another task for another writer
                    return task;
                }
                Err(due) => {
                    // If the wait ends early, the writer only asks again.
                    let wait = due.saturating_duration_since(Instant::now());
                    drop(tokio::time::timeout(wait, self.task.notified()).await);
                }
            }
        }
    }

    /// Whether the claim is still wanted.
    #[must_use]
    pub(crate) fn is_claiming(&self, partition: Partition, generation: Generation) -> bool {
        self.lock().is_claiming(partition, generation)
    }

    /// The topic ids that Kafka has returned for these partitions, each with the epoch of the claim.
    #[must_use]
    pub(crate) fn topic_ids(&self, partitions: &[Partition]) -> Vec<(Partition, Epoch, TopicId)> {
        self.lock().topic_ids(partitions)
    }

    /// Applies a report of a writer, and returns the effect of the row on the partition.
    pub(crate) fn answer(&self, report: WriterReport<E>) -> RowEffect {
        let effect = self.lock().writer_reported(Instant::now(), report);
        self.task.notify_one();
        self.writer_reported.notify_all();
        if let RowEffect::Start(_) = effect {
            self.request_log_check();
        }
        effect
    }

    /// How long the database has refused every partition that this process may write.
    #[must_use]
    pub(crate) fn refused_for(&self) -> Option<Duration> {
        self.lock().refused_for(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, Scheduler<E>> {
        self.scheduler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Send> SchedulerView for SharedScheduler<E> {
    fn membership(&self) -> Membership {
        self.lock().membership()
    }

    fn stopping(&self) -> bool {
        self.is_stopping()
    }

    fn buffered_bytes(&self) -> usize {
        self.lock().buffered_bytes()
    }

    fn refusals(&self) -> Vec<KafkaRefusal> {
        self.lock().refusals().observed(Instant::now())
    }

    fn held(&self) -> Vec<HeldPartition> {
        self.lock().held(Instant::now())
    }
}
