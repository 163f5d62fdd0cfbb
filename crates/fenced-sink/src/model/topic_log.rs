//! The log is not always the log we knew (rule 3): what is remembered of it, what is seen of it now, and what a difference
//! means. Pure.
//!
//! Whatever can't be told is no difference: a broker that does not answer, or gives topics no ids, never halts anything.

use std::collections::BTreeMap;

use crate::model::record::{Digest, Offset, Partition, Position, TopicId};

/// What is known of a partition before anything of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionExtent {
    /// The partition.
    pub partition: Partition,
    /// The first record that is still there.
    pub start: Position,
    /// Past the last record that can be read.
    pub end: Position,
    /// What the group's committed offset says, if it has one.
    pub committed: Option<CommittedOffset>,
}

/// What there is to read of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// The first record that is still there.
    pub start: Position,
    /// Past the last record that can be read (the last stable offset: an open transaction ends it).
    pub end: Position,
}

/// A committed offset of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommittedOffset {
    /// Somebody else's, as of the service that this one replaces.
    Foreign(Position),
    /// Our own mirror, which is never believed.
    OurMirror,
}

/// Why a range of offsets was passed, or has to be, without having been read for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapReason {
    /// The records are gone: retention, or somebody deleted them.
    RetentionGap,
    /// The log ends before the position.
    LogTruncated,
    /// The log is another one: its topic has another id, or the last record committed is another record.
    LogReplaced,
    /// What the log holds there can't be read.
    LogCorrupt,
}

impl GapReason {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::RetentionGap, Self::LogTruncated, Self::LogReplaced, Self::LogCorrupt];

    /// The text in `offset_gaps.reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RetentionGap => "retention_gap",
            Self::LogTruncated => "log_truncated",
            Self::LogReplaced => "log_replaced",
            Self::LogCorrupt => "log_corrupt",
        }
    }
}

/// A range of offsets, `to` excluded, that the tables do not vouch for. It may be empty where the log was replaced: then
/// nothing that was committed is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Gap {
    /// Why.
    pub reason: GapReason,
    /// The first offset.
    pub from: Position,
    /// Past the last one.
    pub to: Position,
}

impl Gap {
    /// How many there are; not each of them need have held a record.
    #[must_use]
    pub(crate) fn offsets(&self) -> u64 {
        u64::try_from(self.to.0.saturating_sub(self.from.0)).unwrap_or_default()
    }
}

/// What is done about records that retention has removed. Any other gap halts its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapPolicy {
    /// The partition halts until an operator says where to go on.
    Halt,
    /// The gap is recorded and passed, in one transaction.
    Skip,
}

/// What the ledger's row remembers of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownLog {
    /// Which topic the position belongs to; `None` as long as nobody could tell.
    pub topic_id: Option<TopicId>,
    /// The last record below the position, if it is near enough to be read again. Between the two there is no other.
    pub last: Option<(Offset, Digest)>,
    /// Everything below it was read from the log that is known: the position at the last good check.
    pub checked: Position,
}

/// What is asked about one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogQuestion {
    /// The position to read next.
    pub(crate) at: Position,
    /// The broker has said that the position is outside of the log.
    pub(crate) out_of_range: bool,
    /// What comes next could not be read, again and again.
    pub(crate) unreadable: bool,
    /// It is being read, and nothing has come for long.
    pub(crate) silent: bool,
}

/// What came of reading one partition alone, with a client that knows nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// A record.
    Record,
    /// The broker refuses the position.
    OutOfRange,
    /// What stands there can't be trusted.
    Unreadable,
    /// Neither, in the time there was.
    Nothing,
}

/// What is seen of the log now. What is missing could not be told.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogObservation {
    /// Which topic has the name.
    pub(crate) topic_id: Option<TopicId>,
    /// What there is to read.
    pub(crate) bounds: BTreeMap<Partition, LogBounds>,
    /// Past the last record, transactions that are still open included; of partitions that are out of range.
    pub(crate) last_ends: BTreeMap<Partition, Position>,
    /// Where the next record is that can be read; of partitions that can't be read where they stand.
    pub(crate) readable_from: BTreeMap<Partition, Position>,
    /// What came of it where a partition that is being read looks strange from outside.
    pub(crate) tried: BTreeMap<Partition, Probe>,
}

/// How a look at the log came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogCheck {
    /// It is the log that we know, as far as anybody can tell, and it has what comes next.
    Good,
    /// It is not.
    Faulty(Gap),
    /// Nobody has answered.
    Unknown,
}

impl KnownLog {
    /// Whether it is another topic that has the name now. The good answer is remembered: all that was committed when the
    /// question was asked came from the topic that is known. Not while the last record is still to be looked at: the log
    /// may be another one under the same id. An id that is learnt proves nothing about what came before it.
    pub(crate) fn is_replaced(&mut self, seen: Option<&TopicId>, at: Position) -> bool {
        match (&self.topic_id, seen) {
            (Some(known), Some(seen)) if known != seen => return true,
            (Some(_), Some(_)) if self.last.is_none() => self.checked = at,
            (None, Some(seen)) => self.topic_id = Some(seen.clone()),
            _ => {}
        }
        false
    }

    /// The last record is the same, or none is there any more: nothing speaks against it.
    pub(crate) fn last_record_matched(&mut self, at: Position) {
        self.last = None;
        self.checked = self.checked.max(at);
    }

    /// All that was committed since the last good check, up to where the partition stands.
    pub(crate) fn gap_since_check(&self, at: Position) -> Gap {
        Gap { reason: GapReason::LogReplaced, from: self.checked.min(at), to: at }
    }

    /// The same if the record at this offset is another one, or should not be: it is in doubt for sure, whatever was good.
    pub(crate) fn gap_from(&self, offset: Offset, at: Position) -> Gap {
        let gap = self.gap_since_check(at);
        Gap { from: gap.from.min(Position(offset.0)), ..gap }
    }
}

/// Whether a partition can be read where it stands. Retention is told by the start of the log. That the log ends before the
/// position counts only if the broker has refused the position, too: what a broker says of the end may be late, and leaves
/// out transactions that are open.
pub(crate) fn check_log(partition: Partition, doubt: LogQuestion, seen: &LogObservation) -> LogCheck {
    let at = doubt.at;
    let Some(bounds) = seen.bounds.get(&partition) else { return LogCheck::Unknown };
    if bounds.start > at {
        return LogCheck::Faulty(Gap { reason: GapReason::RetentionGap, from: at, to: bounds.start });
    }
    if doubt.out_of_range {
        match seen.last_ends.get(&partition) {
            None => return LogCheck::Unknown,
            Some(&end) if end < at => {
                return LogCheck::Faulty(Gap { reason: GapReason::LogTruncated, from: end, to: at });
            }
            Some(_) => {}
        }
    }
    match seen.readable_from.get(&partition) {
        Some(&to) if to > at => LogCheck::Faulty(Gap { reason: GapReason::LogCorrupt, from: at, to }),
        _ => LogCheck::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Partition = Partition(0);

    fn seen(start: i64, end: i64) -> LogObservation {
        let bounds = LogBounds { start: Position(start), end: Position(end) };
        LogObservation { bounds: BTreeMap::from([(P, bounds)]), ..LogObservation::default() }
    }

    fn check(at: i64, out_of_range: bool, seen: &LogObservation, expected: LogCheck) {
        let doubt = LogQuestion { at: Position(at), out_of_range, unreadable: false, silent: false };
        assert_eq!(check_log(P, doubt, seen), expected, "{at} {out_of_range} {seen:?}");
    }

    fn faulty(reason: GapReason, from: i64, to: i64) -> LogCheck {
        LogCheck::Faulty(Gap { reason, from: Position(from), to: Position(to) })
    }

    #[test]
    fn what_is_gone_from_the_start_is_a_gap_with_exact_bounds() {
        check(5, false, &seen(36, 50), faulty(GapReason::RetentionGap, 5, 36));
        check(36, false, &seen(36, 50), LogCheck::Good);
        check(0, false, &seen(0, 0), LogCheck::Good);
        check(100, true, &seen(101, 101), faulty(GapReason::RetentionGap, 100, 101));
    }

    #[test]
    fn an_end_below_the_position_counts_only_if_the_broker_has_refused_the_position() {
        let shorter = |end| LogObservation { last_ends: BTreeMap::from([(P, Position(end))]), ..seen(0, 18) };
        check(25, false, &seen(0, 18), LogCheck::Good);
        check(25, true, &shorter(20), faulty(GapReason::LogTruncated, 20, 25));
        check(25, true, &shorter(25), LogCheck::Good);
        check(25, true, &seen(0, 18), LogCheck::Unknown);
    }

    #[test]
    fn what_can_not_be_read_reaches_to_the_next_record_that_can() {
        let readable = |from| LogObservation { readable_from: BTreeMap::from([(P, Position(from))]), ..seen(0, 50) };
        check(7, false, &readable(9), faulty(GapReason::LogCorrupt, 7, 9));
        check(7, false, &readable(7), LogCheck::Good);
    }

    #[test]
    fn who_does_not_answer_is_not_to_blame() {
        check(5, false, &LogObservation::default(), LogCheck::Unknown);
        check(5, true, &LogObservation::default(), LogCheck::Unknown);
    }

    #[test]
    fn another_topic_id_puts_in_doubt_what_was_committed_since_the_last_good_check() {
        let id = |name: &str| TopicId(name.to_owned());
        let mut known = KnownLog { topic_id: None, last: None, checked: Position(10) };
        assert!(!known.is_replaced(None, Position(20)));
        assert_eq!(known.checked, Position(10), "nobody has said that it is the same");
        assert!(!known.is_replaced(Some(&id("a")), Position(20)));
        assert_eq!((&known.topic_id, known.checked), (&Some(id("a")), Position(10)), "learnt, and proves nothing");
        assert!(!known.is_replaced(Some(&id("a")), Position(30)));
        assert!(!known.is_replaced(None, Position(35)));
        let gap = Gap { reason: GapReason::LogReplaced, from: Position(30), to: Position(40) };
        assert!(known.is_replaced(Some(&id("b")), Position(40)));
        assert!(known.is_replaced(Some(&id("b")), Position(40)), "it stays another one");
        assert_eq!(known.gap_since_check(Position(40)), gap);
        let moved_back = Gap { reason: GapReason::LogReplaced, from: Position(4), to: Position(4) };
        assert_eq!(known.gap_since_check(Position(4)), moved_back);
    }
}
