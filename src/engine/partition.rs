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

pub use self::state::{After, Finding, Generation, Row, State};
use super::record::{Epoch, Position, Step};

/// What the process believes at the moment when a look at the row begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Belief {
    generation: Generation,
    state: State,
}

/// One partition, as this process sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Protocol {
    generation: Generation,
    state: State,
    fenced_in_a_row: u32,
}

impl Default for Protocol {
    fn default() -> Self {
        Self { generation: Generation::default(), state: State::Elsewhere, fenced_in_a_row: 0 }
    }
}

impl Protocol {
    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Records that carry another one are dropped.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// How often it was fenced since its last commit: the longer the wait before the next claim, so that two who both
    /// believe in their ownership don't fence each other for ever.
    #[must_use]
    pub fn fenced_in_a_row(&self) -> u32 {
        self.fenced_in_a_row
    }

    /// Kafka gives the partition to this process (rule 1).
    pub fn assigned(&mut self) {
        self.state = if self.commit_in_flight() { State::Draining(After::Owned) } else { State::Owned };
        self.fenced_in_a_row = 0;
        self.renew();
    }

    /// Kafka takes the partition away, or the process stops (rule 1). True if a commit is in flight and should be waited
    /// for: whatever it ends like, nothing more is written.
    pub fn revoked(&mut self) -> bool {
        let in_flight = self.commit_in_flight();
        self.state = if in_flight { State::Draining(After::Elsewhere) } else { State::Elsewhere };
        self.renew();
        in_flight
    }

    /// Whether a transaction may still move the row.
    #[must_use]
    pub fn commit_in_flight(&self) -> bool {
        matches!(self.state, State::InFlight(..) | State::Draining(_))
    }

    /// A writer is about to claim the row (rule 2). `None`: there is nothing to claim.
    pub fn begin_claim(&mut self) -> Option<Generation> {
        matches!(self.state, State::Owned | State::Fenced).then(|| {
            self.state = State::Claiming;
            self.generation
        })
    }

    /// The claim's answer, by the writer that was given `generation`. `None`: the claim failed.
    pub fn claimed(&mut self, generation: Generation, row: Option<Row>) -> Finding {
        if self.state != State::Claiming || self.generation != generation {
            return Finding::Nothing;
        }
        match row {
            None => {
                self.state = State::Owned;
                Finding::Claim
            }
            Some(Row { halted: true, .. }) => self.halt(),
            Some(row) => self.start(row),
        }
    }

    /// Where the consumer thread should be reading: from the position under the generation, if at all (rule 4).
    #[must_use]
    pub fn wanted(&self) -> Option<(Generation, Position)> {
        match self.state {
            State::Claimed(_, at) | State::Started(_, at) => Some((self.generation, at)),
            State::InFlight(_, step) => Some((self.generation, step.from())),
            _ => None,
        }
    }

    /// The consumer thread is about to start reading. False: too late, it must not.
    pub fn started(&mut self, generation: Generation) -> bool {
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
    pub fn ready(&self) -> Option<Position> {
        match self.state {
            State::Started(_, at) => Some(at),
            _ => None,
        }
    }

    /// A writer is about to commit a step (rule 6). `None`: it must not.
    pub fn begin_commit(&mut self, step: Step) -> Option<Epoch> {
        match self.state {
            State::Started(epoch, at) if at == step.from() => {
                self.state = State::InFlight(epoch, step);
                Some(epoch)
            }
            _ => None,
        }
    }

    /// The step in flight is committed: the database said so.
    pub fn committed(&mut self) {
        self.fenced_in_a_row = 0;
        match self.state {
            State::InFlight(epoch, step) => self.state = State::Started(epoch, step.to()),
            _ => self.drained(),
        }
    }

    /// The step in flight is committed, and halts the partition.
    pub fn committed_and_halted(&mut self) {
        self.committed();
        if let State::Started(..) = self.state {
            self.halt();
        }
    }

    /// The step in flight failed, or nobody knows (rule 7). What was read is dropped, and the row decides.
    pub fn unsure(&mut self) {
        match self.state {
            State::InFlight(epoch, _) => {
                self.state = State::Unsure(epoch);
                self.renew();
            }
            _ => self.drained(),
        }
    }

    /// What Kafka delivers can't be trusted (rule 3e): it is dropped, and the row says where reading starts again, once
    /// the commit in flight has ended.
    pub fn distrust(&mut self) {
        self.state = match self.state {
            State::Claimed(epoch, _) | State::Started(epoch, _) => State::Unsure(epoch),
            State::InFlight(epoch, _) => State::Draining(After::Unsure(epoch)),
            _ => return,
        };
        self.renew();
    }

    /// The log turned out not to be the one that we know, or to lack what comes next (rule 3). Nothing more is read; what was
    /// read is dropped. Gives where that is to be noted, and the generation to answer with; `None`: too late, or nobody
    /// knows where the partition stands, because a commit is in flight.
    pub fn fault(&mut self, generation: Generation) -> Option<(Generation, Epoch, Position)> {
        if self.generation != generation {
            return None;
        }
        match self.state {
            State::Claimed(epoch, at) | State::Started(epoch, at) => {
                self.state = State::Faulty(epoch, at);
                self.renew();
                Some((self.generation, epoch, at))
            }
            _ => {
                self.distrust();
                None
            }
        }
    }

    /// The fault is noted, by whoever was given `generation`. If the row was not halted by that (it was moved on, it was no
    /// longer ours, nobody knows), it decides.
    pub fn noted(&mut self, generation: Generation, halted: bool) {
        if let State::Faulty(epoch, _) = self.state
            && self.generation == generation
        {
            if halted {
                self.halt();
            } else {
                self.state = State::Unsure(epoch);
                self.renew();
            }
        }
    }

    /// A look at the row begins. `None`: the row could tell nothing now.
    #[must_use]
    pub fn look(&self) -> Option<Belief> {
        match self.state {
            State::Claimed(..) | State::Started(..) | State::Unsure(_) | State::Halted => {
                Some(Belief { generation: self.generation, state: self.state })
            }
            _ => None,
        }
    }

    /// What the look found (rule 7). If anything happened since it began, it is void.
    pub fn seen(&mut self, belief: Belief, row: Option<Row>) -> Finding {
        if belief != (Belief { generation: self.generation, state: self.state }) {
            return Finding::Nothing;
        }
        let (epoch, at) = match self.state {
            State::Claimed(epoch, at) | State::Started(epoch, at) => (epoch, Some(at)),
            State::Unsure(epoch) => (epoch, None),
            State::Halted if row.is_some_and(|row| row.halted) => return Finding::Nothing,
            State::Halted => return self.claim_again(),
            _ => return Finding::Nothing,
        };
        match row {
            None => self.claim_again(),
            Some(row) if row.epoch > epoch => {
                self.state = State::Fenced;
                self.fenced_in_a_row = self.fenced_in_a_row.saturating_add(1);
                self.renew();
                Finding::Fenced
            }
            Some(row) if row.epoch < epoch => self.claim_again(),
            Some(Row { halted: true, .. }) => self.halt(),
            Some(row) if Some(row.next) == at => Finding::Nothing,
            Some(row) => self.start(row),
        }
    }

    fn start(&mut self, row: Row) -> Finding {
        self.state = State::Claimed(row.epoch, row.next);
        self.renew();
        Finding::Start(row.next)
    }

    fn halt(&mut self) -> Finding {
        self.state = State::Halted;
        self.renew();
        Finding::Halted
    }

    fn claim_again(&mut self) -> Finding {
        self.state = State::Owned;
        self.renew();
        Finding::Claim
    }

    fn drained(&mut self) {
        match self.state {
            State::Draining(After::Elsewhere) => self.state = State::Elsewhere,
            State::Draining(After::Owned) => self.state = State::Owned,
            State::Draining(After::Unsure(epoch)) => self.state = State::Unsure(epoch),
            _ => {}
        }
    }

    fn renew(&mut self) {
        self.generation = self.generation.next();
    }
}

#[cfg(test)]
mod tests;
