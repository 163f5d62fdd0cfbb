//! Two processes, one row and one partition log, driven through any order of actions.
//!
//! The invariant, checked after every action: each record below the position of the row is handled exactly once, and no
//! other record is handled. The processes run the real [`Protocol`] and the real [`Queue`]. Kafka and the database are
//! plain fields. The property test below and the fuzz target drive this model.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "only tests and the fuzz target run it: a panic is the report"
)]

use crate::model::batch::{Arrival, Batch, BatchLimits, Entry, Queue};
use crate::model::event::Parsed;
use crate::model::protocol::{Generation, LedgerRow, Protocol, RowReadToken, State};
use crate::model::record::{Epoch, Offset, Partition, Position, Record, Timestamp, TimestampType};

/// The end of the partition log. Every fifth offset is a hole, and so is the last one.
pub(crate) const END: i64 = 40;

fn is_hole(offset: i64) -> bool {
    offset % 5 == 3 || offset == END - 1
}

/// An action on one process, on the row or on the partition log.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// The process takes its next step without a failure.
    Continue,
    /// Kafka assigns the partition to the process.
    Assign,
    /// Kafka revokes the partition.
    Revoke,
    /// A writer begins to claim the row.
    BeginClaim,
    /// The claim changes the row. The process receives the answer only if `answered`.
    Claim { answered: bool },
    /// The consumer thread starts or ends reading, as the protocol requires.
    StartReading,
    /// The consumer thread delivers up to this many offsets to the queue.
    Deliver(usize),
    /// A writer takes a batch of up to this many records.
    BeginCommit(usize),
    /// The commit changes the row only if it `arrives`. The process receives the answer only if `answered`.
    Commit { arrives: bool, answered: bool },
    /// The transaction fails before its COMMIT is sent.
    RollBack,
    /// A writer begins to read the row.
    BeginRowRead,
    /// The writer passes the row that it read to the protocol.
    EndRowRead,
    /// Kafka's client reports a corrupt batch, and then delivers the records behind it.
    CorruptBatch,
    /// The check of the partition log finds a fault.
    LogFault,
    /// A writer records the fault: the row halts only if that `arrives`, the process knows it only if `answered`.
    RecordLogFault { arrives: bool, answered: bool },
    /// The process stops.
    Stop,
    /// An operator halts the partition, or resumes it.
    Halt(bool),
    /// A writer finds no row.
    FindNoRow,
}

/// Runs the actions that `bytes` encode. Two bytes are one action: the first chooses the process and the kind of
/// action, the second its parameters.
pub fn replay(bytes: &[u8]) {
    let mut simulation = Simulation::new();
    for pair in bytes.chunks_exact(2).take(500) {
        simulation.step(usize::from(pair[0] % 2), &action(pair[0] >> 1, usize::from(pair[1])));
    }
    simulation.recover();
}

fn action(what: u8, how: usize) -> Action {
    match what % 17 {
        0 => Action::Assign,
        1 => Action::Revoke,
        2 => Action::BeginClaim,
        3 => Action::Claim { answered: how.is_multiple_of(2) },
        4 => Action::StartReading,
        5 => Action::Deliver(how % 8),
        6 => Action::BeginCommit(how % 8 + 1),
        7 if how % 8 == 5 => Action::RollBack,
        7 => Action::Commit { arrives: how.is_multiple_of(2), answered: how % 4 < 2 },
        8 => Action::BeginRowRead,
        9 => Action::EndRowRead,
        10 => Action::CorruptBatch,
        11 => Action::Stop,
        12 => Action::Halt(how.is_multiple_of(2)),
        13 => Action::FindNoRow,
        15 => Action::LogFault,
        16 => Action::RecordLogFault { arrives: how.is_multiple_of(2), answered: how % 4 < 2 },
        _ => Action::Continue,
    }
}

pub(crate) struct Simulation {
    pub(crate) row: LedgerRow,
    handled: Vec<u32>,
    processes: [Process; 2],
}

struct Process {
    protocol: Protocol,
    queue: Queue<()>,
    reader: Option<(Generation, Position)>,
    claim: Option<Generation>,
    flight: Option<(Batch<()>, Epoch)>,
    row_read: Option<(RowReadToken, LedgerRow)>,
    log_fault: Option<(Generation, Epoch, Position)>,
}

impl Simulation {
    pub(crate) fn new() -> Self {
        let process = || Process {
            protocol: Protocol::default(),
            queue: Queue::new(Partition(0)),
            reader: None,
            claim: None,
            flight: None,
            row_read: None,
            log_fault: None,
        };
        let row = LedgerRow { next: Position(0), epoch: Epoch(0), halted: false };
        Self { row, handled: vec![0; usize::try_from(END).unwrap()], processes: [process(), process()] }
    }

    /// No failure occurs any more: process 0 owns the partition and must reach the end of the partition log.
    pub(crate) fn recover(&mut self) {
        self.step(1, &Action::Revoke);
        self.step(1, &Action::RecordLogFault { arrives: false, answered: true });
        self.step(0, &Action::RecordLogFault { arrives: false, answered: true });
        self.step(0, &Action::Halt(false));
        let answered = Action::Commit { arrives: true, answered: true };
        self.step(1, &answered);
        self.step(0, &answered);
        self.step(0, &Action::Assign);
        for _ in 0..50 {
            for action in [
                Action::BeginRowRead,
                Action::EndRowRead,
                Action::BeginClaim,
                Action::Claim { answered: true },
                Action::StartReading,
                Action::Deliver(3),
                Action::BeginCommit(3),
                answered.clone(),
            ] {
                self.step(0, &action);
            }
        }
        assert_eq!(self.row.next, Position(END));
    }

    fn continue_normally(&mut self, index: usize) {
        let process = &self.processes[index];
        let next_actions: &[Action] = match process.protocol.state() {
            _ if process.claim.is_some() => &[Action::Claim { answered: true }],
            _ if process.log_fault.is_some() => &[Action::RecordLogFault { arrives: true, answered: true }],
            _ if process.flight.is_some() => &[Action::Commit { arrives: true, answered: true }],
            State::Assigned | State::Fenced => &[Action::BeginClaim],
            State::Started(..) => &[Action::Deliver(3), Action::BeginCommit(2)],
            State::Claimed(..) => &[Action::StartReading, Action::Deliver(3)],
            _ => &[Action::BeginRowRead, Action::EndRowRead],
        };
        for action in next_actions {
            self.step(index, action);
        }
    }

    pub(crate) fn step(&mut self, index: usize, action: &Action) {
        if let Action::Continue = action {
            return self.continue_normally(index);
        }
        let process = &mut self.processes[index];
        match *action {
            Action::Assign => process.protocol.assigned(),
            Action::Revoke | Action::Stop => {
                let waits = process.protocol.revoked();
                assert_eq!(waits, process.flight.is_some(), "a revoke waits only for a commit in flight");
                process.reader = None;
            }
            Action::BeginClaim if process.claim.is_none() => process.claim = process.protocol.begin_claim(),
            Action::Claim { answered } => {
                if let Some(generation) = process.claim.take() {
                    self.row.epoch = Epoch(self.row.epoch.0 + 1);
                    process.protocol.claimed(generation, answered.then_some(self.row));
                }
            }
            Action::StartReading => process.start_reading(),
            Action::Deliver(records) => (0..records).for_each(|_| process.deliver()),
            Action::BeginCommit(records) if process.flight.is_none() => process.begin_commit(records),
            Action::Commit { arrives, answered } => {
                if let Some((batch, epoch)) = process.flight.take() {
                    let fenced = self.row.next != batch.step().from() || self.row.epoch != epoch || self.row.halted;
                    if arrives && !fenced {
                        self.row.next = batch.step().to();
                        for entry in batch.entries() {
                            self.handled[usize::try_from(entry.record.offset.0).unwrap()] += 1;
                        }
                    }
                    if arrives && answered && !fenced {
                        process.protocol.committed();
                    } else {
                        process.protocol.commit_failed();
                    }
                }
            }
            Action::RollBack => {
                if let Some((batch, _)) = process.flight.take()
                    && process.protocol.rolled_back()
                {
                    process.queue.put_back(batch);
                }
            }
            Action::BeginRowRead => process.row_read = process.protocol.begin_row_read().map(|token| (token, self.row)),
            Action::EndRowRead => {
                if let Some((token, row)) = process.row_read.take() {
                    process.protocol.row_read(token, Some(row));
                }
            }
            Action::CorruptBatch => {
                // The client skips the batch that it could not read.
                process.protocol.restart();
                process.reader = process.reader.map(|(generation, at)| (generation, Position(at.0 + 4)));
            }
            Action::LogFault => {
                let fault = process.protocol.log_fault(process.protocol.generation());
                process.log_fault = fault.or(process.log_fault.take());
            }
            Action::RecordLogFault { arrives, answered } => {
                if let Some((generation, epoch, at)) = process.log_fault.take() {
                    let fenced = self.row.next != at || self.row.epoch != epoch || self.row.halted;
                    self.row.halted |= arrives && !fenced;
                    process.protocol.log_fault_recorded(generation, arrives && answered && !fenced);
                }
            }
            Action::Halt(halted) => self.row.halted = halted,
            Action::FindNoRow => {
                if let Some(token) = process.protocol.begin_row_read() {
                    process.protocol.row_read(token, None);
                }
            }
            _ => {}
        }
        let process = &mut self.processes[index];
        process.queue.set_generation(process.protocol.generation());
        self.check();
    }

    fn check(&self) {
        for (offset, times) in (0..).zip(&self.handled) {
            let expected = u32::from(offset < self.row.next.0 && !is_hole(offset));
            assert_eq!(*times, expected, "record {offset} with the row at {}", self.row.next);
        }
        for process in &self.processes {
            assert_eq!(process.protocol.commit_in_flight(), process.flight.is_some());
        }
    }
}

impl Process {
    /// Does what the consumer thread does.
    fn start_reading(&mut self) {
        let wanted = self.protocol.read_target();
        if self.reader.map(|(generation, _)| generation) != wanted.map(|(generation, _)| generation) {
            self.reader = None;
        }
        if let Some((generation, at)) = wanted
            && self.reader.is_none()
            && self.protocol.started(generation)
        {
            self.reader = Some((generation, at));
        }
    }

    fn deliver(&mut self) {
        if let Some((generation, Position(at))) = self.reader
            && at < END
        {
            let arrival = if is_hole(at) {
                Arrival::Reached(Position(at + 1))
            } else {
                Arrival::Record(Entry { record: record(at), parsed: Ok(Parsed::Event(())) })
            };
            self.queue.push(generation, arrival);
            self.reader = Some((generation, Position(at + 1)));
        }
    }

    fn begin_commit(&mut self, records: usize) {
        let batch =
            self.protocol.ready_at().and_then(|from| self.queue.take(from, BatchLimits { records, bytes: 1 << 20 }));
        if let Some(batch) = batch {
            let epoch = self.protocol.begin_commit(batch.step()).expect("a batch cut where it was ready");
            self.flight = Some((batch, epoch));
        }
    }
}

fn record(offset: i64) -> Record {
    let timestamp = Timestamp { millis: offset, kind: TimestampType::CreateTime };
    Record {
        partition: Partition(0),
        offset: Offset(offset),
        timestamp,
        key: None,
        value: None,
        headers: Vec::new(),
        leader_epoch: None,
    }
}

#[cfg(test)]
mod tests;
