//! One partition: where it stands, what waits, what is known of its log, and what its recent past advises.

pub(super) mod topic_log;

use std::time::{Duration, Instant};

use crate::model::batch::{Arrival, Batch, BatchLimits, Queue};
use crate::model::mirror::CommittedPosition;
use crate::model::protocol::{Generation, Protocol, RowEffect, RowReadToken, State};
use crate::model::record::{Epoch, Partition, Position};
use crate::model::standing::HeldPartition;
use crate::model::stored_row::StoredRow;
use crate::model::topic_log::KnownLog;
use crate::pipeline::work::{LogFaultReport, ReadTarget};

/// The wait before a partition that was fenced, or could not be claimed, is claimed again; doubled each time.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);
/// The wait before a partition is read again whose delivery can't be trusted: the trouble may last.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// So many batches are written with care after one that needed it.
const CAREFUL_BATCHES: u32 = 8;
/// See the module.
#[derive(Debug)]
pub(super) struct Slot<E> {
    pub(super) protocol: Protocol,
    pub(super) queue: Queue<E>,
    partition: Partition,
    pub(super) in_flight_bytes: usize,
    /// No claim and no urgent look before this.
    pub(super) not_before: Instant,
    failed_claims: u32,
    /// So many more batches are written with care.
    careful_batches: u32,
    /// Halved whenever a batch was too slow.
    max_records: usize,
    pub(super) served: u64,
    pub(super) committed: Option<CommittedPosition>,
    /// Of its log; `None` until the row was read.
    pub(super) known: Option<KnownLog>,
    /// The log was looked at since the row was read: only then may reading start.
    checked: bool,
    /// When the row was read.
    placed_at: Instant,
    /// The broker refused the position.
    out_of_range: bool,
    /// How often in a row reading ended at this position by something that can't be trusted.
    unreadable: Option<(Position, u32)>,
    /// Since when nothing has come at this position.
    idle: (Position, Instant),
    /// How often in a row it was found that records are there at this position, and none comes.
    unheard: u32,
    /// A fault of the log that a writer is to note.
    pub(super) to_note: Option<LogFaultReport>,
}

impl<E> Slot<E> {
    pub(super) fn new(partition: Partition, max_records: usize) -> Self {
        let now = Instant::now();
        Self {
            protocol: Protocol::default(),
            queue: Queue::new(partition),
            partition,
            in_flight_bytes: 0,
            not_before: now,
            failed_claims: 0,
            careful_batches: 0,
            max_records,
            served: 0,
            committed: None,
            known: None,
            checked: false,
            placed_at: now,
            out_of_range: false,
            unreadable: None,
            idle: (Position(0), now),
            unheard: 0,
            to_note: None,
        }
    }

    // ---- Kafka gives and takes ----

    pub(super) fn assigned(&mut self) {
        self.protocol.assigned();
        self.follow();
        self.not_before = Instant::now();
        self.failed_claims = 0;
        self.out_of_range = false;
        self.unreadable = None;
    }

    pub(super) fn revoked(&mut self) {
        self.protocol.revoked();
        self.follow();
    }

    pub(super) fn commit_in_flight(&self) -> bool {
        self.protocol.commit_in_flight()
    }

    // ---- reading ----

    /// Where the consumer thread should be reading, and what it must find there first.
    pub(super) fn wanted(&self) -> Option<ReadTarget> {
        let (generation, at) = self.protocol.read_target()?;
        let starting = matches!(self.protocol.state(), State::Claimed(..));
        let last = self.known.as_ref().and_then(|known| known.last);
        (!starting || self.checked).then_some(ReadTarget { partition: self.partition, generation, at, last })
    }

    pub(super) fn started(&mut self, generation: Generation) -> bool {
        self.checked && self.protocol.started(generation)
    }

    pub(super) fn arrived(&mut self, generation: Generation, arrival: Arrival<E>) {
        self.queue.push(generation, arrival);
    }

    pub(super) fn restart(&mut self) {
        if let Some((_, at)) = self.protocol.read_target() {
            let before = self.unreadable.filter(|(position, _)| *position == at).map_or(0, |(_, times)| times);
            self.unreadable = Some((at, before.saturating_add(1)));
        }
        self.read_again();
    }

    /// The broker refused the position behind all that was read. That counts once all of it is committed.
    pub(super) fn out_of_range(&mut self, generation: Generation) {
        if self.protocol.generation() == generation && self.protocol.ready_at().is_some() && self.queue.is_empty() {
            self.out_of_range = true;
            self.read_again();
        }
    }

    pub(super) fn read_again(&mut self) {
        self.protocol.restart();
        self.follow();
        self.not_before = Instant::now() + RESTART_AFTER;
    }

    // ---- the row ----

    pub(super) fn is_claiming(&self, generation: Generation) -> bool {
        self.protocol.state() == State::Claiming && self.protocol.generation() == generation
    }

    /// `None`: there is no row.
    pub(super) fn claimed(
        &mut self,
        generation: Generation,
        found: Option<StoredRow>,
        longest_wait: Duration,
    ) -> RowEffect {
        self.failed_claims = if found.is_some() { 0 } else { self.failed_claims.saturating_add(1) };
        let finding = self.protocol.claimed(generation, found.as_ref().map(|found| found.row));
        self.placed(finding, found);
        self.delay(longest_wait);
        finding
    }

    /// The database could not be asked: the writer that tried waits, and the partition needs no wait of its own.
    pub(super) fn claim_failed(&mut self, generation: Generation) {
        self.protocol.claimed(generation, None);
        self.follow();
    }

    /// `None`: there is no row.
    pub(super) fn seen(&mut self, belief: RowReadToken, found: Option<StoredRow>, longest_wait: Duration) -> RowEffect {
        let finding = self.protocol.row_read(belief, found.as_ref().map(|found| found.row));
        self.placed(finding, found);
        if finding != RowEffect::Unchanged {
            self.delay(longest_wait);
        }
        finding
    }

    /// Where reading starts is told to Kafka too: an operator may have moved it back. And the log is looked at anew.
    fn placed(&mut self, finding: RowEffect, found: Option<StoredRow>) {
        self.follow();
        if let (RowEffect::Start(position), Some(found)) = (finding, found) {
            self.committed = Some(CommittedPosition::confirmed(self.partition, position));
            self.known = Some(found.known);
            self.checked = false;
            self.placed_at = Instant::now();
        }
    }

    fn delay(&mut self, longest: Duration) {
        let wait = match self.protocol.fenced_in_a_row().max(self.failed_claims) {
            0 => Duration::ZERO,
            times => CLAIM_AGAIN.saturating_mul(2_u32.saturating_pow(times - 1)).min(longest),
        };
        self.not_before = Instant::now() + wait;
    }

    // ---- batches ----

    pub(super) fn held(&self) -> HeldPartition {
        let records_wait = self.queue.has_records() || self.in_flight_bytes > 0;
        HeldPartition { partition: self.partition, state: self.protocol.state(), records_wait }
    }

    pub(super) fn has_work(&self) -> bool {
        self.protocol.ready_at().is_some() && !self.queue.is_empty()
    }

    /// The next step, and the right to make it.
    pub(super) fn begin_commit(&mut self, room: BatchLimits) -> Option<(Batch<E>, Epoch)> {
        let limits = BatchLimits { records: room.records.min(self.max_records), bytes: room.bytes };
        let batch = self.protocol.ready_at().and_then(|from| self.queue.take(from, limits))?;
        let epoch = self.protocol.begin_commit(batch.step())?;
        self.in_flight_bytes = batch.bytes();
        Some((batch, epoch))
    }

    pub(super) fn needs_care(&self) -> bool {
        self.careful_batches > 0
    }

    pub(super) fn wrote(&mut self, token: CommittedPosition, careful: bool, halted: bool, all: usize) {
        if halted {
            self.protocol.committed_and_halted();
        } else {
            self.protocol.committed();
        }
        self.follow();
        self.committed = Some(token);
        self.max_records = self.max_records.saturating_mul(2).min(all);
        self.careful_batches = if careful { CAREFUL_BATCHES } else { self.careful_batches.saturating_sub(1) };
    }

    pub(super) fn was_too_slow(&mut self) {
        self.max_records = self.max_records.div_euclid(2).max(1);
        self.give_up();
    }

    /// Everything read is dropped; the row decides, as soon as it can be read.
    pub(super) fn give_up(&mut self) {
        self.protocol.commit_failed();
        self.follow();
        self.not_before = Instant::now();
    }

    /// To be called whenever the protocol has moved: its generation decides what the queue may hold.
    fn follow(&mut self) {
        self.queue.set_generation(self.protocol.generation());
    }
}
