use fenced_sink::admin::Time;
use fenced_sink::{Epoch, LogBounds, Partition};

use super::*;

pub(in crate::commands) fn row(partition: i32, next_offset: i64, halt_reason: Option<&str>) -> PartitionRow {
    let halt_reason = halt_reason.map(HaltReason::parse);
    let never = Time::default();
    PartitionRow {
        partition: Partition(partition),
        next: Position(next_offset),
        topic_id: None,
        epoch: Epoch(1),
        owner: None,
        halted_at: halt_reason.is_some().then_some(never),
        halt_reason,
        gap_start: None,
        gap_end: None,
        updated_at: never,
        letters_in_a_row: 0,
        counted_from: Position(0),
        stored: 0,
        duplicates: 0,
        ignored: 0,
        dead_lettered: 0,
    }
}

/// The topic log of partition 0, from 10 to 20; an error if Kafka does not answer.
fn log(answers: bool) -> Result<LogFacts, String> {
    let bounds = [(Partition(0), LogBounds { start: Position(10), end: Position(20) })];
    answers.then(|| LogFacts { bounds: bounds.into(), ..LogFacts::default() }).ok_or_else(|| "gone".to_owned())
}

/// The position at which a partition that is halted at `next` continues, or the exit code.
fn check(reason: &str, next: i64, at: Option<TargetPosition>, answers: bool, expected: Result<i64, i32>) {
    let planned = plan(&[row(0, next, Some(reason))], at, &log(answers));
    let position = planned.map(|planned| planned.iter().map(|one| one.to.0).sum()).map_err(|error| error.exit_code());
    assert_eq!(position, expected, "{reason} at {next}, {at:?}");
}

#[test]
fn without_a_target_a_gap_is_passed_and_other_halts_do_not_need_kafka() {
    check("retention_gap", 5, None, true, Ok(10));
    check("retention_gap", 12, None, true, Ok(12));
    check("retention_gap", 5, None, false, Err(69));
    for reason in ["too_many_dead_letters", "no_start_position"] {
        check(reason, 15, None, true, Ok(15));
        check(reason, 5, None, false, Ok(5));
    }
}

#[test]
fn a_changed_topic_log_needs_a_target() {
    for reason in ["log_truncated", "log_replaced", "log_corrupt"] {
        check(reason, 15, None, true, Err(2));
        check(reason, 15, Some(TargetPosition::Earliest), true, Ok(10));
        check(reason, 15, Some(TargetPosition::Latest), true, Ok(20));
        check(reason, 15, Some(TargetPosition::Offset(16)), true, Ok(16));
        check(reason, 15, Some(TargetPosition::Offset(21)), true, Err(2));
        check(reason, 15, Some(TargetPosition::Offset(21)), false, Ok(21));
        check(reason, 15, Some(TargetPosition::Earliest), false, Err(69));
    }
}

#[test]
fn all_halts_that_need_a_target_are_named_at_once_with_what_to_type() {
    let rows = [
        row(0, 15, Some("too_many_dead_letters")),
        row(1, 57, Some("log_corrupt")),
        row(2, 60, Some("log_truncated")),
        row(3, 60, None),
        row(4, 60, Some("log_replaced")),
    ];
    let text = plan(&rows, None, &log(true)).unwrap_err().to_string();
    for words in [
        "partition 1 is halted, log_corrupt",
        "`offsets resume --partition 1 --at 58`",
        "partition 2 is halted, log_truncated",
        "`offsets resume --partition 2 --at latest`",
        "partition 4 is halted, log_replaced",
        "`offsets resume --partition 4 --at earliest`",
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    assert!(!text.contains("partition 0") && !text.contains("partition 3"), "{text}");
}

/// The advice for a partition that is halted at 15, with a gap from `gap_start`, in a log from 10 to 20.
fn advice(reason: &str, gap_start: Option<i64>, answers: bool) -> String {
    let row = PartitionRow { gap_start: gap_start.map(Position), ..row(0, 15, Some(reason)) };
    plan(&[row], None, &log(answers)).unwrap_err().to_string()
}

#[test]
fn the_advice_names_the_start_of_the_gap_first_and_what_it_costs() {
    let check = |reason, gap_start, answers, at: &str, cost: &str| {
        let text = advice(reason, gap_start, answers);
        let first = text.split("--at ").nth(1).and_then(|rest| rest.split('`').next());
        assert!(first == Some(at) && text.contains(cost), "{at}, {cost}: {text}");
    };
    check("log_truncated", Some(12), true, "12", "3 offsets below the position 15 again");
    check("log_truncated", Some(12), false, "12", "3 offsets below the position 15 again");
    check("log_truncated", Some(15), true, "15", "0 offsets");
    check("log_truncated", Some(10), true, "10", "5 offsets");
    check("log_truncated", Some(7), true, "earliest", "5 offsets");
    check("log_truncated", None, true, "earliest", "5 offsets");
    check("log_truncated", None, false, "earliest", "15 offsets");
    check("log_replaced", Some(12), true, "earliest", "10 offsets");
    check("log_replaced", None, false, "earliest", "all its records");
    let shorter = [(Partition(0), LogBounds { start: Position(10), end: Position(13) })];
    let shorter = Ok(LogFacts { bounds: shorter.into(), ..LogFacts::default() });
    let row = PartitionRow { gap_start: Some(Position(12)), ..row(0, 15, Some("log_truncated")) };
    let text = plan(&[row], None, &shorter).unwrap_err().to_string();
    assert!(text.contains("1 offset below"), "{text}");
}

/// The log is compared once more, so the begin of the gap is not the one of the halt.
#[test]
fn the_advice_is_about_the_log_as_it_is_now() {
    let check = |now, gap_start, at: &str, words: &str| {
        let facts = LogFacts { now: [(Partition(0), now)].into(), ..log(true).unwrap() };
        let row = PartitionRow { gap_start: Some(Position(gap_start)), ..row(0, 30, Some("log_truncated")) };
        let text = plan(&[row], None, &Ok(facts)).unwrap_err().to_string();
        let first = text.split("--at ").nth(1).and_then(|rest| rest.split('`').next());
        assert!(first == Some(at) && text.contains(words), "{now:?}, {gap_start}: {text}");
    };
    check(LogNow::HasBelow(Position(30)), 15, "15", "5 offsets");
    check(LogNow::HasBelow(Position(12)), 15, "12", "8 offsets");
    check(LogNow::HasBelow(Position(7)), 15, "earliest", "10 offsets");
    check(LogNow::HasBelow(Position(30)), 21, "earliest", "10 offsets");
    check(LogNow::Unproven, 15, "earliest", "10 offsets");
    check(LogNow::OtherTopic, 15, "earliest", "created again");
    check(LogNow::NoAnswer, 15, "15", "at the time of the halt");
}

#[test]
fn only_another_topic_log_is_forgotten() {
    for (reason, at, forgets_log, takes_topic_id, log_start) in [
        ("retention_gap", TargetPosition::Earliest, false, false, Some(10)),
        ("log_truncated", TargetPosition::Earliest, true, true, None),
        ("log_truncated", TargetPosition::Offset(10), true, false, None),
        ("log_replaced", TargetPosition::Offset(10), true, true, None),
        ("log_corrupt", TargetPosition::Earliest, false, false, None),
        ("too_many_dead_letters", TargetPosition::Earliest, false, false, None),
        ("no_start_position", TargetPosition::Earliest, false, false, None),
    ] {
        let planned = plan(&[row(0, 12, Some(reason))], Some(at), &log(true)).unwrap();
        let (partition, from, to, log_start) = (Partition(0), Position(12), Position(10), log_start.map(Position));
        assert_eq!(planned, [Resumption { partition, from, to, forgets_log, takes_topic_id, log_start }]);
    }
}
