//! From an error of the database to what is done about it: one total function, over SQLSTATE and never over words.
//!
//! Invariant: what the environment caused never blames a record, since the verdict [`Verdict::Record`] is what makes a
//! dead letter. Nothing falls through to "try again": an error that nobody thought of is [`Verdict::Unknown`].

use std::{error::Error, fmt, io};

use sqlx::postgres::PgDatabaseError;

/// What to do about an error. There is one variant for each thing that a caller does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A record is at fault: find it by trying halves, make it a dead letter.
    Record,
    /// Nobody is at fault: roll back, back off, do the same again, for ever.
    TryAgain(Cause),
    /// Our own time limit: do less at once, then as [`Verdict::TryAgain`].
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
pub enum Cause {
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

impl Cause {
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

impl Verdict {
    /// The verdict where no record can be at fault, as in connecting, claiming and looking.
    #[must_use]
    pub fn without_a_record(self) -> Self {
        match self {
            Self::Record | Self::Unknown => Self::Operator,
            Self::TooSlow => Self::TryAgain(Cause::Timeout),
            other => other,
        }
    }
}

/// The verdict on an error of sqlx.
#[must_use]
pub fn verdict(error: &sqlx::Error) -> Verdict {
    match error {
        sqlx::Error::Database(refusal) => match SqlState::of(error) {
            Some(state) => {
                let routine = refusal.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::routine);
                verdict_on(state, routine)
            }
            None => Verdict::Unknown,
        },
        // Our own limit, and that of the network: less at once may pass.
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => Verdict::TooSlow,
        sqlx::Error::Io(_) => Verdict::TryAgain(Cause::Connection),
        // A handshake that broke off is the network's; a certificate that isn't trusted is somebody's decision.
        sqlx::Error::Tls(cause) if is_caused_by_io(cause.as_ref()) => Verdict::TryAgain(Cause::Connection),
        sqlx::Error::PoolTimedOut => Verdict::TryAgain(Cause::Timeout),
        // The two sides no longer agree on where in the protocol they are.
        sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => Verdict::NewConnection,
        // A value that has no form on the wire.
        sqlx::Error::Encode(_) => Verdict::Record,
        // The connection's settings, or tables that are not the ones this program knows.
        sqlx::Error::Configuration(_)
        | sqlx::Error::ConfigFile(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::TypeNotFound { .. }
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::Migrate(_) => Verdict::Operator,
        // Mistakes of ours, what other drivers say, and what a later sqlx may add.
        _ => Verdict::Unknown,
    }
}

/// The verdict on a SQLSTATE; `routine` is the place in Postgres that reported it.
fn verdict_on(state: SqlState, routine: Option<&str>) -> Verdict {
    match (state.class(), state.as_str()) {
        // "cached plan must not change result type": the one error told by more than its code. The words are
        // translated on some servers, the name of the routine is not.
        ("0A", _) if routine == Some("RevalidateCachedQuery") => Verdict::NewConnection,
        (_, "26000" | "42P05") => Verdict::NewConnection,

        // A sequence at its end gives no record an id.
        (_, "2200H") => Verdict::Operator,
        ("22" | "23", _) | (_, "54000" | "54001" | "P0001") => Verdict::Record,

        ("08", _) => Verdict::TryAgain(Cause::Connection),
        (_, "57014") => Verdict::TooSlow,
        ("57", _) | (_, "25006") => Verdict::TryAgain(Cause::Shutdown),
        ("40", _) | (_, "55P03" | "55006") => Verdict::TryAgain(Cause::Contention),
        ("53", _) => Verdict::TryAgain(Cause::Resources),
        ("58", _) => Verdict::TryAgain(Cause::ServerIo),
        (_, "25P03" | "25P04") => Verdict::TryAgain(Cause::Timeout),

        ("0A" | "28" | "3D" | "3F" | "42" | "55", _) => Verdict::Operator,
        (_, "XX001" | "XX002") => Verdict::Corrupt,
        _ => Verdict::Unknown,
    }
}

fn is_caused_by_io(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Postgres' code for a kind of error: five digits or capital letters, of which two name the class.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// `None` unless it is five digits or capital letters.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        let legal = code.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
        code.as_bytes().try_into().ok().filter(|_| legal).map(Self)
    }

    /// The code of an error that Postgres answered with.
    #[must_use]
    pub fn of(error: &sqlx::Error) -> Option<Self> {
        Self::parse(&error.as_database_error()?.code()?)
    }

    /// The five characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether a record refused for this may be accepted later as it is: the row that it refers to may come (23503), a
    /// trigger may change its mind (P0001).
    #[must_use]
    pub fn may_heal(self) -> bool {
        matches!(self.as_str(), "23503" | "P0001")
    }

    fn class(&self) -> &str {
        self.as_str().get(..2).unwrap_or_default()
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlState({self})")
    }
}

#[cfg(test)]
mod tests;
