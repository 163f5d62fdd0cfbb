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

fn known() -> KnownLog {
    let last = Some((Offset(9), Digest([0; 32])));
    let epochs = LeaderEpochs::after(None, (0..10).map(|offset| (Offset(offset), Some(LeaderEpoch(3)))));
    KnownLog { topic_id: Some(TopicId("a".to_owned())), last, checked: Position(5), epochs }
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
        let row = LedgerRow { next: Position(10), epoch: Epoch(1), halted: false };
        slot.claimed(now, generation, Some(StoredRow { row, known: known(), halt_reason: None }), Duration::ZERO);
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
        self.slot.question().unwrap()
    }

    fn observe(&mut self, asked: &PartitionQuestion, seen: &LogObservation) {
        let seen = LogObservation { complete: true, ..seen.clone() };
        self.slot.observed(self.now, asked, &seen);
    }

    /// A record of this leader epoch arrives.
    fn arrives(&mut self, offset: i64, epoch: i32) {
        let record = Record {
            partition: P,
            offset: Offset(offset),
            timestamp: Timestamp { millis: 0, kind: TimestampType::None },
            key: None,
            value: None,
            headers: Vec::new(),
            leader_epoch: Some(LeaderEpoch(epoch)),
        };
        let entry = Entry { record, parsed: Ok(Parsed::Event(())) };
        self.slot.arrived(self.now, self.generation(), Arrival::Record(entry));
    }

    /// Reading ends because of an error that is not known to be harmless, and the row is read again.
    fn restart(&mut self) {
        self.slot.restart(self.now);
        self.now += RESTART_AFTER;
        self.read_row();
    }

    /// The doubt about the last record becomes this fault.
    fn fault(&mut self) -> LogFaultReport {
        let report = self.slot.take_log_doubt().unwrap();
        self.slot.log_doubt_settled(self.now, settled(&report, Some(replaced(9, 10))));
        self.slot.take_log_fault().unwrap()
    }

    /// The row is unchanged.
    fn read_row(&mut self) {
        let token = self.slot.begin_row_read(self.now, self.now).unwrap();
        let row = LedgerRow { next: Position(10), epoch: Epoch(1), halted: false };
        let row = StoredRow { row, known: known(), halt_reason: None };
        self.slot.row_read(self.now, token, Some(row), Duration::ZERO, &delays());
    }

    /// The answers of Kafka are the bounds up to this end, if there are any.
    fn bounds(&mut self, end: Option<i64>) {
        let asked = self.ask();
        let epoch_ends = BTreeMap::from([(P, EpochEnd::At(LeaderEpoch(3), Position(50)))]);
        let answers = |end| LogObservation { epoch_ends, ..seen("a", 0, end) };
        self.observe(&asked, &end.map_or_else(LogObservation::default, answers));
    }

    /// Whether reading starts now.
    fn start(&mut self) -> bool {
        let generation = self.generation();
        self.slot.started(generation)
    }

    /// The position that a probe must read now, and why.
    fn due(&self) -> Option<(i64, ProbePurpose)> {
        self.slot.probe(self.now).map(|asked| (asked.read.0, asked.purpose))
    }

    /// The probe that is due has this result. Returns whether the fetch has stalled.
    fn probe(&mut self, probe: Probe) -> bool {
        let asked = self.slot.probe(self.now).unwrap();
        self.slot.probed(self.now, &asked, probe)
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
    assert!(slot.is_claiming(slot.protocol.generation()) && !slot.is_failing());
}

#[test]
fn a_refused_batch_becomes_smaller_only_if_no_other_partition_can_be_the_cause() {
    let check = |class, shared, expected| {
        let mut world = World::started();
        let step = Step::new(Position(10), Position(20)).unwrap();
        world.slot.protocol.begin_commit(step).unwrap();
        world.slot.in_flight_records = 40;
        world.slot.commit_failed(world.now, failure(class, Some((10, 20)), shared), &delays());
        assert_eq!(world.slot.max_records, expected, "{class:?} {shared}");
        assert!(world.slot.is_isolated());
    };
    check(ErrorClass::Operator, true, 100);
    check(ErrorClass::Operator, false, 10);
    check(ErrorClass::TooSlow, true, 20);
    check(ErrorClass::Record, false, 10);
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
        world.slot.row_read(
            world.now,
            token,
            Some(StoredRow { row, known, halt_reason: None }),
            Duration::ZERO,
            &delays(),
        );
        assert_eq!(world.slot.is_failing(), fails, "the row is at {next}");
    }
}

#[test]
fn a_log_fault_that_is_found_again_and_again_stays_a_failure_until_its_record_matches() {
    let mut world = World::started();
    for times in 1..4 {
        world.slot.last_record_differs(world.generation(), Offset(9));
        let fault = world.fault();
        let not_recorded = Failure { operation: DbOperation::RecordGap, ..failure(ErrorClass::Operator, None, false) };
        world.slot.log_fault_not_recorded(world.now, fault.generation, not_recorded, &delays());
        world.now += Duration::from_mins(1);
        world.read_row();
        world.bounds(Some(50));
        assert!(world.start());
        assert_eq!(world.slot.held(world.now, false).failure.map(|failure| failure.times), Some(times));
    }
    world.slot.last_record_matched(world.generation(), Position(10));
    assert!(!world.slot.is_failing());
}

#[test]
fn a_halt_ends_a_failure_and_a_late_answer_changes_nothing() {
    let mut world = World::started();
    world.slot.protocol.begin_commit(Step::new(Position(10), Position(20)).unwrap()).unwrap();
    world.slot.commit_failed(world.now, failure(ErrorClass::Operator, Some((10, 20)), false), &delays());
    let late = world.generation();
    world.slot.assigned(world.now);
    world.slot.begin_claim(world.now).unwrap();
    let current = world.generation();
    world.slot.claim_failed(world.now, current, failure(ErrorClass::Operator, None, false), &delays());
    world.slot.log_fault_recorded(world.now, late, false);
    assert!(world.slot.is_failing() && world.slot.begin_claim(world.now).is_none(), "its delay is not over");

    let mut world = World::started();
    world.slot.protocol.begin_commit(Step::new(Position(10), Position(20)).unwrap()).unwrap();
    world.slot.commit_failed(world.now, failure(ErrorClass::Operator, Some((10, 20)), false), &delays());
    world.now += Duration::from_secs(4);
    world.read_row();
    world.bounds(Some(50));
    assert!(world.start() && world.slot.is_failing());
    world.slot.last_record_differs(world.generation(), Offset(9));
    let fault = world.fault();
    world.slot.log_fault_recorded(world.now, fault.generation, true);
    assert!(!world.slot.is_failing(), "a halted partition is not tried again");
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
    assert!(world.slot.question().is_none(), "it is not read");
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
    assert_eq!(world.slot.take_log_doubt().map(|report| report.doubt), Some(LogDoubt::Diverged));

    let mut world = World::claimed();
    let asked = world.ask();
    world.now += Duration::from_secs(3);
    world.observe(&asked, &seen("a", 0, 50));
    assert!(world.slot.started(asked.generation), "no answer delays the start only for a while");
    let asked = world.ask();
    assert_eq!(asked.question.last, Some((Offset(9), LeaderEpoch(3))), "it is asked again");
    world.observe(&asked, &LogObservation { epoch_ends: BTreeMap::from([(P, lacks)]), ..seen("a", 0, 50) });
    assert_eq!(world.slot.take_log_doubt().map(|report| report.doubt), Some(LogDoubt::Diverged));

    let mut world = World::started();
    assert_eq!(world.ask().question.last, None, "it is answered: the consumer reports a new leader");
    let target = world.slot.read_target().unwrap();
    assert_eq!(target.leader_epoch, Some(LeaderEpoch(3)), "reading starts with the last record");
    world.arrives(10, 3);
    world.arrives(11, 3);
    let batch = world.slot.begin_commit(ALL).unwrap();
    let before = batch.known.and_then(|known| known.epochs).map(|epochs| epochs.last());
    assert_eq!(before, Some(Offset(9)), "the transaction adds those of its own records");
    assert_eq!(world.slot.log.last_with_epoch(), Some((Offset(11), LeaderEpoch(3))));
}

const ALL: BatchLimits = BatchLimits { records: 10, bytes: 10_000 };

/// A started partition that has read 10 in epoch 3. Record 11, of epoch 5, waits for a comparison of its leader's log.
fn later_record_waits() -> World {
    let mut world = World::started();
    world.arrives(10, 3);
    world.arrives(11, 5);
    let batch = world.slot.begin_commit(ALL).unwrap().batch;
    assert_eq!(batch.step().to(), Position(11), "the batch ends before the first record of the new leader");
    let position = CommittedPosition::confirmed(P, Position(11));
    world.slot.committed(position, None, false);
    assert!(world.slot.begin_commit(ALL).is_none() && !world.slot.has_batch());
    assert!(world.slot.waits_for_log_check(), "the log is compared at once");
    world
}

#[test]
fn a_bulk_failure_counts_for_some_batches_and_another_one_does_not_end_it() {
    let mut world = World::started();
    let mut next = 10;
    let mut bulk_failure_of_next = |found| {
        world.arrives(next, 3);
        let before = world.slot.begin_commit(ALL).unwrap().bulk_failure;
        next += 1;
        world.slot.committed(CommittedPosition::confirmed(P, Position(next)), found, false);
        before
    };
    let (refused, exists) = (Some(BulkFailure::Refused), Some(BulkFailure::Exists));
    assert_eq!([bulk_failure_of_next(exists), bulk_failure_of_next(refused)], [None, exists]);
    let batches: Vec<_> = (0..BULK_FAILURE_BATCHES + 2).map(|_| bulk_failure_of_next(None)).collect();
    let count = |wanted| batches.iter().filter(|found| **found == wanted).count();
    assert_eq!((batches[0], count(exists), count(refused), count(None)), (exists, 7, 1, 2), "{batches:?}");
}

#[test]
fn records_of_a_new_leader_are_committed_only_after_its_log_was_compared() {
    let end = |end| LogObservation {
        epoch_ends: BTreeMap::from([(P, EpochEnd::At(LeaderEpoch(3), Position(end)))]),
        ..seen("a", 0, 50)
    };
    let mut world = later_record_waits();
    let asked = world.ask();
    assert_eq!((asked.question.last, asked.question.later), (Some((Offset(10), LeaderEpoch(3))), Some(LeaderEpoch(5))));
    world.observe(&asked, &seen("a", 0, 50));
    assert!(!world.slot.has_batch(), "there is no answer yet");
    world.observe(&asked, &end(11));
    assert_eq!(world.slot.begin_commit(ALL).unwrap().batch.step().to(), Position(12));

    let mut world = later_record_waits();
    let unsupported = LogObservation { epoch_ends: BTreeMap::from([(P, EpochEnd::Unsupported)]), ..seen("a", 0, 50) };
    for waits in [true, true, false] {
        let asked = world.ask();
        world.observe(&asked, &unsupported);
        assert_ne!(world.slot.has_batch(), waits, "three such answers in a row mean that the broker is too old");
    }

    let mut world = later_record_waits();
    let asked = world.ask();
    world.observe(&asked, &end(6));
    let report = world.slot.take_log_doubt().unwrap();
    assert_eq!((report.doubt, report.at), (LogDoubt::Diverged, Position(11)));

    // The answer of the former leader proves nothing about the new one.
    let mut world = World::started();
    let mut earlier = world.ask();
    earlier.question.last = Some((Offset(9), LeaderEpoch(3)));
    world.arrives(10, 5);
    assert!(world.slot.begin_commit(ALL).is_none());
    world.observe(&earlier, &end(50));
    assert!(!world.slot.has_batch());
    assert!(world.ask().question.last.is_some(), "it is asked again");
}

#[test]
fn a_leader_epoch_that_decreases_puts_the_log_in_doubt() {
    let mut world = World::started();
    world.arrives(10, 2);
    assert!(world.slot.begin_commit(ALL).is_none());
    assert_eq!(world.slot.take_log_doubt().map(|report| report.doubt), Some(LogDoubt::Diverged));
}

#[test]
fn a_stalled_fetch_is_read_again_alone_or_with_all_others() {
    let mut world = World::started();
    world.slot.fetch_stalled(world.now, true);
    assert_eq!(world.slot.protocol.state(), State::Unknown(Epoch(1)));
    let mut world = World::started();
    world.slot.fetch_stalled(world.now, false);
    assert_eq!(world.slot.protocol.ready_at(), Some(Position(10)));
}

#[test]
fn a_record_counts_as_not_received_after_two_probes() {
    let mut world = World::started();
    world.bounds(Some(10));
    world.now += 4 * IDLE;
    assert_eq!(world.due(), None, "there is nothing to receive");
    world.bounds(Some(11));
    assert_eq!(world.due(), None, "the time begins when the log has a record");
    world.now += IDLE;
    assert_eq!(world.due(), Some((10, ProbePurpose::FetchStall)));
    assert!(!world.probe(Probe::Record));
    assert_eq!(world.due(), None, "the consumer may receive it at the same time");
    world.now += Duration::from_secs(5);
    assert!(!world.probe(Probe::NoAnswer));
    world.now += Duration::from_secs(5);
    assert!(world.probe(Probe::Record));

    // What arrives ends the wait, and so does a commit.
    let generation = world.generation();
    let waited = world.slot.arrived(world.now, generation, Arrival::Reached(Position(11)));
    assert_eq!(waited, Some(IDLE + Duration::from_secs(10)));
    world.commit(10, 11);
    world.now += 2 * IDLE;
    assert_eq!(world.due(), None);
}

#[test]
fn the_idle_time_doubles_with_each_stall_until_the_partition_advances() {
    let mut world = World::started();
    let mut check = |idle, expected, why: &str| {
        world.bounds(Some(50));
        world.now += idle;
        assert_eq!(world.due().is_some(), expected, "{why}");
        world.slot.fetch_stalled(world.now, false);
    };
    check(IDLE, true, "at first");
    check(IDLE, false, "then twice as long");
    check(4 * IDLE, true, "then four times");
    world.commit(10, 11);
    world.bounds(Some(50));
    world.now += IDLE;
    assert!(world.due().is_some(), "the partition has advanced");
}

#[test]
fn an_answer_about_an_older_position_refuses_no_later_one() {
    let mut world = World::started();
    world.bounds(Some(9));
    let asked = world.slot.probe(world.now).unwrap();
    assert_eq!(asked.purpose, ProbePurpose::OutOfRange);
    world.commit(10, 20);
    world.slot.probed(world.now, &asked, Probe::OutOfRange);
    assert_eq!(world.slot.protocol.ready_at(), Some(Position(20)), "it continues");
    world.bounds(Some(15));
    let asked = world.slot.probe(world.now).unwrap();
    world.slot.arrived(world.now, asked.generation, Arrival::Reached(Position(21)));
    world.slot.probed(world.now, &asked, Probe::OutOfRange);
    assert_eq!(world.slot.protocol.ready_at(), Some(Position(20)), "what was read is committed first");
}

/// A partition whose reading failed three times at 10, in a log that ends at 50 or at the position.
fn failed_again_and_again(end: i64) -> World {
    let mut world = World::started();
    world.restart();
    for _ in 0..2 {
        world.bounds(Some(end));
        assert!(world.start());
        world.restart();
    }
    world
}

#[test]
fn only_a_proof_moves_the_search_for_damage() {
    let mut world = failed_again_and_again(50);
    assert_eq!(world.due(), None, "the bounds are asked first");
    world.bounds(Some(50));
    assert_eq!(world.due(), Some((9, ProbePurpose::LastRecord)), "reading starts one record back");
    world.probe(Probe::Record);
    world.probe(Probe::Unreadable);
    for _ in 0..3 {
        assert_eq!(world.due(), Some((11, ProbePurpose::Damage)));
        world.probe(Probe::NoAnswer);
        assert_eq!(world.due(), None, "it is asked again later");
        world.now += Duration::from_secs(5);
        world.bounds(Some(50));
        assert!(!world.start(), "reading would fail again");
        assert!(!world.slot.waits_for_log_check(), "it waits for the probe");
    }
    world.probe(Probe::Unreadable);
    world.probe(Probe::End);
    let gap = Gap { reason: GapReason::LogCorrupt, from: Position(10), to: Position(12) };
    assert_eq!(world.gap(), gap);
}

#[test]
fn a_batch_that_is_too_large_is_no_damage() {
    let too_large = Gap { reason: GapReason::BatchTooLarge, from: Position(10), to: Position(10) };
    let mut world = failed_again_and_again(50);
    world.bounds(Some(50));
    world.probe(Probe::TooLarge);
    assert_eq!(world.gap(), too_large, "reading can't start with the last record");

    let mut world = failed_again_and_again(50);
    world.bounds(Some(50));
    world.probe(Probe::Record);
    world.probe(Probe::TooLarge);
    assert_eq!(world.gap(), too_large);

    let mut world = failed_again_and_again(50);
    world.bounds(Some(50));
    for probe in [Probe::Record, Probe::Unreadable, Probe::TooLarge] {
        world.probe(probe);
    }
    let damage = Gap { reason: GapReason::LogCorrupt, from: Position(10), to: Position(11) };
    assert_eq!(world.gap(), damage, "the gap ends before a batch that is too large");
}

#[test]
fn reading_starts_again_if_no_damage_is_proven() {
    let mut world = failed_again_and_again(50);
    world.bounds(Some(50));
    assert!(!world.start());
    world.probe(Probe::NoAnswer);
    world.now += Duration::from_secs(5);
    world.bounds(None);
    assert!(world.start(), "a broker that does not answer halts nothing");
    assert_eq!(world.slot.log.last_record().map(|(offset, _)| offset), Some(Offset(9)));
    world.probe(Probe::Record);
    world.probe(Probe::Record);
    assert_eq!((world.due(), world.slot.take_log_fault().is_none()), (None, true));
    world.restart();
    world.bounds(Some(50));
    assert!(world.start(), "the restarts are counted from 0");
}

#[test]
fn an_idle_partition_keeps_the_comparison_with_its_last_record_until_that_record_is_proven_damaged() {
    let compared = |world: &World| world.slot.log.last_record().is_some();
    // Nothing is above the last record, so only a probe of that record itself can prove anything.
    let mut world = failed_again_and_again(10);
    for _ in 0..5 {
        world.bounds(Some(10));
        world.probe(Probe::NoAnswer);
        assert!(compared(&world), "a read without an answer proves nothing");
        world.now += Duration::from_secs(5);
    }
    world.bounds(Some(10));
    assert!(world.start() && compared(&world));
    world.probe(Probe::Record);
    assert!(compared(&world), "the record can be read");

    let mut world = failed_again_and_again(10);
    world.bounds(Some(10));
    assert_eq!(world.due(), Some((9, ProbePurpose::LastRecord)));
    world.probe(Probe::Unreadable);
    assert!(!compared(&world), "reading can't start with it");
    world.bounds(Some(10));
    assert!(world.start());
}
