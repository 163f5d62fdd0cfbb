//! One partition's records on their way to a transaction: a queue in order of arrival, and the batches cut from it.
//!
//! Pure. The invariant: the steps of successive batches chain, each batch holds every record of its step that the log
//! still had, and none twice. Offsets may jump (transaction markers, aborted data and compaction leave holes); they
//! never go back.

use std::collections::VecDeque;

use crate::model::event::{Parsed, Refusal};
use crate::model::protocol::Generation;
use crate::model::record::{Digest, Epoch, Offset, Partition, Position, Record, Step};
use crate::model::topic_log::KnownLog;

/// What a record turned out to be, before the database has seen it.
pub(crate) type ParseOutcome<E> = Result<Parsed<E>, Refusal>;

/// A record and what it turned out to be.
#[derive(Debug)]
pub(crate) struct Entry<E> {
    /// The record, whole: whatever happens to it, nothing of it is lost.
    pub record: Record,
    /// An event of ours, one to ignore, or a dead letter.
    pub parsed: ParseOutcome<E>,
}

/// What the consumer thread reports of a partition.
#[derive(Debug)]
pub(crate) enum Arrival<E> {
    /// The next record.
    Record(Entry<E>),
    /// Nothing is left below this position: only markers and aborted data were.
    Reached(Position),
}

/// Where a batch ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimits {
    /// At most so many records.
    pub records: usize,
    /// At most so many bytes, unless a single record has more.
    pub bytes: usize,
}

/// All records of one step of one partition.
#[derive(Debug)]
pub(crate) struct Batch<E> {
    partition: Partition,
    step: Step,
    entries: Vec<Entry<E>>,
    bytes: usize,
}

impl<E> Batch<E> {
    /// The partition that moves.
    #[must_use]
    pub(crate) fn partition(&self) -> Partition {
        self.partition
    }

    /// From where to where.
    #[must_use]
    pub(crate) fn step(&self) -> Step {
        self.step
    }

    /// In order of offset; empty when there is nothing in the step but holes.
    #[must_use]
    pub(crate) fn entries(&self) -> &[Entry<E>] {
        &self.entries
    }

    /// What the entries occupy.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Names the last record, to recognise it by when reading starts again.
    #[must_use]
    pub(crate) fn last(&self) -> Option<(Offset, Digest)> {
        self.entries.last().map(|entry| (entry.record.offset, entry.record.digest()))
    }
}

impl<E> Batch<E> {
    /// Keeps the first entries only; the step ends behind the last of them. The rest has to be read again.
    pub(crate) fn cut(&mut self, entries: usize) {
        self.entries.truncate(entries);
        let end = self.entries.last().and_then(|entry| Step::new(self.step.from(), entry.record.offset.next()));
        self.step = end.unwrap_or(self.step);
    }
}

/// A batch and the right to write it.
#[derive(Debug)]
pub(crate) struct ClaimedBatch<E> {
    /// All records of the next step.
    pub(crate) batch: Batch<E>,
    /// The epoch that the partition was claimed under.
    pub(crate) epoch: Epoch,
    /// Its last batches could not be written the fast way.
    pub(crate) row_by_row: bool,
    /// The log that it was read from.
    pub(crate) known: Option<KnownLog>,
}

impl<E> ClaimedBatch<E> {
    /// What the fence has to find.
    #[must_use]
    pub(crate) fn claimed(&self) -> ClaimedStep {
        ClaimedStep { partition: self.batch.partition(), epoch: self.epoch, step: self.batch.step() }
    }
}

/// A step that a transaction is about to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClaimedStep {
    /// The partition.
    pub partition: Partition,
    /// The epoch that it was claimed under.
    pub epoch: Epoch,
    /// From where to where.
    pub step: Step,
}

/// What has arrived of one partition and is not in a batch yet.
///
/// It is emptied by a change of generation and by nothing else: if records could be dropped while reading goes on, what
/// follows them would be taken for the next step, and they would be lost.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    partition: Partition,
    generation: Generation,
    arrivals: VecDeque<Arrival<E>>,
    bytes: usize,
}

impl<E> Queue<E> {
    /// An empty one.
    #[must_use]
    pub(crate) fn new(partition: Partition) -> Self {
        Self { partition, generation: Generation::default(), arrivals: VecDeque::new(), bytes: 0 }
    }

    /// What the waiting records occupy.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// Whether a record waits (a reached position alone does not count).
    #[must_use]
    pub(crate) fn has_records(&self) -> bool {
        self.bytes > 0
    }

    /// Appends what the consumer thread reports, in its order; drops what it read under another generation.
    pub(crate) fn push(&mut self, generation: Generation, arrival: Arrival<E>) {
        if generation == self.generation {
            self.bytes = self.bytes.saturating_add(size(&arrival));
            self.arrivals.push_back(arrival);
        }
    }

    /// Reading starts anew, or ends: what was read before is thrown away. Nothing happens if the generation is the same.
    pub(crate) fn set_generation(&mut self, generation: Generation) {
        if generation != self.generation {
            self.generation = generation;
            self.arrivals.clear();
            self.bytes = 0;
        }
    }

    /// Cuts the next batch, which begins at `from`. Records below it are dropped: they are handled already. `None`:
    /// nothing that waits moves the partition.
    pub(crate) fn take(&mut self, from: Position, limits: BatchLimits) -> Option<Batch<E>> {
        let mut batch_bytes = 0_usize;
        let mut entries = Vec::new();
        let mut to = from;
        while let Some(arrival) = self.arrivals.front() {
            let bytes = size(arrival);
            let full = entries.len() >= limits.records || batch_bytes.saturating_add(bytes) > limits.bytes;
            if full && !entries.is_empty() && matches!(arrival, Arrival::Record(_)) {
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
