use proptest::prelude::*;

use crate::model::batch::{Arrival, Batch, BatchLimits, Entry, Queue};
use crate::model::event::Parsed;
use crate::model::protocol::Generation;
use crate::model::record::{Offset, Partition, Position, Record, Timestamp, TimestampType};

const ALL: BatchLimits = BatchLimits { records: usize::MAX, bytes: usize::MAX };

fn arrival(offset: i64, bytes: usize) -> Arrival<()> {
    let timestamp = Timestamp { millis: 0, kind: TimestampType::CreateTime };
    let value = Some(vec![0; bytes].into());
    let record = Record {
        partition: Partition(0),
        offset: Offset(offset),
        timestamp,
        key: None,
        value,
        headers: Vec::new(),
        leader_epoch: None,
    };
    Arrival::Record(Entry { record, parsed: Ok(Parsed::Event(())) })
}

fn queue(arrivals: impl IntoIterator<Item = Arrival<()>>) -> Queue<()> {
    let mut queue = Queue::new(Partition(0));
    arrivals.into_iter().for_each(|arrival| queue.push(Generation::default(), arrival));
    queue
}

fn offsets(batch: &Batch<()>) -> Vec<i64> {
    batch.entries().iter().map(|entry| entry.record.offset.0).collect()
}

fn check(batch: Option<&Batch<()>>, from: i64, to: i64, expected: &[i64]) {
    let batch = batch.expect("a batch");
    assert_eq!((batch.step().from(), batch.step().to()), (Position(from), Position(to)));
    assert_eq!(offsets(batch), expected);
}

#[test]
fn a_batch_has_all_that_has_arrived() {
    let mut queue = queue([arrival(5, 1), arrival(6, 1)]);
    check(queue.take(Position(5), ALL).as_ref(), 5, 7, &[5, 6]);
    assert!(queue.take(Position(7), ALL).is_none());
    assert_eq!(queue.bytes(), 0);
}

#[test]
fn records_below_the_position_are_dropped_and_holes_are_passed() {
    let mut queue = queue([arrival(3, 1), arrival(4, 1), arrival(7, 1)]);
    check(queue.take(Position(4), ALL).as_ref(), 4, 8, &[4, 7]);
}

#[test]
fn a_reached_position_behind_markers_makes_an_empty_step() {
    let mut queue = queue([Arrival::Reached(Position(9))]);
    let batch = queue.take(Position(5), ALL);
    check(batch.as_ref(), 5, 9, &[]);
    assert_eq!(batch.expect("a batch").last(), None);
}

#[test]
fn a_reached_position_at_or_below_the_start_makes_no_batch() {
    assert!(queue([Arrival::Reached(Position(5))]).take(Position(5), ALL).is_none());
    assert!(queue([Arrival::Reached(Position(4))]).take(Position(5), ALL).is_none());
}

#[test]
fn only_the_last_of_successive_reached_positions_is_kept() {
    let reached = |position| Arrival::Reached(Position(position));
    let mut queue = queue([reached(3), reached(4), arrival(6, 1), reached(8), reached(9)]);
    assert_eq!(queue.arrivals.len(), 3);
    check(queue.take(Position(2), BatchLimits { records: 1, ..ALL }).as_ref(), 2, 9, &[6]);
}

#[test]
fn a_batch_ends_at_either_limit() {
    let mut queue = queue((0..5).map(|offset| arrival(offset, 1_000)));
    check(queue.take(Position(0), BatchLimits { records: 2, ..ALL }).as_ref(), 0, 2, &[0, 1]);
    check(queue.take(Position(2), BatchLimits { bytes: 3_000, ..ALL }).as_ref(), 2, 4, &[2, 3]);
    check(queue.take(Position(4), ALL).as_ref(), 4, 5, &[4]);
}

#[test]
fn a_record_above_the_limit_is_a_batch_of_its_own() {
    let mut queue = queue([arrival(0, 10), arrival(1, 9_000), arrival(2, 10)]);
    let limits = BatchLimits { bytes: 2_000, ..ALL };
    check(queue.take(Position(0), limits).as_ref(), 0, 1, &[0]);
    check(queue.take(Position(1), limits).as_ref(), 1, 2, &[1]);
    check(queue.take(Position(2), limits).as_ref(), 2, 3, &[2]);
}

#[test]
fn a_cut_batch_ends_behind_its_last_record() {
    let mut queue = queue([arrival(3, 1), arrival(5, 1), arrival(6, 1), Arrival::Reached(Position(9))]);
    let mut batch = queue.take(Position(3), ALL).expect("a batch");
    batch.cut(2);
    check(Some(&batch), 3, 6, &[3, 5]);
}

#[test]
fn another_generation_empties_the_queue_and_the_same_one_does_not() {
    let mut queue = queue([arrival(0, 1)]);
    queue.set_generation(Generation::default());
    assert!(queue.has_records());
    queue.set_generation(Generation::default().next());
    assert!(queue.is_empty());
    queue.push(Generation::default(), arrival(0, 1));
    assert!(queue.is_empty(), "a record of an older generation is dropped");
}

proptest! {
    /// For any holes and limits, the steps chain and have every record once.
    #[test]
    fn batches_chain_and_have_every_record_once(
        holes in prop::collection::vec(0_i64..4, 1..60),
        limits in prop::collection::vec((1_usize..7, 1_usize..3_000), 1..60),
        from in 0_i64..10,
    ) {
        let mut next = 0;
        let offsets_there: Vec<i64> = holes.iter().map(|hole| { next += hole + 1; next - 1 }).collect();
        let mut queue = queue(offsets_there.iter().map(|&offset| arrival(offset, 100)));
        queue.push(Generation::default(), Arrival::Reached(Position(next + 2)));
        let mut at = Position(from);
        let mut seen = Vec::new();
        for (records, bytes) in limits.into_iter().cycle() {
            let Some(batch) = queue.take(at, BatchLimits { records, bytes }) else { break };
            prop_assert_eq!(batch.step().from(), at);
            prop_assert!(batch.entries().len() <= records);
            at = batch.step().to();
            prop_assert!(offsets(&batch).iter().all(|offset| *offset < at.0));
            seen.extend(offsets(&batch));
        }
        let expected: Vec<i64> = offsets_there.into_iter().filter(|offset| *offset >= from).collect();
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(at, Position((next + 2).max(from)));
        prop_assert_eq!(queue.bytes(), 0);
    }
}
