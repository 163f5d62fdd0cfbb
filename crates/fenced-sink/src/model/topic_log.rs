//! The checks of a partition log: what the row has of it, what Kafka answers now, and what a difference means. Pure.
//!
//! A topic can be deleted and created again, brokers can be restored from a backup, and retention can delete records
//! that were not read. librdkafka reports none of these events reliably. So the engine itself compares the topic log
//! with the row.
//!
//! The invariant: a missing answer is never a difference. A broker that does not answer, or whose topics have no ids,
//! never halts a partition.
//!
//! [`KnownLog`] finds a partition log that was replaced. [`check_log`] finds a position that can't be read. Their
//! descriptions have the tables of cases.

use std::collections::BTreeMap;

use crate::model::leader_epochs::{EpochEnd, LeaderEpochs, LogDoubt};
use crate::model::record::{Digest, LeaderEpoch, Offset, Partition, Position, TopicId};

/// What Kafka answers about a partition that has no row yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionExtent {
    /// The partition.
    pub partition: Partition,
    /// The position of the first record that still exists.
    pub start: Position,
    /// The position behind the last readable record.
    pub end: Position,
    /// The committed offset of the group. `None`: the group has none.
    pub committed: Option<CommittedOffset>,
}

/// The readable range of a partition log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// The position of the first record that still exists.
    pub start: Position,
    /// The position behind the last readable record. It is the last stable offset: an open transaction ends the range.
    pub end: Position,
}

/// A committed offset of the group in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommittedOffset {
    /// Another program committed it, such as the service that this one replaces.
    Foreign(Position),
    /// The mirror of this engine committed it. It is never used as a position.
    OurMirror,
}

/// Why the engine can't read a range of offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapReason {
    /// Retention or an operator deleted the records.
    RetentionGap,
    /// The partition log ends before the position.
    LogTruncated,
    /// The partition log is another one: the topic has another id, or the last committed record is a different record.
    LogReplaced,
    /// The records are damaged.
    LogCorrupt,
    /// The batch at the position does not fit into `receive.message.max.bytes`. The range is empty: no record is lost.
    BatchTooLarge,
}

impl GapReason {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::RetentionGap, Self::LogTruncated, Self::LogReplaced, Self::LogCorrupt, Self::BatchTooLarge];

    /// The text in `offset_gaps.reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RetentionGap => "retention_gap",
            Self::LogTruncated => "log_truncated",
            Self::LogReplaced => "log_replaced",
            Self::LogCorrupt => "log_corrupt",
            Self::BatchTooLarge => "batch_too_large",
        }
    }
}

/// The range of offsets `[from, to)` that the guarantee does not cover. It can be empty if the partition log was
/// replaced, or a batch is too large: then no committed record is in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Gap {
    /// Why the range is a gap.
    pub reason: GapReason,
    /// The first offset of the range.
    pub from: Position,
    /// The first offset behind the range.
    pub to: Position,
}

impl Gap {
    /// The number of offsets. It can be larger than the number of records, because offsets have holes.
    #[must_use]
    pub(crate) fn offsets(&self) -> u64 {
        u64::try_from(self.to.0.saturating_sub(self.from.0)).unwrap_or_default()
    }
}

/// What the engine does at a gap that retention caused. Every other gap halts the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapPolicy {
    /// The partition is halted until an operator resumes it.
    Halt,
    /// One transaction records the gap and moves the partition behind it.
    Skip,
}

/// What the row has of the partition log, and what the checks have proven since.
///
/// | the row has | Kafka answers | result |
/// |---|---|---|
/// | any topic id, or none | no topic id | no difference, and `checked` stays |
/// | no topic id | id A | the process stores A. It proves nothing about older records, so `checked` stays |
/// | id A | id A | the same topic: everything below the position is checked |
/// | id A, and a last record that is not compared yet | id A | the same topic, but `checked` stays |
/// | id A | id B | `log_replaced`: the gap begins at `checked` |
/// | a last record | the same record, or no record | no difference: everything below the position is checked |
/// | a last record | a different record | [`LogDoubt::Differs`] |
///
/// `checked` is about the topic, not about the records: a topic with the same id can lose records when a leader is
/// elected that does not have them. So only the gap of another topic begins at `checked`. The leader epochs decide
/// where the gap of the same topic begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownLog {
    /// The id of the topic from which the records below the position were read. `None`: Kafka has not returned it yet.
    pub topic_id: Option<TopicId>,
    /// The last record below the position, until it is compared. `None`: it is compared, or it is too far below the
    /// position. No other record lies between it and the position.
    pub last: Option<(Offset, Digest)>,
    /// The position at the last good check of the topic id. Every record below it was read from the known topic.
    pub checked: Position,
    /// The leader epochs of the records up to the last one. `None`: they are not known.
    pub epochs: Option<LeaderEpochs>,
}

/// A question about one partition log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogQuestion {
    /// The next position to read.
    pub(crate) at: Position,
    /// The broker refused the position as out of range.
    pub(crate) out_of_range: bool,
    /// The last record that was read, and its leader epoch. Asked after each read of the row, until there is an answer.
    pub(crate) last: Option<(Offset, LeaderEpoch)>,
    /// The later leader epoch of which a record waits. It is committed only after the answer.
    pub(crate) later: Option<LeaderEpoch>,
}

/// The result of a read of one partition at one position by a separate client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// The client received a record.
    Record,
    /// The client reached the end of the partition log. Between the position and the end there is no record and no
    /// damage.
    End,
    /// The broker refused the position as out of range.
    OutOfRange,
    /// The record at the position is damaged.
    Unreadable,
    /// The batch at the position does not fit into `receive.message.max.bytes`.
    TooLarge,
    /// The client received no answer that proves anything.
    NoAnswer,
}

/// What Kafka answers about the topic now. Each answer is reported separately, so an observation can have some of them
/// only. A missing answer has no entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogObservation {
    /// The id of the topic that has the name now.
    pub(crate) topic_id: Option<TopicId>,
    /// The readable ranges.
    pub(crate) bounds: BTreeMap<Partition, LogBounds>,
    /// The positions behind the last records, open transactions included. Asked only if a position is out of range.
    pub(crate) last_ends: BTreeMap<Partition, Position>,
    /// The ends of the leader epochs of the last records.
    pub(crate) epoch_ends: BTreeMap<Partition, EpochEnd>,
    /// All questions were asked: no other answer follows for now.
    pub(crate) complete: bool,
}

/// The result of [`check_log`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogCheck {
    /// The consumer can read the partition at its position.
    Good,
    /// The consumer can't read the partition at its position.
    Faulty(Gap),
    /// The log may be another one. The leader epochs decide where the gap begins.
    Doubtful(LogDoubt),
    /// Kafka did not answer.
    Unknown,
}

impl KnownLog {
    /// Compares the topic id. True: another topic has the name now.
    ///
    /// `at` is the position of the partition before Kafka was asked. If the id is the same, every record below `at`
    /// came from the known topic.
    pub(crate) fn is_replaced(&mut self, seen: Option<&TopicId>, at: Position) -> bool {
        match (&self.topic_id, seen) {
            (Some(known), Some(seen)) if known != seen => return true,
            (Some(_), Some(_)) if self.last.is_none() => self.checked = at,
            (None, Some(seen)) => self.topic_id = Some(seen.clone()),
            _ => {}
        }
        false
    }

    /// The last record is the same, or it no longer exists.
    pub(crate) fn last_record_matched(&mut self, at: Position) {
        self.last = None;
        self.checked = self.checked.max(at);
    }

    /// The gap of another topic: everything from the last good check to the position.
    pub(crate) fn gap_since_check(&self, at: Position) -> Gap {
        Gap { reason: GapReason::LogReplaced, from: self.checked.min(at), to: at }
    }
}

/// Checks whether a partition log has the position of the partition. Only a probe finds damage.
///
/// | the position | Kafka answers | result |
/// |---|---|---|
/// | any | no bounds | unknown |
/// | below the start | the start | `retention_gap` from the position to the start |
/// | in the bounds | the bounds | good |
/// | above the end, and not refused | the end | good: the end can be old, and it excludes open transactions |
/// | refused | no last end | unknown |
/// | refused | a last end below the position | in doubt: the log is shorter |
/// | with a leader epoch | no end of the epoch | unknown |
/// | with a leader epoch | an end of the epoch: the log lacks the last record | in doubt: the logs diverge |
/// | refused | a last end at or above the position | good |
pub(crate) fn check_log(partition: Partition, question: LogQuestion, seen: &LogObservation) -> LogCheck {
    let at = question.at;
    let Some(bounds) = seen.bounds.get(&partition) else { return LogCheck::Unknown };
    if bounds.start > at {
        return LogCheck::Faulty(Gap { reason: GapReason::RetentionGap, from: at, to: bounds.start });
    }
    if question.out_of_range {
        match seen.last_ends.get(&partition) {
            None => return LogCheck::Unknown,
            Some(&end) if end < at => return LogCheck::Doubtful(LogDoubt::Shorter(end)),
            Some(_) => {}
        }
    }
    match lacks_last_record(partition, question, seen) {
        None if question.last.is_some() => LogCheck::Unknown,
        Some(true) => LogCheck::Doubtful(LogDoubt::Diverged),
        _ => LogCheck::Good,
    }
}

/// Whether the log lacks the last record that was read, by its leader epochs. `None`: not asked, or nothing is known.
pub(crate) fn lacks_last_record(partition: Partition, question: LogQuestion, seen: &LogObservation) -> Option<bool> {
    let (offset, epoch) = question.last?;
    seen.epoch_ends.get(&partition)?.lacks(offset, epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: Partition = Partition(0);

    fn seen(start: i64, end: i64) -> LogObservation {
        let bounds = LogBounds { start: Position(start), end: Position(end) };
        LogObservation { bounds: BTreeMap::from([(P, bounds)]), ..LogObservation::default() }
    }

    fn faulty(reason: GapReason, from: i64, to: i64) -> LogCheck {
        LogCheck::Faulty(Gap { reason, from: Position(from), to: Position(to) })
    }

    /// The rows of the table of [`check_log`], in its order.
    #[test]
    fn a_position_is_checked_as_the_table_says() {
        let check = |at, out_of_range, seen: &LogObservation, expected: LogCheck| {
            let question = LogQuestion { at: Position(at), out_of_range, last: None, later: None };
            assert_eq!(check_log(P, question, seen), expected, "{at} {out_of_range} {seen:?}");
        };
        let check_epoch = |out_of_range, end: Option<i64>, expected: LogCheck| {
            let last = Some((Offset(24), LeaderEpoch(3)));
            let question = LogQuestion { at: Position(25), out_of_range, last, later: None };
            let epoch_ends = end.map(|end| (P, EpochEnd::At(LeaderEpoch(3), Position(end)))).into_iter().collect();
            let last_ends = BTreeMap::from([(P, Position(40))]);
            let seen = LogObservation { last_ends, epoch_ends, ..seen(0, 40) };
            assert_eq!(check_log(P, question, &seen), expected, "{out_of_range} {end:?}");
        };
        let last_end = |end| LogObservation { last_ends: BTreeMap::from([(P, Position(end))]), ..seen(0, 18) };

        check(5, false, &LogObservation::default(), LogCheck::Unknown);
        check(5, true, &LogObservation::default(), LogCheck::Unknown);
        check(5, false, &seen(36, 50), faulty(GapReason::RetentionGap, 5, 36));
        check(100, true, &seen(101, 101), faulty(GapReason::RetentionGap, 100, 101));
        check(36, false, &seen(36, 50), LogCheck::Good);
        check(0, false, &seen(0, 0), LogCheck::Good);
        check(25, false, &seen(0, 18), LogCheck::Good);
        check(25, true, &seen(0, 18), LogCheck::Unknown);
        check(25, true, &last_end(20), LogCheck::Doubtful(LogDoubt::Shorter(Position(20))));
        check_epoch(true, None, LogCheck::Unknown);
        check_epoch(false, None, LogCheck::Unknown);
        check_epoch(true, Some(20), LogCheck::Doubtful(LogDoubt::Diverged));
        check_epoch(false, Some(24), LogCheck::Doubtful(LogDoubt::Diverged));
        check_epoch(true, Some(25), LogCheck::Good);
        let unsupported = LogObservation { epoch_ends: BTreeMap::from([(P, EpochEnd::Unsupported)]), ..seen(0, 40) };
        let last = Some((Offset(24), LeaderEpoch(3)));
        let question = LogQuestion { at: Position(25), out_of_range: false, last, later: None };
        assert_eq!(check_log(P, question, &unsupported), LogCheck::Unknown);
        check(25, true, &last_end(25), LogCheck::Good);
    }

    /// The rows of the table of [`KnownLog`], in its order.
    #[test]
    fn a_log_is_compared_as_the_table_says() {
        let id = |name: &str| Some(TopicId(name.to_owned()));
        let last = Some((Offset(8), Digest([0; 32])));
        let check = |known: (Option<TopicId>, Option<(Offset, Digest)>), seen, replaced, checked| {
            let text = format!("{known:?} {seen:?}");
            let mut log = KnownLog { topic_id: known.0, last: known.1, checked: Position(5), epochs: None };
            assert_eq!(log.is_replaced(Option::as_ref(&seen), Position(9)), replaced, "{text}");
            assert_eq!(log.checked, Position(checked), "{text}");
            log
        };
        let gap = |from, to| Gap { reason: GapReason::LogReplaced, from: Position(from), to: Position(to) };

        check((None, None), None, false, 5);
        check((id("a"), None), None, false, 5);
        let learned = check((None, None), id("a"), false, 5);
        assert_eq!(learned.topic_id, id("a"));
        check((id("a"), None), id("a"), false, 9);
        check((id("a"), last), id("a"), false, 5);
        let mut replaced = check((id("a"), last), id("b"), true, 5);
        assert!(replaced.is_replaced(id("b").as_ref(), Position(9)), "the new id is never learned");
        assert_eq!(replaced.gap_since_check(Position(9)), gap(5, 9));
        assert_eq!(replaced.gap_since_check(Position(4)), gap(4, 4), "an operator moved the position back");
        let mut same = check((id("a"), last), id("a"), false, 5);
        same.last_record_matched(Position(9));
        assert_eq!((same.last, same.checked), (None, Position(9)));
    }
}
