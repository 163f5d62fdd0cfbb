//! One partition of this process: its protocol state, its queue, its log, and its failure record.
//!
//! Pure: time is an argument. Only the scheduler calls it.

mod log_state;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use self::log_state::{Follows, LogState, LogVerdict};
use crate::model::batch::{Arrival, BatchLimits, ClaimedBatch, Queue};
use crate::model::error_class::ErrorClass;
use crate::model::failure::{Failure, FailureRecord};
use crate::model::leader_epochs::LogDoubt;
use crate::model::mirror::CommittedPosition;
use crate::model::operation::DbOperation;
use crate::model::outcome::BulkFailure;
use crate::model::protocol::{AfterDrain, Generation, Protocol, RowEffect, RowReadToken, State};
use crate::model::record::{Epoch, LeaderEpoch, Offset, Partition, Position, TopicId};
use crate::model::standing::HeldPartition;
use crate::model::stored_row::StoredRow;
use crate::model::topic_log::{Gap, LogObservation, Probe};
use crate::pipeline::reports::{
    FetchFailure, LogDoubtReport, LogFaultReport, PartitionQuestion, ProbePurpose, ProbeQuestion, ReadTarget,
    SettledDoubt,
};
use crate::postgres::retry::RetryDelays;

/// The wait before the next claim of a partition that was fenced or could not be claimed. It doubles each time.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);
/// The wait before a partition is read again after an error: the cause may still exist.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// The number of batches of a partition for which the bulk failure of an earlier batch counts.
const BULK_FAILURE_BATCHES: u32 = 8;
/// The longest retry delay while another transaction holds a lock. It is short, because the wait for the lock is a
/// delay, too.
const AFTER_CONTENTION: Duration = Duration::from_secs(1);
/// A failure ends if the row can be read and no operation failed for this time, or for twice the longest retry delay if
/// that is longer.
const OUTDATED: Duration = Duration::from_mins(1);
/// After a batch that the database refused, the size of the next one is divided by this. In the end, only the record
/// that is the cause waits.
const REFUSED_DIVISOR: usize = 4;

/// The work that a writer can do for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotWork {
    RecordLogFault,
    Claim,
    Commit,
}

/// The state of one partition in this process.
#[derive(Debug)]
pub(super) struct Slot<E> {
    partition: Partition,
    protocol: Protocol,
    queue: Queue<E>,
    log: LogState,
    in_flight_bytes: usize,
    in_flight_records: usize,
    /// The first record in the queue waits for a comparison of the log.
    is_stopped: bool,
    /// No claim and no urgent row read before this instant.
    not_before: Instant,
    /// The claims in a row that found no row and could create none.
    claims_without_row: u32,
    failure: Option<FailureRecord>,
    /// For each bulk failure of the last batches the number of batches for which it still counts.
    bulk_failures: BTreeMap<BulkFailure, u32>,
    /// Reduced when a batch was too slow or was refused, doubled after a commit.
    max_records: usize,
    most_records: usize,
    last_turn: u64,
    committed: Option<CommittedPosition>,
    log_doubt: Option<LogDoubtReport>,
    log_fault: Option<LogFaultReport>,
}

impl<E> Slot<E> {
    pub(super) fn new(now: Instant, partition: Partition, most_records: usize) -> Self {
        Self {
            partition,
            protocol: Protocol::default(),
            queue: Queue::new(partition),
            log: LogState::new(now),
            in_flight_bytes: 0,
            in_flight_records: 0,
            is_stopped: false,
            not_before: now,
            claims_without_row: 0,
            failure: None,
            bulk_failures: BTreeMap::new(),
            max_records: most_records,
            most_records,
            last_turn: 0,
            committed: None,
            log_doubt: None,
            log_fault: None,
        }
    }

    // ---- what the scheduler asks ----

    pub(super) fn held(&self, now: Instant, client_throttled: bool) -> HeldPartition {
        let records_wait = self.queue.has_records() || self.in_flight_bytes > 0;
        let throttled = client_throttled && !records_wait;
        let comparison_waits = self.log.last_record().is_some();
        let failure = self.failure.as_ref().map(|failure| failure.observed(now));
        let (partition, state) = (self.partition, self.protocol.state());
        HeldPartition { partition, state, records_wait, throttled, failure, comparison_waits }
    }

    /// Whether its last operation failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failure.is_some()
    }

    /// Whether a transaction of this partition must not have batches of other partitions. The failure of a large batch can
    /// follow the success of a small one.
    pub(super) fn is_isolated(&self) -> bool {
        self.failure.is_some() || self.max_records < self.most_records
    }

    /// Whether a writer tries an operation of this partition again after a failure.
    pub(super) fn is_tried_again(&self) -> bool {
        let busy = matches!(self.protocol.state(), State::Claiming | State::InFlight(..) | State::Draining(_));
        self.failure.is_some() && busy
    }

    /// The work that a writer can do for this partition now, except a read of its row. While the process stops, it is only
    /// a commit.
    pub(super) fn work(&self, now: Instant, stopping: bool) -> Option<SlotWork> {
        let may_claim = matches!(self.protocol.state(), State::Assigned | State::Fenced) && self.not_before <= now;
        if self.log_fault.is_some() && !stopping {
            Some(SlotWork::RecordLogFault)
        } else if may_claim && !stopping {
            Some(SlotWork::Claim)
        } else {
            self.may_commit(now).then_some(SlotWork::Commit)
        }
    }

    /// Whether a batch can begin now.
    pub(super) fn may_commit(&self, now: Instant) -> bool {
        self.has_batch() && (self.failure.is_none() || self.not_before <= now)
    }

    pub(super) fn partition(&self) -> Partition {
        self.partition
    }

    /// Whether this process may write the row: it is assigned, and neither halted nor fenced.
    pub(super) fn is_writable(&self) -> bool {
        let draining = State::Draining(AfterDrain::Unassigned);
        let state = self.protocol.state();
        !matches!(state, State::Unassigned | State::Halted | State::Fenced) && state != draining
    }

    /// Since when the database refuses each operation of the partition.
    pub(super) fn refused_since(&self) -> Option<Instant> {
        self.failure.as_ref().and_then(FailureRecord::refused_since)
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

    pub(super) fn takes_turn(&mut self, turn: u64) {
        self.last_turn = turn;
    }

    /// When a claim, an urgent row read or the retry of a batch is due. `None`: the partition waits for none of
    /// them, or may not be tried again now.
    pub(super) fn due(&self, try_again: bool) -> Option<Instant> {
        let waits = match self.protocol.state() {
            State::Unknown(_) => true,
            State::Assigned | State::Fenced => try_again || self.failure.is_none(),
            State::Started(..) => try_again && self.failure.is_some() && self.has_batch(),
            _ => false,
        };
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
        self.claims_without_row = 0;
        self.failure = None;
        self.log.assigned();
    }

    pub(super) fn revoked(&mut self) {
        self.protocol.revoked();
        self.failure = None;
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

    /// Whether the partition waits for a check of its log: before it is read, or before records of a new leader are
    /// committed. If damage is proven, it waits for probes.
    pub(super) fn waits_for_log_check(&self) -> bool {
        let waits = self.log.has_later_record() || self.read_target().is_none() && !self.log.is_damaged();
        self.protocol.read_target().is_some() && waits
    }

    /// The consumer thread is about to start reading. False: it must not, the target has changed.
    pub(super) fn started(&mut self, generation: Generation) -> bool {
        let starts = self.log.is_checked() && self.protocol.started(generation);
        if starts && self.log.last_record().is_none() {
            self.succeeded(DbOperation::RecordGap); // a log fault that could not be recorded no longer exists
        }
        starts
    }

    /// Returns how long the consumer waited for this, if the log was known to have it.
    pub(super) fn arrived(&mut self, now: Instant, generation: Generation, arrival: Arrival<E>) -> Option<Duration> {
        let waited = if self.protocol.generation() == generation { self.log.arrived(now) } else { None };
        self.queue.push(generation, arrival);
        waited
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

    /// The fetch failed behind all records that were read. This has an effect after they are committed.
    pub(super) fn fetch_failed(&mut self, now: Instant, generation: Generation, failure: FetchFailure) {
        let Some(at) = self.protocol.ready_at().filter(|_| self.queue.is_empty()) else { return };
        if self.protocol.generation() == generation {
            match failure {
                FetchFailure::OutOfRange => self.log.out_of_range(),
                FetchFailure::Unclassified => self.log.not_trusted(at),
            }
            self.read_again(now);
        }
    }

    pub(super) fn last_record_matched(&mut self, generation: Generation, at: Position) {
        if self.protocol.generation() == generation {
            self.log.last_record_matched(at);
            self.succeeded(DbOperation::RecordGap); // a log fault that could not be recorded no longer exists
        }
    }

    pub(super) fn last_record_differs(&mut self, generation: Generation, offset: Offset) {
        self.found_log_doubt(generation, LogDoubt::Differs(offset));
    }

    // ---- checks of the log ----

    /// The question about the log: before reading starts, and repeatedly while the partition is read.
    pub(super) fn question(&self) -> Option<PartitionQuestion> {
        let (generation, at) = self.protocol.read_target()?;
        Some(PartitionQuestion { partition: self.partition, generation, question: self.log.question(at) })
    }

    /// An answer of Kafka about topic id, bounds or leader epochs.
    pub(super) fn observed(&mut self, now: Instant, asked: &PartitionQuestion, seen: &LogObservation) {
        let (generation, question) = (asked.generation, asked.question);
        if self.protocol.generation() != generation {
            return;
        }
        // Records that were committed after the question are in doubt, too.
        let at = self.protocol.read_target().map_or(question.at, |(_, at)| at);
        let nothing_waits = self.nothing_waits();
        let verdict = self.log.observed(now, self.partition, question, seen, at, nothing_waits);
        self.is_stopped &= self.log.has_later_record();
        self.apply_verdict(now, verdict);
    }

    /// The probe that is due.
    pub(super) fn probe(&self, now: Instant) -> Option<ProbeQuestion> {
        let (generation, at) = self.protocol.read_target()?;
        let (read, purpose) = self.log.probe(now, at, self.nothing_waits())?;
        Some(ProbeQuestion { partition: self.partition, generation, at, read, purpose })
    }

    /// The order of the probes that are due: the lowest comes first.
    pub(super) fn probe_order(&self) -> (bool, Option<Instant>) {
        self.log.probe_order()
    }

    /// The answer of a probe. True: the log has the next record, and the consumer does not receive it.
    pub(super) fn probed(&mut self, now: Instant, asked: &ProbeQuestion, probe: Probe) -> bool {
        let Some((generation, at)) = self.protocol.read_target().filter(|(_, at)| *at == asked.at) else {
            return false;
        };
        // A proof about damage is valid in every generation.
        let reads = matches!(asked.purpose, ProbePurpose::OutOfRange | ProbePurpose::FetchStall);
        if reads && (generation != asked.generation || !self.nothing_waits()) {
            return false;
        }
        let verdict = self.log.probed(now, at, asked.read, asked.purpose, probe);
        self.apply_verdict(now, verdict);
        verdict == LogVerdict::FetchStalled
    }

    fn apply_verdict(&mut self, now: Instant, verdict: LogVerdict) {
        let generation = self.protocol.generation();
        match verdict {
            LogVerdict::Fault(gap) => self.found_log_fault(generation, gap),
            LogVerdict::Doubt(doubt) => self.found_log_doubt(generation, doubt),
            LogVerdict::OutOfRange => self.fetch_failed(now, generation, FetchFailure::OutOfRange),
            LogVerdict::FetchStalled | LogVerdict::Nothing => {}
        }
    }

    /// Whether the partition is read, and all records that arrived are committed.
    fn nothing_waits(&self) -> bool {
        self.protocol.ready_at().is_some() && self.queue.is_empty()
    }

    /// How long the consumer has received nothing although the log has a record, and the time after which such a wait
    /// can be a stall.
    pub(super) fn waited(&self, now: Instant) -> Option<(Duration, Duration)> {
        let at = self.protocol.ready_at()?;
        Some((self.log.waited(now, at)?, self.log.idle_time(at)))
    }

    /// The fetch of this partition has stalled. `alone`: it is read again. Otherwise the consumer leaves the group and
    /// joins it again.
    pub(super) fn fetch_stalled(&mut self, now: Instant, alone: bool) {
        if let Some(at) = self.protocol.ready_at() {
            self.log.fetch_stalled(at);
        }
        if alone {
            self.read_again(now);
        }
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

    /// Reading ends until the doubt is settled.
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
        if self.is_faulty(generation) {
            self.protocol.log_fault_recorded(generation, halted);
            self.failure.take_if(|failure| halted || failure.is_ended_by(DbOperation::RecordGap));
            self.drop_stale_records();
            self.not_before = now;
        }
    }

    pub(super) fn log_fault_not_recorded(
        &mut self,
        now: Instant,
        generation: Generation,
        failure: Failure,
        delays: &RetryDelays,
    ) {
        if self.is_faulty(generation) {
            self.protocol.log_fault_recorded(generation, false);
            self.drop_stale_records();
            self.failed(now, failure, delays);
        }
    }

    /// Whether the log fault is still the one that the writer tried to record.
    fn is_faulty(&self, generation: Generation) -> bool {
        self.protocol.generation() == generation && matches!(self.protocol.state(), State::LogFault(..))
    }

    // ---- the row ----

    /// Begins a claim if one is due.
    pub(super) fn begin_claim(&mut self, now: Instant) -> Option<Generation> {
        (self.not_before <= now).then(|| self.protocol.begin_claim()).flatten()
    }

    /// A late answer has no effect: another claim may be running, or another process may own the partition.
    pub(super) fn claimed(
        &mut self,
        now: Instant,
        generation: Generation,
        row: Option<StoredRow>,
        longest_wait: Duration,
    ) -> RowEffect {
        if !self.is_claiming(generation) {
            return RowEffect::Unchanged;
        }
        self.claims_without_row = if row.is_some() { 0 } else { self.claims_without_row.saturating_add(1) };
        let effect = self.protocol.claimed(generation, row.as_ref().map(|row| row.row));
        self.succeeded(DbOperation::Claim);
        self.apply(now, effect, row);
        self.delay(now, longest_wait);
        effect
    }

    pub(super) fn claim_failed(
        &mut self,
        now: Instant,
        generation: Generation,
        failure: Failure,
        delays: &RetryDelays,
    ) {
        if self.is_claiming(generation) {
            self.protocol.claimed(generation, None);
            self.drop_stale_records();
            self.failed(now, failure, delays);
        }
    }

    /// Begins a read of the row. If its state is unknown, the next urgent read begins at `until`. `None`: there is nothing
    /// to learn from the row, or the retry delay is not over.
    pub(super) fn begin_row_read(&mut self, now: Instant, until: Instant) -> Option<RowReadToken> {
        let is_unknown = matches!(self.protocol.state(), State::Unknown(_));
        let delays = |failure: &FailureRecord| is_unknown || failure.is_ended_by(DbOperation::ReadRow);
        if now < self.not_before && self.failure.as_ref().is_some_and(delays) {
            return None;
        }
        let token = self.protocol.begin_row_read()?;
        if is_unknown {
            self.not_before = until;
        }
        Some(token)
    }

    pub(super) fn row_read(
        &mut self,
        now: Instant,
        token: RowReadToken,
        row: Option<StoredRow>,
        longest_wait: Duration,
        delays: &RetryDelays,
    ) -> RowEffect {
        if !self.reads_row(token) {
            return RowEffect::Unchanged;
        }
        let next = row.as_ref().map(|row| row.row.next);
        let effect = self.protocol.row_read(token, row.as_ref().map(|row| row.row));
        self.succeeded(DbOperation::ReadRow);
        // The commit whose answer was lost succeeded, or an operator moved the position, or nothing is left to commit.
        let pause = delays.max.saturating_mul(2).max(OUTDATED);
        self.failure.take_if(|failure| !failure.concerns(next) || failure.is_outdated(now, pause));
        self.apply(now, effect, row);
        if effect != RowEffect::Unchanged {
            self.delay(now, longest_wait);
        }
        effect
    }

    pub(super) fn row_not_read(&mut self, now: Instant, token: RowReadToken, failure: Failure, delays: &RetryDelays) {
        if self.reads_row(token) {
            self.failed(now, failure, delays);
        }
    }

    /// Whether the answer to this read of the row is not too late.
    fn reads_row(&self, token: RowReadToken) -> bool {
        self.protocol.begin_row_read() == Some(token)
    }

    /// The start position is mirrored to Kafka as well: an operator may have moved it back. The log is checked again.
    fn apply(&mut self, now: Instant, effect: RowEffect, row: Option<StoredRow>) {
        self.drop_stale_records();
        if let (RowEffect::Start(position), Some(row)) = (effect, row) {
            self.committed = Some(CommittedPosition::confirmed(self.partition, position));
            self.log.row_read(now, position, row.known);
        }
        if matches!(effect, RowEffect::Fenced | RowEffect::Halted | RowEffect::ClaimAgain) {
            self.failure = None; // this process no longer writes the partition, or begins again with a claim
        }
    }

    fn delay(&mut self, now: Instant, longest: Duration) {
        let wait = match self.protocol.fenced_in_a_row().max(self.claims_without_row) {
            0 => Duration::ZERO,
            times => CLAIM_AGAIN.saturating_mul(2_u32.saturating_pow(times - 1)).min(longest),
        };
        self.not_before = now + wait;
    }

    /// The topic id that Kafka has returned, and the epoch of the claim, while the partition is read.
    pub(super) fn topic_id(&self) -> Option<(Epoch, TopicId)> {
        let State::Started(epoch, _) = self.protocol.state() else { return None };
        Some((epoch, self.log.known()?.topic_id.clone()?))
    }

    // ---- batches ----

    pub(super) fn has_batch(&self) -> bool {
        self.protocol.ready_at().is_some() && !self.queue.is_empty() && !self.is_stopped
    }

    /// Cuts the next batch, with the right to commit it.
    pub(super) fn begin_commit(&mut self, limits: BatchLimits) -> Option<ClaimedBatch<E>> {
        let limits = BatchLimits { records: limits.records.min(self.max_records), bytes: limits.bytes };
        let from = self.protocol.ready_at()?;
        let mut before = self.log.last_with_epoch().map(|(_, epoch)| epoch);
        let mut stopped_by = Follows::Now;
        let log = &self.log;
        let batch = self.queue.take_until(from, limits, |record| {
            stopped_by = log.follows(before, record.leader_epoch);
            before = record.leader_epoch;
            stopped_by != Follows::Now
        });
        if let Follows::AfterAnswer(later) = stopped_by {
            self.log.waits_for_answer(later);
        }
        let Some(batch) = batch else {
            if stopped_by == Follows::Never {
                self.found_log_doubt(self.protocol.generation(), LogDoubt::Diverged);
            }
            self.is_stopped = stopped_by != Follows::Now;
            return None;
        };
        let epoch = self.protocol.begin_commit(batch.step())?;
        self.in_flight_bytes = batch.bytes();
        self.in_flight_records = batch.entries().len();
        let bisect = self.failure.as_ref().is_some_and(FailureRecord::suspects_a_record);
        let (bulk_failure, known) = (self.bulk_failures.keys().max().copied(), self.log.known().cloned());
        self.log.records_read(batch.leader_epochs());
        Some(ClaimedBatch { batch, epoch, bulk_failure, bisect, known })
    }

    /// The batch in flight is committed.
    pub(super) fn committed(&mut self, position: CommittedPosition, bulk_failure: Option<BulkFailure>, halted: bool) {
        if halted {
            self.protocol.committed_and_halted();
        } else {
            self.protocol.committed();
        }
        self.in_flight_bytes = 0;
        self.failure = None;
        self.drop_stale_records();
        self.committed = Some(position);
        self.max_records = self.max_records.saturating_mul(2).min(self.most_records);
        self.bulk_failures.retain(|_, batches| {
            *batches = batches.saturating_sub(1);
            *batches > 0
        });
        self.bulk_failures.extend(bulk_failure.map(|bulk_failure| (bulk_failure, BULK_FAILURE_BATCHES)));
    }

    /// The fence matched no row. The row decides what follows.
    pub(super) fn fenced(&mut self, now: Instant) {
        self.protocol.commit_failed();
        self.in_flight_bytes = 0;
        self.drop_stale_records();
        self.not_before = now;
    }

    /// The row is unchanged, so the batch is tried again after the retry delay. Reading continues behind it.
    pub(super) fn rolled_back(
        &mut self,
        now: Instant,
        claimed: ClaimedBatch<E>,
        failure: Failure,
        delays: &RetryDelays,
    ) {
        let ClaimedBatch { batch, known, .. } = claimed;
        self.in_flight_bytes = 0;
        if self.protocol.rolled_back() {
            self.log.records_not_written(known);
            self.queue.put_back(batch);
            self.batch_failed(now, failure, delays);
        } else {
            self.drop_stale_records(); // the batch was from an earlier generation
        }
    }

    /// Drops the records in memory. The row decides what follows, when it is read after the retry delay.
    pub(super) fn commit_failed(&mut self, now: Instant, failure: Failure, delays: &RetryDelays) {
        let is_current = matches!(self.protocol.state(), State::InFlight(..) | State::Draining(AfterDrain::Unknown(_)));
        self.fenced(now);
        if is_current {
            self.batch_failed(now, failure, delays);
        }
    }

    // ---- failures ----

    fn batch_failed(&mut self, now: Instant, failure: Failure, delays: &RetryDelays) {
        let divisor = match failure.class {
            ErrorClass::TooSlow => 2,
            // The writer isolates the records: if all records of a large batch fail, the database is the cause. A batch
            // of one record cannot show this.
            ErrorClass::Unknown => 1,
            _ if failure.refuses() => REFUSED_DIVISOR,
            _ => 1,
        };
        if divisor > 1 {
            self.max_records = self.max_records.min(self.in_flight_records).div_euclid(divisor).max(1);
        }
        self.failed(now, failure, delays);
    }

    fn failed(&mut self, now: Instant, failure: Failure, delays: &RetryDelays) {
        let record = FailureRecord::after(self.failure.take(), now, failure);
        let wait = delays.wait_after(record.times());
        self.not_before = now + if record.is_contention() { wait.min(AFTER_CONTENTION) } else { wait };
        self.failure = Some(record);
    }

    fn succeeded(&mut self, operation: DbOperation) {
        self.failure.take_if(|failure| failure.is_ended_by(operation));
    }

    /// The position committed since the last call, for the mirror.
    pub(super) fn take_committed(&mut self) -> Option<CommittedPosition> {
        self.committed.take()
    }

    /// Follows every change of the protocol: the queue holds records of the current generation only.
    fn drop_stale_records(&mut self) {
        self.queue.set_generation(self.protocol.generation());
        self.is_stopped &= !self.queue.is_empty();
    }
}

#[cfg(test)]
mod tests;
