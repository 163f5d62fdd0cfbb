//! What is to be done about an error of the database. Pure.

/// What to do about an error. There is one variant for each thing that a caller does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// A record is at fault: find it by trying halves, make it a dead letter.
    Record,
    /// Nobody is at fault: roll back, back off, do the same again, for ever.
    Retry(RetryCause),
    /// Our own time limit: do less at once, then as [`ErrorClass::Retry`].
    TooSlow,
    /// This connection's statements are out of date: a new connection, and again.
    NewConnection,
    /// Only a person can set it right: wait a bounded time, then stop with exit 69 and say what to do.
    Operator,
    /// The database's files are damaged: stop with exit 70.
    Corrupt,
    /// Nobody thought of it: try a few times, then look for a record that is at fault.
    Unknown,
}

/// What a try again waits for; it labels the count of retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryCause {
    /// The way to the server is broken; so is this connection.
    Connection,
    /// The server is going down, starting up, or no longer the primary; this connection is of no more use.
    Shutdown,
    /// Somebody else held what we need.
    Contention,
    /// No space, memory or connections are left.
    Resources,
    /// The server can't read or write its files.
    ServerIo,
    /// A limit on idle time or on waiting for a connection has passed.
    Timeout,
}

impl RetryCause {
    /// Its name in metrics and logs.
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
    /// The verdict where no record can be at fault, as in connecting, claiming and looking.
    #[must_use]
    pub fn without_a_record(self) -> Self {
        match self {
            Self::Record | Self::Unknown => Self::Operator,
            Self::TooSlow => Self::Retry(RetryCause::Timeout),
            other => other,
        }
    }

    /// Its label in the count of retries.
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
