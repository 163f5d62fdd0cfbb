//! A writer: takes work from the assignment, does it on a connection of its own, and reports what came of it.
//!
//! After any failure the connection is dropped, what was read is thrown away, and the row decides (rule 7). Nothing is
//! ever concluded from a failure about what the database did.

mod lines;
mod noting;
pub(crate) mod trouble;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

use self::lines::Lines;
use self::trouble::{Errand, Refused, Trouble, Unclassified, ended_by};
use super::assignment::{Assigned, Assignment, Work, Written};
use super::backoff::Backoff;
use super::batch::Entry;
use super::claim::{StartPolicy, firsts};
use super::event::{Event, Parsed};
use super::gap::GapPolicy;
use super::health::Health;
use super::ledger::{self, Firsts, Found, Ledger, within};
use super::mirror::Committed;
use super::partition::{Belief, Generation};
use super::record::Partition;
use super::run::EngineError;
use super::source::log::{Log, Mirrored};
use super::transaction::{self, Failure, Handled, Outcome, Rules, Way};
use super::verdict::{Verdict, verdict};
use crate::telemetry::LineBudget;

/// So often an error that nobody has classified is met before a record is looked for that causes it.
const UNCLASSIFIED_TRIES: u32 = 3;

/// So long it may take, beside the waits, until what failed is tried again: its records are read anew.
const ANOTHER_TRY: Duration = Duration::from_secs(10);

/// What the writers of a process share.
pub(crate) struct Shared<E> {
    pub(crate) assignment: Arc<Assignment<E>>,
    pub(crate) ledger: Ledger,
    pub(crate) log: Log,
    pub(crate) start: StartPolicy,
    pub(crate) gaps: GapPolicy,
    pub(crate) database: PgConnectOptions,
    pub(crate) rules: Rules,
    /// How long the database may refuse who we are or what we ask before that is final.
    pub(crate) startup_timeout: Duration,
    pub(crate) refused: Refused,
    pub(crate) unclassified: Unclassified,
    pub(crate) health: Health,
    pub(crate) lines: Mutex<LineBudget>,
}

/// See the module.
pub(crate) struct Writer<E> {
    shared: Arc<Shared<E>>,
    connection: Option<PgConnection>,
    trouble: Trouble,
}

impl<E: Event> Writer<E> {
    /// Not connected yet.
    pub(crate) fn new(shared: Arc<Shared<E>>, backoff: Backoff) -> Self {
        Self { shared, connection: None, trouble: Trouble::new(backoff) }
    }

    /// Until there is no more work, or the database is of no more use.
    pub(crate) async fn run(mut self) -> Result<(), EngineError> {
        loop {
            let (errand, done) = match self.shared.assignment.next_work().await {
                Work::Claim(partition, generation) => (Errand::Claim, self.claim(partition, generation).await),
                Work::Note(noting) => (Errand::Claim, self.note(noting).await),
                Work::Look(beliefs) => (Errand::Look, self.look(beliefs).await),
                Work::Write(work) => (Errand::Write, self.write(work).await),
                Work::Stop => break,
            };
            match done {
                Ok(()) => {
                    self.trouble.done(errand);
                    self.shared.refused.done(errand);
                    self.shared.health.done(errand);
                }
                Err(error) => self.failed(errand, error).await?,
            }
        }
        if let Some(connection) = self.connection.take()
            && let Err(error) = within(self.shared.rules.limit, connection.close()).await
        {
            tracing::debug!(%error, "disconnect_failed");
        }
        Ok(())
    }

    /// Takes a row over, and makes it first if it is missing (rule 2).
    async fn claim(&mut self, partition: Partition, generation: Generation) -> sqlx::Result<()> {
        match self.take_over(partition, generation).await {
            Ok(row) => {
                self.shared.health.claimed(partition, row.as_ref().map(|found| found.row));
                let finding = self.shared.assignment.claimed(partition, generation, row);
                self.lines().found(partition, finding);
                Ok(())
            }
            Err(error) => {
                self.shared.assignment.claim_failed(partition, generation);
                Err(error)
            }
        }
    }

    /// Asks before each update whether the claim is still wanted: a late one would fence the rightful owner.
    async fn take_over(&mut self, partition: Partition, generation: Generation) -> sqlx::Result<Option<Found>> {
        let shared = Arc::clone(&self.shared);
        let wanted = || shared.assignment.is_claiming(partition, generation);
        let connection = self.connected().await?;
        if !wanted() {
            return Ok(None);
        }
        let row = within(shared.rules.limit, shared.ledger.claim(connection, partition)).await?;
        if row.is_some() {
            return Ok(row);
        }
        let Some(firsts) = self.first_positions().await else { return Ok(None) };
        let connection = self.connected().await?;
        within(shared.rules.limit, shared.ledger.create(connection, &firsts)).await?;
        if !wanted() {
            return Ok(None);
        }
        within(shared.rules.limit, shared.ledger.claim(connection, partition)).await
    }

    /// A question that Kafka did not answer is asked again, later; it never means "none".
    async fn first_positions(&self) -> Option<Firsts> {
        let shared = Arc::clone(&self.shared);
        // The id first: should the topic be replaced in between, the difference is seen before anything is read.
        let asked = tokio::task::spawn_blocking(move || {
            let topic_id = shared.log.topic_id();
            shared.log.extents().map(|extents| (topic_id, extents))
        });
        let answer =
            asked.await.map_err(|error| error.to_string()).and_then(|answer| answer.map_err(|error| error.to_string()));
        match answer {
            Ok((topic_id, extents)) => {
                if extents.iter().any(|extent| extent.committed == Some(Mirrored::Own)) {
                    tracing::warn!(
                        topic = self.shared.ledger.topic(),
                        hint = "kafka holds positions that this service committed, and consumer_offsets has no row for them: \
                                the database lost it; such a partition is read from its beginning",
                        "positions_missing"
                    );
                }
                Some(firsts(topic_id, &extents, self.shared.start))
            }
            Err(error) => {
                tracing::warn!(error, hint = "the first positions can't be had yet", "kafka_unavailable");
                None
            }
        }
    }

    /// Reads rows, and lets the protocol decide what they mean (rule 7).
    async fn look(&mut self, beliefs: Vec<(Partition, Belief)>) -> sqlx::Result<()> {
        let shared = Arc::clone(&self.shared);
        let partitions: Vec<Partition> = beliefs.iter().map(|(partition, _)| *partition).collect();
        let connection = self.connected().await?;
        let mut rows = within(shared.rules.limit, shared.ledger.look(connection, &partitions)).await?;
        for (partition, belief) in beliefs {
            let found = rows.remove(&partition);
            let halt_reason = found.as_ref().and_then(|found| found.halt_reason.clone());
            shared.health.seen(partition, found.as_ref().map(|found| found.row), halt_reason);
            let finding = shared.assignment.seen(partition, belief, found);
            self.lines().found(partition, finding);
        }
        Ok(())
    }

    /// Writes batches in one transaction; what can't be written the fast way is written again with care (rule 6).
    async fn write(&mut self, mut work: Vec<Assigned<E>>) -> sqlx::Result<()> {
        let lines = self.lines().received(&work);
        let began = Instant::now();
        let mut way = self.first_way(&work);
        let handled = loop {
            match self.transact(&work, way).await {
                Err(Failure::NeedsCare) if way == Way::Fast => way = Way::Careful,
                // The breaker lets only so many pass; what is cut off is read again, if ever.
                Err(Failure::Cut(partition, entries)) => {
                    for one in work.iter_mut().filter(|one| one.batch.partition() == partition) {
                        one.batch.cut(entries);
                    }
                }
                Err(Failure::NeedsCare) => {
                    break Err(sqlx::Error::Protocol("a careful write asked for care".to_owned()));
                }
                Err(Failure::Database(error)) => break Err(error),
                Ok(handled) => break Ok(handled),
            }
        };
        let handled = match handled {
            Ok(handled) => handled,
            Err(error) => {
                let slow = verdict(&error) == Verdict::TooSlow;
                for one in &work {
                    if verdict(&error) == Verdict::Unknown {
                        self.shared.unclassified.met(one.batch.partition());
                    }
                    let how = if slow { Written::TooSlow } else { Written::Unsure };
                    self.shared.assignment.written(one.batch.partition(), how);
                }
                return Err(error);
            }
        };
        self.shared.health.written(&work, &handled, began.elapsed(), SystemTime::now());
        for (one, handled) in work.iter().zip(&handled) {
            self.report(one, handled, way, lines, began);
        }
        Ok(())
    }

    async fn transact(&mut self, work: &[Assigned<E>], way: Way) -> Result<Vec<Handled>, Failure> {
        let shared = Arc::clone(&self.shared);
        let connection = self.connected().await?;
        transaction::write(connection, &shared.ledger, work, way, &shared.rules).await
    }

    fn first_way(&self, work: &[Assigned<E>]) -> Way {
        let tried = |one: &Assigned<E>| self.shared.unclassified.times(one.batch.partition()) >= UNCLASSIFIED_TRIES;
        if work.iter().any(tried) {
            Way::Isolating
        } else if work.iter().any(|one| one.careful) {
            Way::Careful
        } else {
            Way::Fast
        }
    }

    fn report(&self, one: &Assigned<E>, handled: &Handled, way: Way, lines: bool, began: Instant) {
        let (partition, step) = (one.batch.partition(), one.batch.step());
        let (outcomes, halted) = match handled {
            Handled::Committed(outcomes) => (outcomes, false),
            Handled::Halted(outcomes) => (outcomes, true),
            Handled::Fenced => {
                self.shared.assignment.written(partition, Written::Unsure);
                self.lines().fenced(partition, step);
                return;
            }
        };
        self.shared.unclassified.committed(partition);
        let token = Committed::confirmed(partition, step.to());
        let careful = way != Way::Fast && one.batch.entries().iter().zip(outcomes).any(needed_care);
        if halted {
            self.shared.health.halted(partition, step.to(), "too_many_dead_letters");
        }
        self.shared.assignment.written(partition, Written::Committed { token, careful, halted });
        self.lines().committed(&one.batch, outcomes, lines, began.elapsed());
        if halted {
            self.lines().too_many_dead_letters(partition, step);
        }
    }

    fn lines(&self) -> Lines<'_> {
        Lines { topic: self.shared.ledger.topic(), budget: &self.shared.lines }
    }

    async fn connected(&mut self) -> sqlx::Result<&mut PgConnection> {
        if self.connection.is_none() {
            self.connection = Some(ledger::connect(&self.shared.database, self.shared.rules.limit).await?);
        }
        self.connection.as_mut().ok_or_else(|| sqlx::Error::Protocol("not connected".to_owned()))
    }

    /// Waits before the next try, or ends what can't succeed.
    async fn failed(&mut self, errand: Errand, error: sqlx::Error) -> Result<(), EngineError> {
        self.connection = None;
        match verdict(&error).without_a_record() {
            Verdict::Corrupt => return Err(EngineError::Corrupt(error)),
            Verdict::Operator if self.shared.refused.note(errand, Instant::now()) >= self.shared.startup_timeout => {
                return Err(EngineError::Database(error));
            }
            _ => {}
        }
        let wait = self.trouble.wait(errand, &error);
        let heard_of_again = self.shared.rules.limit.saturating_mul(2).saturating_add(wait).saturating_add(ANOTHER_TRY);
        self.shared.health.failed(ended_by(errand, &error), &error, heard_of_again);
        tracing::warn!(%error, retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "database_unavailable");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.shared.assignment.until_stopping() => {}
        }
        Ok(())
    }
}

/// Whether the fast way would have failed on it.
fn needed_care<E>((entry, outcome): (&Entry<E>, &Outcome)) -> bool {
    matches!(entry.intake, Ok(Parsed::Event(_))) && !matches!(outcome, Outcome::Stored(_))
}
