use fenced_sink::LogBounds;

use super::*;
use crate::commands::time::Time;

fn row(partition: i32, next_offset: i64, halt_reason: Option<&str>) -> PartitionRow {
    let halt_reason = halt_reason.map(str::to_owned);
    let never = Time::default();
    PartitionRow {
        partition,
        next_offset,
        epoch: 1,
        owner: None,
        halted_at: halt_reason.is_some().then_some(never),
        halt_reason,
        gap_to: None,
        updated_at: never,
        letters_in_a_row: 0,
        counted_from: 0,
        stored: 0,
        duplicates: 0,
        ignored: 0,
        dead_lettered: 0,
    }
}

/// The log of partition 0, from 10 to 20; `None`: nobody answers.
fn log(answers: bool) -> Result<LogFacts, String> {
    let bounds = [(Partition(0), LogBounds { start: Position(10), end: Position(20) })];
    answers.then(|| LogFacts { bounds: bounds.into(), ..LogFacts::default() }).ok_or_else(|| "gone".to_owned())
}

/// Where a partition that is halted at `next` goes on, or the exit code.
fn check(reason: &str, next: i64, at: Option<TargetPosition>, answers: bool, expected: Result<i64, u8>) {
    let planned = plan(&[row(0, next, Some(reason))], at, &log(answers));
    let position = planned.map(|planned| planned.iter().map(|one| one.at).sum()).map_err(|error| error.exit_code());
    assert_eq!(position, expected, "{reason} at {next}, {at:?}");
}

#[test]
fn without_a_place_a_gap_is_passed_and_the_log_has_no_part_in_other_halts() {
    check("retention_gap", 5, None, true, Ok(10));
    check("retention_gap", 12, None, true, Ok(12));
    check("retention_gap", 5, None, false, Err(69));
    for reason in ["too_many_dead_letters", "no_start_position"] {
        check(reason, 15, None, true, Ok(15));
        check(reason, 5, None, false, Ok(5));
    }
}

#[test]
fn a_log_that_is_not_what_it_was_needs_a_place() {
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
fn all_that_need_a_place_are_named_at_once_with_what_to_type() {
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

#[test]
fn only_a_log_that_is_another_one_is_forgotten() {
    for (reason, forgets_log, gone_below) in [
        ("retention_gap", false, Some(10)),
        ("log_truncated", true, None),
        ("log_replaced", true, None),
        ("log_corrupt", false, None),
        ("too_many_dead_letters", false, None),
        ("no_start_position", false, None),
    ] {
        let planned = plan(&[row(0, 12, Some(reason))], Some(TargetPosition::Earliest), &log(true)).unwrap();
        let expected =
            Resumption { partition: 0, reason: reason.to_owned(), from: 12, at: 10, forgets_log, gone_below };
        assert_eq!(planned, [expected]);
    }
}
