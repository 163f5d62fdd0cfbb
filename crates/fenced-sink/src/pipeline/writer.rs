//! A writer: takes tasks from the scheduler, does them on its own connection, and reports the results.
//!
//! After a failure it drops the connection. It assumes nothing about the transaction: the scheduler drops the records
//! in memory, and reading continues at the position of the row (rule 7). Each task has its own file.

mod rows;
mod first_positions;
mod log_fault;
mod commit;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::event::Event;
use crate::kafka::topic_log_client::TopicLogClient;
use crate::model::error_class::{ErrorClass, RetryCause};
use crate::model::failure::Failure;
use crate::model::record::Partition;
use crate::model::start::StartPolicy;
use crate::model::topic_log::GapPolicy;
use crate::observe::health::Health;
use crate::pipeline::error::EngineError;
use crate::pipeline::failure::{DisconnectedWriters, explained, in_words};
use crate::pipeline::line_budget::LineBudget;
use crate::pipeline::reports::WriterTask;
use crate::pipeline::shared_scheduler::SharedScheduler;
use crate::postgres::copy;
use crate::postgres::error::{advice, classify};
use crate::postgres::ledger::Ledger;
use crate::postgres::retry::Backoff;
use crate::postgres::servers::DatabaseServers;
use crate::postgres::session::Session;
use crate::postgres::transaction::WriteRules;

/// What the writers of a process and the redrive share.
pub(crate) struct WriterContext<E> {
    pub(crate) scheduler: Arc<SharedScheduler<E>>,
    pub(crate) ledger: Ledger,
    pub(crate) topic_log: TopicLogClient,
    /// The name of the service, which marks its mirror.
    pub(crate) service: String,
    pub(crate) start: StartPolicy,
    pub(crate) gaps: GapPolicy,
    pub(crate) database: DatabaseServers,
    pub(crate) database_timeout: Duration,
    pub(crate) rules: WriteRules,
    /// If the database refuses the user, or all partitions, for longer than this, the run ends.
    pub(crate) startup_timeout: Duration,
    pub(crate) writers: usize,
    /// The number of writers that are connected.
    pub(crate) connected: watch::Sender<usize>,
    pub(crate) disconnected: Mutex<DisconnectedWriters>,
    pub(crate) health: Health,
    pub(crate) lines: Mutex<LineBudget>,
    /// It is logged that the table permits no `COPY`.
    pub(crate) copy_refused: AtomicBool,
}

impl<E> WriterContext<E> {
    /// Opens a connection to the database.
    pub(crate) async fn connect(&self) -> sqlx::Result<Session> {
        Session::connect_to_write(&self.database, self.database_timeout).await
    }

    /// Logs once why `COPY` is not used.
    fn copy_is_refused(&self, obstacle: &str) {
        if !self.copy_refused.swap(true, Ordering::Relaxed) {
            tracing::info!(error = obstacle, hint = "large batches are inserted, which is slower", "copy_refused");
        }
    }

    /// Returns when each writer is connected.
    pub(crate) async fn writers_are_connected(&self) {
        // It cannot fail: the sender is a field of `self`, so it outlives the wait.
        drop(self.connected.subscribe().wait_for(|connected| *connected == self.writers).await);
    }

    /// Returns when a writer has been without a connection for this time.
    pub(crate) async fn a_writer_is_disconnected(&self, lasts: Duration) {
        loop {
            drop(self.connected.subscribe().wait_for(|connected| *connected < self.writers).await);
            if tokio::time::timeout(lasts, self.writers_are_connected()).await.is_err() {
                return;
            }
        }
    }

    fn disconnected(&self) -> MutexGuard<'_, DisconnectedWriters> {
        self.disconnected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A writer: its number, its connection, and the delay between two attempts to connect.
pub(crate) struct Writer<E> {
    context: Arc<WriterContext<E>>,
    number: usize,
    session: Option<Session>,
    /// The table permits `COPY` through this connection.
    may_copy: bool,
    /// The last operation waited too long for a lock.
    waited_for_lock: bool,
    backoff: Backoff,
}

impl<E: Event> Writer<E> {
    /// Not connected yet.
    pub(crate) fn new(context: Arc<WriterContext<E>>, number: usize, backoff: Backoff) -> Self {
        Self { context, number, session: None, may_copy: false, waited_for_lock: false, backoff }
    }

    /// Works until there are no more tasks, or until the database cannot be used.
    ///
    /// It takes a task only while it is connected, so a database that is unreachable is not a failure of a partition. A
    /// partition whose operation failed waits in the scheduler: the writer serves the others immediately.
    pub(crate) async fn run(mut self) -> Result<(), EngineError> {
        while self.ensure_connected().await? {
            let done = match self.context.scheduler.next_task().await {
                WriterTask::Claim(partition, generation) => self.claim(partition, generation).await,
                WriterTask::RecordLogFault(fault) => self.record_log_fault(fault).await,
                WriterTask::ReadRows(rows) => self.read_rows(rows).await,
                WriterTask::Commit(batches) => self.commit(batches).await,
                WriterTask::Stop => break,
            };
            if let Err(error) = done {
                self.failed(error)?;
            }
        }
        if let Some(session) = self.session.take()
            && let Err(error) = session.close().await
        {
            tracing::debug!(%error, "disconnect_failed");
        }
        Ok(())
    }

    /// Connects if necessary, and tries again until it succeeds. False: the service stops first.
    async fn ensure_connected(&mut self) -> Result<bool, EngineError> {
        let context = Arc::clone(&self.context);
        while self.session.is_none() {
            let connected = tokio::select! {
                connected = self.connect() => connected,
                () = context.scheduler.until_stopping() => return Ok(false),
            };
            match connected {
                Ok((session, may_copy)) => {
                    (self.session, self.may_copy, self.waited_for_lock) = (Some(session), may_copy, false);
                    context.connected.send_modify(|connected| *connected = connected.saturating_add(1));
                    self.backoff.reset();
                    context.disconnected().connected(self.number);
                }
                Err(error) => self.not_connected(error).await?,
            }
            context.report_disconnected();
        }
        Ok(true)
    }

    /// Waits before the next attempt to connect, or ends the run if a retry cannot help.
    async fn not_connected(&mut self, error: sqlx::Error) -> Result<(), EngineError> {
        let (context, class) = (&self.context, classify(&error).without_a_record());
        if class == ErrorClass::Corrupt {
            return Err(EngineError::Corrupt(error));
        }
        let refused_for = {
            let (mut disconnected, now) = (context.disconnected(), Instant::now());
            disconnected.failed(self.number, class, in_words(&error), now);
            disconnected.refused_for(context.writers, now)
        };
        if refused_for.is_some_and(|lasts| lasts >= context.startup_timeout) {
            return Err(EngineError::Database(error));
        }
        context.report_disconnected();
        context.health.retried(class);
        let wait = self.backoff.wait();
        let (server, hint) = (&context.database, advice(&error));
        tracing::warn!(%server, %error, hint, retry_in_ms = millis(wait), "database_unavailable");
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = context.scheduler.until_stopping() => {}
        }
        Ok(())
    }

    /// Opens a connection, and asks whether it may use `COPY`. After a wait for a lock, it first ends the transactions of
    /// frozen processes, which keep their locks in the middle of `COPY`.
    async fn connect(&self) -> sqlx::Result<(Session, bool)> {
        let mut session = self.context.connect().await?;
        let Some(into) = E::COPY else { return Ok((session, false)) };
        if self.waited_for_lock {
            let sessions = session.run(copy::end_abandoned).await?;
            if sessions > 0 {
                let hint = "a process was frozen or unreachable in the middle of a batch; the batch is written again";
                tracing::warn!(sessions, hint, "abandoned_copies_ended");
            }
        }
        let obstacle = session.run(|connection| copy::obstacle(connection, into)).await?;
        if let Some(obstacle) = &obstacle {
            self.context.copy_is_refused(obstacle);
        }
        Ok((session, obstacle.is_none()))
    }

    /// The connection of the current task.
    fn session(&mut self) -> sqlx::Result<&mut Session> {
        self.session.as_mut().ok_or_else(|| sqlx::Error::Protocol("not connected".to_owned()))
    }

    /// The text of an error of this session.
    async fn explained(&mut self, error: &sqlx::Error) -> String {
        explained::<E>(error, self.session.as_mut()).await
    }

    /// Drops the connection, or ends the run if a retry cannot help. The scheduler must know the failure before this
    /// call.
    fn failed(&mut self, error: sqlx::Error) -> Result<(), EngineError> {
        let context = &self.context;
        if self.session.take().is_some() {
            context.connected.send_modify(|connected| *connected = connected.saturating_sub(1));
        }
        let class = classify(&error);
        context.health.retried(class);
        self.waited_for_lock = class == ErrorClass::Retry(RetryCause::Contention);
        if class == ErrorClass::Corrupt {
            return Err(EngineError::Corrupt(error));
        }
        match context.scheduler.refused_for() {
            Some(lasts) if lasts >= context.startup_timeout => Err(EngineError::Database(error)),
            _ => Ok(()),
        }
    }
}

impl<E> WriterContext<E> {
    fn report_disconnected(&self) {
        let (count, cause) = {
            let disconnected = self.disconnected();
            (disconnected.count(), disconnected.cause())
        };
        self.health.disconnected_writers(count, self.writers, cause);
    }

    /// Logs a failed operation. The line has no retry delay: the scheduler has one for each partition.
    pub(crate) fn log_failure(&self, failed: &[(Partition, Failure)]) {
        let topic = self.ledger.topic();
        match failed {
            [] => {}
            [(partition, failure)] => tracing::warn!(
                topic,
                partition = partition.0,
                operation = failure.operation.as_str(),
                from = failure.step.map(|step| step.from().0),
                to = failure.step.map(|step| step.to().0),
                sqlstate = failure.sqlstate.map(tracing::field::display),
                error = failure.error,
                "database_unavailable"
            ),
            [(_, failure), ..] => tracing::warn!(
                topic,
                partition_count = failed.len(),
                operation = failure.operation.as_str(),
                sqlstate = failure.sqlstate.map(tracing::field::display),
                error = failure.error,
                hint = "the operation of each partition is tried again separately",
                "database_unavailable"
            ),
        }
    }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}
