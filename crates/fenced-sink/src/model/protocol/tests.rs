//! One rule of the protocol a test. [`crate::model::simulation`] tests what holds in any order of events.

use crate::model::protocol::{Generation, LedgerRow, Protocol, RowEffect, State};
use crate::model::record::{Epoch, Position, Step};

fn row(next: i64, epoch: i64) -> LedgerRow {
    LedgerRow { next: Position(next), epoch: Epoch(epoch), halted: false }
}

fn started() -> Protocol {
    let mut protocol = Protocol::default();
    protocol.assigned();
    let generation = protocol.begin_claim().expect("owned");
    assert_eq!(protocol.claimed(generation, Some(row(7, 1))), RowEffect::Start(Position(7)));
    assert!(protocol.started(protocol.generation()));
    protocol
}

fn step(from: i64, to: i64) -> Step {
    Step::new(Position(from), Position(to)).expect("forwards")
}

#[test]
fn a_claim_that_answers_after_a_revoke_starts_nothing() {
    let mut protocol = Protocol::default();
    protocol.assigned();
    let generation = protocol.begin_claim().expect("owned");
    protocol.revoked();
    assert_eq!(protocol.claimed(generation, Some(row(7, 1))), RowEffect::Unchanged);
    protocol.assigned();
    assert_eq!(protocol.claimed(generation, Some(row(7, 1))), RowEffect::Unchanged, "nor after it came back");
    let newer = protocol.begin_claim().expect("owned again");
    assert_eq!(protocol.claimed(generation, Some(row(7, 1))), RowEffect::Unchanged, "nor in place of the next claim's");
    assert_eq!(protocol.claimed(newer, Some(row(7, 2))), RowEffect::Start(Position(7)));
}

#[test]
fn a_start_that_comes_after_a_revoke_is_refused() {
    let mut protocol = Protocol::default();
    protocol.assigned();
    let generation = protocol.begin_claim().expect("owned");
    protocol.claimed(generation, Some(row(7, 1)));
    let (generation, _) = protocol.read_target().expect("claimed");
    protocol.revoked();
    assert!(!protocol.started(generation));
    protocol.assigned();
    let claim = protocol.begin_claim().expect("owned again");
    protocol.claimed(claim, Some(row(9, 2)));
    assert!(!protocol.started(generation), "it would read from where the last claim said");
}

#[test]
fn a_commit_must_begin_where_the_partition_stands() {
    let mut protocol = started();
    assert_eq!(protocol.begin_commit(step(8, 9)), None);
    assert_eq!(protocol.begin_commit(step(7, 9)), Some(Epoch(1)));
    assert_eq!(protocol.begin_commit(step(9, 10)), None, "one at a time");
    protocol.committed();
    assert_eq!(protocol.ready_at(), Some(Position(9)));
}

#[test]
fn a_partition_that_comes_back_while_its_commit_drains_is_claimed_only_after_it() {
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
        assert_eq!(protocol.read_target(), None, "nothing is read until the row has answered");
        let belief = protocol.begin_row_read().expect("unsure");
        assert_eq!(protocol.row_read(belief, found), expected, "{found:?}");
    }
}

#[test]
fn what_is_not_trusted_is_read_again_after_the_commit_in_flight() {
    let mut protocol = started();
    let before = protocol.generation();
    protocol.begin_commit(step(7, 9));
    protocol.restart();
    assert_ne!(protocol.generation(), before, "what was read is dropped at once");
    assert_eq!(protocol.read_target(), None);
    assert!(protocol.commit_in_flight());
    protocol.committed();
    let belief = protocol.begin_row_read().expect("unsure");
    assert_eq!(protocol.row_read(belief, Some(row(9, 1))), RowEffect::Start(Position(9)));
}

#[test]
fn a_fault_is_noted_where_the_partition_stands_and_found_anew_after_a_commit_in_flight() {
    let mut protocol = started();
    assert_eq!(protocol.log_fault(Generation::default()), None, "what an older reading found is too late");
    let (generation, epoch, at) = protocol.log_fault(protocol.generation()).expect("started");
    assert_eq!((epoch, at, protocol.read_target(), protocol.begin_row_read()), (Epoch(1), Position(7), None, None));
    protocol.log_fault_recorded(generation, true);
    assert_eq!(protocol.state(), State::Halted);

    let mut protocol = started();
    let (generation, ..) = protocol.log_fault(protocol.generation()).expect("started");
    protocol.log_fault_recorded(generation, false);
    assert_eq!(protocol.state(), State::Unknown(Epoch(1)), "the row decides");
    protocol.log_fault_recorded(generation, true);
    assert_eq!(protocol.state(), State::Unknown(Epoch(1)), "an answer is heard once");

    let mut protocol = started();
    protocol.begin_commit(step(7, 9));
    assert_eq!(protocol.log_fault(protocol.generation()), None);
    protocol.committed();
    assert_eq!(protocol.state(), State::Unknown(Epoch(1)));
}

#[test]
fn a_look_that_a_commit_overtook_is_void() {
    let mut protocol = started();
    let belief = protocol.begin_row_read().expect("started");
    protocol.begin_commit(step(7, 9));
    protocol.committed();
    assert_eq!(protocol.row_read(belief, Some(row(7, 1))), RowEffect::Unchanged);
    assert_eq!(protocol.ready_at(), Some(Position(9)));
}

#[test]
fn an_idle_owner_follows_what_an_operator_writes() {
    let mut protocol = started();
    let belief = protocol.begin_row_read().expect("started");
    assert_eq!(protocol.row_read(belief, Some(row(7, 1))), RowEffect::Unchanged);
    assert_eq!(protocol.row_read(belief, Some(row(2, 1))), RowEffect::Start(Position(2)));
    let belief = protocol.begin_row_read().expect("claimed");
    assert_eq!(protocol.row_read(belief, Some(LedgerRow { halted: true, ..row(2, 1) })), RowEffect::Halted);
    let belief = protocol.begin_row_read().expect("halted");
    assert_eq!(protocol.row_read(belief, Some(LedgerRow { halted: true, ..row(2, 1) })), RowEffect::Unchanged);
    assert_eq!(protocol.row_read(belief, Some(row(2, 1))), RowEffect::ClaimAgain);
}
