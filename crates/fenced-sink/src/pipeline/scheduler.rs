//! Decides which partition a free writer serves next, and with what.
//!
//! Pure: time is an argument, and nothing waits here. The caller waits until the instant that [`Scheduler::next_task`]
//! returns. At any moment at most one writer works on a partition: the protocol of the partition allows no second
//! claim, commit or row read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::model::batch::{BatchLimits, ClaimedBatch};
use crate::model::kafka_refusal::{KafkaFact, KafkaNeed, KafkaRefusals};
use crate::model::mirror::CommittedPosition;
use crate::model::protocol::{AfterDrain, Generation, RowEffect, State};
use crate::model::record::{Epoch, Partition, TopicId};
use crate::model::standing::{HeldPartition, Membership};
use crate::model::topic_log::{LogObservation, Probe};
use crate::pipeline::receiving::{Receiving, Stall};
use crate::pipeline::reports::{
    KafkaReport, LogDoubtReport, PartitionQuestion, ProbePurpose, ProbeQuestion, ReadTarget, SettledDoubt,
    WriterReport, WriterTask,
};
use crate::pipeline::slot::{Slot, SlotWork};
use crate::postgres::retry::RetryDelays;

/// The interval at which the rows of all partitions are read, so that a change by an operator takes effect.
const ROW_READ_INTERVAL: Duration = Duration::from_secs(1);
/// A transaction is large from this part of its maximum number of records or bytes.
const LARGE_PART: usize = 10;

/// All partitions that were ever assigned to this process.
#[derive(Debug)]
pub(super) struct Scheduler<E> {
    slots: BTreeMap<Partition, Slot<E>>,
    limits: BatchLimits,
    longest_claim_wait: Duration,
    delays: RetryDelays,
    writers: usize,
    rows_due: Instant,
    turn: u64,
    membership: Membership,
    refusals: KafkaRefusals,
    reading_ended: bool,
    receiving: Receiving,
    rejoin_needed: bool,
}

impl<E> Scheduler<E> {
    /// A scheduler without partitions. A fenced partition waits at most `longest_claim_wait` before the next claim.
    pub(super) fn new(
        now: Instant,
        limits: BatchLimits,
        longest_claim_wait: Duration,
        delays: RetryDelays,
        writers: usize,
    ) -> Self {
        Self {
            slots: BTreeMap::new(),
            limits,
            longest_claim_wait,
            delays,
            writers,
            rows_due: now,
            turn: 0,
            membership: Membership::default(),
            refusals: KafkaRefusals::default(),
            reading_ended: false,
            receiving: Receiving::default(),
            rejoin_needed: false,
        }
    }

    /// Applies a report of the consumer thread.
    pub(super) fn kafka_reported(&mut self, now: Instant, report: KafkaReport<E>) {
        match report {
            KafkaReport::Joined => self.joined(now),
            KafkaReport::MembershipLost => self.membership = Membership::Lost,
            KafkaReport::Assigned(partitions) => {
                self.joined(now);
                self.each(now, partitions, |slot| slot.assigned(now));
            }
            KafkaReport::Revoked(partitions) => self.each(now, partitions, Slot::revoked),
            KafkaReport::Refused(refusal) => self.refusals.learned(now, KafkaFact::Refused(refusal)),
            KafkaReport::Arrived(arrivals) => {
                if !arrivals.is_empty() {
                    self.topic_read(now);
                }
                for (partition, generation, arrival) in arrivals {
                    let waited = self.slot(now, partition).arrived(now, generation, arrival);
                    self.receiving.arrived(now, waited);
                }
            }
            KafkaReport::ResponseArrives => self.receiving.response_arrives(now),
            KafkaReport::UnclassifiedError(partitions) => self.each(now, partitions, |slot| slot.restart(now)),
            KafkaReport::AllBrokersDown(partitions) => self.each(now, partitions, |slot| slot.read_again(now)),
            KafkaReport::FetchFailed(partition, generation, failure) => {
                self.slot(now, partition).fetch_failed(now, generation, failure);
            }
            KafkaReport::LastRecordMatched(partition, generation, at) => {
                self.topic_read(now);
                self.receiving.arrived(now, None);
                self.slot(now, partition).last_record_matched(generation, at);
            }
            KafkaReport::LastRecordDiffers(partition, generation, offset) => {
                self.slot(now, partition).last_record_differs(generation, offset);
            }
            KafkaReport::ReadingEnded => {
                self.reading_ended = true;
                // The waiting records are read again later. A position past markers is still committed.
                self.slots.values_mut().filter(|slot| slot.has_records()).for_each(Slot::revoked);
            }
        }
    }

    /// Applies a report of a writer, and returns the effect of the row on the partition.
    pub(super) fn writer_reported(&mut self, now: Instant, report: WriterReport<E>) -> RowEffect {
        let (longest, delays) = (self.longest_claim_wait, self.delays);
        let slot = self.slot(now, report.partition());
        match report {
            WriterReport::Claimed(_, generation, row) => return slot.claimed(now, generation, row, longest),
            WriterReport::RowRead(_, token, row) => return slot.row_read(now, token, row, longest, &delays),
            WriterReport::ClaimFailed(_, generation, failure) => slot.claim_failed(now, generation, failure, &delays),
            WriterReport::RowNotRead(_, token, failure) => slot.row_not_read(now, token, failure, &delays),
            WriterReport::LogFaultRecorded(_, generation, halted) => slot.log_fault_recorded(now, generation, halted),
            WriterReport::LogFaultNotRecorded(_, generation, failure) => {
                slot.log_fault_not_recorded(now, generation, failure, &delays);
            }
            WriterReport::Committed { position, bulk_failure, halted } => {
                slot.committed(position, bulk_failure, halted);
            }
            WriterReport::Fenced(_) => slot.fenced(now),
            WriterReport::RolledBack(claimed, failure) => slot.rolled_back(now, claimed, failure, &delays),
            WriterReport::CommitFailed(_, failure) => slot.commit_failed(now, failure, &delays),
        }
        RowEffect::Unchanged
    }

    /// The most urgent task, or the instant to ask again.
    ///
    /// A partition whose last operation failed has no priority: it takes turns with the batches of the others. If there
    /// are several writers, one of them never works on such a partition, because an operation that fails can take long.
    pub(super) fn next_task(&mut self, now: Instant, stopping: bool) -> Result<WriterTask<E>, Instant> {
        if !stopping && let Some(task) = self.row_reads(now) {
            return Ok(task);
        }
        let tried_again = self.slots.values().filter(|slot| slot.is_tried_again()).count();
        let try_again = tried_again < self.writers.saturating_sub(1).max(1);
        self.turn = self.turn.saturating_add(1);
        let task = match self.next_work(now, stopping, try_again) {
            Some((SlotWork::RecordLogFault, slot)) => slot.take_log_fault().map(WriterTask::RecordLogFault),
            Some((SlotWork::Claim, slot)) => {
                slot.begin_claim(now).map(|generation| WriterTask::Claim(slot.partition(), generation))
            }
            Some((SlotWork::Commit, _)) => {
                Some(self.batches(now, try_again)).filter(|batches| !batches.is_empty()).map(WriterTask::Commit)
            }
            None => None,
        };
        match task {
            Some(task) => Ok(task),
            None if stopping && self.reading_ended => Ok(WriterTask::Stop),
            None if stopping => Err(now + ROW_READ_INTERVAL),
            None => Err(self.next_due(now, try_again)),
        }
    }

    /// Reads all rows once per interval, and immediately if the state of one is unknown. The task is given without
    /// partitions, too: so a writer without work notices that its connection is broken.
    fn row_reads(&mut self, now: Instant) -> Option<WriterTask<E>> {
        if now < self.rows_due && !self.slots.values().any(|slot| slot.needs_row_read(now)) {
            return None;
        }
        let until = now + ROW_READ_INTERVAL;
        self.rows_due = until;
        let read = |(partition, slot): (&Partition, &mut Slot<E>)| Some((*partition, slot.begin_row_read(now, until)?));
        Some(WriterTask::ReadRows(self.slots.iter_mut().filter_map(read).collect()))
    }

    /// The work that comes next. Claims and log faults come first, then the partition that has waited longest.
    fn next_work(&mut self, now: Instant, stopping: bool, try_again: bool) -> Option<(SlotWork, &mut Slot<E>)> {
        let turn = self.turn;
        let work = self.slots.values_mut().filter(|slot| try_again || !slot.is_failing());
        let work = work.filter_map(|slot| Some((slot.work(now, stopping)?, slot)));
        let mut next =
            work.min_by_key(|(work, slot)| (slot.is_failing() || *work == SlotWork::Commit, slot.last_turn()));
        if let Some((SlotWork::RecordLogFault | SlotWork::Claim, slot)) = next.as_mut() {
            slot.takes_turn(turn);
        }
        next
    }

    /// The next batches, up to the limits of one transaction. The partition that has waited longest comes first. A large
    /// transaction leaves the other writers their share of the partitions. A partition whose last transaction failed is
    /// written alone, so that its failure delays no other partition.
    fn batches(&mut self, now: Instant, try_again: bool) -> Vec<ClaimedBatch<E>> {
        let mut room = self.limits;
        let mut batches: Vec<ClaimedBatch<E>> = Vec::new();
        let ready = |slot: &&mut Slot<E>| slot.may_commit(now) && (try_again || !slot.is_failing());
        let mut slots: Vec<&mut Slot<E>> = self.slots.values_mut().filter(ready).collect();
        slots.sort_by_key(|slot| slot.last_turn());
        let share = slots.len().div_ceil(self.writers.max(1));
        for slot in slots {
            let large = self.limits.records.saturating_sub(room.records) >= self.limits.records / LARGE_PART
                || self.limits.bytes.saturating_sub(room.bytes) >= self.limits.bytes / LARGE_PART;
            if room.records == 0 || room.bytes == 0 || large && batches.len() >= share {
                break;
            }
            let alone = slot.is_isolated();
            if alone && !batches.is_empty() {
                continue;
            }
            self.turn = self.turn.saturating_add(1);
            slot.takes_turn(self.turn);
            let Some(claimed) = slot.begin_commit(room) else { continue };
            room.records = room.records.saturating_sub(claimed.batch.entries().len());
            room.bytes = room.bytes.saturating_sub(claimed.batch.bytes());
            batches.push(claimed);
            if alone {
                break;
            }
        }
        batches
    }

    /// A partition that may not be tried again now has no instant: the answer of a writer wakes the other writers.
    fn next_due(&self, now: Instant, try_again: bool) -> Instant {
        let due = self.slots.values().filter_map(|slot| slot.due(try_again)).map(|due| due.max(now));
        due.fold(self.rows_due.max(now), Instant::min)
    }

    // ---- questions of the consumer thread ----

    /// The partitions that the consumer thread must read, each with its position.
    pub(super) fn read_targets(&self) -> Vec<ReadTarget> {
        self.slots.values().filter_map(Slot::read_target).collect()
    }

    /// The consumer thread is about to start reading. False: it must not, the target has changed.
    pub(super) fn started(&mut self, now: Instant, partition: Partition, generation: Generation) -> bool {
        self.slot(now, partition).started(generation)
    }

    /// Whether a transaction of one of these partitions is in flight.
    pub(super) fn commit_in_flight(&self, partitions: &[Partition]) -> bool {
        partitions.iter().filter_map(|partition| self.slots.get(partition)).any(Slot::commit_in_flight)
    }

    pub(super) fn take_committed(&mut self) -> Vec<CommittedPosition> {
        self.slots.values_mut().filter_map(Slot::take_committed).collect()
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.slots.values().map(Slot::buffered_bytes).sum()
    }

    /// The partitions of which no record may be read now. While the records that wait exceed `limit` bytes, only a
    /// partition that has less than its share of `limit` is read. So no partition can fill the buffer for the others, for
    /// example while its transactions fail.
    pub(super) fn without_room(&self, limit: usize) -> Vec<Partition> {
        if self.buffered_bytes() <= limit {
            return Vec::new();
        }
        let read = || self.slots.values().filter(|slot| slot.read_target().is_some());
        let share = limit.checked_div(read().count()).unwrap_or(limit);
        read().filter(|slot| slot.buffered_bytes() > share).map(Slot::partition).collect()
    }

    /// Whether no partition is assigned to this process.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.values().all(Slot::is_unassigned)
    }

    /// Whether the consumer must leave the group and join again. Returns true once.
    pub(super) fn take_rejoin(&mut self) -> bool {
        std::mem::take(&mut self.rejoin_needed)
    }

    // ---- questions of a writer ----

    /// Whether the claim is still wanted.
    pub(super) fn is_claiming(&self, partition: Partition, generation: Generation) -> bool {
        self.slots.get(&partition).is_some_and(|slot| slot.is_claiming(generation))
    }

    /// The topic ids that Kafka has returned for these partitions, each with the epoch of the claim.
    pub(super) fn topic_ids(&self, partitions: &[Partition]) -> Vec<(Partition, Epoch, TopicId)> {
        let id = |partition: &Partition| {
            let (epoch, id) = self.slots.get(partition)?.topic_id()?;
            Some((*partition, epoch, id))
        };
        partitions.iter().filter_map(id).collect()
    }

    /// How long the database has refused every partition that this process may write. `None`: it does not refuse all.
    pub(super) fn refused_for(&self, now: Instant) -> Option<Duration> {
        let writable = self.slots.values().filter(|slot| slot.is_writable());
        let since: Option<Vec<Instant>> = writable.map(Slot::refused_since).collect();
        since?.into_iter().max().map(|since| now.saturating_duration_since(since))
    }

    // ---- checks of the log ----

    /// Whether a partition waits for a check of its log before it is read.
    pub(super) fn waits_for_log_check(&self) -> bool {
        self.slots.values().any(Slot::waits_for_log_check)
    }

    /// The questions for Kafka about the logs.
    pub(super) fn questions(&self) -> Vec<PartitionQuestion> {
        self.slots.values().filter_map(Slot::question).collect()
    }

    /// An answer of Kafka about topic id, bounds or leader epochs.
    pub(super) fn observed(&mut self, now: Instant, asked: &[PartitionQuestion], seen: &LogObservation) {
        for question in asked {
            self.slot(now, question.partition).observed(now, question, seen);
        }
    }

    /// Kafka has answered what this process may do.
    pub(super) fn learned(&mut self, now: Instant, facts: Vec<KafkaFact>) {
        for fact in facts {
            self.refusals.learned(now, fact);
        }
    }

    /// Kafka answered no question between these instants.
    pub(super) fn unanswered(&mut self, from: Instant, now: Instant) {
        self.refusals.unanswered(from, now);
    }

    /// What Kafka refuses.
    pub(super) fn refusals(&self) -> &KafkaRefusals {
        &self.refusals
    }

    /// The next probe. The partitions take turns.
    pub(super) fn next_probe(&self, now: Instant) -> Option<ProbeQuestion> {
        let due = self.slots.values().filter_map(|slot| Some((slot.probe(now)?, slot)));
        // A probe costs bandwidth, so it looks for a record only where nothing else explains the wait.
        let useful = due
            .filter(|(asked, slot)| asked.purpose != ProbePurpose::FetchStall || self.stall(now, slot) != Stall::None);
        useful.min_by_key(|(_, slot)| slot.probe_order()).map(|(asked, _)| asked)
    }

    /// The answer of a probe. True: the fetch has stalled, and the consumer must join the group again.
    pub(super) fn probed(&mut self, now: Instant, asked: &ProbeQuestion, probe: Probe) -> bool {
        if matches!(probe, Probe::Record | Probe::End) {
            self.topic_read(now);
        }
        if !self.slot(now, asked.partition).probed(now, asked, probe) {
            return false;
        }
        let stall = self.slots.get(&asked.partition).map_or(Stall::None, |slot| self.stall(now, slot));
        if stall != Stall::None {
            self.slot(now, asked.partition).fetch_stalled(now, stall == Stall::Alone);
        }
        self.rejoin_needed |= stall == Stall::Consumer;
        stall == Stall::Consumer
    }

    /// Whether a record that this partition does not receive would be a stall.
    fn stall(&self, now: Instant, slot: &Slot<E>) -> Stall {
        // A partition waits only while no record of it waits in this process. Then it is read, whatever waits of others.
        slot.waited(now).map_or(Stall::None, |(waited, idle_time)| self.receiving.stall(now, waited, idle_time))
    }

    /// A doubt about a log, for the log doubt task.
    pub(super) fn take_log_doubt(&mut self) -> Option<LogDoubtReport> {
        self.slots.values_mut().find_map(Slot::take_log_doubt)
    }

    /// The log doubt task has settled a doubt.
    pub(super) fn log_doubt_settled(&mut self, now: Instant, settled: SettledDoubt) {
        self.slot(now, settled.partition).log_doubt_settled(now, settled);
    }

    // ---- questions of observers ----

    pub(super) fn membership(&self) -> Membership {
        self.membership
    }

    /// Kafka throttles this client for this time. True: it did not throttle the client before.
    pub(super) fn throttled(&mut self, now: Instant, time: Duration) -> bool {
        self.receiving.throttled(now, time)
    }

    /// The partitions of this process.
    pub(super) fn held(&self, now: Instant) -> Vec<HeldPartition> {
        let throttled = self.receiving.is_throttled(now);
        let held = self.slots.values().map(|slot| slot.held(now, throttled));
        held.filter(|held| !matches!(held.state, State::Unassigned | State::Draining(AfterDrain::Unassigned))).collect()
    }

    fn joined(&mut self, now: Instant) {
        self.membership = Membership::Member;
        self.refusals.learned(now, KafkaFact::Permitted(KafkaNeed::JoinGroup));
    }

    /// A read of the topic succeeded.
    fn topic_read(&mut self, now: Instant) {
        self.refusals.learned(now, KafkaFact::Permitted(KafkaNeed::ReadTopic));
    }

    fn slot(&mut self, now: Instant, partition: Partition) -> &mut Slot<E> {
        self.slots.entry(partition).or_insert_with(|| Slot::new(now, partition, self.limits.records))
    }

    fn each(&mut self, now: Instant, partitions: Vec<Partition>, apply: impl Fn(&mut Slot<E>)) {
        for partition in partitions {
            apply(self.slot(now, partition));
        }
    }
}

#[cfg(test)]
mod tests;
