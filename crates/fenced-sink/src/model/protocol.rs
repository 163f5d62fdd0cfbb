//! The protocol of one partition: who may write it, and from where.
//!
//! Pure: no clock, no Kafka, no database. The consumer thread and the writers drive it and do what it answers.
//!
//! ```text
//!             assigned            begin_claim             claimed              started
//! Elsewhere ───────────▶ Owned ───────────────▶ Claiming ─────────▶ Claimed ───────────▶ Started ◀──┐
//!     ▲                   ▲  ▲                     │ halted row        ▲                 │  begin_commit
//!     │ revoked           │  └── Fenced ◀──┐       ▼                   │ same epoch      ▼       committed
//!  from any state         │               │     Halted ◀── Faulty ◀── │ ──── fault ── InFlight ─────┘
//!  (a commit in flight:   │               └──────────────── Unsure ───┘                 │ no answer
//!   Draining, until over) └──── row gone, halt lifted ────────┴─────────────────────────┘
//! ```
//! A fault of the log (rule 3) is noted where the partition stands, so not while a commit is in flight: that drains first,
//! the row tells where it stands, and the fault is found anew.
//!
//! Two numbers keep the late from doing harm. The **epoch** is in the row: a commit by anybody but its holder matches
//! nothing. The **generation** is in this process: it changes whenever reading starts anew or ends, and whatever
//! carries an older one (a record, a claim's answer, a request to start) is too late and dropped.

mod state;

pub(crate) use crate::model::protocol::state::{AfterDrain, Generation, LedgerRow, RowEffect, State};

use crate::model::record::{Epoch, Position, Step};

/// What the process believes at the moment when a look at the row begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RowReadToken {
    generation: Generation,
    state: State,
}

/// One partition, as this process sees it.
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
    /// Where it stands.
    #[must_use]
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Records that carry another one are dropped.
    #[must_use]
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// How often it was fenced since its last commit: the longer the wait before the next claim, so that two who both
    /// believe in their ownership don't fence each other for ever.
    #[must_use]
    pub(crate) fn fenced_in_a_row(&self) -> u32 {
        self.fenced_in_a_row
    }

    /// Kafka gives the partition to this process (rule 1).
    pub(crate) fn assigned(&mut self) {
        self.state = if self.commit_in_flight() { State::Draining(AfterDrain::Assigned) } else { State::Assigned };
        self.fenced_in_a_row = 0;
        self.next_generation();
    }

    /// Kafka takes the partition away, or the process stops (rule 1). True if a commit is in flight and should be waited
    /// for: whatever it ends like, nothing more is written.
    pub(crate) fn revoked(&mut self) -> bool {
        let in_flight = self.commit_in_flight();
        self.state = if in_flight { State::Draining(AfterDrain::Unassigned) } else { State::Unassigned };
        self.next_generation();
        in_flight
    }

    /// Whether a transaction may still move the row.
    #[must_use]
    pub(crate) fn commit_in_flight(&self) -> bool {
        matches!(self.state, State::InFlight(..) | State::Draining(_))
    }

    /// A writer is about to claim the row (rule 2). `None`: there is nothing to claim.
    pub(crate) fn begin_claim(&mut self) -> Option<Generation> {
        matches!(self.state, State::Assigned | State::Fenced).then(|| {
            self.state = State::Claiming;
            self.generation
        })
    }

    /// The claim's answer, by the writer that was given `generation`. `None`: the claim failed.
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

    /// Where the consumer thread should be reading: from the position under the generation, if at all (rule 4).
    #[must_use]
    pub(crate) fn read_target(&self) -> Option<(Generation, Position)> {
        match self.state {
            State::Claimed(_, at) | State::Started(_, at) => Some((self.generation, at)),
            State::InFlight(_, step) => Some((self.generation, step.from())),
            _ => None,
        }
    }

    /// The consumer thread is about to start reading. False: too late, it must not.
    pub(crate) fn started(&mut self, generation: Generation) -> bool {
        match self.state {
            State::Claimed(epoch, at) if self.generation == generation => {
                self.state = State::Started(epoch, at);
                true
            }
            _ => false,
        }
    }

    /// Where the next batch has to begin, if one may begin (rule 5).
    #[must_use]
    pub(crate) fn ready_at(&self) -> Option<Position> {
        match self.state {
            State::Started(_, at) => Some(at),
            _ => None,
        }
    }

    /// A writer is about to commit a step (rule 6). `None`: it must not.
    pub(crate) fn begin_commit(&mut self, step: Step) -> Option<Epoch> {
        match self.state {
            State::Started(epoch, at) if at == step.from() => {
                self.state = State::InFlight(epoch, step);
                Some(epoch)
            }
            _ => None,
        }
    }

    /// The step in flight is committed: the database said so.
    pub(crate) fn committed(&mut self) {
        self.fenced_in_a_row = 0;
        match self.state {
            State::InFlight(epoch, step) => self.state = State::Started(epoch, step.to()),
            _ => self.drained(),
        }
    }

    /// The step in flight is committed, and halts the partition.
    pub(crate) fn committed_and_halted(&mut self) {
        self.committed();
        if let State::Started(..) = self.state {
            self.halt();
        }
    }

    /// The step in flight failed, or nobody knows (rule 7). What was read is dropped, and the row decides.
    pub(crate) fn commit_failed(&mut self) {
        match self.state {
            State::InFlight(epoch, _) => {
                self.state = State::Unknown(epoch);
                self.next_generation();
            }
            _ => self.drained(),
        }
    }

    /// What Kafka delivers can't be trusted (rule 3e): it is dropped, and the row says where reading starts again, once
    /// the commit in flight has ended.
    pub(crate) fn restart(&mut self) {
        self.state = match self.state {
            State::Claimed(epoch, _) | State::Started(epoch, _) => State::Unknown(epoch),
            State::InFlight(epoch, _) => State::Draining(AfterDrain::Unknown(epoch)),
            _ => return,
        };
        self.next_generation();
    }

    /// The log turned out not to be the one that we know, or to lack what comes next (rule 3). Nothing more is read; what was
    /// read is dropped. Gives where that is to be noted, and the generation to answer with; `None`: too late, or nobody
    /// knows where the partition stands, because a commit is in flight.
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

    /// The fault is noted, by whoever was given `generation`. If the row was not halted by that (it was moved on, it was no
    /// longer ours, nobody knows), it decides.
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

    /// A look at the row begins. `None`: the row could tell nothing now.
    #[must_use]
    pub(crate) fn begin_row_read(&self) -> Option<RowReadToken> {
        match self.state {
            State::Claimed(..) | State::Started(..) | State::Unknown(_) | State::Halted => {
                Some(RowReadToken { generation: self.generation, state: self.state })
            }
            _ => None,
        }
    }

    /// What the look found (rule 7). If anything happened since it began, it is void.
    pub(crate) fn row_read(&mut self, belief: RowReadToken, row: Option<LedgerRow>) -> RowEffect {
        if belief != (RowReadToken { generation: self.generation, state: self.state }) {
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
