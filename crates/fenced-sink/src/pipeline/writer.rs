//! A writer: takes tasks from the scheduler, does them on its own connection, and reports the results.
//!
//! After a failure it drops the connection. It assumes nothing about the transaction: the scheduler drops the records
//! in memory, and reading continues at the position of the row (rule 7). Each task has its own file.

mod rows;
mod first_positions;
mod log_fault;
mod commit;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;

use crate::event::Event;
use crate::kafka::topic_log_client::TopicLogClient;
use crate::model::error_class::ErrorClass;
use crate::model::operation::DbOperation;
use crate::model::start::StartPolicy;
use crate::model::topic_log::GapPolicy;
use crate::observe::health::Health;
use crate::pipeline::error::EngineError;
use crate::pipeline::failure::{RefusedSince, RetryDelay, UnclassifiedErrors, proof_of_recovery};
use crate::pipeline::line_budget::LineBudget;
use crate::pipeline::reports::WriterTask;
use crate::pipeline::shared_scheduler::SharedScheduler;
use crate::postgres::error::classify;
use crate::postgres::ledger::Ledger;
use crate::postgres::retry::Backoff;
use crate::postgres::session::Session;
use crate::postgres::transaction::WriteRules;

/// After a failure and its retry delay, the records are read again within this time.
const READ_AGAIN: Duration = Duration::from_secs(10);

/// What the writers of a process and the redrive share.
pub(crate) struct WriterContext<E> {
    pub(crate) scheduler: Arc<SharedScheduler<E>>,
    pub(crate) ledger: Ledger,
    pub(crate) topic_log: TopicLogClient,
    /// The name of the service, which marks its mirror.
    pub(crate) service: String,
    pub(crate) start: StartPolicy,
    pub(crate) gaps: GapPolicy,
    pub(crate) database: PgConnectOptions,
    pub(crate) database_timeout: Duration,
    pub(crate) rules: WriteRules,
    /// If the database refuses the user or a statement for longer than this, the run ends.
    pub(crate) startup_timeout: Duration,
    pub(crate) refused: RefusedSince,
    pub(crate) unclassified: UnclassifiedErrors,
    pub(crate) health: Health,
    pub(crate) lines: Mutex<LineBudget>,
}

impl<E> WriterContext<E> {
    /// Opens a connection to the database.
    pub(crate) async fn connect(&self) -> sqlx::Result<Session> {
        Session::connect(&self.database, self.database_timeout).await
    }

    /// How long a failure counts as the state of the database: within this time the operation is tried again.
    pub(crate) fn failure_lasts(&self, wait: Duration) -> Duration {
        self.database_timeout.saturating_mul(2).saturating_add(wait)
    }
}

/// A writer: its connection, and the state of its retries.
pub(crate) struct Writer<E> {
    context: Arc<WriterContext<E>>,
    session: Option<Session>,
    delay: RetryDelay,
}

impl<E: Event> Writer<E> {
    /// Not connected yet.
    pub(crate) fn new(context: Arc<WriterContext<E>>, backoff: Backoff) -> Self {
        Self { context, session: None, delay: RetryDelay::new(backoff) }
    }

    /// Works until there are no more tasks, or until the database cannot be used.
    pub(crate) async fn run(mut self) -> Result<(), EngineError> {
        loop {
            let (operation, done) = match self.context.scheduler.next_task().await {
                WriterTask::Claim(partition, generation) => {
                    (DbOperation::Claim, self.claim(partition, generation).await)
                }
                WriterTask::RecordLogFault(fault) => (DbOperation::Claim, self.record_log_fault(fault).await),
                WriterTask::ReadRows(rows) => (DbOperation::ReadRows, self.read_rows(rows).await),
                WriterTask::Commit(batches) => (DbOperation::Write, self.commit(batches).await),
                WriterTask::Stop => break,
            };
            match done {
                Ok(()) => self.succeeded(operation),
                Err(error) => self.failed(operation, error).await?,
            }
        }
        if let Some(session) = self.session.take()
            && let Err(error) = session.close().await
        {
            tracing::debug!(%error, "disconnect_failed");
        }
        Ok(())
    }

    async fn session(&mut self) -> sqlx::Result<&mut Session> {
        if self.session.is_none() {
            self.session = Some(self.context.connect().await?);
        }
        self.session.as_mut().ok_or_else(|| sqlx::Error::Protocol("not connected".to_owned()))
    }

    fn succeeded(&mut self, operation: DbOperation) {
        self.delay.succeeded(operation);
        self.context.refused.succeeded(operation);
        self.context.health.done(operation);
    }

    /// Waits before the next task, or ends the run if a retry cannot help.
    async fn failed(&mut self, operation: DbOperation, error: sqlx::Error) -> Result<(), EngineError> {
        self.session = None;
        let context = &self.context;
        match classify(&error).without_a_record() {
            ErrorClass::Corrupt => return Err(EngineError::Corrupt(error)),
            ErrorClass::Operator if context.refused.failed(operation, Instant::now()) >= context.startup_timeout => {
                return Err(EngineError::Database(error));
            }
            _ => {}
        }
        let proof = proof_of_recovery(operation, &error);
        let wait = self.delay.failed(proof);
        let lasts = context.failure_lasts(wait).saturating_add(READ_AGAIN);
        context.health.failed(proof, classify(&error), lasts);
        tracing::warn!(%error, retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX), "database_unavailable");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = context.scheduler.until_stopping() => {}
        }
        Ok(())
    }
}
