//! What a run counts, as plain numbers. They have names of their own wherever they are shown: the engine does not know.
//!
//! It is counted when the database has confirmed it, so a commit whose answer was lost is in the tables and not here.
//! Once for each batch, never for each record, but for the age of a record: one subtraction and a look into 17 bounds.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::batch::{ClaimedBatch, Entry};
use crate::model::error_class::{ErrorClass, RetryCause};
use crate::model::halt::HaltReason;
use crate::model::outcome::{BatchOutcome, RecordOutcome, Totals, totals};
use crate::model::record::{Timestamp, TimestampType};
use crate::model::topic_log::GapReason;
use crate::observe::histogram::Histogram;

/// Counted since the process began.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// What became of the records.
    pub records: Totals,
    /// The sizes of the batches, in records; those without any, which only move past markers, are left out.
    pub batch_records: Histogram,
    /// From the begin of a transaction to the answer to its commit, with all that it took: in seconds.
    pub commit_seconds: Histogram,
    /// From a record's timestamp to the answer to its commit, in seconds. What can't be a record's age is left out.
    pub end_to_end_seconds: Histogram,
    /// Batches that were not written, because the fence was missed.
    pub commits_fenced: u64,
    /// Work that the database did not do and that is tried again, by reason.
    pub retries: BTreeMap<&'static str, u64>,
    /// Partitions that this process halted, by reason.
    pub halts: BTreeMap<HaltReason, u64>,
    /// Offsets that were found to be gone, by reason.
    pub gap_records: BTreeMap<GapReason, u64>,
    /// Letters of the group and topic in the table, by status, as last counted; nothing before that.
    pub dead_letters: BTreeMap<String, u64>,
}

/// What a count begins with is there from the start, at 0: whoever watches it for a rise must see the first one.
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

/// The year 2010 in milliseconds since 1970: there was no Kafka, so no record is older.
const FIRST_MILLIS: i64 = 1_262_304_000_000;
/// So far a producer's clock may be ahead of ours; a record's age is 0 then. What comes from later was not told by a clock.
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
    /// A transaction has ended that took so long, and is now `now`.
    pub(super) fn written<E>(
        &mut self,
        work: &[ClaimedBatch<E>],
        handled: &[BatchOutcome],
        took: Duration,
        now: SystemTime,
    ) {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let mut committed = false;
        for (one, handled) in work.iter().zip(handled) {
            match handled {
                BatchOutcome::Fenced => self.commits_fenced = self.commits_fenced.saturating_add(1),
                BatchOutcome::Committed(outcomes) | BatchOutcome::Halted(outcomes) => {
                    committed = true;
                    self.committed(one.batch.entries(), outcomes, now);
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

    /// The database did not do what it was asked, and is asked again.
    pub(super) fn retried(&mut self, class: ErrorClass) {
        more(&mut self.retries, class.retry_reason(), 1);
    }

    /// This process has halted a partition.
    pub(super) fn halted(&mut self, reason: HaltReason) {
        more(&mut self.halts, reason, 1);
    }

    /// So many offsets were found to be gone.
    pub(super) fn gap(&mut self, reason: GapReason, records: u64) {
        more(&mut self.gap_records, reason, records);
    }
}

fn more<R: Ord>(counts: &mut BTreeMap<R, u64>, reason: R, by: u64) {
    let count = counts.entry(reason).or_default();
    *count = count.saturating_add(by);
}

/// `None` if the timestamp tells no age: there is none, or nobody can have meant it.
fn age(timestamp: Timestamp, now: i64) -> Option<Duration> {
    let sensible = timestamp.kind != TimestampType::None
        && (FIRST_MILLIS..=now.saturating_add(AHEAD_MILLIS)).contains(&timestamp.millis);
    let millis = now.saturating_sub(timestamp.millis).max(0);
    sensible.then(|| Duration::from_millis(u64::try_from(millis).unwrap_or_default()))
}

#[cfg(test)]
mod tests;
