//! The numbers behind the metrics. They have no metric names here: the program that shows them chooses the names.
//!
//! The invariant: a record is counted only after the database has confirmed its commit. A commit whose answer was lost
//! is in the tables and not in these numbers.
//!
//! The cost is per batch and not per record, except for the age of a record.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::batch::{ClaimedBatch, Entry};
use crate::model::error_class::{ErrorClass, RetryCause};
use crate::model::halt::HaltReason;
use crate::model::outcome::{BatchOutcome, RecordOutcome, Totals, totals};
use crate::model::record::{Timestamp, TimestampType};
use crate::model::topic_log::GapReason;
use crate::observe::histogram::Histogram;

/// The counts since the process started.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// The committed records by outcome.
    pub records: Totals,
    /// The number of records of each committed batch. A batch without records is left out: it only moves past markers.
    pub batch_records: Histogram,
    /// The seconds from the begin of each transaction to the answer to its commit.
    pub commit_seconds: Histogram,
    /// The seconds from the timestamp of each record to the answer to its commit. A timestamp that can't be right is
    /// left out.
    pub end_to_end_seconds: Histogram,
    /// The batches that the fence refused.
    pub commits_fenced: u64,
    /// The retries of database operations, by reason.
    pub retries: BTreeMap<&'static str, u64>,
    /// The redrives of dead letters that failed for a cause outside of the letter, by reason.
    pub redrive_failures: BTreeMap<&'static str, u64>,
    /// The partitions that this process has halted, by reason.
    pub halts: BTreeMap<HaltReason, u64>,
    /// The offsets of all recorded gaps, by reason.
    pub gap_records: BTreeMap<GapReason, u64>,
    /// The dead letters of the group and topic in the table, by status, at the last count. Empty before the first
    /// count.
    pub dead_letters: BTreeMap<String, u64>,
}

/// Every reason exists from the start with the count 0: an alert on an increase must also see the first one.
const RETRIES: [&str; 10] = [
    RetryCause::Connection.name(),
    RetryCause::Shutdown.name(),
    RetryCause::Contention.name(),
    RetryCause::Resources.name(),
    RetryCause::ServerIo.name(),
    RetryCause::Timeout.name(),
    "too_slow",
    "new_connection",
    "refused",
    "unclassified",
];

const BATCH_RECORDS: &[f64] = &[
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0,
    100_000.0,
];
const COMMIT_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const END_TO_END_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 1_800.0, 3_600.0];

/// The start of 2010 in milliseconds since 1970. No record is older, because Kafka did not exist.
const FIRST_MILLIS: i64 = 1_262_304_000_000;
/// The clock of a producer may be this many milliseconds ahead of the local one. The age of such a record is 0. A later
/// timestamp does not come from a clock.
const AHEAD_MILLIS: i64 = 60_000;

impl Default for Counts {
    fn default() -> Self {
        Self {
            records: Totals::default(),
            batch_records: Histogram::new(BATCH_RECORDS),
            commit_seconds: Histogram::new(COMMIT_SECONDS),
            end_to_end_seconds: Histogram::new(END_TO_END_SECONDS),
            commits_fenced: 0,
            retries: RETRIES.map(|reason| (reason, 0)).into(),
            redrive_failures: RETRIES.map(|reason| (reason, 0)).into(),
            // A partition without a start position is created halted: this process does not halt it.
            halts: HaltReason::ALL
                .into_iter()
                .filter(|reason| *reason != HaltReason::NoStartPosition)
                .map(|reason| (reason, 0))
                .collect(),
            gap_records: GapReason::ALL.map(|reason| (reason, 0)).into(),
            dead_letters: BTreeMap::new(),
        }
    }
}

impl Counts {
    /// Counts a transaction that took `took` and ended at `now`, with the outcome of each of its batches.
    pub(super) fn written<E>(
        &mut self,
        batches: &[ClaimedBatch<E>],
        outcomes: &[BatchOutcome],
        took: Duration,
        now: SystemTime,
    ) {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let mut committed = false;
        for (claimed, outcome) in batches.iter().zip(outcomes) {
            match outcome {
                BatchOutcome::Fenced => self.commits_fenced = self.commits_fenced.saturating_add(1),
                BatchOutcome::Committed(outcomes) | BatchOutcome::Halted(outcomes) => {
                    committed = true;
                    self.committed(claimed.batch.entries(), outcomes, now);
                }
            }
        }
        if committed {
            self.commit_seconds.observe(took.as_secs_f64());
        }
    }

    fn committed<E>(&mut self, entries: &[Entry<E>], outcomes: &[RecordOutcome], now: i64) {
        let totals = totals(outcomes);
        let all = &mut self.records;
        all.stored = all.stored.saturating_add(totals.stored);
        all.duplicates = all.duplicates.saturating_add(totals.duplicates);
        all.ignored = all.ignored.saturating_add(totals.ignored);
        all.dead_lettered = all.dead_lettered.saturating_add(totals.dead_lettered);
        if !entries.is_empty() {
            self.batch_records.observe(f64::from(u32::try_from(entries.len()).unwrap_or(u32::MAX)));
        }
        for age in entries.iter().filter_map(|entry| age(entry.record.timestamp, now)) {
            self.end_to_end_seconds.observe(age.as_secs_f64());
        }
    }

    /// Counts a database operation that failed and will be retried.
    pub(super) fn retried(&mut self, class: ErrorClass) {
        add(&mut self.retries, class.retry_reason(), 1);
    }

    /// Counts a redrive that failed for a cause outside of the letter.
    pub(super) fn redrive_failed(&mut self, class: ErrorClass) {
        add(&mut self.redrive_failures, class.retry_reason(), 1);
    }

    /// Counts a partition that this process has halted.
    pub(super) fn halted(&mut self, reason: HaltReason) {
        add(&mut self.halts, reason, 1);
    }

    /// Counts the offsets of a recorded gap.
    pub(super) fn gap(&mut self, reason: GapReason, records: u64) {
        add(&mut self.gap_records, reason, records);
    }
}

fn add<R: Ord>(counts: &mut BTreeMap<R, u64>, reason: R, by: u64) {
    let count = counts.entry(reason).or_default();
    *count = count.saturating_add(by);
}

/// The age of a record. `None`: the record has no timestamp, or the timestamp can't be right.
fn age(timestamp: Timestamp, now: i64) -> Option<Duration> {
    let plausible = timestamp.kind != TimestampType::None
        && (FIRST_MILLIS..=now.saturating_add(AHEAD_MILLIS)).contains(&timestamp.millis);
    let millis = now.saturating_sub(timestamp.millis).max(0);
    plausible.then(|| Duration::from_millis(u64::try_from(millis).unwrap_or_default()))
}

#[cfg(test)]
mod tests;
