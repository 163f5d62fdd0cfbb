//! Tries dead letters again that wait: one transaction for each, beside the partitions and never in their way.
//!
//! Any instance may try any letter of its group and topic; a letter is held by the transaction that tries it, so two never
//! try the same. If the process dies in the middle, the letter is as it was.

use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

use crate::event::Event;
use crate::model::event::{Parsed, Reason, Refusal};
use crate::model::operation::DbOperation;
use crate::model::outcome::{DeadLetterCause, RecordOutcome};
use crate::pipeline::error::EngineError;
use crate::pipeline::failure::ended_by;
use crate::pipeline::writer::WriterContext;
use crate::postgres::dead_letters;
use crate::postgres::dead_letters::DueLetter;
use crate::postgres::error::classify;
use crate::postgres::retry::Backoff;
use crate::postgres::session::{Session, Transaction};
use crate::postgres::transaction::mode::WriteMode;
use crate::postgres::transaction::row_by_row;

/// How often the table is asked for letters that are due.
const POLL: Duration = Duration::from_secs(1);

/// How often its letters are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(15);
/// And the share of the time that the database may be busy with it: each count reads the letters of the group and topic,
/// those of years if nobody deletes them.
const COUNT_SHARE: u32 = 100;
/// So long a count may keep letters from being tried.
const COUNT_LIMIT: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct Redrive<E> {
    shared: Arc<WriterContext<E>>,
    session: Option<Session>,
    backoff: Backoff,
    /// Letters that could not be tried, for no fault of theirs, since the table was last gone through: the others come
    /// first.
    passed_over: Vec<Uuid>,
    count_at: Instant,
}

impl<E: Event> Redrive<E> {
    /// Not connected yet.
    pub(crate) fn new(shared: Arc<WriterContext<E>>, backoff: Backoff) -> Self {
        Self { shared, session: None, backoff, passed_over: Vec::new(), count_at: Instant::now() }
    }

    /// Until the process stops. A database that is away, or refuses what we ask, is the writers' business: here it only
    /// means to wait. But where there are no partitions, nobody else would notice that it is away or back.
    pub(crate) async fn run(mut self) -> Result<(), EngineError> {
        while !self.shared.assignment.is_stopping() {
            let tried = match self.try_one().await {
                Ok(tried) => self.count().await.map(|()| tried),
                Err(error) => Err(error),
            };
            if tried.is_ok() {
                self.shared.health.done(DbOperation::ReadRows);
            }
            let wait = match tried {
                Ok(true) => Duration::ZERO,
                Ok(false) => POLL,
                Err(error) => {
                    self.session = None;
                    tracing::debug!(%error, "redrive_postponed");
                    if ended_by(DbOperation::Write, &error) == DbOperation::ReadRows {
                        let wait = POLL.max(self.backoff.wait());
                        let heard_of_again = self.shared.database_timeout.saturating_mul(2).saturating_add(wait);
                        self.shared.health.failed(DbOperation::ReadRows, classify(&error), heard_of_again);
                        wait
                    } else {
                        POLL
                    }
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.shared.assignment.until_stopping() => {}
            }
        }
        Ok(())
    }

    /// Tries the letter that has been due for longest. False if there is none.
    async fn try_one(&mut self) -> sqlx::Result<bool> {
        let shared = Arc::clone(&self.shared);
        if self.session.is_none() {
            self.session = Some(Session::connect(&shared.database, shared.database_timeout).await?);
        }
        let Some(session) = self.session.as_mut() else { return Ok(false) };
        let mut transaction = session.begin().await?;
        let passed_over = &self.passed_over;
        let due = transaction.run(|connection| dead_letters::take_due(connection, &shared.ledger, passed_over)).await?;
        let Some(due) = due else {
            transaction.rollback().await?;
            self.backoff.reset();
            self.passed_over.clear();
            return Ok(false);
        };
        self.passed_over.push(due.id);
        let outcome = store::<E>(&mut transaction, &due).await?;
        match &outcome {
            RecordOutcome::Stored(_) => {
                let by = shared.ledger.owner();
                transaction.run(|connection| dead_letters::resolve(connection, &due, "stored", by)).await?;
            }
            RecordOutcome::Duplicate | RecordOutcome::Ignored => {
                let by = shared.ledger.owner();
                transaction.run(|connection| dead_letters::resolve(connection, &due, "duplicate", by)).await?;
            }
            RecordOutcome::DeadLettered(cause) => {
                let wait = shared.rules.schedule.wait(cause, due.attempts.saturating_add(1));
                transaction.run(|connection| dead_letters::refuse(connection, &due, cause, wait)).await?;
            }
        }
        transaction.commit().await?;
        self.passed_over.pop();
        self.backoff.reset();
        self.tell(&due, &outcome);
        Ok(true)
    }

    /// Counts the letters, if it is time.
    async fn count(&mut self) -> sqlx::Result<()> {
        let began = Instant::now();
        let Some(session) = self.session.as_mut().filter(|_| self.count_at <= began) else { return Ok(()) };
        let ledger = &self.shared.ledger;
        let counted = session.run_at_most(COUNT_LIMIT, |connection| dead_letters::count(connection, ledger)).await;
        // Whatever came of it: what takes too long would take too long again.
        self.count_at = Instant::now() + COUNT_INTERVAL.max(began.elapsed().saturating_mul(COUNT_SHARE));
        self.shared.health.letters(counted?);
        Ok(())
    }

    fn tell(&self, due: &DueLetter, outcome: &RecordOutcome) {
        let (topic, partition, offset) = (self.shared.ledger.topic(), due.record.partition.0, due.record.offset.0);
        if let RecordOutcome::DeadLettered(cause) = outcome {
            let reason = cause.reason.as_str();
            tracing::info!(topic, partition, offset, dead_letter = %due.id, reason, "dead_letter_refused");
        } else {
            tracing::info!(topic, partition, offset, dead_letter = %due.id, "dead_letter_resolved");
        }
    }
}

/// Writes the letter's row, if it can be.
async fn store<E: Event>(transaction: &mut Transaction<'_>, due: &DueLetter) -> sqlx::Result<RecordOutcome> {
    let event = match E::parse(&due.record) {
        Ok(Parsed::Event(event)) => event,
        Ok(Parsed::Ignored { .. }) => {
            let detail = "it is an event of another type now: discard it, or correct it again".to_owned();
            return Ok(dead(Refusal { reason: Reason::InvalidValue, field: Some("event_type"), detail }));
        }
        Err(refusal) => return Ok(dead(refusal)),
    };
    let outcomes = row_by_row::insert(transaction, &[&event], WriteMode::Bisect).await?;
    outcomes.into_iter().next().ok_or_else(|| sqlx::Error::Protocol("one event has no outcome".to_owned()))
}

fn dead(refusal: Refusal) -> RecordOutcome {
    RecordOutcome::DeadLettered(DeadLetterCause::from(refusal))
}
