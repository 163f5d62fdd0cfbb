//! One partition of this process: its protocol state, its queue, its log, and the effects of its recent failures.
//!
//! Pure: time is an argument. Only the scheduler calls it.

mod log_state;

use std::time::{Duration, Instant};

use self::log_state::{LogState, LogVerdict};
use crate::model::batch::{Arrival, BatchLimits, ClaimedBatch, Queue};
use crate::model::leader_epochs::LogDoubt;
use crate::model::mirror::CommittedPosition;
use crate::model::protocol::{Generation, Protocol, RowEffect, RowReadToken, State};
use crate::model::record::{LeaderEpoch, Offset, Partition, Position};
use crate::model::standing::HeldPartition;
use crate::model::stored_row::StoredRow;
use crate::model::topic_log::{Gap, LogObservation};
use crate::pipeline::reports::{LogDoubtReport, LogFaultReport, PartitionQuestion, ReadTarget, SettledDoubt};

/// The wait before the next claim of a partition that was fenced or could not be claimed. It doubles each time.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);
/// The wait before a partition is read again after an error: the cause may still exist.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// After a batch that needed row-by-row mode, this many batches of the partition start in that mode.
const ROW_BY_ROW_BATCHES: u32 = 8;

/// The state of one partition in this process.
#[derive(Debug)]
pub(super) struct Slot<E> {
    partition: Partition,
    protocol: Protocol,
    queue: Queue<E>,
    log: LogState,
    in_flight_bytes: usize,
    /// No claim and no urgent row read before this instant.
    not_before: Instant,
    failed_claims: u32,
    row_by_row_batches: u32,
    /// Halved when a batch was too slow, doubled after a commit.
    max_records: usize,
    last_turn: u64,
    committed: Option<CommittedPosition>,
    log_doubt: Option<LogDoubtReport>,
    log_fault: Option<LogFaultReport>,
}

impl<E> Slot<E> {
    pub(super) fn new(now: Instant, partition: Partition, max_records: usize) -> Self {
        Self {
            partition,
            protocol: Protocol::default(),
            queue: Queue::new(partition),
            log: LogState::new(now),
            in_flight_bytes: 0,
            not_before: now,
            failed_claims: 0,
            row_by_row_batches: 0,
            max_records,
            last_turn: 0,
            committed: None,
            log_doubt: None,
            log_fault: None,
        }
    }

    // ---- what the scheduler asks ----

    pub(super) fn held(&self) -> HeldPartition {
        let records_wait = self.queue.has_records() || self.in_flight_bytes > 0;
        HeldPartition { partition: self.partition, state: self.protocol.state(), records_wait }
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.queue.bytes().saturating_add(self.in_flight_bytes)
    }

    pub(super) fn is_unassigned(&self) -> bool {
        self.protocol.state() == State::Unassigned
    }

    pub(super) fn has_records(&self) -> bool {
        self.queue.has_records()
    }

    pub(super) fn commit_in_flight(&self) -> bool {
        self.protocol.commit_in_flight()
    }

    pub(super) fn is_claiming(&self, generation: Generation) -> bool {
        self.protocol.state() == State::Claiming && self.protocol.generation() == generation
    }

    /// The turn in which it was served last. The partition with the lowest turn has waited the longest.
    pub(super) fn last_turn(&self) -> u64 {
        self.last_turn
    }

    /// When a claim or an urgent row read is due. `None`: the partition waits for neither.
    pub(super) fn due(&self) -> Option<Instant> {
        let waits = matches!(self.protocol.state(), State::Assigned | State::Fenced | State::Unknown(_));
        waits.then_some(self.not_before)
    }

    /// Whether the state of the row is unknown, so that the row has to be read at once.
    pub(super) fn needs_row_read(&self, now: Instant) -> bool {
        matches!(self.protocol.state(), State::Unknown(_)) && self.not_before <= now
    }

    // ---- what Kafka reports ----

    pub(super) fn assigned(&mut self, now: Instant) {
        self.protocol.assigned();
        self.drop_stale_records();
        self.not_before = now;
        self.failed_claims = 0;
        self.log.assigned();
    }

    pub(super) fn revoked(&mut self) {
        self.protocol.revoked();
        self.drop_stale_records();
    }

    /// Where the consumer thread must read. Reading starts only after the log check.
    pub(super) fn read_target(&self) -> Option<ReadTarget> {
        let (generation, at) = self.protocol.read_target()?;
        let starting = matches!(self.protocol.state(), State::Claimed(..));
        let last_record = self.log.last_record();
        let is_last = |(offset, _): &(Offset, LeaderEpoch)| last_record.is_some_and(|(last, _)| last == *offset);
        let leader_epoch = self.log.last_with_epoch().filter(is_last).map(|(_, epoch)| epoch);
        let target = ReadTarget { partition: self.partition, generation, at, last_record, leader_epoch };
        (!starting || self.log.is_checked()).then_some(target)
    }

    /// Whether the partition waits for a check of its log before it is read.
    pub(super) fn waits_for_log_check(&self) -> bool {
        self.protocol.read_target().is_some() && self.read_target().is_none()
    }

    /// The consumer thread is about to start reading. False: it must not, the target has changed.
    pub(super) fn started(&mut self, generation: Generation) -> bool {
        self.log.is_checked() && self.protocol.started(generation)
    }

    pub(super) fn arrived(&mut self, generation: Generation, arrival: Arrival<E>) {
        self.queue.push(generation, arrival);
    }

    /// The delivered records cannot be trusted.
    pub(super) fn restart(&mut self, now: Instant) {
        if let Some((_, at)) = self.protocol.read_target() {
            self.log.not_trusted(at);
        }
        self.read_again(now);
    }

    /// Drops the records in memory. Reading starts again at the position of the row, after a log check.
    pub(super) fn read_again(&mut self, now: Instant) {
        self.protocol.restart();
        self.drop_stale_records();
        self.not_before = now + RESTART_AFTER;
    }

    /// The broker refused the position behind all records that were read. This has an effect after they are committed.
    pub(super) fn out_of_range(&mut self, now: Instant, generation: Generation) {
        if self.protocol.generation() == generation && self.protocol.ready_at().is_some() && self.queue.is_empty() {
            self.log.out_of_range();
            self.read_again(now);
        }
    }

    pub(super) fn last_record_matched(&mut self, generation: Generation, at: Position) {
        if self.protocol.generation() == generation {
            self.log.last_record_matched(at);
        }
    }

    pub(super) fn last_record_differs(&mut self, generation: Generation, offset: Offset) {
        self.found_log_doubt(generation, LogDoubt::Differs(offset));
    }

    // ---- checks of the log ----

    /// The question about the log: before reading starts, and repeatedly while the partition is read.
    pub(super) fn question(&mut self, now: Instant) -> Option<PartitionQuestion> {
        let (generation, at) = self.protocol.read_target()?;
        let nothing_to_commit = self.protocol.ready_at().is_some() && self.queue.is_empty();
        let question = self.log.question(now, at, nothing_to_commit);
        Some(PartitionQuestion { partition: self.partition, generation, question })
    }

    /// The answer of Kafka. True: the topic log has a record at the position, and the consumer does not receive it.
    pub(super) fn observed(&mut self, now: Instant, asked: &PartitionQuestion, seen: &LogObservation) -> bool {
        let (generation, question) = (asked.generation, asked.question);
        if self.protocol.generation() != generation {
            return false;
        }
        // Records that were committed after the question are in doubt, too.
        let at = self.protocol.read_target().map_or(question.at, |(_, at)| at);
        match self.log.observed(now, self.partition, question, seen, at) {
            LogVerdict::Fault(gap) => self.found_log_fault(generation, gap),
            LogVerdict::Doubt(doubt) => self.found_log_doubt(generation, doubt),
            LogVerdict::OutOfRange if self.protocol.ready_at() == Some(question.at) => {
                self.out_of_range(now, generation);
            }
            LogVerdict::FetchStalled => return self.protocol.ready_at() == Some(question.at),
            LogVerdict::OutOfRange | LogVerdict::Nothing => {}
        }
        false
    }

    /// The fetch of this partition has stalled. If others still receive records, only this partition is read again.
    /// True: none does, so the consumer must leave the group and join again.
    pub(super) fn fetch_stalled(&mut self, now: Instant, others_receive: bool) -> bool {
        self.log.fetch_stalled();
        if others_receive {
            self.read_again(now);
        }
        !others_receive
    }

    /// The log fault that a writer must record. Returns it once.
    pub(super) fn take_log_fault(&mut self) -> Option<LogFaultReport> {
        self.log_fault.take()
    }

    fn found_log_fault(&mut self, generation: Generation, gap: Gap) {
        if let Some((generation, epoch, at)) = self.protocol.log_fault(generation) {
            self.log_fault = Some(LogFaultReport { partition: self.partition, generation, epoch, at, gap });
        }
        self.drop_stale_records();
    }

    /// Reading ends until the leader epochs have told where the gap begins.
    fn found_log_doubt(&mut self, generation: Generation, doubt: LogDoubt) {
        if let Some(known) = self.log.known().cloned()
            && let Some((generation, epoch, at)) = self.protocol.log_fault(generation)
        {
            let partition = self.partition;
            self.log_doubt = Some(LogDoubtReport { partition, generation, epoch, at, doubt, known });
        }
        self.drop_stale_records();
    }

    /// The doubt about the log that the log doubt task must settle. Returns it once.
    pub(super) fn take_log_doubt(&mut self) -> Option<LogDoubtReport> {
        self.log_doubt.take()
    }

    /// The log doubt task has settled a doubt. Without a gap, the partition is read again after a check of the log.
    pub(super) fn log_doubt_settled(&mut self, now: Instant, settled: SettledDoubt) {
        let SettledDoubt { partition, generation, epoch, at, gap } = settled;
        match gap {
            Some(gap) if generation == self.protocol.generation() => {
                self.log_fault = Some(LogFaultReport { partition, generation, epoch, at, gap });
            }
            Some(_) => {}
            None => {
                self.protocol.log_fault_recorded(generation, false);
                self.drop_stale_records();
                self.not_before = now + RESTART_AFTER;
            }
        }
    }

    pub(super) fn log_fault_recorded(&mut self, now: Instant, generation: Generation, halted: bool) {
        self.protocol.log_fault_recorded(generation, halted);
        self.drop_stale_records();
        self.not_before = now;
    }

    // ---- the row ----

    /// Begins a claim if one is due.
    pub(super) fn begin_claim(&mut self, now: Instant) -> Option<Generation> {
        (self.not_before <= now).then(|| self.protocol.begin_claim()).flatten()
    }

    pub(super) fn claimed(
        &mut self,
        now: Instant,
        generation: Generation,
        row: Option<StoredRow>,
        longest_wait: Duration,
    ) -> RowEffect {
        self.failed_claims = if row.is_some() { 0 } else { self.failed_claims.saturating_add(1) };
        let effect = self.protocol.claimed(generation, row.as_ref().map(|row| row.row));
        self.apply(now, effect, row);
        self.delay(now, longest_wait);
        effect
    }

    pub(super) fn claim_failed(&mut self, generation: Generation) {
        self.protocol.claimed(generation, None);
        self.drop_stale_records();
    }

    /// Begins a read of the row. No other writer reads it before `until`.
    pub(super) fn begin_row_read(&mut self, until: Instant) -> Option<RowReadToken> {
        let token = self.protocol.begin_row_read()?;
        self.not_before = until;
        Some(token)
    }

    pub(super) fn row_read(
        &mut self,
        now: Instant,
        token: RowReadToken,
        row: Option<StoredRow>,
        longest_wait: Duration,
    ) -> RowEffect {
        let effect = self.protocol.row_read(token, row.as_ref().map(|row| row.row));
        self.apply(now, effect, row);
        if effect != RowEffect::Unchanged {
            self.delay(now, longest_wait);
        }
        effect
    }

    /// The start position is mirrored to Kafka as well: an operator may have moved it back. The log is checked again.
    fn apply(&mut self, now: Instant, effect: RowEffect, row: Option<StoredRow>) {
        self.drop_stale_records();
        if let (RowEffect::Start(position), Some(row)) = (effect, row) {
            self.committed = Some(CommittedPosition::confirmed(self.partition, position));
            self.log.row_read(now, row.known);
        }
    }

    fn delay(&mut self, now: Instant, longest: Duration) {
        let wait = match self.protocol.fenced_in_a_row().max(self.failed_claims) {
            0 => Duration::ZERO,
            times => CLAIM_AGAIN.saturating_mul(2_u32.saturating_pow(times - 1)).min(longest),
        };
        self.not_before = now + wait;
    }

    // ---- batches ----

    pub(super) fn has_batch(&self) -> bool {
        self.protocol.ready_at().is_some() && !self.queue.is_empty()
    }

    /// Cuts the next batch, with the right to commit it.
    pub(super) fn begin_commit(&mut self, limits: BatchLimits, turn: u64) -> Option<ClaimedBatch<E>> {
        let limits = BatchLimits { records: limits.records.min(self.max_records), bytes: limits.bytes };
        let batch = self.protocol.ready_at().and_then(|from| self.queue.take(from, limits))?;
        let epoch = self.protocol.begin_commit(batch.step())?;
        self.in_flight_bytes = batch.bytes();
        self.last_turn = turn;
        let known = self.log.known().cloned();
        self.log.records_read(batch.leader_epochs());
        Some(ClaimedBatch { batch, epoch, row_by_row: self.row_by_row_batches > 0, known })
    }

    /// The batch in flight is committed; `most_records` is the limit that the size of batches may grow to.
    pub(super) fn committed(
        &mut self,
        position: CommittedPosition,
        needed_row_by_row: bool,
        halted: bool,
        most_records: usize,
    ) {
        if halted {
            self.protocol.committed_and_halted();
        } else {
            self.protocol.committed();
        }
        self.in_flight_bytes = 0;
        self.drop_stale_records();
        self.committed = Some(position);
        self.max_records = self.max_records.saturating_mul(2).min(most_records);
        self.row_by_row_batches =
            if needed_row_by_row { ROW_BY_ROW_BATCHES } else { self.row_by_row_batches.saturating_sub(1) };
    }

    pub(super) fn too_slow(&mut self, now: Instant) {
        self.max_records = self.max_records.div_euclid(2).max(1);
        self.commit_failed(now);
    }

    /// Drops the records in memory. The row decides what follows, as soon as it can be read.
    pub(super) fn commit_failed(&mut self, now: Instant) {
        self.protocol.commit_failed();
        self.in_flight_bytes = 0;
        self.drop_stale_records();
        self.not_before = now;
    }

    /// The position committed since the last call, for the mirror.
    pub(super) fn take_committed(&mut self) -> Option<CommittedPosition> {
        self.committed.take()
    }

    /// Follows every change of the protocol: the queue holds records of the current generation only.
    fn drop_stale_records(&mut self) {
        self.queue.set_generation(self.protocol.generation());
    }
}

#[cfg(test)]
mod tests;
