//! What is known about the log of one partition, the question about it, and the meaning of an answer. Pure.

use std::time::{Duration, Instant};

use crate::model::leader_epochs::{LeaderEpochs, LogDoubt};
use crate::model::record::{Digest, LeaderEpoch, Offset, Partition, Position};
use crate::model::topic_log::{
    Gap, KnownLog, LogCheck, LogObservation, LogQuestion, Probe, check_log, lacks_last_record,
};

/// After this many restarts at one position, a probe reads the partition alone, to find out whether the log is damaged
/// there.
const UNREADABLE_TIMES: u32 = 3;
/// After this time, reading starts without an answer about the log: a broker that does not answer halts nothing.
const NO_ANSWER: Duration = Duration::from_secs(3);
/// After this time without a record, a probe looks for one.
pub(super) const IDLE: Duration = Duration::from_secs(20);
/// The idle time doubles this many times at most.
const IDLE_DOUBLED: u32 = 4;

/// What is known about the log of one partition.
#[derive(Debug)]
pub(super) struct LogState {
    /// `None` until the row was read.
    known: Option<KnownLog>,
    /// The log was checked since the row was read. Reading starts only then.
    checked: bool,
    /// The leader epoch of the last record was compared since the row was read.
    epoch_checked: bool,
    row_read_at: Instant,
    /// The broker refused the position.
    out_of_range: bool,
    /// Restarts in a row at one position.
    unreadable: Option<(Position, u32)>,
    /// The time since which no record has arrived at this position.
    idle: (Position, Instant),
    /// The number of successive answers with a record at this position that the consumer did not receive.
    stalled_fetches: u32,
}

/// The effect of an observation of the log on the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogVerdict {
    /// Nothing to do.
    Nothing,
    /// These offsets are deleted or in doubt.
    Fault(Gap),
    /// The log may be another one. The leader epochs tell where the gap begins.
    Doubt(LogDoubt),
    /// The broker refuses the position.
    OutOfRange,
    /// The log holds a record at the position, and the consumer does not receive it.
    FetchStalled,
}

impl LogState {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            known: None,
            checked: false,
            epoch_checked: false,
            row_read_at: now,
            out_of_range: false,
            unreadable: None,
            idle: (Position(0), now),
            stalled_fetches: 0,
        }
    }

    pub(super) fn known(&self) -> Option<&KnownLog> {
        self.known.as_ref()
    }

    pub(super) fn is_checked(&self) -> bool {
        self.checked
    }

    /// The record with which reading starts, if the row has one.
    pub(super) fn last_record(&self) -> Option<(Offset, Digest)> {
        self.known.as_ref().and_then(|known| known.last)
    }

    pub(super) fn assigned(&mut self) {
        self.out_of_range = false;
        self.unreadable = None;
    }

    /// The row was read, and reading starts at its position: the log must be checked first.
    pub(super) fn row_read(&mut self, now: Instant, known: KnownLog) {
        self.known = Some(known);
        self.checked = false;
        self.epoch_checked = false;
        self.row_read_at = now;
    }

    /// Reading ended at this position because of an error that is not known to be harmless.
    pub(super) fn not_trusted(&mut self, at: Position) {
        let before = self.unreadable.filter(|(position, _)| *position == at).map_or(0, |(_, times)| times);
        self.unreadable = Some((at, before.saturating_add(1)));
    }

    pub(super) fn out_of_range(&mut self) {
        self.out_of_range = true;
    }

    pub(super) fn last_record_matched(&mut self, at: Position) {
        if let Some(known) = self.known.as_mut() {
            known.last_record_matched(at);
        }
    }

    /// The last record that was read, and its leader epoch.
    pub(super) fn last_with_epoch(&self) -> Option<(Offset, LeaderEpoch)> {
        self.known.as_ref()?.epochs.as_ref().map(|epochs| (epochs.last(), epochs.newest()))
    }

    /// A transaction with these records begins. If it fails, the row is read again.
    pub(super) fn records_read(&mut self, records: impl Iterator<Item = (Offset, Option<LeaderEpoch>)>) {
        if let Some(known) = self.known.as_mut() {
            known.epochs = LeaderEpochs::after(known.epochs.take(), records);
        }
    }

    pub(super) fn fetch_stalled(&mut self) {
        self.stalled_fetches = self.stalled_fetches.saturating_add(1);
    }

    /// The question while the partition is at this position. `nothing_to_commit`: it is read, and no record waits.
    pub(super) fn question(&mut self, now: Instant, at: Position, nothing_to_commit: bool) -> LogQuestion {
        if self.idle.0 != at {
            self.stalled_fetches = 0;
        }
        if self.idle.0 != at || !nothing_to_commit {
            self.idle = (at, now);
        }
        // The time doubles with each stall: a consumer that joins again too soon never receives an answer that takes
        // long.
        let longest = IDLE.saturating_mul(2_u32.saturating_pow(self.stalled_fetches.min(IDLE_DOUBLED)));
        LogQuestion {
            at,
            out_of_range: self.out_of_range,
            unreadable: self.unreadable.is_some_and(|(position, times)| position == at && times >= UNREADABLE_TIMES),
            idle: now.saturating_duration_since(self.idle.1) >= longest,
            last: self.last_with_epoch().filter(|_| !self.epoch_checked),
        }
    }

    /// The answer to `question`, for a partition that is at `at` now. Whether the log has the next records is checked
    /// only before reading starts. Later the consumer reports it.
    pub(super) fn observed(
        &mut self,
        now: Instant,
        partition: Partition,
        question: LogQuestion,
        seen: &LogObservation,
        at: Position,
    ) -> LogVerdict {
        let Some(known) = self.known.as_mut() else { return LogVerdict::Nothing };
        if known.is_replaced(seen.topic_id.as_ref(), question.at) {
            return LogVerdict::Fault(known.gap_since_check(at));
        }
        let lacks_last_record = lacks_last_record(partition, question, seen);
        self.epoch_checked |= lacks_last_record.is_some();
        if self.checked {
            return match seen.probes.get(&partition) {
                _ if lacks_last_record == Some(true) => LogVerdict::Doubt(LogDoubt::Parted),
                Some(Probe::OutOfRange) => LogVerdict::OutOfRange,
                Some(Probe::Record) if question.idle => LogVerdict::FetchStalled,
                _ => LogVerdict::Nothing,
            };
        }
        match check_log(partition, question, seen) {
            LogCheck::Faulty(gap) => return LogVerdict::Fault(gap),
            LogCheck::Doubtful(doubt) => return LogVerdict::Doubt(doubt),
            LogCheck::Unknown => self.checked = now.saturating_duration_since(self.row_read_at) >= NO_ANSWER,
            LogCheck::Good => {
                let start = seen.bounds.get(&partition).map(|bounds| bounds.start);
                let exists = |offset: Offset| start.is_none_or(|start| Position(offset.0) >= start);
                // If the next record can be read alone, the record before it is the damaged one.
                known.last = known.last.filter(|(offset, _)| exists(*offset) && !question.unreadable);
                self.checked = true;
                self.out_of_range = false;
                self.unreadable = self.unreadable.filter(|_| !question.unreadable);
            }
        }
        LogVerdict::Nothing
    }
}
