use std::collections::BTreeMap;

use super::log_state::IDLE;
use super::*;
use crate::model::batch::Entry;
use crate::model::event::Parsed;
use crate::model::leader_epochs::EpochEnd;
use crate::model::leader_epochs::LeaderEpochs;
use crate::model::protocol::LedgerRow;
use crate::model::record::{Digest, Epoch, Record, Step, Timestamp, TimestampType, TopicId};
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

fn settled(report: &LogDoubtReport, gap: Option<Gap>) -> SettledDoubt {
    let LogDoubtReport { partition, generation, epoch, at, .. } = *report;
    SettledDoubt { partition, generation, epoch, at, gap }
}

impl World {
    fn claimed() -> Self {
        let now = Instant::now();
        let mut slot = Slot::new(now, P, 100);
        slot.assigned(now);
        let generation = slot.begin_claim(now).unwrap();
        let known = KnownLog {
            topic_id: Some(TopicId("a".to_owned())),
            last: Some((Offset(9), Digest([0; 32]))),
            checked: Position(5),
            epochs: LeaderEpochs::after(None, (0..10).map(|offset| (Offset(offset), Some(LeaderEpoch(3))))),
        };
        let row = LedgerRow { next: Position(10), epoch: Epoch(1), halted: false };
        slot.claimed(now, generation, Some(StoredRow { row, known, halt_reason: None }), Duration::ZERO);
        Self { slot, now }
    }

    fn started() -> Self {
        let mut world = Self::claimed();
        let asked = world.ask();
        let has_all = EpochEnd::At(LeaderEpoch(3), Position(50));
        world.observe(&asked, &LogObservation { epoch_ends: BTreeMap::from([(P, has_all)]), ..seen("a", 0, 50) });
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
fn a_fault_is_recorded_only_after_its_doubt_is_settled() {
    let mut world = World::started();
    world.slot.last_record_differs(world.generation(), Offset(9));
    assert!(world.slot.take_log_fault().is_none());
    let report = world.slot.take_log_doubt().unwrap();
    assert!(world.slot.take_log_doubt().is_none(), "it is returned once");
    assert_eq!((report.doubt, report.at, report.epoch), (LogDoubt::Differs(Offset(9)), Position(10), Epoch(1)));
    assert_eq!(report.known.epochs.as_ref().map(LeaderEpochs::newest), Some(LeaderEpoch(3)));
    assert!(world.slot.question(world.now).is_none(), "it is not read");
    world.slot.log_doubt_settled(world.now, settled(&report, Some(replaced(7, 10))));
    assert_eq!(world.gap(), replaced(7, 10));
}

#[test]
fn a_doubt_without_a_fault_or_an_answer_ends_with_a_read_of_the_row() {
    let mut world = World::started();
    world.slot.last_record_differs(world.generation(), Offset(9));
    let report = world.slot.take_log_doubt().unwrap();
    world.slot.log_doubt_settled(world.now, settled(&report, None));
    assert_eq!(world.slot.protocol.state(), State::Unknown(Epoch(1)));
    assert!(!world.slot.needs_row_read(world.now), "not at once: Kafka may still not answer");
    assert!(world.slot.needs_row_read(world.now + RESTART_AFTER));
}

#[test]
fn a_doubt_of_an_older_generation_changes_nothing() {
    let mut world = World::started();
    world.slot.last_record_differs(world.generation(), Offset(9));
    let report = world.slot.take_log_doubt().unwrap();
    world.slot.assigned(world.now);
    for gap in [Some(replaced(7, 10)), None] {
        world.slot.log_doubt_settled(world.now, settled(&report, gap));
        assert!(world.slot.take_log_fault().is_none());
        assert_eq!(world.slot.protocol.state(), State::Assigned);
    }
}

#[test]
fn the_leader_epochs_are_asked_before_reading_starts_and_follow_the_records() {
    let mut world = World::claimed();
    let asked = world.ask();
    assert_eq!(asked.question.last, Some((Offset(9), LeaderEpoch(3))));
    let lacks = EpochEnd::At(LeaderEpoch(3), Position(9));
    world.observe(&asked, &LogObservation { epoch_ends: BTreeMap::from([(P, lacks)]), ..seen("a", 0, 50) });
    assert_eq!(world.slot.take_log_doubt().map(|report| report.doubt), Some(LogDoubt::Parted));

    let mut world = World::claimed();
    let asked = world.ask();
    world.now += Duration::from_secs(3);
    world.observe(&asked, &seen("a", 0, 50));
    assert!(world.slot.started(asked.generation), "no answer delays the start only for a while");
    let asked = world.ask();
    assert_eq!(asked.question.last, Some((Offset(9), LeaderEpoch(3))), "it is asked again");
    world.observe(&asked, &LogObservation { epoch_ends: BTreeMap::from([(P, lacks)]), ..seen("a", 0, 50) });
    assert_eq!(world.slot.take_log_doubt().map(|report| report.doubt), Some(LogDoubt::Parted));

    let mut world = World::started();
    assert_eq!(world.ask().question.last, None, "it is answered: the consumer reports a new leader");
    let target = world.slot.read_target().unwrap();
    assert_eq!(target.leader_epoch, Some(LeaderEpoch(3)), "reading starts with the last record");
    let record = Record {
        partition: P,
        offset: Offset(10),
        timestamp: Timestamp { millis: 0, kind: TimestampType::None },
        key: None,
        value: None,
        headers: Vec::new(),
        leader_epoch: Some(LeaderEpoch(4)),
    };
    let entry = Entry { record, parsed: Ok(Parsed::Event(())) };
    world.slot.arrived(world.generation(), Arrival::Record(entry));
    let batch = world.slot.begin_commit(BatchLimits { records: 10, bytes: 1_000 }, 1).unwrap();
    let before = batch.known.and_then(|known| known.epochs).map(|epochs| epochs.newest());
    assert_eq!(before, Some(LeaderEpoch(3)), "the transaction adds those of its own records");
    assert_eq!(world.slot.log.last_with_epoch(), Some((Offset(10), LeaderEpoch(4))));
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
