//! The partitions that Kafka has given to this process, shared by the consumer thread and the writers.
//!
//! The consumer thread reports what it was given and what it has read; a writer that is free takes the next piece of
//! [`Work`] and reports what came of it. At any moment a partition is in the hands of one writer at most. A lock is held
//! for a step of bookkeeping, never across Kafka or the database.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::batch::{Arrival, Batch, Limits, Queue};
use super::ledger::Claimed;
use super::mirror::Committed;
use super::partition::{Belief, Finding, Generation, Protocol, Row, State};
use super::record::{Epoch, Partition, Position};

/// How often the rows of all partitions are looked at, so that what an operator changes by hand is followed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The wait before a partition that was fenced, or could not be claimed, is claimed again; doubled each time.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);
/// The wait before a partition is read again whose delivery can't be trusted: the trouble may last.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// So many batches are written with care after one that needed it.
const CAREFUL_BATCHES: u32 = 8;

/// What a free writer is to do next.
#[derive(Debug)]
pub enum Work<E> {
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
pub struct Assigned<E> {
    /// All records of the next step.
    pub batch: Batch<E>,
    /// The epoch that the partition was claimed under.
    pub epoch: Epoch,
    /// Its last batches could not be written the fast way.
    pub careful: bool,
}

/// How the writing of a batch ended.
#[derive(Debug)]
pub enum Written {
    /// The database confirmed the commit.
    Committed {
        /// The proof, for the mirror.
        token: Committed,
        /// It had to be written with care.
        careful: bool,
    },
    /// It was too much for the database's time limit: rolled back.
    TooSlow,
    /// The fence was missed, or nobody knows how it ended.
    Unsure,
}

/// See the module.
#[derive(Debug)]
pub struct Assignment<E> {
    inner: Mutex<Inner<E>>,
    commit_ended: Condvar,
    work: Notify,
    stopping: watch::Sender<bool>,
    limits: Limits,
    longest_wait: Duration,
}

#[derive(Debug)]
struct Inner<E> {
    slots: BTreeMap<Partition, Slot<E>>,
    look_at: Instant,
    turn: u64,
    reading_ended: bool,
}

#[derive(Debug)]
struct Slot<E> {
    protocol: Protocol,
    queue: Queue<E>,
    in_flight_bytes: usize,
    not_before: Instant,
    failed_claims: u32,
    careful_batches: u32,
    max_records: usize,
    served: u64,
    committed: Option<Committed>,
}

impl<E> Assignment<E> {
    /// Without any partition; no claim of a fenced partition waits longer than `longest_wait`.
    #[must_use]
    pub fn new(limits: Limits, longest_wait: Duration) -> Self {
        let inner = Inner { slots: BTreeMap::new(), look_at: Instant::now(), turn: 0, reading_ended: false };
        Self {
            inner: Mutex::new(inner),
            commit_ended: Condvar::new(),
            work: Notify::new(),
            stopping: watch::Sender::new(false),
            limits,
            longest_wait,
        }
    }

    // ---- the consumer thread ----

    /// Kafka has given partitions to this process.
    pub fn assigned(&self, partitions: &[Partition]) {
        let mut inner = self.lock();
        for &partition in partitions {
            let slot = inner.slot(partition, self.limits);
            slot.protocol.assigned();
            slot.follow();
            slot.not_before = Instant::now();
            slot.failed_claims = 0;
        }
        self.work.notify_one();
    }

    /// Kafka takes partitions away. Waits, up to `patience`, for commits of theirs that are in flight.
    pub fn revoked(&self, partitions: &[Partition], patience: Duration) {
        let mut inner = self.lock();
        for &partition in partitions {
            let slot = inner.slot(partition, self.limits);
            slot.protocol.revoked();
            slot.follow();
        }
        let in_flight = |inner: &mut Inner<E>| {
            partitions.iter().any(|p| inner.slots.get(p).is_some_and(|slot| slot.protocol.commit_in_flight()))
        };
        let waited = self.commit_ended.wait_timeout_while(inner, patience, in_flight);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// What the consumer thread should be reading, and from where if it isn't yet.
    #[must_use]
    pub fn wanted(&self) -> Vec<(Partition, Generation, Position)> {
        let inner = self.lock();
        let wanted = |(&partition, slot): (&Partition, &Slot<E>)| {
            slot.protocol.wanted().map(|(generation, position)| (partition, generation, position))
        };
        inner.slots.iter().filter_map(wanted).collect()
    }

    /// The consumer thread is about to start reading. False: it must not, things have moved on.
    #[must_use]
    pub fn started(&self, partition: Partition, generation: Generation) -> bool {
        let mut inner = self.lock();
        inner.slots.get_mut(&partition).is_some_and(|slot| slot.protocol.started(generation))
    }

    /// What the consumer thread has read, in its order. Whatever belongs to an older generation is dropped.
    pub fn arrived(&self, arrivals: Vec<(Partition, Generation, Arrival<E>)>) {
        let mut inner = self.lock();
        for (partition, generation, arrival) in arrivals {
            if let Some(slot) = inner.slots.get_mut(&partition) {
                slot.queue.push(generation, arrival);
            }
        }
        drop(inner);
        self.work.notify_one();
    }

    /// What was delivered of these partitions can't be trusted: they start again where the ledger says, after a moment.
    pub fn restart(&self, partitions: impl IntoIterator<Item = Partition>) {
        let mut inner = self.lock();
        for partition in partitions {
            let slot = inner.slot(partition, self.limits);
            if !slot.protocol.commit_in_flight() {
                slot.give_up();
                slot.not_before = Instant::now() + RESTART_AFTER;
            }
        }
        drop(inner);
        self.work.notify_one();
    }

    /// The positions committed since the last call, for the mirror.
    #[must_use]
    pub fn take_committed(&self) -> Vec<Committed> {
        self.lock().slots.values_mut().filter_map(|slot| slot.committed.take()).collect()
    }

    /// What records waiting or in flight occupy.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.lock().slots.values().map(|slot| slot.queue.bytes().saturating_add(slot.in_flight_bytes)).sum()
    }

    /// Whether Kafka has given this process any partition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().slots.values().all(|slot| slot.protocol.state() == State::Elsewhere)
    }

    /// From here only what is in flight is finished. Records that wait are left for whoever reads them next.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether [`Self::stop`] was called.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Returns when [`Self::stop`] is called.
    pub async fn until_stopping(&self) {
        // The sender is a field of ours, so the wait can't fail for want of it.
        drop(self.stopping.subscribe().wait_for(|stopping| *stopping).await);
    }

    /// The consumer thread reads no more, and has reported everything.
    pub fn reading_ended(&self) {
        let mut inner = self.lock();
        inner.reading_ended = true;
        for slot in inner.slots.values_mut().filter(|slot| slot.queue.has_records()) {
            slot.protocol.revoked();
            slot.follow();
        }
        self.work.notify_waiters();
        self.work.notify_one();
    }

    // ---- the writers ----

    /// Waits for something to do.
    pub async fn next_work(&self) -> Work<E> {
        loop {
            let next = self.lock().next_work(self.limits, self.is_stopping());
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

    /// The claim's answer; `None` if it could not be had.
    pub fn claimed(&self, partition: Partition, generation: Generation, row: Option<Row>) -> Finding {
        let mut inner = self.lock();
        let slot = inner.slot(partition, self.limits);
        let finding = slot.protocol.claimed(generation, row);
        slot.follow();
        slot.failed_claims = if row.is_some() { 0 } else { slot.failed_claims.saturating_add(1) };
        slot.delay(self.longest_wait);
        finding
    }

    /// What the look found in the row; `None` if there is none.
    pub fn seen(&self, partition: Partition, belief: Belief, row: Option<Row>) -> Finding {
        let mut inner = self.lock();
        let slot = inner.slot(partition, self.limits);
        let finding = slot.protocol.seen(belief, row);
        slot.follow();
        if finding != Finding::Nothing {
            slot.delay(self.longest_wait);
        }
        finding
    }

    /// How the writing of a partition's batch ended.
    pub fn written(&self, partition: Partition, how: Written) {
        let mut inner = self.lock();
        let slot = inner.slot(partition, self.limits);
        slot.in_flight_bytes = 0;
        match how {
            Written::Committed { token, careful } => {
                slot.protocol.committed();
                slot.committed = Some(token);
                slot.max_records = slot.max_records.saturating_mul(2).min(self.limits.records);
                slot.careful_batches = if careful { CAREFUL_BATCHES } else { slot.careful_batches.saturating_sub(1) };
            }
            Written::TooSlow => {
                slot.max_records = slot.max_records.div_euclid(2).max(1);
                slot.give_up();
            }
            Written::Unsure => slot.give_up(),
        }
        drop(inner);
        self.commit_ended.notify_all();
        self.work.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<E>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E> Inner<E> {
    fn slot(&mut self, partition: Partition, limits: Limits) -> &mut Slot<E> {
        self.slots.entry(partition).or_insert_with(|| Slot {
            protocol: Protocol::default(),
            queue: Queue::new(partition),
            in_flight_bytes: 0,
            not_before: Instant::now(),
            failed_claims: 0,
            careful_batches: 0,
            max_records: limits.records,
            served: 0,
            committed: None,
        })
    }

    /// What is most urgent, or when to ask again.
    fn next_work(&mut self, limits: Limits, stopping: bool) -> Result<Work<E>, Instant> {
        let now = Instant::now();
        if !stopping {
            if let Some(look) = self.look(now) {
                return Ok(look);
            }
            let due = |slot: &&mut Slot<E>| slot.not_before <= now;
            for (&partition, slot) in &mut self.slots {
                if let Some(generation) = Some(&mut *slot).filter(due).and_then(|slot| slot.protocol.begin_claim()) {
                    return Ok(Work::Claim(partition, generation));
                }
            }
        }
        let batches = self.batches(limits);
        match batches.is_empty() {
            false => Ok(Work::Write(batches)),
            true if self.reading_ended => Ok(Work::Stop),
            true if stopping => Err(now + LOOK_INTERVAL),
            true => Err(self.next_due(now)),
        }
    }

    /// All rows once a second; at once those of which nothing is known.
    fn look(&mut self, now: Instant) -> Option<Work<E>> {
        let everything = now >= self.look_at;
        let urgent = |slot: &Slot<E>| matches!(slot.protocol.state(), State::Unsure { .. }) && slot.not_before <= now;
        if !everything && !self.slots.values().any(urgent) {
            return None;
        }
        self.look_at = now + LOOK_INTERVAL;
        let beliefs = self.slots.iter().filter_map(|(&partition, slot)| Some((partition, slot.protocol.look()?)));
        let beliefs: Vec<_> = beliefs.collect();
        for (partition, _) in &beliefs {
            if let Some(slot) = self.slots.get_mut(partition) {
                slot.not_before = self.look_at; // no other writer looks while this one does
            }
        }
        (!beliefs.is_empty()).then_some(Work::Look(beliefs))
    }

    /// The next steps of partitions that have one and are in nobody's hands, up to the limits of one transaction; those
    /// that have waited longest come first.
    fn batches(&mut self, limits: Limits) -> Vec<Assigned<E>> {
        let mut room = limits;
        let mut batches: Vec<Assigned<E>> = Vec::new();
        let mut slots: Vec<&mut Slot<E>> = self.slots.values_mut().filter(|slot| slot.has_work()).collect();
        slots.sort_by_key(|slot| slot.served);
        for slot in slots {
            if !batches.is_empty() && (room.records == 0 || room.bytes == 0) {
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
        let waits = |slot: &&Slot<E>| matches!(slot.protocol.state(), State::Owned | State::Fenced | State::Unsure { .. });
        let due = self.slots.values().filter(waits).map(|slot| slot.not_before.max(now));
        due.fold(self.look_at.max(now), Instant::min)
    }
}

impl<E> Assigned<E> {
    /// What the fence has to find.
    #[must_use]
    pub fn claimed(&self) -> Claimed {
        Claimed { partition: self.batch.partition(), epoch: self.epoch, step: self.batch.step() }
    }
}

impl<E> Slot<E> {
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
        let times = self.protocol.fenced_in_a_row().max(self.failed_claims);
        let wait = match times {
            0 => Duration::ZERO,
            times => CLAIM_AGAIN.saturating_mul(2_u32.saturating_pow(times - 1)).min(longest),
        };
        self.not_before = Instant::now() + wait;
    }
}
