//! The leader epochs of the records that were read, and where a partition log diverges from them (KIP-320). Pure:
//! the caller asks Kafka.
//!
//! Kafka raises the leader epoch of a partition with each new leader, and each record has the epoch of the leader that
//! wrote it. Two logs that both have records of an epoch have the same records up to the lower end of that epoch. So the
//! end of an epoch in the log of the current leader proves up to which offset this log has the records that were read.
//!
//! The invariant: [`divergence`] names a position only if the epochs prove it. A position that is too high would hide
//! records of the new log that were never read.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::model::record::{LeaderEpoch, Offset, Position};
use crate::model::topic_log::{Gap, GapReason};

/// At most this many epochs are kept: the newest ones.
const MOST: usize = 64;

/// The leader epochs of the records up to the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    last: Offset,
    newest: LeaderEpoch,
    /// The records of each epoch. It has the newest epoch, too.
    spans: BTreeMap<LeaderEpoch, Span>,
}

/// The first and the last record that was read of an epoch. The epoch can reach further in the log: markers and aborted
/// records are not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: Offset,
    pub(crate) last: Offset,
}

/// The answer of a leader: what its log has of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EpochEnd {
    /// The highest epoch up to the requested one of which the log has records, and the position behind the last of
    /// them.
    At(LeaderEpoch, Position),
    /// All epochs of the log are lower than the requested one, and the leader has no higher one.
    TooNew,
    /// Nothing is known: the broker can't answer, or the clients did not ask it.
    Unsupported,
}

/// The result of a check that can mean another log. The leader epochs decide where the gap begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogDoubt {
    /// The log ends here, below the position.
    Shorter(Position),
    /// The record at this offset is not the one that was read, or there should be no record at it.
    Differs(Offset),
    /// By its leader epochs, the log does not have the last record.
    Diverged,
}

/// The position up to which a partition log has the records that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Divergence {
    /// The log has all records below this position. From this position on it is another log.
    At(Position),
    /// The leader epochs do not prove a position.
    Unproven,
}

impl LeaderEpochs {
    /// The epochs of records. `None` if they can't be those of one log.
    pub(crate) fn new(spans: BTreeMap<LeaderEpoch, Span>) -> Option<Self> {
        let (newest, last) = spans.last_key_value().map(|(epoch, span)| (*epoch, span.last))?;
        let rise = spans.values().zip(spans.values().skip(1)).all(|(lower, higher)| lower.last < higher.first);
        let is_log = rise && spans.values().all(|span| span.first <= span.last);
        is_log.then_some(Self { last, newest, spans })
    }

    /// The epochs after more records. A record without an epoch ends what is known, and the next one begins again. A
    /// record of a lower epoch belongs to another log, so nothing is known after these records.
    pub(crate) fn after(
        known: Option<Self>,
        records: impl Iterator<Item = (Offset, Option<LeaderEpoch>)>,
    ) -> Option<Self> {
        let mut known = known;
        for (offset, epoch) in records {
            known = match (known, epoch) {
                (_, None) => None,
                (Some(before), Some(epoch)) if before.order_of(epoch) == Ordering::Less => return None,
                (before, Some(epoch)) => {
                    let mut spans = before.map(|before| before.spans).unwrap_or_default();
                    spans.entry(epoch).or_insert(Span { first: offset, last: offset }).last = offset;
                    if spans.len() > MOST {
                        spans.pop_first();
                    }
                    Some(Self { last: offset, newest: epoch, spans })
                }
            };
        }
        known
    }

    /// How the epoch of a next record compares with that of the last one. In one log it is never lower.
    pub(crate) fn order_of(&self, epoch: LeaderEpoch) -> Ordering {
        epoch.cmp(&self.newest)
    }

    /// The last record.
    pub(crate) fn last(&self) -> Offset {
        self.last
    }

    /// The epoch of the last record.
    pub(crate) fn newest(&self) -> LeaderEpoch {
        self.newest
    }

    /// The records of each epoch.
    pub(crate) fn spans(&self) -> &BTreeMap<LeaderEpoch, Span> {
        &self.spans
    }
}

impl EpochEnd {
    /// Whether the log lacks a record of this offset and epoch. `self` must be the answer for that epoch. `None`: it proves
    /// nothing.
    pub(crate) fn lacks(self, offset: Offset, epoch: LeaderEpoch) -> Option<bool> {
        match self {
            Self::At(found, end) => Some(found != epoch || end <= Position(offset.0)),
            Self::TooNew => Some(true),
            Self::Unsupported => None,
        }
    }
}

/// Finds where a log diverges from the records that were read up to `at`. `ask` gives the leader's answer for an epoch;
/// `None`: the leader does not answer.
///
/// | for the newest epoch that was read, the leader has | result |
/// |---|---|
/// | that epoch, and records of it up to the last one that was read | the log has all records |
/// | that epoch, with a lower end, and then a higher epoch | the logs diverge at that end |
/// | that epoch, with a lower end, and no higher epoch | unproven: one leader never loses its records, so the brokers were restored and the numbers repeat |
/// | that epoch, but the epoch read before it ends elsewhere | unproven: the numbers repeat |
/// | only lower epochs | the logs diverge before the first record of that epoch: the next lower one is asked |
/// | only lower epochs, and no lower one was read | unproven |
/// | no epoch as high | unproven: the brokers were restored |
///
/// The position is never above the offset behind the last record that was read of the epoch: what follows can be of a
/// higher epoch, whose first records were not delivered.
pub(crate) fn divergence(
    epochs: &LeaderEpochs,
    at: Position,
    mut ask: impl FnMut(LeaderEpoch) -> Option<EpochEnd>,
) -> Option<Divergence> {
    let (mut spans, mut highest) = (epochs.spans.iter().rev(), None);
    while let Some((&epoch, span)) = spans.next() {
        if highest.is_some_and(|highest| epoch > highest) {
            continue;
        }
        match ask(epoch)? {
            EpochEnd::At(found, end) if found == epoch => {
                let repeats = highest.is_none()
                    && end < at
                    && matches!(ask(LeaderEpoch(epoch.0.saturating_add(1)))?, EpochEnd::TooNew);
                let repeats = repeats
                    || match spans.next() {
                        Some((&lower, below)) => !ends_between(lower, below, span, ask)?,
                        None => false,
                    };
                let diverges_at = end.min(span.last.next());
                return Some(if repeats { Divergence::Unproven } else { Divergence::At(diverges_at) });
            }
            EpochEnd::At(found, _) if found < epoch => highest = Some(found),
            EpochEnd::At(..) | EpochEnd::TooNew | EpochEnd::Unsupported => return Some(Divergence::Unproven),
        }
    }
    Some(Divergence::Unproven)
}

/// Whether the leader's log can be the one from which the records of two successive epochs were read: there, the lower
/// epoch ends behind its own last record, and not behind the first record of the higher one.
fn ends_between(
    lower: LeaderEpoch,
    below: &Span,
    above: &Span,
    mut ask: impl FnMut(LeaderEpoch) -> Option<EpochEnd>,
) -> Option<bool> {
    Some(match ask(lower)? {
        EpochEnd::At(found, end) if found == lower && end >= below.last.next() => {
            // Retention can have deleted the lower epoch. Then the answer is the start of the log for every such epoch.
            // A broker that starts raises the epoch, so a restored log never uses the number 0 again.
            end <= Position(above.first.0)
                || lower.0 <= 0
                || matches!(ask(LeaderEpoch(lower.0.saturating_sub(1)))?, EpochEnd::At(_, start) if start == end)
        }
        EpochEnd::At(..) | EpochEnd::TooNew | EpochEnd::Unsupported => false,
    })
}

/// The gap of a log in doubt, which begins at the lowest offset that can be another record. `None`: there is no
/// fault. `log_start` is where the log begins: without a proof, every record of it is in doubt.
///
/// | doubt | the log diverges | gap |
/// |---|---|---|
/// | the log ends below the position | at a known position | `log_truncated` from there, or from the end if that is lower |
/// | a record differs | below that record | `log_truncated` from there |
/// | a record differs | at that record | `log_replaced` from there |
/// | a record differs | above that record | `log_replaced` from the start: the epochs say the opposite, so they repeat |
/// | a record differs | unproven | `log_replaced` from the start |
/// | the log lacks the last record | at or below that record | `log_truncated` from there |
/// | the log lacks the last record | above that record | none |
/// | the log is shorter, or lacks the last record | unproven | `log_truncated` from the start |
pub(crate) fn gap_in_doubt(
    doubt: LogDoubt,
    divergence: Divergence,
    epochs: Option<&LeaderEpochs>,
    at: Position,
    log_start: Position,
) -> Option<Gap> {
    let truncated = |from: Position| Some(Gap { reason: GapReason::LogTruncated, from: from.min(at), to: at });
    match (doubt, divergence) {
        (LogDoubt::Shorter(end), Divergence::At(position)) => truncated(position.min(end)),
        (LogDoubt::Differs(offset), Divergence::At(position)) if position < Position(offset.0) => truncated(position),
        (LogDoubt::Differs(offset), proven) => {
            let first = Position(offset.0);
            let from = if proven == Divergence::At(first) { first } else { log_start.min(first) }.min(at);
            Some(Gap { reason: GapReason::LogReplaced, from, to: at })
        }
        (LogDoubt::Diverged, Divergence::At(position)) => {
            let last = epochs.map_or(at, |epochs| Position(epochs.last.0));
            if position <= last { truncated(position) } else { None }
        }
        (LogDoubt::Shorter(_) | LogDoubt::Diverged, Divergence::Unproven) => truncated(log_start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Epochs by their first offsets; the last record has the offset `last`.
    fn epochs(last: i64, starts: &[(i32, i64)]) -> Option<LeaderEpochs> {
        let lasts = starts.iter().skip(1).map(|(_, first)| first - 1).chain([last]);
        let spans = starts.iter().zip(lasts).map(|(&(epoch, first), last)| (epoch, first, last));
        spans_of(&spans.collect::<Vec<_>>())
    }

    /// Epochs by their first and last records.
    fn spans_of(spans: &[(i32, i64, i64)]) -> Option<LeaderEpochs> {
        let span = |&(epoch, first, last)| (LeaderEpoch(epoch), Span { first: Offset(first), last: Offset(last) });
        LeaderEpochs::new(spans.iter().map(span).collect())
    }

    /// A leader whose log has these epochs, by their first offsets, and ends at `end`. As Kafka answers it.
    fn leader(starts: &[(i32, i64)], end: i64) -> impl Fn(LeaderEpoch) -> Option<EpochEnd> {
        let starts: BTreeMap<i32, i64> = starts.iter().copied().collect();
        move |LeaderEpoch(asked)| {
            let higher = starts.range(asked.saturating_add(1)..).next();
            let floor = starts.range(..=asked).next_back();
            let at = |epoch: i32, end| Some(EpochEnd::At(LeaderEpoch(epoch), Position(end)));
            match (floor, higher) {
                (Some((&epoch, _)), None) if epoch == asked => at(asked, end),
                (_, None) => Some(EpochEnd::TooNew),
                (Some((&epoch, _)), Some((_, &end))) => at(epoch, end),
                (None, Some((_, &end))) => at(asked, end),
            }
        }
    }

    fn check_divergence(read: &[(i32, i64)], leader: impl Fn(LeaderEpoch) -> Option<EpochEnd>, expected: Option<i64>) {
        check_divergence_of(&epochs(151, read).unwrap(), leader, expected);
    }

    fn check_divergence_of(
        read: &LeaderEpochs,
        leader: impl Fn(LeaderEpoch) -> Option<EpochEnd>,
        expected: Option<i64>,
    ) {
        let found = divergence(read, Position(152), leader).unwrap();
        assert_eq!(found, expected.map_or(Divergence::Unproven, |at| Divergence::At(Position(at))), "{read:?}");
    }

    /// The rows of the table of [`divergence`], in its order.
    #[test]
    fn logs_diverge_where_the_epochs_prove_it() {
        check_divergence(&[(3, 0)], leader(&[(3, 0)], 152), Some(152));
        check_divergence(&[(3, 0)], leader(&[(3, 0), (4, 200)], 300), Some(152));
        check_divergence(&[(3, 0)], leader(&[(3, 0), (4, 100)], 300), Some(100));
        check_divergence(&[(3, 0)], leader(&[(3, 0), (4, 100)], 100), Some(100));
        check_divergence(&[(3, 0)], leader(&[(4, 0)], 300), Some(0));
        check_divergence(&[(3, 0)], leader(&[(3, 0)], 100), None);
        check_divergence(&[(3, 0), (5, 100)], leader(&[(3, 0), (6, 100)], 300), Some(100));
        check_divergence(&[(3, 0), (5, 100)], leader(&[(3, 0), (6, 120)], 300), Some(100));
        check_divergence(&[(3, 0), (5, 100)], leader(&[(3, 0), (4, 80), (6, 120)], 300), Some(80));
        check_divergence(&[(2, 0), (4, 90), (5, 100)], leader(&[(2, 0), (3, 40), (6, 300)], 300), Some(40));
        check_divergence(&[(5, 100)], leader(&[(3, 0), (6, 100)], 300), None);
        check_divergence(&[(5, 100)], leader(&[(3, 0)], 300), None);
        check_divergence(&[(5, 100)], |_| Some(EpochEnd::Unsupported), None);
        let read = epochs(151, &[(3, 0)]).unwrap();
        assert_eq!(divergence(&read, Position(152), |_| None), None, "no answer is no proof");
    }

    /// A restored log reads on with epochs that the lost log had, too, and the restored broker starts once more.
    #[test]
    fn an_epoch_proves_nothing_if_the_one_before_it_ends_elsewhere() {
        let read = [(2, 0), (3, 100), (5, 120)];
        check_divergence(&read[1..], leader(&[(3, 100), (5, 110), (7, 140)], 300), None);
        check_divergence(&[(3, 0), (5, 120)], leader(&[(3, 0), (5, 100), (7, 140)], 300), None);
        check_divergence(&[(3, 0), (5, 120)], leader(&[(3, 0), (5, 100)], 300), None);
        check_divergence(&read, leader(&[(2, 0), (3, 100), (5, 130), (7, 140)], 300), None);
        check_divergence(&read, leader(&[(2, 0), (5, 120), (7, 140)], 300), None);
        check_divergence(&read, leader(&[(2, 0), (3, 100), (5, 120), (7, 140)], 300), Some(140));
        check_divergence(&read, leader(&[(2, 0), (3, 100), (4, 120), (5, 120), (7, 140)], 300), Some(140));
        // Retention has deleted the lower epochs.
        check_divergence(&read, leader(&[(5, 120), (7, 140)], 300), Some(140));
        check_divergence(&read, leader(&[(5, 130), (7, 140)], 300), Some(140));
        check_divergence(&[(0, 0), (5, 120)], leader(&[(5, 130), (7, 140)], 300), Some(140));
    }

    #[test]
    fn logs_diverge_behind_the_last_record_that_was_read_of_an_epoch() {
        // The epoch 5 began at 80, with records that were not delivered.
        let read = spans_of(&[(3, 0, 79), (5, 100, 151)]).unwrap();
        check_divergence_of(&read, leader(&[(3, 0), (6, 90)], 300), Some(80));
        check_divergence_of(&read, leader(&[(3, 0), (5, 80), (6, 120)], 300), Some(120));
        check_divergence_of(&read, leader(&[(3, 0), (6, 70)], 300), Some(70));
        // Only such records followed the last one.
        check_divergence_of(&spans_of(&[(3, 0, 79)]).unwrap(), leader(&[(3, 0), (6, 90)], 300), Some(80));
    }

    /// For any two logs with a common beginning, of which some records are not delivered: the position is never above the
    /// first record that differs, and above each common record that was delivered.
    #[test]
    fn logs_never_diverge_later_than_they_do() {
        use proptest::prelude::*;
        // The common part, then the epochs of each record of both logs. Leaders take turns: no epoch has two of them.
        let steps = || proptest::collection::vec((0..3_i32, 1..5_usize), 0..4);
        let delivered = || proptest::collection::vec(any::<bool>(), 48);
        proptest!(|(common in steps(), ours in steps(), theirs in steps(), delivered in delivered(),
                    longer in (any::<bool>(), 0..5_usize))| {
            let continued = |before: &[i32], steps: &[(i32, usize)], parity: i32| -> Vec<i32> {
                let (mut records, mut epoch) = (before.to_vec(), before.last().copied().unwrap_or_default());
                for (rise, count) in steps {
                    epoch += rise + 1;
                    epoch += i32::from(epoch % 2 != parity);
                    records.extend(std::iter::repeat_n(epoch, *count));
                }
                records
            };
            let shared = continued(&[], &common, 0);
            // One of the two has more records of the last common leader.
            let more = shared.last().map(|epoch| vec![*epoch; longer.1]).unwrap_or_default();
            let before = |is_longer: bool| if is_longer { [&*shared, &*more].concat() } else { shared.clone() };
            let (ours, theirs) = (continued(&before(longer.0), &ours, 0), continued(&before(!longer.0), &theirs, 1));
            let records = ours.iter().zip(0..).map(|(epoch, offset)| (Offset(offset), Some(LeaderEpoch(*epoch))));
            let records: Vec<_> = records.zip(&delivered).filter_map(|(record, is)| is.then_some(record)).collect();
            let read = LeaderEpochs::after(None, records.iter().copied());
            if let Some(read) = read {
                let mut starts: Vec<(i32, i64)> = Vec::new();
                for (epoch, offset) in theirs.iter().zip(0..) {
                    if starts.last().is_none_or(|(last, _)| last != epoch) {
                        starts.push((*epoch, offset));
                    }
                }
                let end = i64::try_from(theirs.len()).unwrap();
                starts.push((1_000, end)); // the current leader, which has written nothing yet
                let at = Position(i64::try_from(ours.len()).unwrap());
                let diverges_at = i64::try_from(shared.len()).unwrap();
                let common = records.iter().map(|(offset, _)| offset.0).filter(|offset| *offset < diverges_at).max();
                match divergence(&read, at, leader(&starts, end)).unwrap() {
                    Divergence::At(Position(position)) => {
                        prop_assert!(position <= diverges_at && common.is_none_or(|common| common < position));
                    }
                    Divergence::Unproven => prop_assert_eq!(common, None, "a common epoch proves it"),
                }
            }
        });
    }

    #[test]
    fn epochs_are_kept_while_they_rise() {
        let after = |known, records: &[(i64, Option<i32>)]| {
            let records = records.iter().map(|&(offset, epoch)| (Offset(offset), epoch.map(LeaderEpoch)));
            LeaderEpochs::after(known, records)
        };
        let two = after(None, &[(4, Some(3)), (5, Some(3)), (9, Some(5))]);
        assert_eq!(two, spans_of(&[(3, 4, 5), (5, 9, 9)]));
        assert_eq!(after(two.clone(), &[(10, None)]), None);
        assert_eq!(after(two.clone(), &[(10, None), (11, Some(4))]), spans_of(&[(4, 11, 11)]));
        assert_eq!(after(two.clone(), &[(10, Some(4))]), None, "a lower epoch is another log");
        assert_eq!(after(two.clone(), &[(10, Some(4)), (11, Some(4)), (12, Some(5))]), None);
        let order = |epoch| two.as_ref().map(|two| two.order_of(LeaderEpoch(epoch)));
        assert_eq!([4, 5, 6].map(order), [Ordering::Less, Ordering::Equal, Ordering::Greater].map(Some));
        let many: Vec<_> = (0..1_000).map(|epoch| (i64::from(epoch), Some(epoch))).collect();
        let many = after(None, &many).unwrap();
        assert_eq!((many.spans.len(), many.spans.first_key_value().unwrap().0), (MOST, &LeaderEpoch(936)));
    }

    #[test]
    fn epochs_of_no_log_are_refused() {
        assert_eq!(epochs(9, &[]), None);
        assert_eq!(epochs(9, &[(3, 10)]), None, "the first record lies behind the last one");
        assert_eq!(spans_of(&[(3, 5, 6), (4, 6, 9)]), None);
        assert_eq!(spans_of(&[(3, 5, 9), (4, 2, 3)]), None);
        assert_eq!(spans_of(&[(3, 5, 4), (4, 7, 9)]), None);
    }

    #[test]
    fn a_log_lacks_a_record_if_its_epoch_ends_at_or_before_it() {
        let check = |end: EpochEnd, lacks| assert_eq!(end.lacks(Offset(151), LeaderEpoch(5)), lacks, "{end:?}");
        check(EpochEnd::At(LeaderEpoch(5), Position(152)), Some(false));
        check(EpochEnd::At(LeaderEpoch(5), Position(151)), Some(true));
        check(EpochEnd::At(LeaderEpoch(4), Position(400)), Some(true));
        check(EpochEnd::TooNew, Some(true));
        check(EpochEnd::Unsupported, None);
    }

    /// The rows of the table of [`gap_in_doubt`], in its order.
    #[test]
    fn a_gap_begins_at_the_lowest_offset_in_doubt() {
        use GapReason::{LogReplaced, LogTruncated};
        use LogDoubt::{Differs, Diverged, Shorter};
        let read = epochs(151, &[(3, 0)]);
        let check = |doubt, diverges_at: Option<i64>, expected: Option<(GapReason, i64)>| {
            let divergence = diverges_at.map_or(Divergence::Unproven, |at| Divergence::At(Position(at)));
            let gap = gap_in_doubt(doubt, divergence, read.as_ref(), Position(155), Position(7));
            let to = Position(155);
            assert_eq!(
                gap,
                expected.map(|(reason, from)| Gap { reason, from: Position(from), to }),
                "{doubt:?} {diverges_at:?}"
            );
        };
        check(Shorter(Position(130)), Some(100), Some((LogTruncated, 100)));
        check(Shorter(Position(130)), Some(152), Some((LogTruncated, 130)));
        check(Differs(Offset(151)), Some(100), Some((LogTruncated, 100)));
        check(Differs(Offset(153)), Some(152), Some((LogTruncated, 152)));
        check(Differs(Offset(151)), Some(151), Some((LogReplaced, 151)));
        check(Differs(Offset(151)), Some(152), Some((LogReplaced, 7)));
        check(Differs(Offset(151)), None, Some((LogReplaced, 7)));
        check(Differs(Offset(5)), None, Some((LogReplaced, 5)));
        check(Diverged, Some(100), Some((LogTruncated, 100)));
        check(Diverged, Some(152), None);
        check(Diverged, None, Some((LogTruncated, 7)));
        check(Shorter(Position(130)), None, Some((LogTruncated, 7)));
    }
}
