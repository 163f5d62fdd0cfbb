//! Commits batches of several partitions in one transaction (rule 6).

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use super::Writer;
use crate::event::Event;
use crate::model::batch::{ClaimedBatch, Entry};
use crate::model::event::{LogPoint, Parsed, RecordRef};
use crate::model::halt::HaltReason;
use crate::model::mirror::CommittedPosition;
use crate::model::outcome::{BatchOutcome, BulkFailure, RecordOutcome, totals};
use crate::pipeline::failure::commit_failures;
use crate::pipeline::line_budget::LineBudget;
use crate::pipeline::reports::WriterReport;
use crate::postgres::transaction::mode::WriteMode;
use crate::postgres::transaction::{self, WriteFailure};

/// The smallest number of records for which `COPY` costs less than an insert.
const COPY_RECORDS: usize = 500;

/// A transaction, as its log lines need it.
#[derive(Clone, Copy)]
struct Attempt {
    began: Instant,
    mode: WriteMode,
    /// Whether its records may have their own lines.
    record_lines: bool,
}

impl<E: Event> Writer<E> {
    /// Commits in the mode that fits the batches. If this fails because of a record, commits them again in another mode.
    pub(super) async fn commit(&mut self, mut batches: Vec<ClaimedBatch<E>>) -> sqlx::Result<()> {
        // The lines come first: the time that they take is not the time of the transaction.
        let record_lines = self.received(&batches);
        let mode = first_mode(&batches, !record_lines && self.may_copy);
        let mut attempt = Attempt { record_lines, mode, began: Instant::now() };
        let mut is_cut = false;
        let outcomes = loop {
            match self.try_to_commit(&batches, attempt.mode).await {
                Ok(outcomes) => break outcomes,
                Err(WriteFailure::NeedsMode(mode)) => attempt.mode = mode,
                // The rest of the batch is read again after the halt.
                Err(WriteFailure::BreakerLimit { partition, entries }) => {
                    is_cut = true;
                    for claimed in batches.iter_mut().filter(|claimed| claimed.batch.partition() == partition) {
                        claimed.batch.cut(entries);
                    }
                }
                // A batch that was cut has lost records, so it is not handed back.
                Err(WriteFailure::Database(error)) => return Err(self.not_committed(batches, error, !is_cut).await),
                Err(WriteFailure::Commit(error)) => return Err(self.not_committed(batches, error, false).await),
            }
        };
        self.context.health.written(&batches, &outcomes, attempt.began.elapsed(), SystemTime::now());
        for (claimed, outcome) in batches.iter().zip(&outcomes) {
            self.committed(claimed, outcome, attempt);
        }
        Ok(())
    }

    async fn try_to_commit(
        &mut self,
        batches: &[ClaimedBatch<E>],
        mode: WriteMode,
    ) -> Result<Vec<BatchOutcome>, WriteFailure> {
        let context = Arc::clone(&self.context);
        transaction::write(self.session()?, &context.ledger, batches, mode, &context.rules).await
    }

    /// Reports the failure of each partition, and returns the error. `hand_back`: no COMMIT was sent, and the batches are
    /// complete.
    async fn not_committed(
        &mut self,
        batches: Vec<ClaimedBatch<E>>,
        error: sqlx::Error,
        hand_back: bool,
    ) -> sqlx::Error {
        let text = self.explained(&error).await;
        let failures = commit_failures(&batches, &error, &text);
        self.context.log_failure(&failures);
        for (claimed, (partition, failure)) in batches.into_iter().zip(failures) {
            self.context.scheduler.answer(if hand_back {
                WriterReport::RolledBack(claimed, failure)
            } else {
                WriterReport::CommitFailed(partition, failure)
            });
        }
        error
    }

    fn committed(&self, claimed: &ClaimedBatch<E>, outcome: &BatchOutcome, attempt: Attempt) {
        let (topic, partition, step) = (self.context.ledger.topic(), claimed.batch.partition(), claimed.batch.step());
        let (outcomes, halted) = match outcome {
            BatchOutcome::Committed(outcomes) => (outcomes, false),
            BatchOutcome::Halted(outcomes) => (outcomes, true),
            BatchOutcome::Fenced => {
                self.context.scheduler.answer(WriterReport::Fenced(partition));
                tracing::warn!(topic, partition = partition.0, position = step.from().0, "commit_fenced");
                return;
            }
        };
        if halted {
            self.context.health.halted(partition, step.to(), HaltReason::TooManyDeadLetters);
        }
        self.context.scheduler.answer(WriterReport::Committed {
            position: CommittedPosition::confirmed(partition, step.to()),
            bulk_failure: claimed.batch.entries().iter().zip(outcomes).filter_map(bulk_failure).max(),
            halted,
        });
        self.log_batch(claimed, outcomes, attempt);
        if halted {
            let reason = HaltReason::TooManyDeadLetters;
            tracing::error!(
                topic,
                partition = partition.0,
                position = step.to().0,
                reason = reason.as_str(),
                "partition_halted"
            );
        }
    }

    /// Logs the records before they are written, if they may have their own lines.
    fn received(&self, batches: &[ClaimedBatch<E>]) -> bool {
        let records = batches.iter().map(|claimed| claimed.batch.entries().len()).sum();
        let lines = self.lines().take(records, Instant::now());
        if lines {
            for entry in batches.iter().flat_map(|claimed| claimed.batch.entries()) {
                if let Ok(Parsed::Event(event)) = &entry.parsed {
                    event.log(LogPoint::Received, self.record_ref(entry));
                }
            }
        }
        lines
    }

    fn log_batch(&self, claimed: &ClaimedBatch<E>, outcomes: &[RecordOutcome], attempt: Attempt) {
        let (step, totals) = (claimed.batch.step(), totals(outcomes));
        // The lock is not held while the line is written.
        let lines_left_out = self.lines().take_left_out();
        tracing::info!(
            topic = self.context.ledger.topic(),
            partition = claimed.batch.partition().0,
            from = step.from().0,
            to = step.to().0,
            records = outcomes.len(),
            stored = totals.stored,
            duplicates = totals.duplicates,
            ignored = totals.ignored,
            dead_lettered = totals.dead_lettered,
            lines_left_out,
            millis = u64::try_from(attempt.began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "batch_committed"
        );
        if attempt.record_lines {
            for (entry, outcome) in claimed.batch.entries().iter().zip(outcomes) {
                self.log_record(entry, outcome);
            }
        }
    }

    fn log_record(&self, entry: &Entry<E>, outcome: &RecordOutcome) {
        let RecordRef { topic, partition, offset } = self.record_ref(entry);
        let (partition, offset) = (partition.0, offset.0);
        match (&entry.parsed, outcome) {
            (Ok(Parsed::Event(event)), RecordOutcome::Stored(Some(id))) => {
                event.log(LogPoint::Stored(*id), self.record_ref(entry));
            }
            (Ok(Parsed::Event(event)), RecordOutcome::Duplicate) => {
                event.log(LogPoint::Duplicate, self.record_ref(entry));
            }
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

    fn record_ref(&self, entry: &Entry<E>) -> RecordRef<'_> {
        let topic = self.context.ledger.topic();
        RecordRef { topic, partition: entry.record.partition, offset: entry.record.offset }
    }

    fn lines(&self) -> MutexGuard<'_, LineBudget> {
        self.context.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mode in which the transaction is written first. `COPY` is used only for many records: it needs one more round trip.
fn first_mode<E>(batches: &[ClaimedBatch<E>], may_copy: bool) -> WriteMode {
    let records: usize = batches.iter().map(|claimed| claimed.batch.entries().len()).sum();
    let bulk_failure = batches.iter().filter_map(|claimed| claimed.bulk_failure).max();
    if batches.iter().any(|claimed| claimed.bisect) {
        WriteMode::Bisect
    } else {
        WriteMode::first(may_copy && records >= COPY_RECORDS, bulk_failure)
    }
}

/// Why a bulk insert of all events fails at this entry.
fn bulk_failure<E>((entry, outcome): (&Entry<E>, &RecordOutcome)) -> Option<BulkFailure> {
    matches!(entry.parsed, Ok(Parsed::Event(_))).then(|| BulkFailure::of_event(outcome)).flatten()
}
