//! What is to be done next, and for which partition. Nothing waits here: the caller does, until the instant that it is
//! told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Assigned, Work, Written};
use crate::engine::batch::{Arrival, Limits, Queue};
use crate::engine::health::Held;
use crate::engine::mirror::Committed;
use crate::engine::partition::{After, Belief, Finding, Generation, Protocol, Row, State};
use crate::engine::record::{Partition, Position};

/// How often the rows of all partitions are looked at, so that what an operator changes by hand is followed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The wait before a partition that was fenced, or could not be claimed, is claimed again; doubled each time.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);
/// The wait before a partition is read again whose delivery can't be trusted: the trouble may last.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// So many batches are written with care after one that needed it.
const CAREFUL_BATCHES: u32 = 8;

/// All partitions that this process was ever given.
#[derive(Debug)]
pub(super) struct Schedule<E> {
    slots: BTreeMap<Partition, Slot<E>>,
    limits: Limits,
    longest_wait: Duration,
    look_at: Instant,
    turn: u64,
    reading_ended: bool,
}

impl<E> Schedule<E> {
    pub(super) fn new(limits: Limits, longest_wait: Duration) -> Self {
        let (slots, look_at) = (BTreeMap::new(), Instant::now());
        Self { slots, limits, longest_wait, look_at, turn: 0, reading_ended: false }
    }

    pub(super) fn slot(&mut self, partition: Partition) -> &mut Slot<E> {
        self.slots.entry(partition).or_insert_with(|| Slot::new(partition, self.limits.records))
    }

    pub(super) fn wanted(&self) -> Vec<(Partition, Generation, Position)> {
        let wanted = |(partition, slot): (&Partition, &Slot<E>)| {
            slot.protocol.wanted().map(|(generation, position)| (*partition, generation, position))
        };
        self.slots.iter().filter_map(wanted).collect()
    }

    pub(super) fn take_committed(&mut self) -> Vec<Committed> {
        self.slots.values_mut().filter_map(|slot| slot.committed.take()).collect()
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.slots.values().map(|slot| slot.queue.bytes().saturating_add(slot.in_flight_bytes)).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.values().all(|slot| slot.protocol.state() == State::Elsewhere)
    }

    /// Those that are ours.
    pub(super) fn held(&self) -> Vec<Held> {
        let held = self.slots.iter().map(|(partition, slot)| slot.held(*partition));
        held.filter(|held| !matches!(held.state, State::Elsewhere | State::Draining(After::Elsewhere))).collect()
    }

    /// Records that wait are left for whoever reads them next; a position past markers is still written.
    pub(super) fn reading_ended(&mut self) {
        self.reading_ended = true;
        self.slots.values_mut().filter(|slot| slot.queue.has_records()).for_each(Slot::revoked);
    }

    pub(super) fn claimed(&mut self, partition: Partition, generation: Generation, row: Option<Row>) -> Finding {
        let longest_wait = self.longest_wait;
        let slot = self.slot(partition);
        slot.failed_claims = if row.is_some() { 0 } else { slot.failed_claims.saturating_add(1) };
        let finding = slot.protocol.claimed(generation, row);
        slot.follow();
        slot.mirror(partition, finding);
        slot.delay(longest_wait);
        finding
    }

    /// The database could not be asked: the writer that tried waits, and the partition needs no wait of its own.
    pub(super) fn claim_failed(&mut self, partition: Partition, generation: Generation) {
        let slot = self.slot(partition);
        slot.protocol.claimed(generation, None);
        slot.follow();
    }

    pub(super) fn seen(&mut self, partition: Partition, belief: Belief, row: Option<Row>) -> Finding {
        let longest_wait = self.longest_wait;
        let slot = self.slot(partition);
        let finding = slot.protocol.seen(belief, row);
        slot.follow();
        slot.mirror(partition, finding);
        if finding != Finding::Nothing {
            slot.delay(longest_wait);
        }
        finding
    }

    pub(super) fn written(&mut self, partition: Partition, how: Written) {
        let all = self.limits.records;
        let slot = self.slot(partition);
        slot.in_flight_bytes = 0;
        match how {
            Written::Committed { token, careful, halted } => {
                if halted {
                    slot.protocol.committed_and_halted();
                } else {
                    slot.protocol.committed();
                }
                slot.follow();
                slot.committed = Some(token);
                slot.max_records = slot.max_records.saturating_mul(2).min(all);
                slot.careful_batches = if careful { CAREFUL_BATCHES } else { slot.careful_batches.saturating_sub(1) };
            }
            Written::TooSlow => {
                slot.max_records = slot.max_records.div_euclid(2).max(1);
                slot.give_up();
            }
            Written::Unsure => slot.give_up(),
        }
    }

    /// What is most urgent, or when to ask again.
    pub(super) fn next_work(&mut self, now: Instant, stopping: bool) -> Result<Work<E>, Instant> {
        if !stopping && let Some(work) = self.look(now).or_else(|| self.claim(now)) {
            return Ok(work);
        }
        let batches = self.batches();
        match (batches.is_empty(), stopping) {
            (false, _) => Ok(Work::Write(batches)),
            (true, true) if self.reading_ended => Ok(Work::Stop),
            (true, true) => Err(now + LOOK_INTERVAL),
            (true, false) => Err(self.next_due(now)),
        }
    }

    /// All rows once a second; at once those of which nothing is known.
    fn look(&mut self, now: Instant) -> Option<Work<E>> {
        let urgent = |slot: &Slot<E>| matches!(slot.protocol.state(), State::Unsure(_)) && slot.not_before <= now;
        if now < self.look_at && !self.slots.values().any(urgent) {
            return None;
        }
        self.look_at = now + LOOK_INTERVAL;
        let mut beliefs = Vec::new();
        for (partition, slot) in &mut self.slots {
            if let Some(belief) = slot.protocol.look() {
                slot.not_before = self.look_at; // no other writer looks while this one does
                beliefs.push((*partition, belief));
            }
        }
        (!beliefs.is_empty()).then_some(Work::Look(beliefs))
    }

    fn claim(&mut self, now: Instant) -> Option<Work<E>> {
        let mut due = self.slots.iter_mut().filter(|(_, slot)| slot.not_before <= now);
        due.find_map(|(partition, slot)| Some(Work::Claim(*partition, slot.protocol.begin_claim()?)))
    }

    /// The next steps of partitions that have one and are in nobody's hands, up to the limits of one transaction; those
    /// that have waited longest come first.
    fn batches(&mut self) -> Vec<Assigned<E>> {
        let mut room = self.limits;
        let mut batches: Vec<Assigned<E>> = Vec::new();
        let mut slots: Vec<&mut Slot<E>> = self.slots.values_mut().filter(|slot| slot.has_work()).collect();
        slots.sort_by_key(|slot| slot.served);
        for slot in slots {
            if room.records == 0 || room.bytes == 0 {
                break;
            }
            let limits = Limits { records: room.records.min(slot.max_records), bytes: room.bytes };
            let Some(batch) = slot.protocol.ready().and_then(|from| slot.queue.take(from, limits)) else { continue };
            let Some(epoch) = slot.protocol.begin_commit(batch.step()) else { continue };
            room.records = room.records.saturating_sub(batch.entries().len());
            room.bytes = room.bytes.saturating_sub(batch.bytes());
            slot.in_flight_bytes = batch.bytes();
            self.turn = self.turn.saturating_add(1);
            slot.served = self.turn;
            batches.push(Assigned { batch, epoch, careful: slot.careful_batches > 0 });
        }
        batches
    }

    fn next_due(&self, now: Instant) -> Instant {
        let waits = |slot: &&Slot<E>| matches!(slot.protocol.state(), State::Owned | State::Fenced | State::Unsure(_));
        let due = self.slots.values().filter(waits).map(|slot| slot.not_before.max(now));
        due.fold(self.look_at.max(now), Instant::min)
    }
}

/// One partition: where it stands, what waits, and what its recent past advises.
#[derive(Debug)]
pub(super) struct Slot<E> {
    protocol: Protocol,
    queue: Queue<E>,
    in_flight_bytes: usize,
    /// No claim and no urgent look before this.
    not_before: Instant,
    failed_claims: u32,
    /// So many more batches are written with care.
    careful_batches: u32,
    /// Halved whenever a batch was too slow.
    max_records: usize,
    served: u64,
    committed: Option<Committed>,
}

impl<E> Slot<E> {
    fn new(partition: Partition, max_records: usize) -> Self {
        Self {
            protocol: Protocol::default(),
            queue: Queue::new(partition),
            in_flight_bytes: 0,
            not_before: Instant::now(),
            failed_claims: 0,
            careful_batches: 0,
            max_records,
            served: 0,
            committed: None,
        }
    }

    pub(super) fn assigned(&mut self) {
        self.protocol.assigned();
        self.follow();
        self.not_before = Instant::now();
        self.failed_claims = 0;
    }

    pub(super) fn revoked(&mut self) {
        self.protocol.revoked();
        self.follow();
    }

    pub(super) fn commit_in_flight(&self) -> bool {
        self.protocol.commit_in_flight()
    }

    pub(super) fn is_claiming(&self, generation: Generation) -> bool {
        self.protocol.state() == State::Claiming && self.protocol.generation() == generation
    }

    pub(super) fn started(&mut self, generation: Generation) -> bool {
        self.protocol.started(generation)
    }

    pub(super) fn arrived(&mut self, generation: Generation, arrival: Arrival<E>) {
        self.queue.push(generation, arrival);
    }

    pub(super) fn restart(&mut self) {
        self.protocol.distrust();
        self.follow();
        self.not_before = Instant::now() + RESTART_AFTER;
    }

    /// Where reading starts is told to Kafka too: an operator may have moved it back.
    fn mirror(&mut self, partition: Partition, finding: Finding) {
        if let Finding::Start(position) = finding {
            self.committed = Some(Committed::confirmed(partition, position));
        }
    }

    fn held(&self, partition: Partition) -> Held {
        let records_wait = self.queue.has_records() || self.in_flight_bytes > 0;
        Held { partition, state: self.protocol.state(), records_wait }
    }

    fn has_work(&self) -> bool {
        self.protocol.ready().is_some() && !self.queue.is_empty()
    }

    /// Everything read is dropped; the row decides, as soon as it can be read.
    fn give_up(&mut self) {
        self.protocol.unsure();
        self.follow();
        self.not_before = Instant::now();
    }

    /// To be called whenever the protocol has moved: its generation decides what the queue may hold.
    fn follow(&mut self) {
        self.queue.follow(self.protocol.generation());
    }

    fn delay(&mut self, longest: Duration) {
        let wait = match self.protocol.fenced_in_a_row().max(self.failed_claims) {
            0 => Duration::ZERO,
            times => CLAIM_AGAIN.saturating_mul(2_u32.saturating_pow(times - 1)).min(longest),
        };
        self.not_before = Instant::now() + wait;
    }
}
