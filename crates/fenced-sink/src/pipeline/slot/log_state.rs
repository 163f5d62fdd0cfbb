//! What is known about the log of one partition, the questions about it, and the meaning of the answers. Pure.
//!
//! There are two kinds of questions. The questions about topic id, bounds and leader epochs are asked for all
//! partitions together, before reading starts and repeatedly. A probe reads one partition at one position, where only a
//! read proves something. Each answer is reported separately, and a missing answer changes nothing.

use std::time::{Duration, Instant};

use crate::model::leader_epochs::{EpochEnd, LeaderEpochs, LogDoubt};
use crate::model::record::{Digest, LeaderEpoch, Offset, Partition, Position};
use crate::model::topic_log::{
    Gap, GapReason, KnownLog, LogBounds, LogCheck, LogObservation, LogQuestion, Probe, check_log, lacks_last_record,
};
use crate::model::unreadable::DamageSearch;
use crate::pipeline::reports::ProbePurpose;

/// After this many restarts at one position, probes find out whether the log is damaged there.
const UNREADABLE_TIMES: u32 = 3;
/// After this many answers a broker cannot compare leader epochs (Kafka before 2.1): its records are committed without.
const UNSUPPORTED_TIMES: u32 = 3;
/// After this time, reading starts without an answer about the log: a broker that does not answer halts nothing.
const NO_ANSWER: Duration = Duration::from_secs(3);
/// After this time without one of the records that the log has, a probe looks for the next one.
pub(super) const IDLE: Duration = Duration::from_secs(20);
/// The idle time doubles this many times at most.
const IDLE_DOUBLED: u32 = 4;
/// The fetch has stalled when this many probes in a row received the record that the consumer did not receive. One is
/// not enough: after an interruption of the network, the probe can be the first to receive it.
const STALLED_TIMES: u32 = 2;
/// The pause before the next probe of a partition after one that decided nothing.
const PROBE_AGAIN: Duration = Duration::from_secs(5);

/// What is known about the log of one partition.
#[derive(Debug)]
pub(super) struct LogState {
    /// `None` until the row was read.
    known: Option<KnownLog>,
    /// The log was checked since the row was read. Reading starts only then.
    checked: bool,
    /// The leader epoch of the last record was compared since the row was read.
    epoch_checked: bool,
    /// A record of this leader epoch waits, and the epoch before it has not been compared with the new leader.
    later: Option<LeaderEpoch>,
    /// Records of this leader epoch may follow those of the epoch before.
    confirmed: Option<LeaderEpoch>,
    /// How often the new leader seemed not to support the comparison.
    unsupported: u32,
    row_read_at: Instant,
    /// The broker refused the position.
    out_of_range: bool,
    /// The end of the partition log at the last answer.
    end: Option<Position>,
    /// Restarts in a row at one position.
    restarts: Option<(Position, u32)>,
    /// The search for damage after too many restarts. It is kept until it ends: the log does not change.
    damage: Option<DamageCheck>,
    /// The consumer waits for a record that the log has.
    wait: Option<Wait>,
    /// The number of stalls in a row at one position.
    stalls: (Position, u32),
    /// When the last probe was answered. `None`: there was none.
    probed_at: Option<Instant>,
    /// No probe before this instant.
    probe_after: Instant,
}

/// What has to be proven about a position at which reading failed repeatedly.
#[derive(Clone, Copy, Debug)]
struct DamageCheck {
    /// Whether the last record below the position can be read: reading starts with it. `None`: not proven yet.
    last_record_readable: Option<bool>,
    search: DamageSearch,
}

/// Since when the consumer has received nothing at this position, although the log has a record.
#[derive(Clone, Copy, Debug)]
struct Wait {
    at: Position,
    since: Instant,
    /// The probes that received that record.
    probes: u32,
}

/// The effect of an answer on the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogVerdict {
    /// Nothing to do.
    Nothing,
    /// These offsets are deleted or in doubt.
    Fault(Gap),
    /// The log may be another one. The leader epochs decide where the gap begins.
    Doubt(LogDoubt),
    /// The broker refuses the position.
    OutOfRange,
    /// The log holds a record at the position, and the consumer does not receive it.
    FetchStalled,
}

/// Whether a record may follow the records before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// It has the same leader epoch, or a confirmed one, or none.
    Now,
    /// It is the first one of this leader epoch: the log of its leader must be compared first.
    AfterAnswer(LeaderEpoch),
    /// Its leader epoch is lower: in one log, leader epochs never decrease.
    Never,
}

impl LogState {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            known: None,
            checked: false,
            epoch_checked: false,
            later: None,
            confirmed: None,
            unsupported: 0,
            row_read_at: now,
            out_of_range: false,
            end: None,
            restarts: None,
            damage: None,
            wait: None,
            stalls: (Position(0), 0),
            probed_at: None,
            probe_after: now,
        }
    }

    pub(super) fn known(&self) -> Option<&KnownLog> {
        self.known.as_ref()
    }

    pub(super) fn is_checked(&self) -> bool {
        self.checked
    }

    /// Whether damage is proven whose end is not known yet. Until it is known, nothing can be read.
    pub(super) fn is_damaged(&self) -> bool {
        self.damage.is_some_and(|damage| damage.search.is_damaged())
    }

    /// The record with which reading starts, if the row has one.
    pub(super) fn last_record(&self) -> Option<(Offset, Digest)> {
        self.known.as_ref().and_then(|known| known.last)
    }

    pub(super) fn assigned(&mut self) {
        self.out_of_range = false;
        self.restarts = None;
        self.damage = None;
    }

    /// The row was read, and reading starts at its position: the log must be checked first.
    pub(super) fn row_read(&mut self, now: Instant, at: Position, known: KnownLog) {
        self.known = Some(known);
        self.damage = self.damage.filter(|damage| damage.search.from() == at);
        self.checked = false;
        self.epoch_checked = false;
        self.later = None;
        self.confirmed = None;
        self.row_read_at = now;
        self.wait = None;
    }

    /// Reading ended at this position because of an error that is not known to be harmless.
    pub(super) fn not_trusted(&mut self, at: Position) {
        let before = self.restarts.filter(|(position, _)| *position == at).map_or(0, |(_, times)| times);
        self.restarts = Some((at, before.saturating_add(1)));
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

    /// A transaction with these records begins.
    pub(super) fn records_read(&mut self, records: impl Iterator<Item = (Offset, Option<LeaderEpoch>)>) {
        if let Some(known) = self.known.as_mut() {
            known.epochs = LeaderEpochs::after(known.epochs.take(), records);
        }
    }

    /// The transaction with the last records failed: `known` is what was known before it.
    pub(super) fn records_not_written(&mut self, known: Option<KnownLog>) {
        if let Some((now, before)) = self.known.as_mut().zip(known) {
            now.epochs = before.epochs;
        }
    }

    /// How a record of this leader epoch follows records of `before`. A new leader may lack the last records that were
    /// read, so its records are committed only after its log was compared.
    pub(super) fn follows(&self, before: Option<LeaderEpoch>, epoch: Option<LeaderEpoch>) -> Follows {
        match before.zip(epoch) {
            Some((before, epoch)) if epoch < before => Follows::Never,
            Some((before, epoch)) if epoch > before && self.confirmed != Some(epoch) => Follows::AfterAnswer(epoch),
            _ => Follows::Now,
        }
    }

    /// A record of a later leader epoch waits.
    pub(super) fn waits_for_answer(&mut self, later: LeaderEpoch) {
        if self.later != Some(later) {
            self.later = Some(later);
            self.epoch_checked = false;
            self.unsupported = 0;
        }
    }

    /// Whether a record of a later leader epoch waits.
    pub(super) fn has_later_record(&self) -> bool {
        self.later.is_some()
    }

    // ---- topic id, bounds and leader epochs ----

    /// The question while the partition is at this position.
    pub(super) fn question(&self, at: Position) -> LogQuestion {
        let last = self.last_with_epoch().filter(|_| !self.epoch_checked);
        LogQuestion { at, out_of_range: self.out_of_range, last, later: self.later }
    }

    /// An answer to `question`, for a partition that is at `at` now. `nothing_waits`: it is read, and all records that
    /// arrived are committed. Whether the log has the next records is checked only before reading starts. Later the
    /// consumer reports it.
    pub(super) fn observed(
        &mut self,
        now: Instant,
        partition: Partition,
        question: LogQuestion,
        seen: &LogObservation,
        at: Position,
        nothing_waits: bool,
    ) -> LogVerdict {
        let Some(known) = self.known.as_mut() else { return LogVerdict::Nothing };
        if known.is_replaced(seen.topic_id.as_ref(), question.at) {
            return LogVerdict::Fault(known.gap_since_check(at));
        }
        let lacks_last_record = lacks_last_record(partition, question, seen);
        // An answer to an earlier question proves nothing about the leader of the record that waits now.
        if question.last.is_some() && question.later == self.later {
            if seen.epoch_ends.get(&partition) == Some(&EpochEnd::Unsupported) {
                self.unsupported = self.unsupported.saturating_add(1);
            }
            if lacks_last_record.is_some() || self.unsupported >= UNSUPPORTED_TIMES {
                self.epoch_checked = true;
                self.unsupported = 0;
                self.confirmed = self.later.take().or(self.confirmed);
            }
        }
        let bounds = seen.bounds.get(&partition).copied();
        if let Some(bounds) = bounds {
            self.end = Some(bounds.end);
            let before = self.wait.filter(|wait| wait.at == at).unwrap_or(Wait { at, since: now, probes: 0 });
            self.wait = (nothing_waits && at < bounds.end).then_some(before);
        }
        if self.checked {
            let doubt = LogVerdict::Doubt(LogDoubt::Diverged);
            return if lacks_last_record == Some(true) { doubt } else { LogVerdict::Nothing };
        }
        // After a refusal reading does not start before its cause is known.
        let waited = now.saturating_duration_since(self.row_read_at) >= NO_ANSWER && !self.out_of_range;
        match (check_log(partition, question, seen), bounds) {
            (LogCheck::Faulty(gap), _) => return LogVerdict::Fault(gap),
            (LogCheck::Doubtful(doubt), _) => return LogVerdict::Doubt(doubt),
            (LogCheck::Good, Some(bounds)) => {
                self.out_of_range = false;
                self.bounds_known(at, bounds);
                self.checked = self.damage.is_none();
            }
            // Only the answer about the leader epoch is missing.
            (LogCheck::Unknown, Some(bounds)) if waited => self.bounds_known(at, bounds),
            (LogCheck::Good | LogCheck::Unknown, _) => {}
        }
        self.checked |= seen.complete && waited && !self.is_damaged();
        LogVerdict::Nothing
    }

    /// The position is in these bounds: the last record can be compared only if it exists, and damage can be looked for.
    fn bounds_known(&mut self, at: Position, bounds: LogBounds) {
        if let Some(known) = self.known.as_mut() {
            known.last = known.last.filter(|(offset, _)| Position(offset.0) >= bounds.start);
        }
        self.begin_damage_check(at, bounds.end);
    }

    fn begin_damage_check(&mut self, at: Position, end: Position) {
        let needed = self.restarts.is_some_and(|(position, times)| position == at && times >= UNREADABLE_TIMES);
        if needed && self.damage.is_none() {
            self.damage = Some(DamageCheck { last_record_readable: None, search: DamageSearch::new(at, end) });
        }
        self.drop_damaged_last_record();
    }

    /// A damaged record can't be compared. Only the proof of the damage ends the comparison.
    fn drop_damaged_last_record(&mut self) {
        if let Some(known) = self.known.as_mut()
            && self.damage.is_some_and(|damage| damage.last_record_readable == Some(false))
        {
            known.last = None;
        }
    }

    // ---- probes ----

    /// The probe that is due for a partition at this position: the position to read, and why. `nothing_waits`: see
    /// [`Self::observed`].
    pub(super) fn probe(&self, now: Instant, at: Position, nothing_waits: bool) -> Option<(Position, ProbePurpose)> {
        if now < self.probe_after {
            return None;
        }
        if let Some(damage) = self.damage.filter(|damage| damage.search.from() == at) {
            let last = self.last_record().filter(|_| damage.last_record_readable.is_none());
            let last = last.map(|(offset, _)| (Position(offset.0), ProbePurpose::LastRecord));
            return last.or_else(|| Some((damage.search.next()?, ProbePurpose::Damage)));
        }
        if !nothing_waits {
            return None;
        }
        // A log start past the position is left out: the consumer reports it, after the records that it has.
        if self.end.is_some_and(|end| end < at) {
            return Some((at, ProbePurpose::OutOfRange));
        }
        self.waited(now, at).filter(|waited| *waited >= self.idle_time(at)).map(|_| (at, ProbePurpose::FetchStall))
    }

    /// How long the consumer has received nothing at this position, although the log has a record.
    pub(super) fn waited(&self, now: Instant, at: Position) -> Option<Duration> {
        self.wait.filter(|wait| wait.at == at).map(|wait| now.saturating_duration_since(wait.since))
    }

    /// A wait of this length can be a stall. It doubles with each stall at one position: a consumer that joins again too
    /// soon never receives an answer that takes long.
    pub(super) fn idle_time(&self, at: Position) -> Duration {
        let stalls = if self.stalls.0 == at { self.stalls.1.min(IDLE_DOUBLED) } else { 0 };
        IDLE.saturating_mul(2_u32.saturating_pow(stalls))
    }

    /// A record or a position has arrived. Returns how long the consumer waited for it.
    pub(super) fn arrived(&mut self, now: Instant) -> Option<Duration> {
        self.wait.take().map(|wait| now.saturating_duration_since(wait.since))
    }

    pub(super) fn fetch_stalled(&mut self, at: Position) {
        let before = if self.stalls.0 == at { self.stalls.1 } else { 0 };
        self.stalls = (at, before.saturating_add(1));
        self.wait = None;
    }

    /// The answer of a probe at `read`, for a partition that is at `at`.
    pub(super) fn probed(
        &mut self,
        now: Instant,
        at: Position,
        read: Position,
        purpose: ProbePurpose,
        probe: Probe,
    ) -> LogVerdict {
        self.probed_at = Some(now);
        self.probe_after = now + PROBE_AGAIN;
        // The search for the end of damage can find such a batch after the damage. There the batch only ends the search.
        let is_search = purpose == ProbePurpose::Damage && read != at;
        if probe == Probe::TooLarge && purpose != ProbePurpose::OutOfRange && !is_search {
            return LogVerdict::Fault(Gap { reason: GapReason::BatchTooLarge, from: at, to: at });
        }
        match purpose {
            ProbePurpose::LastRecord | ProbePurpose::Damage => {
                return self.damage_probed(now, at, read, purpose, probe);
            }
            ProbePurpose::OutOfRange | ProbePurpose::FetchStall if probe == Probe::OutOfRange => {
                return LogVerdict::OutOfRange;
            }
            ProbePurpose::FetchStall if probe == Probe::Record => {
                if let Some(wait) = self.wait.as_mut().filter(|wait| wait.at == at) {
                    wait.probes = wait.probes.saturating_add(1);
                    if wait.probes >= STALLED_TIMES {
                        return LogVerdict::FetchStalled;
                    }
                }
            }
            ProbePurpose::OutOfRange | ProbePurpose::FetchStall => {}
        }
        LogVerdict::Nothing
    }

    fn damage_probed(
        &mut self,
        now: Instant,
        at: Position,
        read: Position,
        purpose: ProbePurpose,
        probe: Probe,
    ) -> LogVerdict {
        let Some(damage) = self.damage.as_mut().filter(|damage| damage.search.from() == at) else {
            return LogVerdict::Nothing;
        };
        let readable = match probe {
            Probe::Record | Probe::End | Probe::TooLarge => true,
            Probe::Unreadable => false,
            Probe::OutOfRange => {
                // The bounds decide: retention deleted the records, or the log was truncated.
                self.out_of_range = true;
                return LogVerdict::Nothing;
            }
            Probe::NoAnswer => return LogVerdict::Nothing,
        };
        self.probe_after = now;
        if purpose == ProbePurpose::LastRecord {
            damage.last_record_readable = Some(readable);
        } else {
            damage.search.proven(read, readable);
        }
        let DamageCheck { last_record_readable, search } = *damage;
        self.drop_damaged_last_record();
        let last_record_proven = last_record_readable.is_some() || self.last_record().is_none();
        if !last_record_proven || search.next().is_some() {
            return LogVerdict::Nothing;
        }
        self.damage = None;
        self.restarts = None;
        let gap = Gap { reason: GapReason::LogCorrupt, from: at, to: search.readable() };
        if gap.to > gap.from { LogVerdict::Fault(gap) } else { LogVerdict::Nothing }
    }

    /// The order of the probes that are due. A probe that can prove a stall comes first, then the partition whose last
    /// probe is the oldest.
    pub(super) fn probe_order(&self) -> (bool, Option<Instant>) {
        (self.wait.is_none_or(|wait| wait.probes == 0), self.probed_at)
    }
}
