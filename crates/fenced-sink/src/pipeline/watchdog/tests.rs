use super::*;

use crate::model::record::{Partition, Position};
use crate::model::standing::Membership;
use crate::model::standing::PartitionStatus;
use crate::observe::health::{HealthSnapshot, PartitionHealth};
use crate::pipeline::watchdog::Watchdog;

const LIMIT: u64 = 60;
const STARTED: PartitionStatus = PartitionStatus::Running;

/// A snapshot of partition 0. It begins a stall (`Some(true)`), ends it (`Some(false)`), or neither.
struct Look {
    after: u64,
    standing: Option<PartitionHealth>,
    database_works: bool,
}

fn standing(status: PartitionStatus, position: Option<i64>, records_wait: bool) -> PartitionHealth {
    let position = position.map(Position);
    let partition = Partition(0);
    PartitionHealth {
        partition,
        status,
        halt_reason: None,
        position,
        log_end: None,
        lag: None,
        log_unanswered: false,
        records_wait,
        throttled: false,
        stalled: false,
        failure: None,
    }
}

fn look(after: u64, status: PartitionStatus, position: Option<i64>, records_wait: bool) -> Look {
    Look { after, standing: Some(standing(status, position, records_wait)), database_works: true }
}

/// Records wait, this many seconds after the first snapshot.
fn waits(after: u64) -> Look {
    look(after, STARTED, Some(5), true)
}

fn check(looks: impl IntoIterator<Item = (Look, Option<bool>)>) {
    let (mut watchdog, start) = (Watchdog::new(Duration::from_secs(LIMIT)), Instant::now());
    for (look, expected) in looks {
        let snapshot = HealthSnapshot {
            topic: String::new(),
            membership: Membership::Member,
            kafka_refusals: Vec::new(),
            stopping: false,
            database_works: look.database_works,
            disconnected_writers: 0,
            connect_error: None,
            redrive_failure: None,
            buffered_bytes: 0,
            partitions: look.standing.into_iter().collect(),
        };
        let changes = watchdog.compare(start + Duration::from_secs(look.after), &snapshot);
        let found: Vec<bool> = changes.iter().map(|change| change.begins).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "after {} s", look.after);
    }
}

#[test]
fn records_that_wait_for_the_limit_are_reported_once_and_a_commit_ends_the_stall() {
    check([
        (waits(0), None),
        (waits(LIMIT - 1), None),
        (waits(LIMIT), Some(true)),
        (waits(LIMIT + 1), None),
        (look(LIMIT + 2, STARTED, Some(6), true), Some(false)),
        (look(LIMIT + 3, STARTED, Some(6), true), None),
        (look(2 * LIMIT + 2, STARTED, Some(6), true), Some(true)),
    ]);
}

#[test]
fn a_partition_that_advances_or_has_no_waiting_records_is_never_reported() {
    check((0..1_000).map(|n| (look(n, STARTED, Some(i64::try_from(n).unwrap()), true), None)));
    check((0..1_000).map(|n| (look(n, STARTED, Some(5), false), None)));
    // Some records arrive at intervals, and each is handled between two snapshots.
    check((0..50).map(|n| (look(n * 20, STARTED, Some(5), n % 2 == 0), None)));
}

#[test]
fn a_commit_ends_a_wait_that_began_before_the_row_was_read() {
    check([
        (look(0, PartitionStatus::Claiming, None, false), None),
        (look(1, STARTED, Some(5), true), None),
        (look(2, STARTED, Some(6), true), None),
        (look(LIMIT + 1, STARTED, Some(6), true), None),
        (look(LIMIT + 2, STARTED, Some(6), true), Some(true)),
    ]);
}

#[test]
fn writes_that_fail_repeatedly_are_no_progress() {
    let in_flight = PartitionStatus::Running;
    let round = [(in_flight, Some(5), true), (PartitionStatus::Recovering, Some(5), false), (STARTED, Some(5), false)];
    let rounds = (0..LIMIT).zip(round.iter().cycle());
    let mut looks: Vec<_> =
        rounds.map(|(n, (status, position, waits))| (look(n, *status, *position, *waits), None)).collect();
    looks.push((waits(LIMIT), Some(true)));
    // A new claim of the row is no progress either.
    looks.push((look(LIMIT + 1, PartitionStatus::Claiming, None, false), None));
    looks.push((look(LIMIT + 90, PartitionStatus::Claiming, None, false), None));
    looks.push((look(LIMIT + 91, PartitionStatus::Starting, Some(7), false), Some(false)));
    check(looks);
}

#[test]
fn a_partition_that_is_not_read_for_the_limit_is_reported_until_it_is_read() {
    for status in [PartitionStatus::Claiming, PartitionStatus::Starting] {
        check([
            (look(0, status, None, false), None),
            (look(LIMIT, status, None, false), Some(true)),
            (look(LIMIT + 20, status, None, false), None),
            (look(LIMIT + 21, STARTED, None, false), None),
            (look(LIMIT + 31, STARTED, None, false), Some(false)),
        ]);
    }
}

#[test]
fn records_in_the_topic_log_wait_too() {
    let lags = |after, lag| {
        let standing = PartitionHealth { lag, ..standing(STARTED, Some(5), false) };
        Look { after, standing: Some(standing), database_works: true }
    };
    check([(lags(0, Some(3)), None), (lags(LIMIT, Some(3)), Some(true)), (lags(LIMIT + 5, Some(0)), None)]);
    check([(lags(0, Some(0)), None), (lags(LIMIT, Some(0)), None)]);
    // Kafka is unreachable: the end of the log is not known, so there is no reason for an alarm.
    check([(lags(0, Some(3)), None), (lags(LIMIT - 5, Some(3)), None), (lags(LIMIT, None), None)]);
}

#[test]
fn a_stall_ends_when_no_record_waits_or_this_process_may_not_write() {
    let gone = Look { after: LIMIT + 1, standing: None, database_works: true };
    let halted = look(LIMIT + 1, PartitionStatus::Halted, Some(5), false);
    let fenced = look(LIMIT + 1, PartitionStatus::Fenced, None, false);
    for last in [gone, halted, fenced] {
        check([(waits(0), None), (waits(LIMIT), Some(true)), (last, Some(false))]);
    }
    let quiet = |after| look(after, STARTED, Some(5), false);
    check([(waits(0), None), (waits(LIMIT), Some(true)), (quiet(LIMIT + 9), None), (quiet(LIMIT + 10), Some(false))]);
}

#[test]
fn a_halted_partition_is_never_reported_whatever_its_lag() {
    let lags = PartitionHealth { lag: Some(7), ..standing(PartitionStatus::Halted, Some(5), true) };
    let look = |after| Look { after, standing: Some(lags.clone()), database_works: true };
    check((0..10).map(|n| (look(n * LIMIT), None)));
}

#[test]
fn an_outage_of_the_database_does_not_count_and_does_not_end_a_stall() {
    let away = |after| Look { database_works: false, ..waits(after) };
    check([
        (waits(0), None),
        (away(LIMIT - 1), None),
        (away(10 * LIMIT), None),
        (waits(10 * LIMIT + 1), None),
        (waits(11 * LIMIT - 1), None),
        (waits(11 * LIMIT), Some(true)),
        (away(11 * LIMIT + 1), None),
        (look(12 * LIMIT, STARTED, Some(9), false), Some(false)),
    ]);
}
