use super::*;

use crate::model::error_class::ErrorClass;
use crate::model::halt::HaltReason;
use crate::model::kafka_refusal::KafkaRefusal;
use crate::model::open_work::OpenWork;
use crate::model::protocol::{LedgerRow, State};
use crate::model::record::{Epoch, Partition, Position, Step};
use crate::model::standing::{HeldPartition, Membership, SchedulerView};
use crate::model::topic_log::GapReason;
use crate::observe::counts::Counts;
use crate::observe::health::{Health, PartitionHealth};

/// One partition for each state, numbered from 0.
struct FixedStates(Vec<State>);

impl SchedulerView for FixedStates {
    fn membership(&self) -> Membership {
        Membership::Member
    }

    fn stopping(&self) -> bool {
        false
    }

    fn buffered_bytes(&self) -> usize {
        7
    }

    fn refusals(&self) -> Vec<KafkaRefusal> {
        Vec::new()
    }

    fn held(&self) -> Vec<HeldPartition> {
        let held = |(state, partition): (&State, i32)| HeldPartition {
            partition: Partition(partition),
            state: *state,
            records_wait: false,
            throttled: false,
            failure: None,
            comparison_waits: false,
        };
        self.0.iter().zip(0..).map(held).collect()
    }
}

const AT_5: State = State::Started(Epoch(1), Position(5));

fn running(states: &[State]) -> Health {
    let health = Health::default();
    assert_eq!(health.snapshot(), None);
    health.began("toys", Arc::new(FixedStates(states.to_vec())));
    health
}

fn each<T>(health: &Health, of: impl Fn(PartitionHealth) -> T) -> Vec<T> {
    health.snapshot().unwrap().partitions.into_iter().map(of).collect()
}

fn row(next: i64) -> LedgerRow {
    LedgerRow { next: Position(next), epoch: Epoch(1), halted: false }
}

#[test]
fn the_database_works_while_one_writer_is_connected() {
    let health = running(&[AT_5]);
    let check = |disconnected, works| {
        health.disconnected_writers(disconnected, 2, None);
        let snapshot = health.snapshot().unwrap();
        assert_eq!((snapshot.database_works, snapshot.disconnected_writers), (works, disconnected));
    };
    assert!(health.snapshot().unwrap().database_works, "no writer has tried to connect yet");
    check(1, true);
    check(2, false);
    check(0, true);
}

#[test]
fn a_redrive_that_fails_is_reported_until_nothing_prevents_it() {
    let health = running(&[]);
    let times = || health.snapshot().unwrap().redrive_failure.map(|failure| (failure.times, failure.error));
    health.redrive_failed(ErrorClass::Operator, "permission denied".to_owned());
    health.redrive_failed(ErrorClass::Operator, "no table".to_owned());
    assert_eq!(times(), Some((2, "no table".to_owned())));
    assert_eq!(health.counts().redrive_failures["refused"], 2);
    health.redrive_succeeded();
    assert_eq!(times(), None);
}

#[test]
fn only_a_halted_partition_has_a_halt_reason() {
    let health = running(&[State::Halted, State::Assigned]);
    let reasons = || each(&health, |partition| partition.halt_reason);
    assert_eq!(reasons(), [None, None]);
    health.seen(Partition(0), Some(row(5)), Some(HaltReason::LogCorrupt));
    health.seen(Partition(1), Some(row(5)), Some(HaltReason::LogCorrupt));
    assert_eq!(reasons(), [Some(HaltReason::LogCorrupt), None]);
    health.seen(Partition(0), Some(row(5)), None);
    assert_eq!(reasons(), [None, None]);
    health.halted(Partition(0), Position(9), HaltReason::LogTruncated);
    assert_eq!(reasons(), [Some(HaltReason::LogTruncated), None]);
    assert_eq!(health.counts().halts[&HaltReason::LogTruncated], 1);
}

#[test]
fn a_position_is_that_of_the_protocol_state_or_of_the_owned_row() {
    let in_flight = State::InFlight(Epoch(1), Step::new(Position(6), Position(8)).unwrap());
    let states =
        [AT_5, in_flight, State::Unknown(Epoch(1)), State::Halted, State::Assigned, State::Claiming, State::Fenced];
    let health = running(&states);
    let positions = || each(&health, |partition| partition.position.map(|at| at.0));
    assert_eq!(positions(), [Some(5), Some(6), None, None, None, None, None]);
    (0..7).for_each(|partition| health.seen(Partition(partition), Some(row(4)), None));
    assert_eq!(positions(), [Some(5), Some(6), Some(4), Some(4), None, None, None]);
    health.halted(Partition(3), Position(9), HaltReason::LogTruncated);
    health.seen(Partition(2), None, None);
    health.claimed(Partition(5), Some(row(3)));
    assert_eq!(positions(), [Some(5), Some(6), None, Some(9), None, None, None]);
}

#[test]
fn lag_is_the_known_end_less_the_position_and_never_negative() {
    let health = running(&[AT_5, AT_5, AT_5, AT_5, State::Halted, State::Assigned]);
    let minute = Duration::from_mins(1);
    assert_eq!(each(&health, |partition| partition.lag), [None; 6], "no end is known yet");
    health.log_end(Partition(0), Position(12), minute);
    health.log_end(Partition(1), Position(5), minute);
    health.log_end(Partition(2), Position(3), minute);
    health.log_end(Partition(3), Position(12), Duration::ZERO);
    health.log_end(Partition(4), Position(12), minute);
    health.log_end(Partition(5), Position(12), minute);
    health.log_end(Partition(99), Position(12), minute);
    health.seen(Partition(4), Some(row(2)), None);
    let lags = each(&health, |partition| partition.lag);
    assert_eq!(
        lags,
        [Some(7), Some(0), Some(0), None, Some(10), None],
        "the end of 3 is too old, and 5 is not claimed yet"
    );
}

#[test]
fn open_work_is_read_only_for_a_visitor_and_the_last_reading_is_kept() {
    let health = Health::default();
    assert_eq!((health.is_watched(), health.open_work()), (false, None));
    health.watch();
    assert!(health.is_watched());
    let work = OpenWork { letters: Ok(Vec::new()), gaps: Err("permission denied".to_owned()) };
    health.open_work_read(work.clone());
    assert_eq!(health.open_work().unwrap().work, work);
}

#[test]
fn two_runs_count_separately_and_clones_of_one_run_together() {
    let (one, other) = (Health::default(), Health::default());
    one.clone().gap(GapReason::RetentionGap, 30);
    one.gap(GapReason::RetentionGap, 1);
    one.letters([("parked".to_owned(), 3)].into());
    one.began("toys", Arc::new(FixedStates(Vec::new())));
    assert_eq!((one.counts().gap_records[&GapReason::RetentionGap], one.counts().dead_letters["parked"]), (31, 3));
    assert_eq!(other.counts(), Counts::default());
}
