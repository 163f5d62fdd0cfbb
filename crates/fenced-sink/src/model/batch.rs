//! The queue of one partition, and the batches that a writer takes from it. Pure.
//!
//! The invariant: each batch begins where the batch before it ended, and it has every record of its step once. The
//! offsets increase. They can have holes, which transaction markers, aborted records and compaction leave.

use std::collections::VecDeque;

use crate::model::event::{Parsed, Refusal};
use crate::model::outcome::BulkFailure;
use crate::model::protocol::Generation;
use crate::model::record::{Digest, Epoch, LeaderEpoch, Offset, Partition, Position, Record, Step};
use crate::model::topic_log::KnownLog;

/// The result of [`Event::parse`](crate::Event::parse).
pub(crate) type ParseOutcome<E> = Result<Parsed<E>, Refusal>;

/// A record and the result of its parsing.
#[derive(Debug)]
pub(crate) struct Entry<E> {
    /// The whole record: a dead letter stores all of it.
    pub record: Record,
    /// An event to store, an event to ignore, or the reason for a dead letter.
    pub parsed: ParseOutcome<E>,
}

/// What the consumer thread adds to a queue.
#[derive(Debug)]
pub(crate) enum Arrival<E> {
    /// The next record.
    Record(Entry<E>),
    /// There is no further record below this position. The holes up to it are markers or aborted records.
    Reached(Position),
}

/// The limits of one batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    /// The maximum number of records.
    pub records: usize,
    /// The maximum number of bytes. One larger record is a batch of its own.
    pub bytes: usize,
}

/// All records of one step of one partition, each once.
#[derive(Debug)]
pub(crate) struct Batch<E> {
    partition: Partition,
    step: Step,
    entries: Vec<Entry<E>>,
    bytes: usize,
}

impl<E> Batch<E> {
    /// The partition.
    #[must_use]
    pub(crate) fn partition(&self) -> Partition {
        self.partition
    }

    /// The step by which the batch moves the partition.
    #[must_use]
    pub(crate) fn step(&self) -> Step {
        self.step
    }

    /// The entries in the order of their offsets. Empty if the step has only holes.
    #[must_use]
    pub(crate) fn entries(&self) -> &[Entry<E>] {
        &self.entries
    }

    /// The size of the entries in memory.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Offset and digest of the last record. The commit writes them to the row, and the next start compares them with
    /// the partition log.
    #[must_use]
    pub(crate) fn last(&self) -> Option<(Offset, Digest)> {
        self.entries.last().map(|entry| (entry.record.offset, entry.record.digest()))
    }

    /// The leader epoch of each record.
    pub(crate) fn leader_epochs(&self) -> impl Iterator<Item = (Offset, Option<LeaderEpoch>)> + '_ {
        self.entries.iter().map(|entry| (entry.record.offset, entry.record.leader_epoch))
    }

    /// Keeps the first `entries` entries, and ends the step behind the last of them. The consumer must read the others
    /// again.
    pub(crate) fn cut(&mut self, entries: usize) {
        self.entries.truncate(entries);
        let end = self.entries.last().and_then(|entry| Step::new(self.step.from(), entry.record.offset.next()));
        self.step = end.unwrap_or(self.step);
    }
}

/// A batch, and the epoch that permits to write it.
#[derive(Debug)]
pub(crate) struct ClaimedBatch<E> {
    /// The batch.
    pub(crate) batch: Batch<E>,
    /// The epoch of the claim.
    pub(crate) epoch: Epoch,
    /// Why a bulk insert of all events failed for one of the last batches of the partition, or would have failed.
    pub(crate) bulk_failure: Option<BulkFailure>,
    /// Its last attempts ended with unclassified errors: one of its records may be the cause.
    pub(crate) bisect: bool,
    /// What is known about the partition log. The commit writes it to the row.
    pub(crate) known: Option<KnownLog>,
}

impl<E> ClaimedBatch<E> {
    /// What the fence compares with the row.
    #[must_use]
    pub(crate) fn claimed(&self) -> ClaimedStep {
        ClaimedStep { partition: self.batch.partition(), epoch: self.epoch, step: self.batch.step() }
    }
}

/// A step that a transaction will commit, if the row still has this epoch and position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClaimedStep {
    /// The partition.
    pub partition: Partition,
    /// The epoch of the claim.
    pub epoch: Epoch,
    /// The step.
    pub step: Step,
}

/// The records of one partition that have arrived and are not in a batch yet.
///
/// Only a change of generation empties the queue. If it dropped records while the consumer reads on, the next batch
/// would begin behind the dropped records, and they would be lost.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    partition: Partition,
    generation: Generation,
    arrivals: VecDeque<Arrival<E>>,
    bytes: usize,
}

impl<E> Queue<E> {
    /// An empty queue.
    #[must_use]
    pub(crate) fn new(partition: Partition) -> Self {
        Self { partition, generation: Generation::default(), arrivals: VecDeque::new(), bytes: 0 }
    }

    /// The size of the queued records in memory.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the queue has neither records nor reached positions.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// Whether the queue has records.
    #[must_use]
    pub(crate) fn has_records(&self) -> bool {
        self.bytes > 0
    }

    /// Appends an arrival. Drops it if the consumer thread read it under another generation. A reached position replaces
    /// the one before it. Otherwise the queue grows without a limit while the database is unavailable.
    pub(crate) fn push(&mut self, generation: Generation, arrival: Arrival<E>) {
        if generation == self.generation {
            if let (Arrival::Reached(_), Some(Arrival::Reached(_))) = (&arrival, self.arrivals.back()) {
                self.arrivals.pop_back();
            }
            self.bytes = self.bytes.saturating_add(size(&arrival));
            self.arrivals.push_back(arrival);
        }
    }

    /// Puts a batch back in front of the queue, from which it was taken. No record was taken after it.
    pub(crate) fn put_back(&mut self, batch: Batch<E>) {
        self.bytes = self.bytes.saturating_add(batch.bytes);
        self.arrivals.push_front(Arrival::Reached(batch.step.to()));
        for entry in batch.entries.into_iter().rev() {
            self.arrivals.push_front(Arrival::Record(entry));
        }
    }

    /// Drops all queued records if the generation is another one: reading has started again or ended.
    pub(crate) fn set_generation(&mut self, generation: Generation) {
        if generation != self.generation {
            self.generation = generation;
            self.arrivals.clear();
            self.bytes = 0;
        }
    }

    /// Takes the next batch, which begins at `from`. Drops records below `from`: they are handled already. `None`:
    /// nothing in the queue moves the partition.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn take(&mut self, from: Position, limits: BatchLimits) -> Option<Batch<E>> {
        self.take_until(from, limits, |_| false)
    }

    /// Takes the next batch, which begins at `from` and ends before the first record that `stops` it. Drops records below
    /// `from`: they are handled already. `None`: nothing in front of that record moves the partition.
    pub(crate) fn take_until(
        &mut self,
        from: Position,
        limits: BatchLimits,
        mut stops: impl FnMut(&Record) -> bool,
    ) -> Option<Batch<E>> {
        let mut batch_bytes = 0_usize;
        let mut entries = Vec::with_capacity(self.arrivals.len().min(limits.records));
        let mut to = from;
        while let Some(arrival) = self.arrivals.front() {
            let bytes = size(arrival);
            let full = entries.len() >= limits.records || batch_bytes.saturating_add(bytes) > limits.bytes;
            if full && !entries.is_empty() && matches!(arrival, Arrival::Record(_)) {
                break;
            }
            if let Arrival::Record(entry) = arrival
                && entry.record.offset.next() > to
                && stops(&entry.record)
            {
                break;
            }
            self.bytes = self.bytes.saturating_sub(bytes);
            match self.arrivals.pop_front() {
                Some(Arrival::Record(entry)) if entry.record.offset.next() > to => {
                    to = entry.record.offset.next();
                    batch_bytes = batch_bytes.saturating_add(bytes);
                    entries.push(entry);
                }
                Some(Arrival::Reached(position)) => to = to.max(position),
                Some(Arrival::Record(_)) | None => {}
            }
        }
        let step = Step::new(from, to)?;
        Some(Batch { partition: self.partition, step, entries, bytes: batch_bytes })
    }
}

fn size<E>(arrival: &Arrival<E>) -> usize {
    match arrival {
        Arrival::Record(entry) => entry.record.size() + size_of::<Entry<E>>(),
        Arrival::Reached(_) => 0,
    }
}

#[cfg(test)]
mod tests;
