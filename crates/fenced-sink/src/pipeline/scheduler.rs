//! Decides which partition a free writer serves next, and with what.
//!
//! Pure: time is an argument, and nothing waits here. The caller waits until the instant that [`Scheduler::next_task`]
//! returns. At any moment at most one writer works on a partition: the protocol of the partition allows no second
//! claim, commit or row read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::model::batch::{BatchLimits, ClaimedBatch};
use crate::model::mirror::CommittedPosition;
use crate::model::protocol::{AfterDrain, Generation, RowEffect, State};
use crate::model::record::Partition;
use crate::model::standing::{HeldPartition, Membership};
use crate::model::topic_log::LogObservation;
use crate::pipeline::reports::{
    KafkaReport, LogDoubtReport, PartitionQuestion, ReadTarget, SettledDoubt, WriterReport, WriterTask,
};
use crate::pipeline::slot::Slot;

/// The interval at which the rows of all partitions are read, so that a change by an operator takes effect.
const ROW_READ_INTERVAL: Duration = Duration::from_secs(1);

/// All partitions that were ever assigned to this process.
#[derive(Debug)]
pub(super) struct Scheduler<E> {
    slots: BTreeMap<Partition, Slot<E>>,
    limits: BatchLimits,
    longest_claim_wait: Duration,
    rows_due: Instant,
    turn: u64,
    membership: Membership,
    reading_ended: bool,
    rejoin_needed: bool,
}

impl<E> Scheduler<E> {
    /// A scheduler without partitions. A fenced partition waits at most `longest_claim_wait` before the next claim.
    pub(super) fn new(now: Instant, limits: BatchLimits, longest_claim_wait: Duration) -> Self {
        Self {
            slots: BTreeMap::new(),
            limits,
            longest_claim_wait,
            rows_due: now,
            turn: 0,
            membership: Membership::default(),
            reading_ended: false,
            rejoin_needed: false,
        }
    }

    /// Applies a report of the consumer thread.
    pub(super) fn kafka_reported(&mut self, now: Instant, report: KafkaReport<E>) {
        match report {
            KafkaReport::Joined => self.membership = Membership::Member,
            KafkaReport::MembershipLost => self.membership = Membership::Lost,
            KafkaReport::Assigned(partitions) => {
                self.membership = Membership::Member;
                self.each(now, partitions, |slot| slot.assigned(now));
            }
            KafkaReport::Revoked(partitions) => self.each(now, partitions, Slot::revoked),
            KafkaReport::Arrived(arrivals) => {
                for (partition, generation, arrival) in arrivals {
                    self.slot(now, partition).arrived(generation, arrival);
                }
            }
            KafkaReport::UnclassifiedError(partitions) => self.each(now, partitions, |slot| slot.restart(now)),
            KafkaReport::AllBrokersDown(partitions) => self.each(now, partitions, |slot| slot.read_again(now)),
            KafkaReport::OutOfRange(partition, generation) => self.slot(now, partition).out_of_range(now, generation),
            KafkaReport::LastRecordMatched(partition, generation, at) => {
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
    pub(super) fn writer_reported(&mut self, now: Instant, report: WriterReport) -> RowEffect {
        let (longest, most_records) = (self.longest_claim_wait, self.limits.records);
        let slot = self.slot(now, report.partition());
        match report {
            WriterReport::Claimed(_, generation, row) => return slot.claimed(now, generation, row, longest),
            WriterReport::RowRead(_, token, row) => return slot.row_read(now, token, row, longest),
            WriterReport::ClaimFailed(_, generation) => slot.claim_failed(generation),
            WriterReport::LogFaultRecorded(_, generation, halted) => slot.log_fault_recorded(now, generation, halted),
            WriterReport::Committed { position, needed_row_by_row, halted } => {
                slot.committed(position, needed_row_by_row, halted, most_records);
            }
            WriterReport::TooSlow(_) => slot.too_slow(now),
            WriterReport::CommitFailed(_) => slot.commit_failed(now),
        }
        RowEffect::Unchanged
    }

    /// The most urgent task, or the instant to ask again.
    pub(super) fn next_task(&mut self, now: Instant, stopping: bool) -> Result<WriterTask<E>, Instant> {
        if !stopping && let Some(task) = self.log_fault().or_else(|| self.row_reads(now)).or_else(|| self.claim(now)) {
            return Ok(task);
        }
        let batches = self.batches();
        match (batches.is_empty(), stopping) {
            (false, _) => Ok(WriterTask::Commit(batches)),
            (true, true) if self.reading_ended => Ok(WriterTask::Stop),
            (true, true) => Err(now + ROW_READ_INTERVAL),
            (true, false) => Err(self.next_due(now)),
        }
    }

    fn log_fault(&mut self) -> Option<WriterTask<E>> {
        self.slots.values_mut().find_map(Slot::take_log_fault).map(WriterTask::RecordLogFault)
    }

    /// Reads all rows once per interval, and at once if the state of one is unknown.
    fn row_reads(&mut self, now: Instant) -> Option<WriterTask<E>> {
        if now < self.rows_due && !self.slots.values().any(|slot| slot.needs_row_read(now)) {
            return None;
        }
        let until = now + ROW_READ_INTERVAL;
        self.rows_due = until;
        let read = |(partition, slot): (&Partition, &mut Slot<E>)| Some((*partition, slot.begin_row_read(until)?));
        let rows: Vec<_> = self.slots.iter_mut().filter_map(read).collect();
        (!rows.is_empty()).then_some(WriterTask::ReadRows(rows))
    }

    fn claim(&mut self, now: Instant) -> Option<WriterTask<E>> {
        let claim =
            |(partition, slot): (&Partition, &mut Slot<E>)| Some(WriterTask::Claim(*partition, slot.begin_claim(now)?));
        self.slots.iter_mut().find_map(claim)
    }

    /// The next batches, up to the limits of one transaction. The partition that has waited longest comes first.
    fn batches(&mut self) -> Vec<ClaimedBatch<E>> {
        let mut room = self.limits;
        let mut batches: Vec<ClaimedBatch<E>> = Vec::new();
        let mut slots: Vec<&mut Slot<E>> = self.slots.values_mut().filter(|slot| slot.has_batch()).collect();
        slots.sort_by_key(|slot| slot.last_turn());
        for slot in slots {
            if room.records == 0 || room.bytes == 0 {
                break;
            }
            self.turn = self.turn.saturating_add(1);
            let Some(claimed) = slot.begin_commit(room, self.turn) else { continue };
            room.records = room.records.saturating_sub(claimed.batch.entries().len());
            room.bytes = room.bytes.saturating_sub(claimed.batch.bytes());
            batches.push(claimed);
        }
        batches
    }

    fn next_due(&self, now: Instant) -> Instant {
        let due = self.slots.values().filter_map(Slot::due).map(|due| due.max(now));
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

    // ---- checks of the log ----

    /// Whether a partition waits for a check of its log before it is read.
    pub(super) fn waits_for_log_check(&self) -> bool {
        self.slots.values().any(Slot::waits_for_log_check)
    }

    /// The questions for Kafka about the logs.
    pub(super) fn questions(&mut self, now: Instant) -> Vec<PartitionQuestion> {
        self.slots.values_mut().filter_map(|slot| slot.question(now)).collect()
    }

    /// The answer of Kafka. True: the fetch has stalled, and the consumer must join the group again.
    pub(super) fn observed(&mut self, now: Instant, asked: &[PartitionQuestion], seen: &LogObservation) -> bool {
        let (others_receive, mut rejoin) = (self.buffered_bytes() > 0, false);
        for question in asked {
            let slot = self.slot(now, question.partition);
            rejoin |= slot.observed(now, question, seen) && slot.fetch_stalled(now, others_receive);
        }
        self.rejoin_needed |= rejoin;
        rejoin
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

    /// The partitions of this process.
    pub(super) fn held(&self) -> Vec<HeldPartition> {
        let held = self.slots.values().map(Slot::held);
        held.filter(|held| !matches!(held.state, State::Unassigned | State::Draining(AfterDrain::Unassigned))).collect()
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
