//! Tries dead letters again that wait: one transaction for each, beside the partitions and never in their way.
//!
//! Any instance may try any letter of its group and topic; a letter is held by the transaction that tries it, so two never
//! try the same. If the process dies in the middle, the letter is as it was.

use sqlx::{Connection as _, PgConnection};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

use crate::event::Event;
use crate::model::error_class::ErrorClass;
use crate::model::event::{Parsed, Reason, Refusal};
use crate::model::operation::DbOperation;
use crate::model::outcome::{DeadLetterCause, RecordOutcome};
use crate::pipeline::error::EngineError;
use crate::pipeline::failure::ended_by;
use crate::pipeline::writer::WriterContext;
use crate::postgres::dead_letters::DueLetter;
use crate::postgres::error::classify;
use crate::postgres::retry::Backoff;
use crate::postgres::session::{connect, within};
use crate::postgres::transaction::rows;
use crate::postgres::{dead_letters, savepoint};

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
    connection: Option<PgConnection>,
    backoff: Backoff,
    /// Letters that could not be tried, for no fault of theirs, since the table was last gone through: the others come
    /// first.
    passed_over: Vec<Uuid>,
    count_at: Instant,
}

impl<E: Event> Redrive<E> {
    /// Not connected yet.
    pub(crate) fn new(shared: Arc<WriterContext<E>>, backoff: Backoff) -> Self {
        Self { shared, connection: None, backoff, passed_over: Vec::new(), count_at: Instant::now() }
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
                    self.connection = None;
                    tracing::debug!(%error, "redrive_postponed");
                    if ended_by(DbOperation::Write, &error) == DbOperation::ReadRows {
                        let wait = POLL.max(self.backoff.wait());
                        let heard_of_again = self.shared.rules.limit.saturating_mul(2).saturating_add(wait);
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
        let limit = shared.rules.limit;
        if self.connection.is_none() {
            self.connection = Some(connect(&shared.database, limit).await?);
        }
        let Some(connection) = self.connection.as_mut() else { return Ok(false) };
        let mut transaction = within(limit, connection.begin()).await?;
        let due = dead_letters::take_due(&mut transaction, &shared.ledger, &self.passed_over);
        let Some(due) = within(limit, due).await? else {
            within(limit, transaction.rollback()).await?;
            self.backoff.reset();
            self.passed_over.clear();
            return Ok(false);
        };
        self.passed_over.push(due.id);
        let outcome = store::<E>(&mut transaction, &due, limit).await?;
        match &outcome {
            RecordOutcome::Stored(_) => {
                let by = shared.ledger.owner();
                within(limit, dead_letters::resolve(&mut transaction, &due, "stored", by)).await?;
            }
            RecordOutcome::Duplicate | RecordOutcome::Ignored => {
                let by = shared.ledger.owner();
                within(limit, dead_letters::resolve(&mut transaction, &due, "duplicate", by)).await?;
            }
            RecordOutcome::DeadLettered(cause) => {
                let wait = shared.rules.schedule.wait(cause, due.attempts.saturating_add(1));
                within(limit, dead_letters::refuse(&mut transaction, &due, cause, wait)).await?;
            }
        }
        within(limit, transaction.commit()).await?;
        self.passed_over.pop();
        self.backoff.reset();
        self.tell(&due, &outcome);
        Ok(true)
    }

    /// Counts the letters, if it is time.
    async fn count(&mut self) -> sqlx::Result<()> {
        let began = Instant::now();
        let Some(connection) = self.connection.as_mut().filter(|_| self.count_at <= began) else { return Ok(()) };
        let limit = COUNT_LIMIT.min(self.shared.rules.limit);
        let counted = within(limit, dead_letters::count(connection, &self.shared.ledger)).await;
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
async fn store<E: Event>(
    transaction: &mut PgConnection,
    due: &DueLetter,
    limit: Duration,
) -> sqlx::Result<RecordOutcome> {
    let event = match E::parse(&due.record) {
        Ok(Parsed::Event(event)) => event,
        Ok(Parsed::Ignored { .. }) => {
            let detail = "it is an event of another type now: discard it, or correct it again".to_owned();
            return Ok(dead(Refusal { reason: Reason::InvalidValue, field: Some("event_type"), detail }));
        }
        Err(refusal) => return Ok(dead(refusal)),
    };
    within(limit, savepoint::check_constraints_at_once(transaction)).await?;
    within(limit, savepoint::begin(transaction)).await?;
    match within(limit, E::insert_each(transaction, &[&event])).await {
        Ok(fates) => {
            within(limit, savepoint::keep(transaction)).await?;
            let fate = fates.into_iter().next();
            fate.map(rows::outcome).ok_or_else(|| sqlx::Error::Protocol("insert_each told no fate".to_owned()))
        }
        Err(error) => match classify(&error) {
            ErrorClass::Record | ErrorClass::Unknown => {
                within(limit, savepoint::take_back(transaction)).await?;
                Ok(RecordOutcome::DeadLettered(rows::rejection(&error)))
            }
            ErrorClass::Retry(_)
            | ErrorClass::TooSlow
            | ErrorClass::NewConnection
            | ErrorClass::Operator
            | ErrorClass::Corrupt => Err(error),
        },
    }
}

fn dead(refusal: Refusal) -> RecordOutcome {
    RecordOutcome::DeadLettered(DeadLetterCause::from(refusal))
}
