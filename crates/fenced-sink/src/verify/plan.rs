//! What is read again, what can be told from it, and what can't. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::record::{Partition, Position, Step};
use crate::model::topic_log::LogBounds;
use crate::postgres::ledger::snapshot::{CountedRow, RecordedGap};
use crate::verify::{NotChecked, NotCheckedPart, Scope};

/// All that is known before anything is read.
pub(super) struct PlanInputs<'a> {
    /// The ledger, in the snapshot; of the partitions in scope.
    pub(super) ledger: &'a BTreeMap<Partition, CountedRow>,
    /// The gaps on record, in the snapshot.
    pub(super) gaps: &'a [RecordedGap],
    /// Others whose rows are in the same table, in words.
    pub(super) neighbour: Option<String>,
    /// The log, after the snapshot.
    pub(super) bounds: &'a BTreeMap<Partition, LogBounds>,
    /// Where the records of the time asked for begin.
    pub(super) since: Option<BTreeMap<Partition, Position>>,
    /// Whether records may vanish from the middle of the log.
    pub(super) compacted: bool,
}

/// What is done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Read again.
    pub(super) ranges: BTreeMap<Partition, Step>,
    /// Partitions whose totals are compared.
    pub(super) totals: BTreeSet<Partition>,
    /// Whether rows that no record explains are looked for.
    pub(super) extra: bool,
    /// The rest.
    pub(super) not_checked: Vec<NotChecked>,
}

/// Plans for the partitions of the ledger, of which only those in scope are given. The error is one in words: there is nothing that could be compared.
pub(super) fn plan(known: &PlanInputs<'_>, scope: &Scope) -> Result<Plan, String> {
    let mut plan = Plan::default();
    let mut whole = true;
    for (&partition, row) in known.ledger {
        let Some(bounds) = known.bounds.get(&partition) else {
            return Err(format!(
                "Kafka has no partition {partition} of the topic, and the ledger has a position in it"
            ));
        };
        let asked = scope.from.or_else(|| known.since.as_ref()?.get(&partition).copied());
        let readable = readable(partition, row, known.gaps)?;
        let wanted = asked.unwrap_or(row.from).min(readable);
        let to = scope.to.unwrap_or(readable).clamp(wanted, readable);
        let from = bounds.start.clamp(wanted, to);
        let mut leave_out = |from, to, why: &str| {
            if let Some(offsets) = Step::new(from, to) {
                plan.not_checked.push(NotChecked {
                    partition: Some(partition),
                    what: NotCheckedPart::Records(offsets),
                    why: why.to_owned(),
                });
            }
        };
        let before =
            if asked.is_some() { "left out as asked" } else { "from before the totals began; --from 0 reads them" };
        leave_out(bounds.start, wanted, before);
        leave_out(wanted, from, "gone: the log no longer has them");
        leave_out(to, readable, "left out as asked");
        let last = scope.to.unwrap_or(row.next).min(row.next);
        for gap in known.gaps.iter().filter(|gap| gap.partition == partition) {
            let (gap_from, gap_to) = (gap.from.max(wanted), gap.to.min(last));
            leave_out(gap_from, gap_to, &format!("a gap on record ({}): {}", gap.reason, lost(&gap.reason)));
        }
        let counts_all = from <= row.from && to == row.next;
        match (counts_all, known.compacted) {
            (true, false) => {
                plan.totals.insert(partition);
            }
            (true, true) => plan.leave_out(Some(partition), NotCheckedPart::Totals, COMPACTED.to_owned()),
            (false, _) => {
                let why = format!("not all offsets from {} to {} are read", row.from, row.next.0.saturating_sub(1));
                plan.leave_out(Some(partition), NotCheckedPart::Totals, why);
            }
        }
        whole &= bounds.start == Position(0) && from == Position(0) && to == row.next;
        plan.ranges.extend(Step::new(from, to).map(|range| (partition, range)));
    }
    let unclaimed = |partition: &Partition| {
        !known.ledger.contains_key(partition) && scope.partition.is_none_or(|asked| asked == *partition)
    };
    for (&partition, bounds) in known.bounds.iter().filter(|(partition, _)| unclaimed(partition)) {
        if let Some(offsets) = Step::new(bounds.start, bounds.end) {
            plan.leave_out(Some(partition), NotCheckedPart::Records(offsets), UNCLAIMED.to_owned());
        }
        whole &= bounds.start == Position(0);
    }
    if let Some(why) = no_extra(known, scope, whole) {
        plan.leave_out(None, NotCheckedPart::Extra, why);
    } else {
        plan.extra = true;
    }
    Ok(plan)
}

/// What it means for those who compare. What was read is gone where another log, or nothing, is in its place: records that
/// stand there now are compared.
fn lost(reason: &str) -> &'static str {
    match reason {
        "log_replaced" | "log_truncated" => "what was handled of the log of before is not there any more",
        "log_corrupt" => "what was damaged may never have been read",
        _ => "what was there was never read",
    }
}

/// Up to where the log may still hold what was handled. A partition that is halted because its log is another one, or was
/// cut off, has a position that means nothing there.
fn readable(partition: Partition, row: &CountedRow, gaps: &[RecordedGap]) -> Result<Position, String> {
    match row.halt.as_deref() {
        Some("log_replaced") => Err(format!(
            "partition {partition} is halted (log_replaced): the log that was handled is not there any more"
        )),
        Some("log_truncated") => {
            let cut = gaps.iter().rev().find(|gap| gap.partition == partition && gap.reason == "log_truncated");
            Ok(cut.map_or(row.next, |gap| gap.from.min(row.next)))
        }
        _ => Ok(row.next),
    }
}

const UNCLAIMED: &str =
    "the partition has no row in consumer_offsets: no service has claimed it, or its row was removed";
const COMPACTED: &str = "the topic is compacted: records that were handled may be gone";

/// Why rows that no record explains can't be told.
fn no_extra(known: &PlanInputs<'_>, scope: &Scope, whole: bool) -> Option<String> {
    let replaced = known.gaps.iter().find(|gap| matches!(gap.reason.as_str(), "log_replaced" | "log_truncated"));
    if scope.partition.is_some() || !whole {
        Some("not all that was ever handled is read, from offset 0 of every partition".to_owned())
    } else if known.compacted {
        Some(COMPACTED.to_owned())
    } else if let Some(gap) = replaced {
        Some(format!("rows may be of records that the log has lost ({} of partition {})", gap.reason, gap.partition))
    } else {
        known.neighbour.as_ref().map(|who| format!("the table has rows of {who}, too"))
    }
}

/// What the log has beyond the positions; of a partition that has none, all.
pub(super) fn ahead(
    ledger: &BTreeMap<Partition, CountedRow>,
    bounds: &BTreeMap<Partition, LogBounds>,
) -> BTreeMap<Partition, Step> {
    let rest = |(partition, LogBounds { start, end }): (&Partition, &LogBounds)| {
        let next = ledger.get(partition).map_or(*start, |row| row.next);
        Some((*partition, Step::new(next.max(*start), *end)?))
    };
    bounds.iter().filter_map(rest).collect()
}

impl Plan {
    fn leave_out(&mut self, partition: Option<Partition>, what: NotCheckedPart, why: String) {
        self.not_checked.push(NotChecked { partition, what, why });
    }
}

#[cfg(test)]
mod tests;
