//! What a writer logs: a line for each batch, and for each record as long as there are not too many.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::noting::Noted;
use crate::engine::assignment::{Assigned, Noting};
use crate::engine::batch::{Batch, Entry};
use crate::engine::event::{Event, Moment, Parsed, Place};
use crate::engine::partition::Finding;
use crate::engine::record::{Partition, Step};
use crate::engine::transaction::{Outcome, totals};
use crate::telemetry::LineBudget;

/// The log of one topic's writers.
pub(super) struct Lines<'a> {
    pub(super) topic: &'a str,
    pub(super) budget: &'a Mutex<LineBudget>,
}

impl Lines<'_> {
    /// Records are about to be written. Gives whether they may have lines of their own.
    pub(super) fn received<E: Event>(&self, work: &[Assigned<E>]) -> bool {
        let records = work.iter().map(|one| one.batch.entries().len()).sum();
        let lines = self.budget().take(records, Instant::now());
        if lines {
            for entry in work.iter().flat_map(|one| one.batch.entries()) {
                if let Ok(Parsed::Event(event)) = &entry.intake {
                    event.log(Moment::Received, self.place(entry));
                }
            }
        }
        lines
    }

    /// A batch is committed.
    pub(super) fn committed<E: Event>(&self, batch: &Batch<E>, outcomes: &[Outcome], lines: bool, took: Duration) {
        let (step, totals) = (batch.step(), totals(outcomes));
        tracing::info!(
            topic = self.topic,
            partition = batch.partition().0,
            from = step.from().0,
            to = step.to().0,
            records = outcomes.len(),
            stored = totals.stored,
            duplicates = totals.duplicates,
            ignored = totals.ignored,
            dead_lettered = totals.dead_lettered,
            lines_left_out = self.budget().take_left_out(),
            millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "batch_committed"
        );
        // The cap is for lines about what went well: a dead letter is always worth one.
        for (entry, outcome) in batch.entries().iter().zip(outcomes) {
            if lines || matches!(outcome, Outcome::DeadLettered(_)) {
                self.handled(entry, outcome);
            }
        }
    }

    fn handled<E: Event>(&self, entry: &Entry<E>, outcome: &Outcome) {
        let (topic, partition, offset) = (self.topic, entry.record.partition.0, entry.record.offset.0);
        match (&entry.intake, outcome) {
            (Ok(Parsed::Event(event)), Outcome::Stored(id)) => event.log(Moment::Stored(*id), self.place(entry)),
            (Ok(Parsed::Event(event)), Outcome::Duplicate) => event.log(Moment::Duplicate, self.place(entry)),
            (Ok(Parsed::Ignored { event_type }), _) => {
                tracing::debug!(topic, partition, offset, event_type, "unknown_event_ignored");
            }
            (_, Outcome::DeadLettered(cause)) => tracing::warn!(
                topic,
                partition,
                offset,
                reason = cause.reason.as_str(),
                field = cause.field,
                detail = cause.detail,
                sqlstate = cause.sqlstate,
                "record_dead_lettered"
            ),
            _ => {}
        }
    }

    /// A commit matched nothing: somebody else owns the partition, or an operator moved it.
    pub(super) fn fenced(&self, partition: Partition, step: Step) {
        tracing::warn!(topic = self.topic, partition = partition.0, position = step.from().0, "commit_fenced");
    }

    /// The breaker has halted a partition.
    pub(super) fn too_many_dead_letters(&self, partition: Partition, step: Step) {
        tracing::error!(
            topic = self.topic,
            partition = partition.0,
            position = step.to().0,
            reason = "too_many_dead_letters",
            "partition_halted"
        );
    }

    /// A fault of the log was noted.
    pub(super) fn noted(&self, noting: &Noting, noted: Noted) {
        let (topic, partition, position) = (self.topic, noting.partition.0, noting.at.0);
        let (from, to, reason) = (noting.gap.from.0, noting.gap.to.0, noting.gap.reason.as_str());
        match noted {
            Noted::Halted => {
                let hint = "see offset_gaps; `offsets resume --help` says how to go on";
                tracing::error!(topic, partition, position, reason, from, to, hint, "partition_halted");
            }
            Noted::Skipped => tracing::warn!(topic, partition, reason, from, to, "gap_skipped"),
            Noted::Fenced => tracing::warn!(topic, partition, position, "commit_fenced"),
        }
    }

    /// What a claim or a look led to.
    pub(super) fn found(&self, partition: Partition, finding: Finding) {
        let (topic, partition) = (self.topic, partition.0);
        match finding {
            Finding::Nothing => {}
            Finding::Start(position) => tracing::debug!(topic, partition, position = position.0, "partition_placed"),
            Finding::Fenced => tracing::warn!(topic, partition, "partition_taken_over"),
            Finding::Halted => {
                tracing::error!(topic, partition, hint = "see consumer_offsets.halt_reason", "partition_halted");
            }
            Finding::Claim => tracing::debug!(topic, partition, "partition_to_be_claimed"),
        }
    }

    fn place<E>(&self, entry: &Entry<E>) -> Place<'_> {
        Place { topic: self.topic, partition: entry.record.partition, offset: entry.record.offset }
    }

    fn budget(&self) -> MutexGuard<'_, LineBudget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
