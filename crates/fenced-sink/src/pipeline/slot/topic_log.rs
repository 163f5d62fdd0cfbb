//! What is asked about a partition's log, and what the answers lead to.

use std::time::{Duration, Instant};

use crate::model::protocol::Generation;
use crate::model::record::{Offset, Position};
use crate::model::topic_log::{Gap, LogCheck, LogObservation, LogQuestion, Probe, check_log};
use crate::pipeline::slot::Slot;
use crate::pipeline::work::LogFaultReport;

/// So often what comes next can't be read before it is read alone, to see whether it is at fault.
const UNREADABLE_TIMES: u32 = 3;
/// So long Kafka may be silent about a log before it is read all the same.
const SILENCE: Duration = Duration::from_secs(3);
/// So long no record may come before it is tried whether there is one.
const IDLE: Duration = Duration::from_secs(20);
/// So often that time is doubled, at most.
const IDLE_DOUBLED: u32 = 4;

impl<E> Slot<E> {
    /// What is to be asked about the log: before reading starts, and again and again while it is read.
    pub(crate) fn doubt(&mut self) -> Option<(Generation, LogQuestion)> {
        let (generation, at) = self.protocol.read_target()?;
        let unreadable = self.unreadable.is_some_and(|(position, times)| position == at && times >= UNREADABLE_TIMES);
        if self.idle.0 != at {
            self.unheard = 0;
        }
        if self.idle.0 != at || self.protocol.ready_at().is_none() || !self.queue.is_empty() {
            self.idle = (at, Instant::now());
        }
        // Longer each time: what begins anew again and again never receives an answer that takes long.
        let silent = self.idle.1.elapsed() >= IDLE.saturating_mul(2_u32.saturating_pow(self.unheard.min(IDLE_DOUBLED)));
        Some((generation, LogQuestion { at, out_of_range: self.out_of_range, unreadable, silent }))
    }

    /// The answer. Whether the log has what comes next is judged only before reading starts. True: a record is there, and the
    /// consumer does not hear of it.
    pub(crate) fn saw(&mut self, generation: Generation, doubt: LogQuestion, seen: &LogObservation) -> bool {
        let Some(known) = self.known.as_mut().filter(|_| self.protocol.generation() == generation) else {
            return false;
        };
        if known.is_replaced(seen.topic_id.as_ref(), doubt.at) {
            // What was committed since Kafka was asked is in doubt, too.
            let gap = known.gap_since_check(self.protocol.read_target().map_or(doubt.at, |(_, at)| at));
            self.fault(generation, gap);
        } else if !self.checked {
            self.judge(generation, doubt, seen);
        } else if self.protocol.ready_at() == Some(doubt.at) {
            match seen.tried.get(&self.partition) {
                Some(Probe::OutOfRange) => self.out_of_range(generation),
                Some(Probe::Record) => return doubt.silent,
                _ => {}
            }
        }
        false
    }

    /// A record is there, and none comes. Where something is in hand of others, this partition alone is read again; true: the
    /// consumer itself has to begin anew.
    pub(crate) fn hears_nothing(&mut self, others_hear: bool) -> bool {
        self.unheard = self.unheard.saturating_add(1);
        if others_hear {
            self.read_again();
        }
        !others_hear
    }

    fn judge(&mut self, generation: Generation, doubt: LogQuestion, seen: &LogObservation) {
        match check_log(self.partition, doubt, seen) {
            LogCheck::Faulty(gap) => self.fault(generation, gap),
            LogCheck::Unknown => self.checked = self.placed_at.elapsed() >= SILENCE,
            LogCheck::Good => {
                let start = seen.bounds.get(&self.partition).map(|bounds| bounds.start);
                if let Some(known) = self.known.as_mut() {
                    let there = |offset: Offset| start.is_none_or(|start| Position(offset.0) >= start);
                    // If what comes next can be read alone, it is the record before it that can't be.
                    known.last = known.last.filter(|(offset, _)| there(*offset) && !doubt.unreadable);
                }
                self.checked = true;
                self.out_of_range = false;
                self.unreadable = self.unreadable.filter(|_| !doubt.unreadable);
            }
        }
    }

    /// The record before the position is the one that the ledger remembers, or none is there any more.
    pub(crate) fn last_record_matched(&mut self, generation: Generation, at: Position) {
        if let Some(known) = self.known.as_mut().filter(|_| self.protocol.generation() == generation) {
            known.last_record_matched(at);
        }
    }

    /// The record at this offset, below the position, is another one, or should not be there.
    pub(crate) fn last_record_differs(&mut self, generation: Generation, offset: Offset) {
        if let Some((known, (_, at))) = self.known.as_ref().zip(self.protocol.read_target()) {
            self.fault(generation, known.gap_from(offset, at));
        }
    }

    fn fault(&mut self, generation: Generation, gap: Gap) {
        if let Some((generation, epoch, at)) = self.protocol.log_fault(generation) {
            self.to_note = Some(LogFaultReport { partition: self.partition, generation, epoch, at, gap });
        }
        self.follow();
    }

    /// A writer tried to note a fault: whether the row is halted now.
    pub(crate) fn noted(&mut self, generation: Generation, halted: bool) {
        self.protocol.log_fault_recorded(generation, halted);
        self.follow();
        self.not_before = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::batch::Arrival;
    use crate::model::protocol::{LedgerRow, State};
    use crate::model::record::{Digest, Epoch, Partition, Step, TopicId};
    use crate::model::stored_row::StoredRow;
    use crate::model::topic_log::{GapReason, KnownLog, LogBounds};

    const P: Partition = Partition(0);

    fn seen(id: &str, start: i64, end: i64) -> LogObservation {
        let bounds = LogBounds { start: Position(start), end: Position(end) };
        LogObservation {
            topic_id: Some(TopicId(id.to_owned())),
            bounds: BTreeMap::from([(P, bounds)]),
            ..LogObservation::default()
        }
    }

    /// A partition that is read from 10 on, of the topic `a`; its last record stands at 9.
    fn started() -> Slot<()> {
        let mut slot = Slot::new(P, 100);
        slot.assigned();
        let generation = slot.protocol.begin_claim().unwrap();
        let known = KnownLog {
            topic_id: Some(TopicId("a".to_owned())),
            last: Some((Offset(9), Digest([0; 32]))),
            checked: Position(5),
        };
        let row = LedgerRow { next: Position(10), epoch: Epoch(1), halted: false };
        slot.claimed(generation, Some(StoredRow { row, known, halt_reason: None }), Duration::ZERO);
        let (generation, doubt) = slot.doubt().unwrap();
        slot.saw(generation, doubt, &seen("a", 0, 50));
        assert!(slot.started(generation));
        slot
    }

    fn commit(slot: &mut Slot<()>, from: i64, to: i64) {
        slot.protocol.begin_commit(Step::new(Position(from), Position(to)).unwrap()).unwrap();
        slot.protocol.committed();
    }

    #[test]
    fn what_was_committed_while_kafka_was_asked_is_in_doubt_too() {
        let mut slot = started();
        let (generation, doubt) = slot.doubt().unwrap();
        slot.last_record_matched(generation, Position(10));
        commit(&mut slot, 10, 20);
        slot.saw(generation, doubt, &seen("b", 0, 50));
        let noting = slot.to_note.unwrap();
        let gap = Gap { reason: GapReason::LogReplaced, from: Position(10), to: Position(20) };
        assert_eq!((noting.at, noting.gap), (Position(20), gap));
    }

    #[test]
    fn a_last_record_that_is_another_one_is_in_doubt_itself() {
        let mut slot = started();
        slot.last_record_differs(slot.protocol.generation(), Offset(9));
        let gap = Gap { reason: GapReason::LogReplaced, from: Position(5), to: Position(10) };
        assert_eq!(slot.to_note.unwrap().gap, gap, "that the topic has the same id proves nothing about its records");

        let mut slot = started();
        slot.last_record_matched(slot.protocol.generation(), Position(10));
        slot.last_record_differs(slot.protocol.generation(), Offset(9));
        let gap = Gap { reason: GapReason::LogReplaced, from: Position(9), to: Position(10) };
        assert_eq!(slot.to_note.unwrap().gap, gap, "what was good before does not hide it");
    }

    #[test]
    fn a_partition_that_hears_nothing_among_others_that_do_is_read_again_alone() {
        let mut slot = started();
        assert!(!slot.hears_nothing(true), "the others are left alone");
        assert_eq!(slot.protocol.state(), State::Unknown(Epoch(1)));
        assert!(started().hears_nothing(false), "nobody hears anything");
    }

    #[test]
    fn what_hears_nothing_is_waited_for_longer_each_time_until_it_gets_on() {
        let mut slot = started();
        let mut check = |idle, expected, why: &str| {
            slot.doubt();
            slot.idle.1 -= idle;
            assert_eq!(slot.doubt().is_some_and(|(_, doubt)| doubt.silent), expected, "{why}");
            slot.idle.1 = Instant::now();
            slot.hears_nothing(false);
        };
        check(IDLE, true, "at first");
        check(IDLE, false, "then twice as long");
        check(4 * IDLE, true, "then four times");
        commit(&mut slot, 10, 11);
        slot.doubt();
        assert_eq!(slot.unheard, 0);
    }

    #[test]
    fn an_answer_about_an_older_position_refuses_none_of_today() {
        let mut slot = started();
        let (generation, doubt) = slot.doubt().unwrap();
        commit(&mut slot, 10, 20);
        let refused = LogObservation { tried: BTreeMap::from([(P, Probe::OutOfRange)]), ..seen("a", 15, 50) };
        slot.saw(generation, doubt, &refused);
        assert_eq!(slot.protocol.ready_at(), Some(Position(20)), "it goes on");
        let (generation, doubt) = slot.doubt().unwrap();
        slot.arrived(generation, Arrival::Reached(Position(21)));
        slot.saw(generation, doubt, &refused);
        assert_eq!(slot.protocol.ready_at(), Some(Position(20)), "what has been read is committed first");
    }
}
