//! The classes of database errors: one class for each reaction of the engine. Pure.
//!
//! The layer `postgres` assigns a class to each error. This module names no error type.

/// How the engine reacts to a database error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// A record is the cause. The writer halves the batch to find it, and makes it a dead letter.
    Record,
    /// The database is temporarily unavailable. The writer rolls back and retries without end, with backoff.
    Retry(RetryCause),
    /// The operation took longer than the engine's own limit. The writer retries with fewer records.
    TooSlow,
    /// The prepared statements of the connection are invalid. The writer retries with a new connection.
    NewConnection,
    /// Only an operator can correct it. The engine retries for a limited time. Then it ends with an error that contains
    /// an instruction.
    Operator,
    /// The files of the database are damaged. The engine ends.
    Corrupt,
    /// The error has no class. The writer retries a few times, then reacts as to [`ErrorClass::Record`].
    Unknown,
}

/// The cause of a retry. It is a label of the metric that counts retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryCause {
    /// The connection failed.
    Connection,
    /// The server stops, starts or is no longer the primary. A new connection is necessary.
    Shutdown,
    /// Another transaction held a lock.
    Contention,
    /// The server has no free disk space, memory or connections.
    Resources,
    /// The server can't read or write its files.
    ServerIo,
    /// A timeout of the server or of the connection pool.
    Timeout,
}

impl RetryCause {
    /// The name in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Shutdown => "shutdown",
            Self::Contention => "contention",
            Self::Resources => "resources",
            Self::ServerIo => "server_io",
            Self::Timeout => "timeout",
        }
    }
}

impl ErrorClass {
    /// The class of the same error in an operation without records: a connect, a claim, a read of rows.
    #[must_use]
    pub fn without_a_record(self) -> Self {
        match self {
            Self::Record | Self::Unknown => Self::Operator,
            Self::TooSlow => Self::Retry(RetryCause::Timeout),
            other => other,
        }
    }

    /// The label `reason` of the metric that counts retries.
    #[must_use]
    pub fn retry_reason(self) -> &'static str {
        match self {
            Self::Retry(cause) => cause.name(),
            Self::TooSlow => "too_slow",
            Self::NewConnection => "new_connection",
            Self::Operator | Self::Record => "refused",
            Self::Unknown | Self::Corrupt => "unclassified",
        }
    }
}
