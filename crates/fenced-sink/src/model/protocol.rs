//! The protocol of one partition: which process may write it, and from which position. Pure.
//!
//! The consumer thread and the writers report events to a [`Protocol`] and do what it answers. It has no clock, and it
//! never uses Kafka or the database.
//!
//! # The states
//! ```text
//! the normal path:
//!
//!   Unassigned ──▶ Assigned ──▶ Claiming ──▶ Claimed ──▶ Started ◀──▶ InFlight
//!
//! after a failure:
//!
//!   InFlight, Started, Claimed ──▶ Unknown
//!   Unknown, Started, Claimed ──▶ Claimed | Fenced | Halted | Assigned      the row decides
//!   Claimed, Started ──▶ LogFault ──▶ Halted | Unknown
//!   Fenced ──▶ Claiming
//!   Halted ──▶ Assigned
//!
//! while a transaction is in flight:
//!
//!   InFlight ──▶ Draining ──▶ Unassigned | Assigned | Unknown
//! ```
//! [`State`] describes each state.
//!
//! # The transitions
//! The first line that applies decides.
//!
//! | from | event | to |
//! |---|---|---|
//! | `InFlight`, `Draining` | Kafka assigns or revokes the partition | `Draining`: the commit must end first |
//! | any other state | Kafka assigns the partition | `Assigned` |
//! | any other state | Kafka revokes the partition, or the process stops | `Unassigned` |
//! | `Assigned`, `Fenced` | a writer begins to claim the row | `Claiming` |
//! | `Claiming` | the claim fails, or there is no row | `Assigned` |
//! | `Claiming` | the claim succeeds, and the row is halted | `Halted` |
//! | `Claiming` | the claim succeeds | `Claimed` |
//! | `Claimed` | the consumer thread starts to read | `Started` |
//! | `Started` | a writer begins to commit a batch | `InFlight` |
//! | `InFlight` | the database confirms a commit that halts the partition | `Halted` |
//! | `InFlight` | the database confirms the commit | `Started` |
//! | `InFlight` | the transaction fails before its COMMIT is sent | `Started`: the batch is handed back |
//! | `InFlight` | the answer to COMMIT is an error or is lost, or the fence refuses the batch | `Unknown` |
//! | `Claimed`, `Started` | the consumer must read again from the position of the row | `Unknown` |
//! | `InFlight` | the consumer must read again from the position of the row | `Draining` |
//! | `Draining` | the commit ends, with any result | `Unassigned`, `Assigned` or `Unknown` |
//! | `Claimed`, `Started` | the check finds a log fault | `LogFault` |
//! | `InFlight` | the check finds a log fault | `Draining`: the check finds the fault again later |
//! | `LogFault` | a writer has recorded the fault and halted the row | `Halted` |
//! | `LogFault` | the fault is recorded without a halt, or the write failed | `Unknown` |
//! | `Claimed`, `Started`, `Unknown` | the row has a higher epoch | `Fenced` |
//! | `Claimed`, `Started`, `Unknown` | the row is missing or has a lower epoch | `Assigned` |
//! | `Claimed`, `Started`, `Unknown` | the row is halted | `Halted` |
//! | `Claimed`, `Started` | the row has another position | `Claimed` |
//! | `Unknown` | the row has the same epoch | `Claimed` |
//! | `Halted` | the row is missing, or no longer halted | `Assigned` |
//!
//! # Late events
//! Two numbers make late events harmless. The **epoch** is in the row: the fence refuses every commit of an older
//! epoch. The **generation** is in this process: it changes whenever reading starts or ends. An event of an older
//! generation, such as a record, the answer of a claim or a request to start, changes nothing.

mod state;

pub(crate) use crate::model::protocol::state::{AfterDrain, Generation, LedgerRow, RowEffect, State};

use crate::model::record::{Epoch, Position, Step};

/// What the process knew when it began to read the row. If that has changed, the row that it read is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RowReadToken {
    generation: Generation,
    state: State,
}

/// The protocol state of one partition in this process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Protocol {
    generation: Generation,
    state: State,
    fenced_in_a_row: u32,
}

impl Default for Protocol {
    fn default() -> Self {
        Self { generation: Generation::default(), state: State::Unassigned, fenced_in_a_row: 0 }
    }
}

impl Protocol {
    /// The state.
    #[must_use]
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// The generation. A record of another generation is dropped.
    #[must_use]
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// The number of times that the partition was fenced since its last commit. The delay before the next claim grows
    /// with it: otherwise two processes that both hold the assignment would fence each other without end.
    #[must_use]
    pub(crate) fn fenced_in_a_row(&self) -> u32 {
        self.fenced_in_a_row
    }

    /// Kafka assigns the partition to this process (rule 1).
    pub(crate) fn assigned(&mut self) {
        self.state = if self.commit_in_flight() { State::Draining(AfterDrain::Assigned) } else { State::Assigned };
        self.fenced_in_a_row = 0;
        self.next_generation();
    }

    /// Kafka revokes the partition, or the process stops (rule 1). True: a commit is in flight, and the caller should
    /// wait for its end. No other commit follows it.
    pub(crate) fn revoked(&mut self) -> bool {
        let in_flight = self.commit_in_flight();
        self.state = if in_flight { State::Draining(AfterDrain::Unassigned) } else { State::Unassigned };
        self.next_generation();
        in_flight
    }

    /// Whether a transaction can still move the row.
    #[must_use]
    pub(crate) fn commit_in_flight(&self) -> bool {
        matches!(self.state, State::InFlight(..) | State::Draining(_))
    }

    /// A writer begins to claim the row (rule 2). `None`: it must not claim now.
    pub(crate) fn begin_claim(&mut self) -> Option<Generation> {
        matches!(self.state, State::Assigned | State::Fenced).then(|| {
            self.state = State::Claiming;
            self.generation
        })
    }

    /// The claim of the writer that received `generation` has ended. `None`: it failed, or there is no row.
    pub(crate) fn claimed(&mut self, generation: Generation, row: Option<LedgerRow>) -> RowEffect {
        if self.state != State::Claiming || self.generation != generation {
            return RowEffect::Unchanged;
        }
        match row {
            None => {
                self.state = State::Assigned;
                RowEffect::ClaimAgain
            }
            Some(LedgerRow { halted: true, .. }) => self.halt(),
            Some(row) => self.start(row),
        }
    }

    /// The generation and the position at which the consumer thread must read (rule 4). `None`: it must not read.
    #[must_use]
    pub(crate) fn read_target(&self) -> Option<(Generation, Position)> {
        match self.state {
            State::Claimed(_, at) | State::Started(_, at) => Some((self.generation, at)),
            State::InFlight(_, step) => Some((self.generation, step.from())),
            _ => None,
        }
    }

    /// The consumer thread starts to read. False: the generation is too old, and it must not read.
    pub(crate) fn started(&mut self, generation: Generation) -> bool {
        match self.state {
            State::Claimed(epoch, at) if self.generation == generation => {
                self.state = State::Started(epoch, at);
                true
            }
            _ => false,
        }
    }

    /// The position at which the next batch must begin (rule 5). `None`: no batch may begin now.
    #[must_use]
    pub(crate) fn ready_at(&self) -> Option<Position> {
        match self.state {
            State::Started(_, at) => Some(at),
            _ => None,
        }
    }

    /// A writer begins to commit a step (rule 6). `None`: it must not commit.
    pub(crate) fn begin_commit(&mut self, step: Step) -> Option<Epoch> {
        match self.state {
            State::Started(epoch, at) if at == step.from() => {
                self.state = State::InFlight(epoch, step);
                Some(epoch)
            }
            _ => None,
        }
    }

    /// The database confirmed the commit of the step in flight.
    pub(crate) fn committed(&mut self) {
        self.fenced_in_a_row = 0;
        match self.state {
            State::InFlight(epoch, step) => self.state = State::Started(epoch, step.to()),
            _ => self.drained(),
        }
    }

    /// The database confirmed the commit of the step in flight, which halts the partition.
    pub(crate) fn committed_and_halted(&mut self) {
        self.committed();
        if let State::Started(..) = self.state {
            self.halt();
        }
    }

    /// The transaction of the step in flight failed before its COMMIT was sent, so the row is unchanged. True: the batch
    /// must be handed back, because reading continues behind it.
    pub(crate) fn rolled_back(&mut self) -> bool {
        match self.state {
            State::InFlight(epoch, step) => {
                self.state = State::Started(epoch, step.from());
                true
            }
            _ => {
                self.drained();
                false
            }
        }
    }

    /// The commit of the step in flight failed, or its answer was lost (rule 7). The records in memory are dropped, and
    /// the row decides what follows.
    pub(crate) fn commit_failed(&mut self) {
        match self.state {
            State::InFlight(epoch, _) => {
                self.state = State::Unknown(epoch);
                self.next_generation();
            }
            _ => self.drained(),
        }
    }

    /// The delivered records may be incomplete, for example after a corrupt batch. They are dropped. After the commit
    /// in flight has ended, reading starts again at the position of the row.
    pub(crate) fn restart(&mut self) {
        self.state = match self.state {
            State::Claimed(epoch, _) | State::Started(epoch, _) => State::Unknown(epoch),
            State::InFlight(epoch, _) => State::Draining(AfterDrain::Unknown(epoch)),
            _ => return,
        };
        self.next_generation();
    }

    /// The check of the partition log found a fault (rule 3). Reading ends, and the records in memory are dropped.
    ///
    /// The result is what a writer needs to record the fault: the generation for its answer, and the epoch and the
    /// position of the row. `None`: the generation is too old, or a commit in flight can still move the position.
    pub(crate) fn log_fault(&mut self, generation: Generation) -> Option<(Generation, Epoch, Position)> {
        if self.generation != generation {
            return None;
        }
        match self.state {
            State::Claimed(epoch, at) | State::Started(epoch, at) => {
                self.state = State::LogFault(epoch, at);
                self.next_generation();
                Some((self.generation, epoch, at))
            }
            _ => {
                self.restart();
                None
            }
        }
    }

    /// The writer that received `generation` has tried to record the log fault. If the row is not halted, the row
    /// decides what follows: it was moved behind the gap, the fence refused the write, or the answer was lost.
    pub(crate) fn log_fault_recorded(&mut self, generation: Generation, halted: bool) {
        if let State::LogFault(epoch, _) = self.state
            && self.generation == generation
        {
            if halted {
                self.halt();
            } else {
                self.state = State::Unknown(epoch);
                self.next_generation();
            }
        }
    }

    /// A writer begins to read the row. `None`: the row can't change this state.
    #[must_use]
    pub(crate) fn begin_row_read(&self) -> Option<RowReadToken> {
        match self.state {
            State::Claimed(..) | State::Started(..) | State::Unknown(_) | State::Halted => {
                Some(RowReadToken { generation: self.generation, state: self.state })
            }
            _ => None,
        }
    }

    /// A writer has read the row (rule 7). The row has no effect if the state has changed since `token` was created.
    pub(crate) fn row_read(&mut self, token: RowReadToken, row: Option<LedgerRow>) -> RowEffect {
        if token != (RowReadToken { generation: self.generation, state: self.state }) {
            return RowEffect::Unchanged;
        }
        let (epoch, at) = match self.state {
            State::Claimed(epoch, at) | State::Started(epoch, at) => (epoch, Some(at)),
            State::Unknown(epoch) => (epoch, None),
            State::Halted if row.is_some_and(|row| row.halted) => return RowEffect::Unchanged,
            State::Halted => return self.claim_again(),
            _ => return RowEffect::Unchanged,
        };
        match row {
            None => self.claim_again(),
            Some(row) if row.epoch > epoch => {
                self.state = State::Fenced;
                self.fenced_in_a_row = self.fenced_in_a_row.saturating_add(1);
                self.next_generation();
                RowEffect::Fenced
            }
            Some(row) if row.epoch < epoch => self.claim_again(),
            Some(LedgerRow { halted: true, .. }) => self.halt(),
            Some(row) if Some(row.next) == at => RowEffect::Unchanged,
            Some(row) => self.start(row),
        }
    }

    fn start(&mut self, row: LedgerRow) -> RowEffect {
        self.state = State::Claimed(row.epoch, row.next);
        self.next_generation();
        RowEffect::Start(row.next)
    }

    fn halt(&mut self) -> RowEffect {
        self.state = State::Halted;
        self.next_generation();
        RowEffect::Halted
    }

    fn claim_again(&mut self) -> RowEffect {
        self.state = State::Assigned;
        self.next_generation();
        RowEffect::ClaimAgain
    }

    fn drained(&mut self) {
        match self.state {
            State::Draining(AfterDrain::Unassigned) => self.state = State::Unassigned,
            State::Draining(AfterDrain::Assigned) => self.state = State::Assigned,
            State::Draining(AfterDrain::Unknown(epoch)) => self.state = State::Unknown(epoch),
            _ => {}
        }
    }

    fn next_generation(&mut self) {
        self.generation = self.generation.next();
    }
}

#[cfg(test)]
mod tests;
