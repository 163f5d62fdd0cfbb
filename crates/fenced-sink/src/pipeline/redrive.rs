//! Redrives waiting dead letters: one transaction for each, independent of the partitions.
//!
//! The task has its own connection, but only while each writer has one: if the database has too few connections, the
//! records come first.
//!
//! Any instance may redrive any letter of its group and topic. The transaction locks its letter, so two instances never
//! redrive the same letter at once. If the process dies, the letter is unchanged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::event::Event;
use crate::model::event::{Parsed, Reason, Refusal};
use crate::model::failure::cause;
use crate::model::open_work::OpenWork;
use crate::model::outcome::{DeadLetterCause, RecordOutcome};
use crate::pipeline::error::EngineError;
use crate::pipeline::failure::explained;
use crate::pipeline::writer::WriterContext;
use crate::postgres::dead_letters::{self, DueLetter};
use crate::postgres::error::{classify, sqlstate_of};
use crate::postgres::open_work::{read_open_gaps, read_open_letters};
use crate::postgres::retry::Backoff;
use crate::postgres::session::{Session, Transaction};
use crate::postgres::transaction::mode::WriteMode;
use crate::postgres::transaction::row_by_row;

/// The interval at which the task reads the letters that are due.
const POLL: Duration = Duration::from_secs(1);
/// The interval at which the task counts the letters.
const COUNT_INTERVAL: Duration = Duration::from_secs(15);
/// Counting takes at most this fraction of the time (1/n): it reads all letters of the group and topic.
const COUNT_SHARE: u32 = 100;
/// The interval at which the task reads the open work while a visitor looks at it.
const OPEN_WORK_INTERVAL: Duration = Duration::from_secs(4);
/// The maximum time that one count may delay the redrive.
const COUNT_LIMIT: Duration = Duration::from_secs(5);
/// The longest delay between two attempts to connect. It is short, because readiness reports the failure until the next
/// success.
const CONNECT_AGAIN: Duration = Duration::from_secs(5);
/// A writer that connects again after an error needs less time than this.
const WRITERS_FIRST: Duration = Duration::from_secs(1);
/// The minimum time between two warnings about a redrive that fails.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// The redrive task.
pub(crate) struct Redrive<E> {
    context: Arc<WriterContext<E>>,
    session: Option<Session>,
    backoff: Backoff,
    /// The letters whose redrive failed for a cause outside the letter, since the last complete pass. All other letters
    /// are tried before these.
    passed_over: Vec<Uuid>,
    count_at: Instant,
    open_work_at: Instant,
    warn_at: Instant,
}

impl<E: Event> Redrive<E> {
    /// Not connected yet.
    pub(crate) fn new(context: Arc<WriterContext<E>>, backoff: Backoff) -> Self {
        let now = Instant::now();
        Self {
            context,
            session: None,
            backoff,
            passed_over: Vec::new(),
            count_at: now,
            open_work_at: now,
            warn_at: now,
        }
    }

    /// Runs until the scheduler stops.
    pub(crate) async fn run(mut self) -> Result<(), EngineError> {
        let context = Arc::clone(&self.context);
        while !context.scheduler.is_stopping() {
            tokio::select! {
                () = context.writers_are_connected() => {}
                () = context.scheduler.until_stopping() => {}
            }
            tokio::select! {
                () = self.redrive() => {}
                // A letter in a transaction stays unchanged.
                () = context.a_writer_is_disconnected(WRITERS_FIRST) => self.session = None,
            }
        }
        Ok(())
    }

    /// Redrives letters until the scheduler stops.
    async fn redrive(&mut self) {
        while !self.context.scheduler.is_stopping() {
            let redriven = match self.ensure_connected().await {
                Ok(true) => self.redrive_one().await,
                Ok(false) => return,
                Err(error) => Err(error),
            };
            let wait = match redriven {
                Ok(true) => self.redriven(),
                Ok(false) => self.passed(),
                Err(error) => self.failed(&error).await,
            };
            self.count().await;
            self.read_open_work().await;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.context.scheduler.until_stopping() => {}
            }
        }
    }

    /// Connects if necessary. False: the service stops first.
    async fn ensure_connected(&mut self) -> sqlx::Result<bool> {
        if self.session.is_none() {
            let context = Arc::clone(&self.context);
            self.session = tokio::select! {
                connected = context.connect() => Some(connected?),
                () = context.scheduler.until_stopping() => return Ok(false),
            };
        }
        Ok(true)
    }

    /// A letter was redriven. There may be another one.
    fn redriven(&mut self) -> Duration {
        self.backoff.reset();
        if self.passed_over.is_empty() {
            self.context.health.redrive_succeeded();
        }
        Duration::ZERO
    }

    /// No other letter is due.
    fn passed(&mut self) -> Duration {
        if std::mem::take(&mut self.passed_over).is_empty() {
            self.backoff.reset();
            self.context.health.redrive_succeeded();
            POLL
        } else {
            POLL.max(self.backoff.wait())
        }
    }

    /// The letter is not the cause. It stays unchanged, and the other letters are tried first.
    async fn failed(&mut self, error: &sqlx::Error) -> Duration {
        let text = explained::<E>(error, self.session.as_mut()).await;
        let connected = self.session.take().is_some();
        let (class, sqlstate) = (classify(error), sqlstate_of(error));
        self.context.health.redrive_failed(class.without_a_record(), cause(class, sqlstate, &text));
        let now = Instant::now();
        if self.warn_at <= now {
            self.warn_at = now + WARNING_INTERVAL;
            let sqlstate = sqlstate.map(tracing::field::display);
            let hint = "dead letters that are due wait until this error ends";
            tracing::warn!(topic = self.context.ledger.topic(), error = text, sqlstate, hint, "redrive_postponed");
        }
        match (connected, self.passed_over.is_empty()) {
            (true, true) => POLL.max(self.backoff.wait()),
            // The other letters are tried.
            (true, false) => POLL,
            (false, _) => POLL.max(self.backoff.wait().min(CONNECT_AGAIN)),
        }
    }

    /// Redrives the letter that has been due for the longest time. False: no letter is due.
    async fn redrive_one(&mut self) -> sqlx::Result<bool> {
        let context = Arc::clone(&self.context);
        let (ledger, owner) = (&context.ledger, context.ledger.owner());
        let Some(session) = self.session.as_mut() else { return Ok(false) };
        let mut transaction = session.begin().await?;
        let passed_over = &self.passed_over;
        let due = transaction.run(|c| dead_letters::take_due(c, ledger, passed_over)).await?;
        let Some(due) = due else {
            transaction.rollback().await?;
            return Ok(false);
        };
        self.passed_over.push(due.id);
        let outcome = store::<E>(&mut transaction, &due).await?;
        match &outcome {
            RecordOutcome::Stored(_) => {
                transaction.run(|c| dead_letters::resolve(c, &due, "stored", owner)).await?;
            }
            RecordOutcome::Duplicate | RecordOutcome::Ignored => {
                transaction.run(|c| dead_letters::resolve(c, &due, "duplicate", owner)).await?;
            }
            RecordOutcome::DeadLettered(cause) => {
                let wait = context.rules.schedule.wait(cause, due.attempts.saturating_add(1));
                transaction.run(|c| dead_letters::refuse(c, &due, cause, wait)).await?;
            }
        }
        transaction.commit().await?;
        self.passed_over.pop();
        self.log(&due, &outcome);
        Ok(true)
    }

    /// Counts the letters, if a count is due.
    async fn count(&mut self) {
        let began = Instant::now();
        let Some(session) = self.session.as_mut().filter(|_| self.count_at <= began) else { return };
        let ledger = &self.context.ledger;
        let counted = session.run_at_most(COUNT_LIMIT, |c| dead_letters::count(c, ledger)).await;
        // Also after an error: a count that was too slow will be too slow again.
        self.count_at = Instant::now() + COUNT_INTERVAL.max(began.elapsed().saturating_mul(COUNT_SHARE));
        match counted {
            Ok(letters) => self.context.health.letters(letters),
            Err(error) => {
                self.session = None;
                tracing::debug!(%error, "dead_letters_not_counted");
            }
        }
    }

    /// Reads what waits for an operator, if a visitor looks at it and a reading is due.
    async fn read_open_work(&mut self) {
        let (began, context) = (Instant::now(), Arc::clone(&self.context));
        let due = self.open_work_at <= began && context.health.is_watched();
        let Some(session) = self.session.as_mut().filter(|_| due) else { return };
        // The gaps first: they are few, and after a reading without an answer of the server the connection can't be used.
        let gaps = session.run_at_most(COUNT_LIMIT, |c| read_open_gaps(c, &context.ledger)).await;
        let letters = match &gaps {
            Err(error) if error.as_database_error().is_none() => Err(sqlx::Error::Protocol(error.to_string())),
            _ => session.run_at_most(COUNT_LIMIT, |c| read_open_letters(c, &context.ledger)).await,
        };
        self.open_work_at = Instant::now() + OPEN_WORK_INTERVAL.max(began.elapsed().saturating_mul(COUNT_SHARE));
        for error in gaps.as_ref().err().into_iter().chain(letters.as_ref().err()) {
            // After an answer of the server, the connection can still be used.
            self.session = self.session.take().filter(|_| error.as_database_error().is_some());
            tracing::debug!(%error, "open_work_not_read");
        }
        let (letters, gaps) = (letters.map_err(|error| error.to_string()), gaps.map_err(|error| error.to_string()));
        context.health.open_work_read(OpenWork { letters, gaps });
    }

    fn log(&self, due: &DueLetter, outcome: &RecordOutcome) {
        let (topic, partition, offset) = (self.context.ledger.topic(), due.record.partition.0, due.record.offset.0);
        if let RecordOutcome::DeadLettered(cause) = outcome {
            let reason = cause.reason.as_str();
            tracing::info!(topic, partition, offset, dead_letter = %due.id, reason, "dead_letter_refused");
        } else {
            tracing::info!(topic, partition, offset, dead_letter = %due.id, "dead_letter_resolved");
        }
    }
}

/// Writes the row of the letter, if its record is a valid event.
async fn store<E: Event>(transaction: &mut Transaction<'_>, due: &DueLetter) -> sqlx::Result<RecordOutcome> {
    let event = match E::parse(&due.record) {
        Ok(Parsed::Event(event)) => event,
        Ok(Parsed::Ignored { .. }) => {
            let detail = "it is an event of another type now: discard it, or correct it again".to_owned();
            return Ok(dead_letter(Refusal { reason: Reason::InvalidValue, field: Some("event_type"), detail }));
        }
        Err(refusal) => return Ok(dead_letter(refusal)),
    };
    let outcomes = row_by_row::insert(transaction, &[&event], WriteMode::Bisect).await?;
    outcomes.into_iter().next().ok_or_else(|| sqlx::Error::Protocol("one event has no outcome".to_owned()))
}

fn dead_letter(refusal: Refusal) -> RecordOutcome {
    RecordOutcome::DeadLettered(DeadLetterCause::from(refusal))
}
