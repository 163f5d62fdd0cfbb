//! Each test covers one rule. [`crate::model::simulation`] covers all orders of events.

use crate::model::protocol::{Generation, LedgerRow, Protocol, RowEffect, State};
use crate::model::record::{Epoch, Position, Step};

fn row(next: i64, epoch: i64) -> LedgerRow {
    LedgerRow { next: Position(next), epoch: Epoch(epoch), halted: false }
}

fn started() -> Protocol {
    let mut protocol = Protocol::default();
    protocol.assigned();
    let generation = protocol.begin_claim().expect("assigned");
    assert_eq!(protocol.claimed(generation, Some(row(7, 1))), RowEffect::Start(Position(7)));
    assert!(protocol.started(protocol.generation()));
    protocol
}

fn step(from: i64, to: i64) -> Step {
    Step::new(Position(from), Position(to)).expect("from < to")
}

#[test]
fn a_claim_that_answers_after_a_revoke_starts_nothing() {
    let mut protocol = Protocol::default();
    protocol.assigned();
    let generation = protocol.begin_claim().expect("assigned");
    protocol.revoked();
    assert_eq!(protocol.claimed(generation, Some(row(7, 1))), RowEffect::Unchanged);
    protocol.assigned();
    assert_eq!(
        protocol.claimed(generation, Some(row(7, 1))),
        RowEffect::Unchanged,
        "also after the partition was assigned again"
    );
    let newer = protocol.begin_claim().expect("assigned again");
    assert_eq!(protocol.claimed(generation, Some(row(7, 1))), RowEffect::Unchanged, "also while the next claim runs");
    assert_eq!(protocol.claimed(newer, Some(row(7, 2))), RowEffect::Start(Position(7)));
}

#[test]
fn a_start_that_comes_after_a_revoke_is_refused() {
    let mut protocol = Protocol::default();
    protocol.assigned();
    let generation = protocol.begin_claim().expect("assigned");
    protocol.claimed(generation, Some(row(7, 1)));
    let (generation, _) = protocol.read_target().expect("claimed");
    protocol.revoked();
    assert!(!protocol.started(generation));
    protocol.assigned();
    let claim = protocol.begin_claim().expect("assigned again");
    protocol.claimed(claim, Some(row(9, 2)));
    assert!(!protocol.started(generation), "it would read from the position of the older claim");
}

#[test]
fn a_commit_must_begin_at_the_position() {
    let mut protocol = started();
    assert_eq!(protocol.begin_commit(step(8, 9)), None);
    assert_eq!(protocol.begin_commit(step(7, 9)), Some(Epoch(1)));
    assert_eq!(protocol.begin_commit(step(9, 10)), None, "one commit at a time");
    protocol.committed();
    assert_eq!(protocol.ready_at(), Some(Position(9)));
}

#[test]
fn a_partition_that_is_assigned_again_while_its_commit_drains_is_claimed_after_the_commit() {
    let mut protocol = started();
    protocol.begin_commit(step(7, 9));
    assert!(protocol.revoked());
    protocol.assigned();
    assert_eq!(protocol.begin_claim(), None);
    protocol.committed();
    assert!(protocol.begin_claim().is_some());
}

#[test]
fn the_row_decides_after_a_lost_answer() {
    for (found, expected) in [
        (Some(row(9, 1)), RowEffect::Start(Position(9))),
        (Some(row(7, 1)), RowEffect::Start(Position(7))),
        (Some(row(3, 1)), RowEffect::Start(Position(3))),
        (Some(row(9, 2)), RowEffect::Fenced),
        (Some(row(9, 0)), RowEffect::ClaimAgain),
        (Some(LedgerRow { halted: true, ..row(9, 1) }), RowEffect::Halted),
        (None, RowEffect::ClaimAgain),
    ] {
        let mut protocol = started();
        protocol.begin_commit(step(7, 9));
        protocol.commit_failed();
        assert_eq!(protocol.read_target(), None, "nothing is read until the row is read");
        let token = protocol.begin_row_read().expect("unknown");
        assert_eq!(protocol.row_read(token, found), expected, "{found:?}");
    }
}

#[test]
fn a_restart_reads_again_after_the_commit_in_flight() {
    let mut protocol = started();
    let before = protocol.generation();
    protocol.begin_commit(step(7, 9));
    protocol.restart();
    assert_ne!(protocol.generation(), before, "the records in memory are dropped at once");
    assert_eq!(protocol.read_target(), None);
    assert!(protocol.commit_in_flight());
    protocol.committed();
    let token = protocol.begin_row_read().expect("unknown");
    assert_eq!(protocol.row_read(token, Some(row(9, 1))), RowEffect::Start(Position(9)));
}

#[test]
fn a_log_fault_is_recorded_at_the_position_and_found_again_after_a_commit_in_flight() {
    let mut protocol = started();
    assert_eq!(protocol.log_fault(Generation::default()), None, "a fault of an older generation is too late");
    let (generation, epoch, at) = protocol.log_fault(protocol.generation()).expect("started");
    assert_eq!((epoch, at, protocol.read_target(), protocol.begin_row_read()), (Epoch(1), Position(7), None, None));
    protocol.log_fault_recorded(generation, true);
    assert_eq!(protocol.state(), State::Halted);

    let mut protocol = started();
    let (generation, ..) = protocol.log_fault(protocol.generation()).expect("started");
    protocol.log_fault_recorded(generation, false);
    assert_eq!(protocol.state(), State::Unknown(Epoch(1)), "the row decides");
    protocol.log_fault_recorded(generation, true);
    assert_eq!(protocol.state(), State::Unknown(Epoch(1)), "a second answer has no effect");

    let mut protocol = started();
    protocol.begin_commit(step(7, 9));
    assert_eq!(protocol.log_fault(protocol.generation()), None);
    protocol.committed();
    assert_eq!(protocol.state(), State::Unknown(Epoch(1)));
}

#[test]
fn a_row_that_was_read_before_a_commit_has_no_effect() {
    let mut protocol = started();
    let token = protocol.begin_row_read().expect("started");
    protocol.begin_commit(step(7, 9));
    protocol.committed();
    assert_eq!(protocol.row_read(token, Some(row(7, 1))), RowEffect::Unchanged);
    assert_eq!(protocol.ready_at(), Some(Position(9)));
}

#[test]
fn an_idle_owner_follows_the_changes_of_an_operator() {
    let mut protocol = started();
    let token = protocol.begin_row_read().expect("started");
    assert_eq!(protocol.row_read(token, Some(row(7, 1))), RowEffect::Unchanged);
    assert_eq!(protocol.row_read(token, Some(row(2, 1))), RowEffect::Start(Position(2)));
    let token = protocol.begin_row_read().expect("claimed");
    assert_eq!(protocol.row_read(token, Some(LedgerRow { halted: true, ..row(2, 1) })), RowEffect::Halted);
    let token = protocol.begin_row_read().expect("halted");
    assert_eq!(protocol.row_read(token, Some(LedgerRow { halted: true, ..row(2, 1) })), RowEffect::Unchanged);
    assert_eq!(protocol.row_read(token, Some(row(2, 1))), RowEffect::ClaimAgain);
}
