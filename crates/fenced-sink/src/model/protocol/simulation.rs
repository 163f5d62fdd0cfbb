//! Two processes, one row, one log, and anything happening in any order: every record is handled exactly once.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "only tests and the fuzzer run it: a panic is the report"
)]

use crate::model::batch::{Arrival, Batch, BatchLimits, Entry, Queue};
use crate::model::event::Parsed;
use crate::model::protocol::{Generation, LedgerRow, Protocol, RowReadToken, State};
use crate::model::record::{Epoch, Offset, Partition, Position, Record, Timestamp, TimestampType};

/// The log ends here; every fifth offset is a hole, and so is the last.
pub(crate) const END: i64 = 40;

fn is_hole(offset: i64) -> bool {
    offset % 5 == 3 || offset == END - 1
}

#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// What comes next when nothing goes wrong.
    GoOn,
    Assign,
    Revoke,
    BeginClaim,
    /// The claim reaches the row; whether its answer comes back.
    Claim {
        answered: bool,
    },
    Follow,
    Deliver(usize),
    BeginCommit(usize),
    /// The commit reaches the row, or not; whether its answer comes back.
    Commit {
        arrives: bool,
        answered: bool,
    },
    BeginLook,
    EndLook,
    Corrupt,
    /// The log turns out not to be the one that we know.
    Fault,
    /// That reaches the row, or not; whether its answer comes back.
    Note {
        arrives: bool,
        answered: bool,
    },
    Stop,
    /// An operator at work.
    Halt(bool),
    ForgetRow,
}

/// Takes bytes for happenings, two for each: who it happens to and what, and how.
pub fn replay(bytes: &[u8]) {
    let mut world = World::new();
    for pair in bytes.chunks_exact(2).take(500) {
        world.step(usize::from(pair[0] % 2), &happening(pair[0] >> 1, usize::from(pair[1])));
    }
    world.end_in_peace();
}

fn happening(what: u8, how: usize) -> Happening {
    match what % 17 {
        0 => Happening::Assign,
        1 => Happening::Revoke,
        2 => Happening::BeginClaim,
        3 => Happening::Claim { answered: how.is_multiple_of(2) },
        4 => Happening::Follow,
        5 => Happening::Deliver(how % 8),
        6 => Happening::BeginCommit(how % 8 + 1),
        7 => Happening::Commit { arrives: how.is_multiple_of(2), answered: how % 4 < 2 },
        8 => Happening::BeginLook,
        9 => Happening::EndLook,
        10 => Happening::Corrupt,
        11 => Happening::Stop,
        12 => Happening::Halt(how.is_multiple_of(2)),
        13 => Happening::ForgetRow,
        15 => Happening::Fault,
        16 => Happening::Note { arrives: how.is_multiple_of(2), answered: how % 4 < 2 },
        _ => Happening::GoOn,
    }
}

pub(crate) struct World {
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
    look: Option<(RowReadToken, LedgerRow)>,
    note: Option<(Generation, Epoch, Position)>,
}

impl World {
    pub(crate) fn new() -> Self {
        let process = || Process {
            protocol: Protocol::default(),
            queue: Queue::new(Partition(0)),
            reader: None,
            claim: None,
            flight: None,
            look: None,
            note: None,
        };
        let row = LedgerRow { next: Position(0), epoch: Epoch(0), halted: false };
        Self { row, handled: vec![0; usize::try_from(END).unwrap()], processes: [process(), process()] }
    }

    /// Nothing goes wrong any more: the owner gets to the end of the log.
    pub(crate) fn end_in_peace(&mut self) {
        self.step(1, &Happening::Revoke);
        self.step(1, &Happening::Note { arrives: false, answered: true });
        self.step(0, &Happening::Note { arrives: false, answered: true });
        self.step(0, &Happening::Halt(false));
        let answered = Happening::Commit { arrives: true, answered: true };
        self.step(1, &answered);
        self.step(0, &answered);
        self.step(0, &Happening::Assign);
        for _ in 0..50 {
            for happening in [
                Happening::BeginLook,
                Happening::EndLook,
                Happening::BeginClaim,
                Happening::Claim { answered: true },
                Happening::Follow,
                Happening::Deliver(3),
                Happening::BeginCommit(3),
                answered.clone(),
            ] {
                self.step(0, &happening);
            }
        }
        assert_eq!(self.row.next, Position(END));
    }

    fn go_on(&mut self, who: usize) {
        let process = &self.processes[who];
        let usual: &[Happening] = match process.protocol.state() {
            _ if process.claim.is_some() => &[Happening::Claim { answered: true }],
            _ if process.note.is_some() => &[Happening::Note { arrives: true, answered: true }],
            _ if process.flight.is_some() => &[Happening::Commit { arrives: true, answered: true }],
            State::Assigned | State::Fenced => &[Happening::BeginClaim],
            State::Started(..) => &[Happening::Deliver(3), Happening::BeginCommit(2)],
            State::Claimed(..) => &[Happening::Follow, Happening::Deliver(3)],
            _ => &[Happening::BeginLook, Happening::EndLook],
        };
        for happening in usual {
            self.step(who, happening);
        }
    }

    pub(crate) fn step(&mut self, who: usize, happening: &Happening) {
        if let Happening::GoOn = happening {
            return self.go_on(who);
        }
        let process = &mut self.processes[who];
        match *happening {
            Happening::Assign => process.protocol.assigned(),
            Happening::Revoke | Happening::Stop => {
                let waits = process.protocol.revoked();
                assert_eq!(
                    waits,
                    process.flight.is_some(),
                    "a revoke waits for a commit in flight and for nothing else"
                );
                process.reader = None;
            }
            Happening::BeginClaim if process.claim.is_none() => process.claim = process.protocol.begin_claim(),
            Happening::Claim { answered } => {
                if let Some(generation) = process.claim.take() {
                    self.row.epoch = Epoch(self.row.epoch.0 + 1);
                    process.protocol.claimed(generation, answered.then_some(self.row));
                }
            }
            Happening::Follow => process.follow(),
            Happening::Deliver(records) => (0..records).for_each(|_| process.deliver()),
            Happening::BeginCommit(records) if process.flight.is_none() => process.begin_commit(records),
            Happening::Commit { arrives, answered } => {
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
            Happening::BeginLook => process.look = process.protocol.begin_row_read().map(|belief| (belief, self.row)),
            Happening::EndLook => {
                if let Some((belief, row)) = process.look.take() {
                    process.protocol.row_read(belief, Some(row));
                }
            }
            Happening::Corrupt => {
                // The client reports it, and then delivers what follows the batch that it could not read.
                process.protocol.restart();
                process.reader = process.reader.map(|(generation, at)| (generation, Position(at.0 + 4)));
            }
            Happening::Fault => {
                let noting = process.protocol.log_fault(process.protocol.generation());
                process.note = noting.or(process.note.take());
            }
            Happening::Note { arrives, answered } => {
                if let Some((generation, epoch, at)) = process.note.take() {
                    let fenced = self.row.next != at || self.row.epoch != epoch || self.row.halted;
                    self.row.halted |= arrives && !fenced;
                    process.protocol.log_fault_recorded(generation, arrives && answered && !fenced);
                }
            }
            Happening::Halt(halted) => self.row.halted = halted,
            Happening::ForgetRow => {
                if let Some(belief) = process.protocol.begin_row_read() {
                    process.protocol.row_read(belief, None);
                }
            }
            _ => {}
        }
        let process = &mut self.processes[who];
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
    /// As the consumer thread does.
    fn follow(&mut self) {
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
    Record { partition: Partition(0), offset: Offset(offset), timestamp, key: None, value: None, headers: Vec::new() }
}
