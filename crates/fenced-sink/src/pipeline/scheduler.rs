//! What is to be done next, and for which partition. Nothing waits here: the caller does, until the instant that it is
//! told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::model::batch::{BatchLimits, ClaimedBatch};
use crate::model::mirror::CommittedPosition;
use crate::model::protocol::{AfterDrain, Generation, RowEffect, RowReadToken, State};
use crate::model::record::Partition;
use crate::model::standing::HeldPartition;
use crate::model::stored_row::StoredRow;
use crate::model::topic_log::LogObservation;
use crate::pipeline::slot::Slot;
use crate::pipeline::work::{CommitResult, PartitionQuestion, ReadTarget, Work};

/// How often the rows of all partitions are looked at, so that what an operator changes by hand is followed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// All partitions that this process was ever given.
#[derive(Debug)]
pub(super) struct Scheduler<E> {
    slots: BTreeMap<Partition, Slot<E>>,
    limits: BatchLimits,
    longest_wait: Duration,
    look_at: Instant,
    turn: u64,
    reading_ended: bool,
}

impl<E> Scheduler<E> {
    pub(super) fn new(limits: BatchLimits, longest_wait: Duration) -> Self {
        let (slots, look_at) = (BTreeMap::new(), Instant::now());
        Self { slots, limits, longest_wait, look_at, turn: 0, reading_ended: false }
    }

    pub(super) fn slot(&mut self, partition: Partition) -> &mut Slot<E> {
        self.slots.entry(partition).or_insert_with(|| Slot::new(partition, self.limits.records))
    }

    pub(super) fn wanted(&self) -> Vec<ReadTarget> {
        self.slots.values().filter_map(Slot::wanted).collect()
    }

    /// What is to be asked about the logs.
    pub(super) fn questions(&mut self) -> Vec<PartitionQuestion> {
        let question = |(partition, slot): (&Partition, &mut Slot<E>)| {
            let (generation, doubt) = slot.doubt()?;
            Some(PartitionQuestion { partition: *partition, generation, doubt })
        };
        self.slots.iter_mut().filter_map(question).collect()
    }

    /// The answer. True: records are there, and the consumer hears of none.
    pub(super) fn saw(&mut self, questions: &[PartitionQuestion], seen: &LogObservation) -> bool {
        let (others_hear, mut deaf) = (self.buffered_bytes() > 0, false);
        for question in questions {
            let slot = self.slot(question.partition);
            deaf |= slot.saw(question.generation, question.doubt, seen) && slot.hears_nothing(others_hear);
        }
        deaf
    }

    /// Whether a partition may not be read before its log was looked at.
    pub(super) fn waits_for_a_look_at_the_log(&self) -> bool {
        self.slots.values().any(|slot| slot.protocol.read_target().is_some() && slot.wanted().is_none())
    }

    pub(super) fn take_committed(&mut self) -> Vec<CommittedPosition> {
        self.slots.values_mut().filter_map(|slot| slot.committed.take()).collect()
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.slots.values().map(|slot| slot.queue.bytes().saturating_add(slot.in_flight_bytes)).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.values().all(|slot| slot.protocol.state() == State::Unassigned)
    }

    /// Those that are ours.
    pub(super) fn held(&self) -> Vec<HeldPartition> {
        let held = self.slots.values().map(Slot::held);
        held.filter(|held| !matches!(held.state, State::Unassigned | State::Draining(AfterDrain::Unassigned))).collect()
    }

    /// Records that wait are left for whoever reads them next; a position past markers is still written.
    pub(super) fn reading_ended(&mut self) {
        self.reading_ended = true;
        self.slots.values_mut().filter(|slot| slot.queue.has_records()).for_each(Slot::revoked);
    }

    pub(super) fn claimed(
        &mut self,
        partition: Partition,
        generation: Generation,
        found: Option<StoredRow>,
    ) -> RowEffect {
        let longest_wait = self.longest_wait;
        self.slot(partition).claimed(generation, found, longest_wait)
    }

    pub(super) fn seen(&mut self, partition: Partition, belief: RowReadToken, found: Option<StoredRow>) -> RowEffect {
        let longest_wait = self.longest_wait;
        self.slot(partition).seen(belief, found, longest_wait)
    }

    pub(super) fn written(&mut self, partition: Partition, how: CommitResult) {
        let all = self.limits.records;
        let slot = self.slot(partition);
        slot.in_flight_bytes = 0;
        match how {
            CommitResult::Committed { token, careful, halted } => slot.wrote(token, careful, halted, all),
            CommitResult::TooSlow => slot.was_too_slow(),
            CommitResult::Unknown => slot.give_up(),
        }
    }

    /// What is most urgent, or when to ask again.
    pub(super) fn next_work(&mut self, now: Instant, stopping: bool) -> Result<Work<E>, Instant> {
        if !stopping && let Some(work) = self.note().or_else(|| self.look(now)).or_else(|| self.claim(now)) {
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

    fn note(&mut self) -> Option<Work<E>> {
        self.slots.values_mut().find_map(|slot| slot.to_note.take()).map(Work::Note)
    }

    /// All rows once a second; at once those of which nothing is known.
    fn look(&mut self, now: Instant) -> Option<Work<E>> {
        let urgent = |slot: &Slot<E>| matches!(slot.protocol.state(), State::Unknown(_)) && slot.not_before <= now;
        if now < self.look_at && !self.slots.values().any(urgent) {
            return None;
        }
        self.look_at = now + LOOK_INTERVAL;
        let mut beliefs = Vec::new();
        for (partition, slot) in &mut self.slots {
            if let Some(belief) = slot.protocol.begin_row_read() {
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
    fn batches(&mut self) -> Vec<ClaimedBatch<E>> {
        let mut room = self.limits;
        let mut batches: Vec<ClaimedBatch<E>> = Vec::new();
        let mut slots: Vec<&mut Slot<E>> = self.slots.values_mut().filter(|slot| slot.has_work()).collect();
        slots.sort_by_key(|slot| slot.served);
        for slot in slots {
            if room.records == 0 || room.bytes == 0 {
                break;
            }
            let Some((batch, epoch)) = slot.begin_commit(room) else { continue };
            room.records = room.records.saturating_sub(batch.entries().len());
            room.bytes = room.bytes.saturating_sub(batch.bytes());
            self.turn = self.turn.saturating_add(1);
            slot.served = self.turn;
            batches.push(ClaimedBatch { batch, epoch, careful: slot.needs_care(), known: slot.known.clone() });
        }
        batches
    }

    fn next_due(&self, now: Instant) -> Instant {
        let waits =
            |slot: &&Slot<E>| matches!(slot.protocol.state(), State::Assigned | State::Fenced | State::Unknown(_));
        let due = self.slots.values().filter(waits).map(|slot| slot.not_before.max(now));
        due.fold(self.look_at.max(now), Instant::min)
    }
}
