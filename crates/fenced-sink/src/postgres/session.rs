//! A database connection with a time limit on everything that it does.

use sqlx::{Connection as _, PgConnection, Postgres, SqlSafeStr};
use std::io;
use std::time::Duration;

use crate::postgres::servers::DatabaseServers;

/// The longest wait for a lock in the pipeline. After it, a writer writes the partition alone.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// What a plan for a statement of a writer must not have. The statements look up the rows of many keys in an index. A join by
/// hash or merge reads the whole table instead, which seems to cost less while the table is small. A memoize node keeps each row,
/// but each key is looked up once.
const OMITTED_PLANS: [&str; 3] = ["enable_hashjoin", "enable_mergejoin", "enable_memoize"];

/// A connection and its time limit. [`Self::run`] takes the statements of a caller, so no caller waits without a limit.
///
/// After a time-out the state of the connection is unknown: drop the session and connect again.
#[derive(Debug)]
pub struct Session {
    connection: PgConnection,
    limit: Duration,
}

/// A transaction of a [`Session`], under the same time limit. Dropped without a commit, it rolls back.
///
/// After a time-out the state of the connection is unknown: drop the session, too.
#[derive(Debug)]
pub struct Transaction<'c> {
    transaction: sqlx::Transaction<'c, Postgres>,
    limit: Duration,
}

impl Session {
    /// Opens a connection. The server gets the same limit for each statement and each idle transaction, so that it also
    /// releases the row locks of a process that is frozen or unreachable. A wait for a lock ends a little earlier, so
    /// that its error names the cause: a wait that ends at the limit of the statement has the error of a slow statement.
    ///
    /// # Errors
    /// What the server or the network answered, or the time-out.
    pub async fn connect(servers: &DatabaseServers, limit: Duration) -> sqlx::Result<Self> {
        Self::connect_with_lock_timeout(servers, limit, limit.mul_f64(0.9)).await
    }

    /// Opens a connection for the writers and the redrive. It waits for a lock for a short time only: a transaction has
    /// batches of several partitions, and a lock on one of them must not delay the others.
    pub(crate) async fn connect_to_write(servers: &DatabaseServers, limit: Duration) -> sqlx::Result<Self> {
        let mut session = Self::connect_with_lock_timeout(servers, limit, LOCK_WAIT.min(limit / 10)).await?;
        let (names, values) = (OMITTED_PLANS.map(str::to_owned), OMITTED_PLANS.map(|_| "off".to_owned()));
        session.run(|connection| set(connection, &names, &values)).await?;
        Ok(session)
    }

    async fn connect_with_lock_timeout(
        servers: &DatabaseServers,
        limit: Duration,
        lock_limit: Duration,
    ) -> sqlx::Result<Self> {
        let mut session = Self::open(servers, limit).await?;
        session.set_limits(lock_limit).await?;
        Ok(session)
    }

    /// Opens a connection without limits on the server.
    pub(crate) async fn open(servers: &DatabaseServers, limit: Duration) -> sqlx::Result<Self> {
        Ok(Self { connection: servers.connect(limit).await?, limit })
    }

    /// Sets the limits on the server.
    pub(crate) async fn set_limits(&mut self, lock_limit: Duration) -> sqlx::Result<()> {
        let names = ["statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout"].map(str::to_owned);
        // 0 would be no limit.
        let millis = [self.limit, self.limit, lock_limit].map(|limit| limit.as_millis().max(1).to_string());
        self.run(|connection| set(connection, &names, &millis)).await
    }

    /// The connection, for statements that may take longer than the limit.
    #[must_use]
    pub fn into_connection(self) -> PgConnection {
        self.connection
    }

    /// Runs statements, all of them together within the time limit.
    ///
    /// # Errors
    /// What `work` failed with, or the time-out as an I/O error.
    pub async fn run<'c, T, F>(&'c mut self, work: impl FnOnce(&'c mut PgConnection) -> F) -> sqlx::Result<T>
    where
        F: Future<Output = sqlx::Result<T>> + 'c,
    {
        within(self.limit, work(&mut self.connection)).await
    }

    /// Runs statements that must end sooner than the session's own limit.
    ///
    /// # Errors
    /// What `work` failed with, or the time-out as an I/O error.
    pub async fn run_at_most<'c, T, F>(
        &'c mut self,
        limit: Duration,
        work: impl FnOnce(&'c mut PgConnection) -> F,
    ) -> sqlx::Result<T>
    where
        F: Future<Output = sqlx::Result<T>> + 'c,
    {
        within(limit.min(self.limit), work(&mut self.connection)).await
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// What the server or the network answered, or the time-out.
    pub async fn begin(&mut self) -> sqlx::Result<Transaction<'_>> {
        let transaction = within(self.limit, self.connection.begin()).await?;
        Ok(Transaction { transaction, limit: self.limit })
    }

    /// Begins a transaction by this statement, which can set its isolation level.
    ///
    /// # Errors
    /// What the server or the network answered, or the time-out.
    pub async fn begin_with(&mut self, statement: impl SqlSafeStr) -> sqlx::Result<Transaction<'_>> {
        let transaction = within(self.limit, self.connection.begin_with(statement)).await?;
        Ok(Transaction { transaction, limit: self.limit })
    }

    /// Ends the connection at the server, and closes it. If the server may be unreachable, drop the session instead.
    ///
    /// # Errors
    /// What the server or the network answered, or the time-out.
    pub async fn close(self) -> sqlx::Result<()> {
        within(self.limit, self.connection.close()).await
    }
}

impl Transaction<'_> {
    /// The time limit of each operation.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Runs statements, all of them together within the time limit.
    ///
    /// # Errors
    /// What `work` failed with, or the time-out as an I/O error.
    pub async fn run<'t, T, F>(&'t mut self, work: impl FnOnce(&'t mut PgConnection) -> F) -> sqlx::Result<T>
    where
        F: Future<Output = sqlx::Result<T>> + 't,
    {
        within(self.limit, work(&mut self.transaction)).await
    }

    /// Commits.
    ///
    /// # Errors
    /// What the server or the network answered, or the time-out. The commit may have succeeded in this case, too.
    pub async fn commit(self) -> sqlx::Result<()> {
        within(self.limit, self.transaction.commit()).await
    }

    /// Rolls back.
    ///
    /// # Errors
    /// What the server or the network answered, or the time-out.
    pub async fn rollback(self) -> sqlx::Result<()> {
        within(self.limit, self.transaction.rollback()).await
    }
}

/// Sets each parameter to its value until the connection ends. An unknown name is an error.
async fn set(connection: &mut PgConnection, names: &[String], values: &[String]) -> sqlx::Result<()> {
    sqlx::query!(
        "select set_config(name, value, false) from unnest($1::text[], $2::text[]) as setting (name, value)",
        names,
        values
    )
    .fetch_all(connection)
    .await
    .map(drop)
}

/// Ends the wait for a database that does not answer. The server's own limits are the same, so one second more lets its
/// answer arrive first. After a time-out the connection must be dropped.
///
/// # Errors
/// What `work` failed with, or the time-out as an I/O error.
async fn within<T>(limit: Duration, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let answer = tokio::time::timeout(limit.saturating_add(Duration::from_secs(1)), work).await;
    answer.unwrap_or_else(|_| Err(no_answer(limit)))
}

/// The error of a database that does not answer within a time limit.
pub(super) fn no_answer(limit: Duration) -> sqlx::Error {
    let text = format!("no answer from the database within {}", humantime::format_duration(limit));
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text))
}
