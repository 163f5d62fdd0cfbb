use super::*;

use crate::model::outcome::Totals;
use crate::model::record::{Partition, Position, Step};
use crate::model::topic_log::LogBounds;
use crate::postgres::ledger::snapshot::{CountedRow, RecordedGap};
use crate::verify::plan::{PlanInputs, VerifyPlan, ahead, plan};
use crate::verify::report::{NotCheckedPart, Scope};

/// For each partition: counted from, next, and the start and end of its log.
fn world(partitions: &[(i64, i64, i64, i64)]) -> (BTreeMap<Partition, CountedRow>, BTreeMap<Partition, LogBounds>) {
    let (mut ledger, mut bounds) = (BTreeMap::new(), BTreeMap::new());
    for (number, &(from, next, start, end)) in (0..).zip(partitions) {
        let totals = Totals::default();
        let row = CountedRow { topic_id: None, next: Position(next), from: Position(from), totals, halt: None };
        ledger.insert(Partition(number), row);
        bounds.insert(Partition(number), LogBounds { start: Position(start), end: Position(end) });
    }
    (ledger, bounds)
}

/// A plan in short: the ranges, the partitions whose totals are compared, whether the verification looks for extra
/// rows, and the offsets that are left out, each with a part of the reason.
type PlanSummary = (Vec<(i32, i64, i64)>, Vec<i32>, bool, Vec<(i32, i64, i64, &'static str)>);

const REASONS: [&str; 5] = ["as asked", "before the totals", "gap", "gone", "has no row"];

fn summary(plan: &VerifyPlan) -> PlanSummary {
    let left_out = plan.not_checked.iter().filter_map(|one| {
        let NotCheckedPart::Records(offsets) = &one.what else { return None };
        let reason = REASONS.into_iter().find(|reason| one.why.contains(reason)).unwrap();
        Some((one.partition.unwrap().0, offsets.from().0, offsets.to().0, reason))
    });
    (
        plan.ranges.iter().map(|(partition, range)| (partition.0, range.from().0, range.to().0)).collect(),
        plan.totals.iter().map(|partition| partition.0).collect(),
        plan.extra,
        left_out.collect(),
    )
}

/// One partition: counted from, next, and start and end of its log.
fn check(
    row: (i64, i64, i64, i64),
    scope: Scope,
    ranges: &[(i64, i64)],
    whole: (bool, bool),
    out: &[(i64, i64, &'static str)],
) {
    let (ledger, bounds) = world(&[row]);
    let inputs = PlanInputs {
        ledger: &ledger,
        gaps: &[],
        other_writer: None,
        bounds: &bounds,
        since: None,
        compacted: Some(false),
    };
    let expected: PlanSummary = (
        ranges.iter().map(|&(from, to)| (0, from, to)).collect(),
        if whole.0 { vec![0] } else { vec![] },
        whole.1,
        out.iter().map(|&(from, to, reason)| (0, from, to, reason)).collect(),
    );
    let plan = plan(&inputs, &scope).unwrap();
    assert_eq!(summary(&plan), expected, "{row:?} {scope:?}");
    let why = |what: &NotCheckedPart| plan.not_checked.iter().filter(|one| one.what == *what).count();
    assert_eq!(
        (why(&NotCheckedPart::Totals), why(&NotCheckedPart::Extra)),
        (usize::from(!whole.0), usize::from(!whole.1)),
        "{plan:?}"
    );
}

fn offsets(from: i64, to: i64) -> Scope {
    let position = |offset: i64| (offset >= 0).then_some(Position(offset));
    Scope { from: position(from), to: position(to), ..Scope::default() }
}

#[test]
fn the_counted_records_that_the_log_still_has_are_read() {
    let all = Scope::default();
    check((0, 100, 0, 120), all, &[(0, 100)], (true, true), &[]);
    check((0, 0, 0, 0), all, &[], (true, true), &[]);
    check((40, 100, 0, 100), all, &[(40, 100)], (true, false), &[(0, 40, "before the totals")]);
    check((40, 100, 40, 100), all, &[(40, 100)], (true, false), &[]);
    check((100, 100, 0, 100), all, &[], (true, false), &[(0, 100, "before the totals")]);
}

#[test]
fn records_that_the_log_has_lost_are_named() {
    let all = Scope::default();
    check((0, 100, 30, 120), all, &[(30, 100)], (false, false), &[(0, 30, "gone")]);
    check((40, 100, 30, 120), all, &[(40, 100)], (true, false), &[(30, 40, "before the totals")]);
    check((40, 100, 60, 120), all, &[(60, 100)], (false, false), &[(40, 60, "gone")]);
    check((40, 100, 110, 120), all, &[], (false, false), &[(40, 100, "gone")]);
}

#[test]
fn a_range_is_never_read_beyond_the_position_and_never_backwards() {
    check(
        (0, 100, 0, 120),
        offsets(20, 80),
        &[(20, 80)],
        (false, false),
        &[(0, 20, "as asked"), (80, 100, "as asked")],
    );
    check((0, 100, 0, 120), offsets(-1, 500), &[(0, 100)], (true, true), &[]);
    check((0, 100, 0, 120), offsets(500, -1), &[], (false, false), &[(0, 100, "as asked")]);
    check((0, 100, 0, 120), offsets(50, 20), &[], (false, false), &[(0, 50, "as asked"), (50, 100, "as asked")]);
    check((40, 100, 0, 120), offsets(0, -1), &[(0, 100)], (true, true), &[]);
    check((40, 100, 30, 120), offsets(0, 50), &[(30, 50)], (false, false), &[(0, 30, "gone"), (50, 100, "as asked")]);
    check((40, 100, 60, 120), offsets(0, 50), &[], (false, false), &[(0, 50, "gone"), (50, 100, "as asked")]);
}

#[test]
fn one_partition_or_one_time_can_be_asked_for() {
    let (ledger, bounds) = world(&[(0, 100, 0, 100), (0, 50, 0, 60)]);
    let since = BTreeMap::from([(Partition(0), Position(70)), (Partition(1), Position(60))]);
    let mut inputs = PlanInputs {
        ledger: &ledger,
        gaps: &[],
        other_writer: None,
        bounds: &bounds,
        since: None,
        compacted: Some(false),
    };
    let all = plan(&inputs, &Scope::default()).unwrap();
    assert_eq!(summary(&all), (vec![(0, 0, 100), (1, 0, 50)], vec![0, 1], true, vec![]));
    let only: BTreeMap<_, _> = ledger.clone().into_iter().filter(|(partition, _)| partition.0 == 1).collect();
    let one = PlanInputs { ledger: &only, other_writer: None, since: None, ..inputs };
    let one = plan(&one, &Scope { partition: Some(Partition(1)), ..Scope::default() }).unwrap();
    assert_eq!(summary(&one), (vec![(1, 0, 50)], vec![1], false, vec![]));
    inputs.since = Some(since);
    let late = plan(&inputs, &Scope::default()).unwrap();
    assert_eq!(
        summary(&late),
        (vec![(0, 70, 100)], vec![], false, vec![(0, 0, 70, "as asked"), (1, 0, 50, "as asked")])
    );
}

#[test]
fn the_reason_not_to_look_for_extra_rows_is_named() {
    let (ledger, bounds) = world(&[(0, 100, 0, 100)]);
    let gap = |reason: &str| RecordedGap {
        partition: Partition(0),
        from: Position(90),
        to: Position(110),
        reason: HaltReason::parse(reason),
    };
    let check = |gaps: &[RecordedGap], writer: Option<&str>, compacted, totals: bool, extra: Option<&str>| {
        let other_writer = writer.map(str::to_owned);
        let inputs = PlanInputs { ledger: &ledger, gaps, other_writer, bounds: &bounds, since: None, compacted };
        let plan = plan(&inputs, &Scope::default()).unwrap();
        let why = plan.not_checked.iter().find(|one| one.what == NotCheckedPart::Extra).map(|one| one.why.as_str());
        assert_eq!((plan.extra, plan.totals.is_empty(), why.is_some()), (extra.is_none(), !totals, extra.is_some()));
        assert!(why.unwrap_or_default().contains(extra.unwrap_or_default()), "{why:?}");
        let left_out: Vec<_> = summary(&plan).3;
        assert_eq!(left_out, gaps.iter().map(|_| (0, 90, 100, "gap")).collect::<Vec<_>>());
    };
    check(&[], None, Some(false), true, None);
    check(&[], None, None, true, None);
    check(&[], Some("group b"), Some(false), true, Some("group b"));
    check(&[], None, Some(true), false, Some("compacted"));
    check(&[gap("log_replaced")], None, Some(false), true, Some("log_replaced"));
    check(&[gap("log_truncated")], None, Some(false), true, Some("log_truncated"));
    check(&[gap("log_corrupt")], None, Some(false), true, None);
}

#[test]
fn a_partition_without_a_row_in_the_ledger_is_named() {
    let (mut ledger, bounds) = world(&[(0, 100, 0, 100), (0, 0, 20, 50), (0, 0, 0, 0)]);
    ledger.retain(|partition, _| partition.0 == 0);
    let inputs = PlanInputs {
        ledger: &ledger,
        gaps: &[],
        other_writer: None,
        bounds: &bounds,
        since: None,
        compacted: Some(false),
    };
    let all = plan(&inputs, &Scope::default()).unwrap();
    let left_out = vec![(1, 20, 50, "has no row")];
    assert_eq!(summary(&all), (vec![(0, 0, 100)], vec![0], false, left_out), "rows may be of what is gone before 20");
    let one = plan(&inputs, &Scope { partition: Some(Partition(0)), ..Scope::default() }).unwrap();
    assert_eq!(summary(&one).3, vec![]);
}

#[test]
fn what_a_gap_means_depends_on_whether_it_was_ever_read() {
    let (ledger, bounds) = world(&[(0, 100, 0, 100)]);
    let check = |reason: &str, expected: &str| {
        let gap = RecordedGap {
            partition: Partition(0),
            from: Position(80),
            to: Position(90),
            reason: HaltReason::parse(reason),
        };
        let inputs = PlanInputs {
            ledger: &ledger,
            gaps: &[gap],
            other_writer: None,
            bounds: &bounds,
            since: None,
            compacted: Some(false),
        };
        let plan = plan(&inputs, &Scope::default()).unwrap();
        let whys: Vec<&str> = plan.not_checked.iter().map(|one| one.why.as_str()).collect();
        assert!(whys.iter().any(|why| why.contains(expected)), "{whys:?}");
    };
    check("retention_gap", "its records were never read");
    check("log_replaced", "gone with the old log");
    check("log_truncated", "gone with the old log");
    check("log_corrupt", "may never have been read");
}

#[test]
fn a_partition_that_kafka_does_not_have_is_an_error() {
    let (ledger, _) = world(&[(0, 100, 0, 100)]);
    let bounds = BTreeMap::new();
    let inputs = PlanInputs {
        ledger: &ledger,
        gaps: &[],
        other_writer: None,
        bounds: &bounds,
        since: None,
        compacted: Some(false),
    };
    assert!(plan(&inputs, &Scope::default()).unwrap_err().contains("no partition 0"));
}

#[test]
fn the_rest_of_a_truncated_log_is_read() {
    let (mut ledger, bounds) = world(&[(0, 100, 0, 95)]);
    ledger.get_mut(&Partition(0)).unwrap().halt = Some(HaltReason::LogTruncated);
    let gap = |from, to, reason: &str| RecordedGap {
        partition: Partition(0),
        from: Position(from),
        to: Position(to),
        reason: HaltReason::parse(reason),
    };
    // After the truncation, new records were written to offsets at which others were handled.
    let gaps = [gap(10, 10, "log_replaced"), gap(40, 50, "log_truncated"), gap(90, 100, "log_truncated")];
    let mut inputs = PlanInputs {
        ledger: &ledger,
        gaps: &gaps,
        other_writer: None,
        bounds: &bounds,
        since: None,
        compacted: Some(false),
    };
    let cut = plan(&inputs, &Scope::default()).unwrap();
    let left_out = vec![(0, 40, 50, "gap"), (0, 90, 100, "gap")];
    assert_eq!(summary(&cut), (vec![(0, 0, 90)], vec![], false, left_out));
    let mut replaced = ledger.clone();
    replaced.get_mut(&Partition(0)).unwrap().halt = Some(HaltReason::LogReplaced);
    inputs.ledger = &replaced;
    assert!(plan(&inputs, &Scope::default()).unwrap_err().contains("log_replaced"));
}

#[test]
fn the_records_beyond_a_position_are_ahead_of_it() {
    let (mut ledger, bounds) =
        world(&[(0, 100, 0, 120), (0, 50, 0, 50), (0, 50, 60, 70), (0, 50, 0, 40), (0, 9, 0, 9)]);
    ledger.remove(&Partition(4));
    let step = |from, to| Step::new(Position(from), Position(to)).unwrap();
    let expected =
        BTreeMap::from([(Partition(0), step(100, 120)), (Partition(2), step(60, 70)), (Partition(4), step(0, 9))]);
    assert_eq!(ahead(&ledger, &bounds), expected);
}
