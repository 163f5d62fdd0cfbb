use std::collections::BTreeMap;

use super::log_state::IDLE;
use super::*;
use crate::model::protocol::LedgerRow;
use crate::model::record::{Digest, Epoch, Step, TopicId};
use crate::model::topic_log::{GapReason, KnownLog, LogBounds, Probe};

const P: Partition = Partition(0);

/// A partition of the topic `a` that is read from 10 on. Its last record has the offset 9. The test sets the time.
struct World {
    slot: Slot<()>,
    now: Instant,
}

fn seen(id: &str, start: i64, end: i64) -> LogObservation {
    let bounds = LogBounds { start: Position(start), end: Position(end) };
    LogObservation {
        topic_id: Some(TopicId(id.to_owned())),
        bounds: BTreeMap::from([(P, bounds)]),
        ..LogObservation::default()
    }
}

fn replaced(from: i64, to: i64) -> Gap {
    Gap { reason: GapReason::LogReplaced, from: Position(from), to: Position(to) }
}

impl World {
    fn started() -> Self {
        let now = Instant::now();
        let mut slot = Slot::new(now, P, 100);
        slot.assigned(now);
        let generation = slot.begin_claim(now).unwrap();
        let known = KnownLog {
            topic_id: Some(TopicId("a".to_owned())),
            last: Some((Offset(9), Digest([0; 32]))),
            checked: Position(5),
        };
        let row = LedgerRow { next: Position(10), epoch: Epoch(1), halted: false };
        slot.claimed(now, generation, Some(StoredRow { row, known, halt_reason: None }), Duration::ZERO);
        let mut world = Self { slot, now };
        let asked = world.ask();
        world.observe(&asked, &seen("a", 0, 50));
        assert!(world.slot.started(asked.generation));
        world
    }

    fn ask(&mut self) -> PartitionQuestion {
        self.slot.question(self.now).unwrap()
    }

    fn observe(&mut self, asked: &PartitionQuestion, seen: &LogObservation) -> bool {
        self.slot.observed(self.now, asked, seen)
    }

    fn commit(&mut self, from: i64, to: i64) {
        self.slot.protocol.begin_commit(Step::new(Position(from), Position(to)).unwrap()).unwrap();
        self.slot.protocol.committed();
    }

    fn generation(&self) -> Generation {
        self.slot.protocol.generation()
    }

    fn gap(&mut self) -> Gap {
        self.slot.take_log_fault().unwrap().gap
    }
}

fn failure(class: ErrorClass, step: Option<(i64, i64)>, shared: bool) -> Failure {
    let step = step.and_then(|(from, to)| Step::new(Position(from), Position(to)));
    Failure { operation: DbOperation::Commit, class, sqlstate: None, error: String::new(), step, shared }
}

fn delays() -> RetryDelays {
    RetryDelays::new(Duration::from_secs(4), Duration::from_mins(1))
}

#[test]
fn a_late_answer_of_an_earlier_claim_neither_delays_nor_ends_the_next_one() {
    let (now, mut slot) = (Instant::now(), Slot::<()>::new(Instant::now(), P, 100));
    slot.assigned(now);
    let earlier = slot.begin_claim(now).unwrap();
    slot.assigned(now);
    assert_eq!(slot.claimed(now, earlier, None, Duration::from_mins(1)), RowEffect::Unchanged);
    slot.claim_failed(now, earlier, failure(ErrorClass::Operator, None, false), &delays());
    assert!(slot.begin_claim(now).is_some(), "the next claim begins at once");
    slot.claim_failed(now, earlier, failure(ErrorClass::Operator, None, false), &delays());
    assert!(slot.is_claiming(slot.protocol.generation()) && !slot.is_isolated());
}

#[test]
fn a_refused_batch_becomes_smaller_only_if_no_other_partition_can_be_the_cause() {
    let check = |class, shared, expected| {
        let mut world = World::started();
        let step = Step::new(Position(10), Position(20)).unwrap();
        world.slot.protocol.begin_commit(step).unwrap();
        world.slot.commit_failed(world.now, failure(class, Some((10, 20)), shared), &delays());
        assert_eq!(world.slot.max_records, expected, "{class:?} {shared}");
        assert!(world.slot.is_isolated());
    };
    check(ErrorClass::Operator, true, 100);
    check(ErrorClass::Operator, false, 25);
    check(ErrorClass::TooSlow, true, 50);
    check(ErrorClass::Unknown, false, 100);
}

#[test]
fn a_failed_commit_is_tried_again_after_its_delay_and_another_position_ends_the_failure() {
    for (next, fails) in [(10, true), (20, false)] {
        let mut world = World::started();
        let step = Step::new(Position(10), Position(20)).unwrap();
        world.slot.protocol.begin_commit(step).unwrap();
        world.slot.commit_failed(world.now, failure(ErrorClass::Operator, Some((10, 20)), false), &delays());
        assert!(world.slot.begin_row_read(world.now, world.now).is_none(), "not before the delay");
        world.now += Duration::from_secs(4);
        let token = world.slot.begin_row_read(world.now, world.now).unwrap();
        let known = world.slot.log.known().cloned().unwrap();
        let row = LedgerRow { next: Position(next), epoch: Epoch(1), halted: false };
        world.slot.row_read(world.now, token, Some(StoredRow { row, known, halt_reason: None }), Duration::ZERO);
        assert_eq!(world.slot.is_isolated(), fails, "the row is at {next}");
    }
}

#[test]
fn a_log_fault_that_is_not_recorded_is_a_failure_until_it_is() {
    let mut world = World::started();
    world.slot.last_record_differs(world.generation(), Offset(9));
    let fault = world.slot.take_log_fault().unwrap();
    let not_recorded = Failure { operation: DbOperation::RecordGap, ..failure(ErrorClass::Operator, None, false) };
    world.slot.log_fault_not_recorded(world.now, fault.generation, not_recorded, &delays());
    assert!(world.slot.held(world.now).failure.is_some());
    world.now += Duration::from_secs(4);
    let token = world.slot.begin_row_read(world.now, world.now).unwrap();
    let known = world.slot.log.known().cloned().unwrap();
    let row = LedgerRow { next: Position(10), epoch: Epoch(1), halted: false };
    world.slot.row_read(world.now, token, Some(StoredRow { row, known, halt_reason: None }), Duration::ZERO);
    assert!(world.slot.held(world.now).failure.is_some(), "a row that was read proves nothing about a gap");
}

#[test]
fn records_committed_after_the_question_are_in_doubt_too() {
    let mut world = World::started();
    let asked = world.ask();
    world.slot.last_record_matched(asked.generation, Position(10));
    world.commit(10, 20);
    world.observe(&asked, &seen("b", 0, 50));
    let fault = world.slot.take_log_fault().unwrap();
    assert_eq!((fault.at, fault.gap), (Position(20), replaced(10, 20)));
}

#[test]
fn a_last_record_that_differs_is_in_doubt_itself() {
    let mut world = World::started();
    world.slot.last_record_differs(world.generation(), Offset(9));
    assert_eq!(world.gap(), replaced(5, 10), "the same topic id proves nothing about the records");

    let mut world = World::started();
    world.slot.last_record_matched(world.generation(), Position(10));
    world.slot.last_record_differs(world.generation(), Offset(9));
    assert_eq!(world.gap(), replaced(9, 10), "an earlier match does not hide the difference");
}

#[test]
fn a_stalled_fetch_is_read_again_alone_while_other_partitions_receive_records() {
    let mut world = World::started();
    assert!(!world.slot.fetch_stalled(world.now, true), "the other partitions continue");
    assert_eq!(world.slot.protocol.state(), State::Unknown(Epoch(1)));
    let mut world = World::started();
    assert!(world.slot.fetch_stalled(world.now, false), "no partition receives records");
}

#[test]
fn the_idle_time_doubles_with_each_stall_until_the_partition_advances() {
    let mut world = World::started();
    let mut check = |idle, expected, why: &str| {
        world.ask();
        world.now += idle;
        assert_eq!(world.ask().question.idle, expected, "{why}");
        // A record arrives and is dropped again: the idle time starts again.
        let generation = world.generation();
        world.slot.arrived(generation, Arrival::Reached(Position(11)));
        world.ask();
        world.slot.queue.take(Position(11), BatchLimits { records: 1, bytes: 1 });
        world.slot.fetch_stalled(world.now, false);
    };
    check(IDLE, true, "at first");
    check(IDLE, false, "then twice as long");
    check(4 * IDLE, true, "then four times");
    world.commit(10, 11);
    world.ask();
    world.now += IDLE;
    assert!(world.ask().question.idle, "the partition has advanced");
}

#[test]
fn an_answer_about_an_older_position_refuses_no_later_one() {
    let mut world = World::started();
    let asked = world.ask();
    world.commit(10, 20);
    let refused = LogObservation { probes: BTreeMap::from([(P, Probe::OutOfRange)]), ..seen("a", 15, 50) };
    world.observe(&asked, &refused);
    assert_eq!(world.slot.protocol.ready_at(), Some(Position(20)), "it continues");
    let asked = world.ask();
    world.slot.arrived(asked.generation, Arrival::Reached(Position(21)));
    world.observe(&asked, &refused);
    assert_eq!(world.slot.protocol.ready_at(), Some(Position(20)), "what was read is committed first");
}
