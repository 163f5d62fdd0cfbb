//! Decides what a verification reads, what it compares, and what it can't check. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::halt::HaltReason;
use crate::model::record::{Partition, Position, Step};
use crate::model::topic_log::LogBounds;
use crate::postgres::ledger::snapshot::{CountedRow, RecordedGap};
use crate::verify::report::{Finding, NotChecked, NotCheckedPart, Scope};

/// All facts on which the plan depends.
pub(super) struct PlanInputs<'a> {
    /// The rows of the ledger in the snapshot, of the partitions in scope.
    pub(super) ledger: &'a BTreeMap<Partition, CountedRow>,
    /// The recorded gaps in the snapshot.
    pub(super) gaps: &'a [RecordedGap],
    /// Another group and topic that write to the same table, in words.
    pub(super) other_writer: Option<String>,
    /// The bounds of the topic log, asked after the snapshot was taken.
    pub(super) bounds: &'a BTreeMap<Partition, LogBounds>,
    /// Where the records of the requested time begin.
    pub(super) since: Option<BTreeMap<Partition, Position>>,
    /// Whether compaction may remove records. `None`: it is not known. Then a difference of the totals is no finding,
    /// and neither is a row that no record explains.
    pub(super) compacted: Option<bool>,
}

/// What a verification does.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct VerifyPlan {
    /// The ranges that it reads.
    pub(super) ranges: BTreeMap<Partition, Step>,
    /// The partitions whose totals it compares.
    pub(super) totals: BTreeSet<Partition>,
    /// Whether it looks for rows that no record explains.
    pub(super) extra: bool,
    /// What it does not check.
    pub(super) not_checked: Vec<NotChecked>,
}

const UNCLAIMED: &str =
    "the partition has no row in consumer_offsets: no service has claimed it, or its row was removed";
const COMPACTED: &str = "the topic is compacted: records that were handled may be gone";
/// The reason for a difference that is no finding.
const MAYBE_COMPACTED: &str = "it is not known whether the topic is compacted (that needs the Kafka permission \
                               DescribeConfigs), so records that were handled may be gone";

/// Plans the verification of the partitions in scope. The error is the reason, in words, why nothing can be compared.
pub(super) fn plan(inputs: &PlanInputs<'_>, scope: &Scope) -> Result<VerifyPlan, String> {
    let mut plan = VerifyPlan::default();
    let mut reads_everything = true;
    for (&partition, row) in inputs.ledger {
        let Some(bounds) = inputs.bounds.get(&partition) else {
            return Err(format!(
                "Kafka has no partition {partition} of the topic, but consumer_offsets has a position in it"
            ));
        };
        let requested = scope.from.or_else(|| inputs.since.as_ref()?.get(&partition).copied());
        let readable = readable_to(partition, row, inputs.gaps)?;
        let wanted = requested.unwrap_or(row.from).min(readable);
        let to = scope.to.unwrap_or(readable).clamp(wanted, readable);
        let from = bounds.start.clamp(wanted, to);
        let mut leave_out = |from, to, why: &str| {
            if let Some(offsets) = Step::new(from, to) {
                plan.leave_out(Some(partition), NotCheckedPart::Records(offsets), why.to_owned());
            }
        };
        let before =
            if requested.is_some() { "left out as asked" } else { "from before the totals began; --from 0 reads them" };
        leave_out(bounds.start, wanted, before);
        leave_out(wanted, from, "gone: the log no longer has them");
        leave_out(to, readable, "left out as asked");
        let last = scope.to.unwrap_or(row.next).min(row.next);
        for gap in inputs.gaps.iter().filter(|gap| gap.partition == partition) {
            let (gap_from, gap_to) = (gap.from.max(wanted), gap.to.min(last));
            leave_out(gap_from, gap_to, &format!("a recorded gap ({}): {}", gap.reason, effect_of_gap(&gap.reason)));
        }
        let reads_all_counted = from <= row.from && to == row.next;
        match (reads_all_counted, inputs.compacted) {
            (true, Some(false) | None) => {
                plan.totals.insert(partition);
            }
            (true, Some(true)) => plan.leave_out(Some(partition), NotCheckedPart::Totals, COMPACTED.to_owned()),
            (false, _) => {
                let why = format!("not all offsets from {} to {} are read", row.from, row.next.0.saturating_sub(1));
                plan.leave_out(Some(partition), NotCheckedPart::Totals, why);
            }
        }
        reads_everything &= bounds.start == Position(0) && from == Position(0) && to == row.next;
        plan.ranges.extend(Step::new(from, to).map(|range| (partition, range)));
    }
    let is_unclaimed = |partition: &Partition| {
        !inputs.ledger.contains_key(partition) && scope.partition.is_none_or(|requested| requested == *partition)
    };
    for (&partition, bounds) in inputs.bounds.iter().filter(|(partition, _)| is_unclaimed(partition)) {
        if let Some(offsets) = Step::new(bounds.start, bounds.end) {
            plan.leave_out(Some(partition), NotCheckedPart::Records(offsets), UNCLAIMED.to_owned());
        }
        reads_everything &= bounds.start == Position(0);
    }
    match why_extra_is_unknown(inputs, scope, reads_everything) {
        Some(why) => plan.leave_out(None, NotCheckedPart::Extra, why),
        None => plan.extra = true,
    }
    Ok(plan)
}

impl VerifyPlan {
    /// Lists a difference of the totals as not checked: compaction can be its cause.
    pub(super) fn leave_out_total(&mut self, finding: &Finding) {
        self.leave_out(finding.partition, NotCheckedPart::Totals, format!("{MAYBE_COMPACTED}: {}", finding.detail));
    }

    /// Lists the rows that no record explains as not checked: compaction may have removed their records.
    pub(super) fn leave_out_extra(&mut self) {
        self.leave_out(None, NotCheckedPart::Extra, format!("{MAYBE_COMPACTED}: no record explains some rows"));
    }

    fn leave_out(&mut self, partition: Option<Partition>, what: NotCheckedPart, why: String) {
        self.not_checked.push(NotChecked { partition, what, why });
    }
}

/// What a gap means for the records at its offsets. After a truncation or replacement the topic log has new records at
/// these offsets, and those are compared.
fn effect_of_gap(reason: &HaltReason) -> &'static str {
    match reason {
        HaltReason::LogReplaced | HaltReason::LogTruncated => {
            "the records that were handled there are gone with the old log"
        }
        HaltReason::LogCorrupt => "damaged records may never have been read",
        _ => "its records were never read",
    }
}

/// The position up to which the topic log may still have the records that were handled. If the partition is halted
/// because its log was replaced or truncated, that is not the position in the ledger.
fn readable_to(partition: Partition, row: &CountedRow, gaps: &[RecordedGap]) -> Result<Position, String> {
    match row.halt {
        Some(HaltReason::LogReplaced) => Err(format!(
            "partition {partition} is halted (log_replaced): the records that were handled are gone with the old log"
        )),
        Some(HaltReason::LogTruncated) => {
            let cut =
                gaps.iter().rev().find(|gap| gap.partition == partition && gap.reason == HaltReason::LogTruncated);
            Ok(cut.map_or(row.next, |gap| gap.from.min(row.next)))
        }
        _ => Ok(row.next),
    }
}

/// Why a row that no record explains may still be right. If there is a reason, the verification does not look for such
/// rows.
fn why_extra_is_unknown(inputs: &PlanInputs<'_>, scope: &Scope, reads_everything: bool) -> Option<String> {
    let replaced =
        inputs.gaps.iter().find(|gap| matches!(gap.reason, HaltReason::LogReplaced | HaltReason::LogTruncated));
    if scope.partition.is_some() || !reads_everything {
        Some("not all records from offset 0 of every partition are read".to_owned())
    } else if inputs.compacted == Some(true) {
        Some(COMPACTED.to_owned())
    } else if let Some(gap) = replaced {
        Some(format!(
            "rows may come from records that the log has lost ({} of partition {})",
            gap.reason, gap.partition
        ))
    } else {
        inputs.other_writer.as_ref().map(|writer| format!("the table also has rows of {writer}"))
    }
}

/// The records beyond the positions; of a partition without a position, all records.
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

#[cfg(test)]
mod tests;
