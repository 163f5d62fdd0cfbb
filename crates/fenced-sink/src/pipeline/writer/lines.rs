//! What a writer logs: a line for each batch, and for each record as long as there are not too many.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::model::batch::{Batch, ClaimedBatch, Entry};
use crate::model::event::{LogPoint, Parsed, RecordRef};
use crate::model::outcome::{RecordOutcome, totals};
use crate::model::protocol::RowEffect;
use crate::model::record::{Partition, Step};
use crate::pipeline::line_budget::LineBudget;
use crate::pipeline::work::LogFaultReport;
use crate::pipeline::writer::noting::LogFaultOutcome;

/// The log of one topic's writers.
pub(super) struct Lines<'a> {
    pub(super) topic: &'a str,
    pub(super) budget: &'a Mutex<LineBudget>,
}

impl Lines<'_> {
    /// Records are about to be written. Gives whether they may have lines of their own.
    pub(super) fn received<E: Event>(&self, work: &[ClaimedBatch<E>]) -> bool {
        let records = work.iter().map(|one| one.batch.entries().len()).sum();
        let lines = self.budget().take(records, Instant::now());
        if lines {
            for entry in work.iter().flat_map(|one| one.batch.entries()) {
                if let Ok(Parsed::Event(event)) = &entry.parsed {
                    event.log(LogPoint::Received, self.place(entry));
                }
            }
        }
        lines
    }

    /// A batch is committed.
    pub(super) fn committed<E: Event>(
        &self,
        batch: &Batch<E>,
        outcomes: &[RecordOutcome],
        lines: bool,
        took: Duration,
    ) {
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
            if lines || matches!(outcome, RecordOutcome::DeadLettered(_)) {
                self.handled(entry, outcome);
            }
        }
    }

    fn handled<E: Event>(&self, entry: &Entry<E>, outcome: &RecordOutcome) {
        let (topic, partition, offset) = (self.topic, entry.record.partition.0, entry.record.offset.0);
        match (&entry.parsed, outcome) {
            (Ok(Parsed::Event(event)), RecordOutcome::Stored(id)) => {
                event.log(LogPoint::Stored(*id), self.place(entry));
            }
            (Ok(Parsed::Event(event)), RecordOutcome::Duplicate) => event.log(LogPoint::Duplicate, self.place(entry)),
            (Ok(Parsed::Ignored { event_type }), _) => {
                tracing::debug!(topic, partition, offset, event_type, "unknown_event_ignored");
            }
            (_, RecordOutcome::DeadLettered(cause)) => tracing::warn!(
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
    pub(super) fn noted(&self, noting: &LogFaultReport, noted: LogFaultOutcome) {
        let (topic, partition, position) = (self.topic, noting.partition.0, noting.at.0);
        let (from, to, reason) = (noting.gap.from.0, noting.gap.to.0, noting.gap.reason.as_str());
        match noted {
            LogFaultOutcome::Halted => {
                let hint = "see offset_gaps; `offsets resume --help` says how to go on";
                tracing::error!(topic, partition, position, reason, from, to, hint, "partition_halted");
            }
            LogFaultOutcome::Skipped => tracing::warn!(topic, partition, reason, from, to, "gap_skipped"),
            LogFaultOutcome::Fenced => tracing::warn!(topic, partition, position, "commit_fenced"),
        }
    }

    /// What a claim or a look led to.
    pub(super) fn found(&self, partition: Partition, finding: RowEffect) {
        let (topic, partition) = (self.topic, partition.0);
        match finding {
            RowEffect::Unchanged => {}
            RowEffect::Start(position) => tracing::debug!(topic, partition, position = position.0, "partition_placed"),
            RowEffect::Fenced => tracing::warn!(topic, partition, "partition_taken_over"),
            RowEffect::Halted => {
                tracing::error!(topic, partition, hint = "see consumer_offsets.halt_reason", "partition_halted");
            }
            RowEffect::ClaimAgain => tracing::debug!(topic, partition, "partition_to_be_claimed"),
        }
    }

    fn place<E>(&self, entry: &Entry<E>) -> RecordRef<'_> {
        RecordRef { topic: self.topic, partition: entry.record.partition, offset: entry.record.offset }
    }

    fn budget(&self) -> MutexGuard<'_, LineBudget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
