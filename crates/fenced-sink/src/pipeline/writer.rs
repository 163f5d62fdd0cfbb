//! A writer: takes work from the assignment, does it on a connection of its own, and reports what came of it.
//!
//! After any failure the connection is dropped, what was read is thrown away, and the row decides (rule 7). Nothing is
//! ever concluded from a failure about what the database did.

mod lines;
mod noting;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use crate::event::Event;
use crate::kafka::topic_log_client::TopicLogClient;
use crate::model::batch::{ClaimedBatch, Entry};
use crate::model::error_class::ErrorClass;
use crate::model::event::Parsed;
use crate::model::halt::HaltReason;
use crate::model::mirror::CommittedPosition;
use crate::model::operation::DbOperation;
use crate::model::outcome::{BatchOutcome, RecordOutcome};
use crate::model::protocol::{Generation, RowReadToken};
use crate::model::record::Partition;
use crate::model::start::{FirstPositions, StartPolicy, first_positions};
use crate::model::stored_row::StoredRow;
use crate::model::topic_log::{CommittedOffset, GapPolicy};
use crate::observe::health::Health;
use crate::pipeline::error::EngineError;
use crate::pipeline::failure::{RefusedSince, RetryDelay, UnclassifiedErrors, ended_by};
use crate::pipeline::line_budget::LineBudget;
use crate::pipeline::shared_scheduler::SharedScheduler;
use crate::pipeline::work::{CommitResult, Work};
use crate::pipeline::writer::lines::Lines;
use crate::postgres::error::classify;
use crate::postgres::ledger::Ledger;
use crate::postgres::retry::Backoff;
use crate::postgres::session::{connect, within};
use crate::postgres::transaction;
use crate::postgres::transaction::{WriteFailure, WriteMode, WriteRules};

/// So often an error that nobody has classified is met before a record is looked for that causes it.
const UNCLASSIFIED_TRIES: u32 = 3;

/// So long it may take, beside the waits, until what failed is tried again: its records are read anew.
const ANOTHER_TRY: Duration = Duration::from_secs(10);

/// What the writers of a process share.
pub(crate) struct WriterContext<E> {
    pub(crate) assignment: Arc<SharedScheduler<E>>,
    pub(crate) ledger: Ledger,
    pub(crate) log: TopicLogClient,
    pub(crate) start: StartPolicy,
    pub(crate) gaps: GapPolicy,
    pub(crate) database: PgConnectOptions,
    pub(crate) rules: WriteRules,
    /// How long the database may refuse who we are or what we ask before that is final.
    pub(crate) startup_timeout: Duration,
    pub(crate) refused: RefusedSince,
    pub(crate) unclassified: UnclassifiedErrors,
    pub(crate) health: Health,
    pub(crate) lines: Mutex<LineBudget>,
}

/// See the module.
pub(crate) struct Writer<E> {
    shared: Arc<WriterContext<E>>,
    connection: Option<PgConnection>,
    trouble: RetryDelay,
}

impl<E: Event> Writer<E> {
    /// Not connected yet.
    pub(crate) fn new(shared: Arc<WriterContext<E>>, backoff: Backoff) -> Self {
        Self { shared, connection: None, trouble: RetryDelay::new(backoff) }
    }

    /// Until there is no more work, or the database is of no more use.
    pub(crate) async fn run(mut self) -> Result<(), EngineError> {
        loop {
            let (errand, done) = match self.shared.assignment.next_work().await {
                Work::Claim(partition, generation) => (DbOperation::Claim, self.claim(partition, generation).await),
                Work::Note(noting) => (DbOperation::Claim, self.note(noting).await),
                Work::Look(beliefs) => (DbOperation::ReadRows, self.look(beliefs).await),
                Work::Write(work) => (DbOperation::Write, self.write(work).await),
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
    async fn take_over(&mut self, partition: Partition, generation: Generation) -> sqlx::Result<Option<StoredRow>> {
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
        let Some(firsts) = self.ask_first_positions().await else { return Ok(None) };
        let connection = self.connected().await?;
        within(shared.rules.limit, shared.ledger.create_rows(connection, &firsts)).await?;
        if !wanted() {
            return Ok(None);
        }
        within(shared.rules.limit, shared.ledger.claim(connection, partition)).await
    }

    /// A question that Kafka did not answer is asked again, later; it never means "none".
    async fn ask_first_positions(&self) -> Option<FirstPositions> {
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
                if extents.iter().any(|extent| extent.committed == Some(CommittedOffset::OurMirror)) {
                    tracing::warn!(
                        topic = self.shared.ledger.topic(),
                        hint = "kafka holds positions that this service committed, and consumer_offsets has no row for them: \
                                the database lost it; such a partition is read from its beginning",
                        "positions_missing"
                    );
                }
                Some(first_positions(topic_id, &extents, self.shared.start))
            }
            Err(error) => {
                tracing::warn!(error, hint = "the first positions can't be had yet", "kafka_unavailable");
                None
            }
        }
    }

    /// Reads rows, and lets the protocol decide what they mean (rule 7).
    async fn look(&mut self, beliefs: Vec<(Partition, RowReadToken)>) -> sqlx::Result<()> {
        let shared = Arc::clone(&self.shared);
        let partitions: Vec<Partition> = beliefs.iter().map(|(partition, _)| *partition).collect();
        let connection = self.connected().await?;
        let mut rows = within(shared.rules.limit, shared.ledger.read_rows(connection, &partitions)).await?;
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
    async fn write(&mut self, mut work: Vec<ClaimedBatch<E>>) -> sqlx::Result<()> {
        let lines = self.lines().received(&work);
        let began = Instant::now();
        let mut way = self.first_way(&work);
        let handled = loop {
            match self.transact(&work, way).await {
                Err(WriteFailure::NeedsCare) if way == WriteMode::Bulk => way = WriteMode::RowByRow,
                // The breaker lets only so many pass; what is cut off is read again, if ever.
                Err(WriteFailure::Cut(partition, entries)) => {
                    for one in work.iter_mut().filter(|one| one.batch.partition() == partition) {
                        one.batch.cut(entries);
                    }
                }
                Err(WriteFailure::NeedsCare) => {
                    break Err(sqlx::Error::Protocol("a careful write asked for care".to_owned()));
                }
                Err(WriteFailure::Database(error)) => break Err(error),
                Ok(handled) => break Ok(handled),
            }
        };
        let handled = match handled {
            Ok(handled) => handled,
            Err(error) => {
                let slow = classify(&error) == ErrorClass::TooSlow;
                for one in &work {
                    if classify(&error) == ErrorClass::Unknown {
                        self.shared.unclassified.met(one.batch.partition());
                    }
                    let how = if slow { CommitResult::TooSlow } else { CommitResult::Unknown };
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

    async fn transact(&mut self, work: &[ClaimedBatch<E>], way: WriteMode) -> Result<Vec<BatchOutcome>, WriteFailure> {
        let shared = Arc::clone(&self.shared);
        let connection = self.connected().await?;
        transaction::write(connection, &shared.ledger, work, way, &shared.rules).await
    }

    fn first_way(&self, work: &[ClaimedBatch<E>]) -> WriteMode {
        let tried = |one: &ClaimedBatch<E>| self.shared.unclassified.times(one.batch.partition()) >= UNCLASSIFIED_TRIES;
        if work.iter().any(tried) {
            WriteMode::Bisect
        } else if work.iter().any(|one| one.careful) {
            WriteMode::RowByRow
        } else {
            WriteMode::Bulk
        }
    }

    fn report(&self, one: &ClaimedBatch<E>, handled: &BatchOutcome, way: WriteMode, lines: bool, began: Instant) {
        let (partition, step) = (one.batch.partition(), one.batch.step());
        let (outcomes, halted) = match handled {
            BatchOutcome::Committed(outcomes) => (outcomes, false),
            BatchOutcome::Halted(outcomes) => (outcomes, true),
            BatchOutcome::Fenced => {
                self.shared.assignment.written(partition, CommitResult::Unknown);
                self.lines().fenced(partition, step);
                return;
            }
        };
        self.shared.unclassified.committed(partition);
        let token = CommittedPosition::confirmed(partition, step.to());
        let careful = way != WriteMode::Bulk && one.batch.entries().iter().zip(outcomes).any(needed_care);
        if halted {
            self.shared.health.halted(partition, step.to(), HaltReason::TooManyDeadLetters);
        }
        self.shared.assignment.written(partition, CommitResult::Committed { token, careful, halted });
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
            self.connection = Some(connect(&self.shared.database, self.shared.rules.limit).await?);
        }
        self.connection.as_mut().ok_or_else(|| sqlx::Error::Protocol("not connected".to_owned()))
    }

    /// Waits before the next try, or ends what can't succeed.
    async fn failed(&mut self, errand: DbOperation, error: sqlx::Error) -> Result<(), EngineError> {
        self.connection = None;
        match classify(&error).without_a_record() {
            ErrorClass::Corrupt => return Err(EngineError::Corrupt(error)),
            ErrorClass::Operator if self.shared.refused.note(errand, Instant::now()) >= self.shared.startup_timeout => {
                return Err(EngineError::Database(error));
            }
            _ => {}
        }
        let wait = self.trouble.wait(errand, &error);
        let heard_of_again = self.shared.rules.limit.saturating_mul(2).saturating_add(wait).saturating_add(ANOTHER_TRY);
        self.shared.health.failed(ended_by(errand, &error), classify(&error), heard_of_again);
        tracing::warn!(%error, retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "database_unavailable");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.shared.assignment.until_stopping() => {}
        }
        Ok(())
    }
}

/// Whether the fast way would have failed on it.
fn needed_care<E>((entry, outcome): (&Entry<E>, &RecordOutcome)) -> bool {
    matches!(entry.parsed, Ok(Parsed::Event(_))) && !matches!(outcome, RecordOutcome::Stored(_))
}
