//! From an error of the database to what is done about it: one total function, over SQLSTATE and never over words.
//!
//! Invariant: what the environment caused never blames a record, since the verdict [`ErrorClass::Record`] is what makes a
//! dead letter. Nothing falls through to "try again": an error that nobody thought of is [`ErrorClass::Unknown`].

use sqlx::postgres::PgDatabaseError;
use std::error::Error;
use std::io;

use crate::model::error_class::{ErrorClass, RetryCause};
use crate::model::sqlstate::SqlState;

/// The verdict on an error of sqlx.
#[must_use]
pub fn classify(error: &sqlx::Error) -> ErrorClass {
    match error {
        sqlx::Error::Database(refusal) => match sqlstate_of(error) {
            Some(state) => {
                let routine = refusal.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::routine);
                classify_sqlstate(state, routine)
            }
            None => ErrorClass::Unknown,
        },
        // Our own limit, and that of the network: less at once may pass.
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => ErrorClass::TooSlow,
        sqlx::Error::Io(_) => ErrorClass::Retry(RetryCause::Connection),
        // A handshake that broke off is the network's; a certificate that isn't trusted is somebody's decision.
        sqlx::Error::Tls(cause) if is_caused_by_io(cause.as_ref()) => ErrorClass::Retry(RetryCause::Connection),
        sqlx::Error::PoolTimedOut => ErrorClass::Retry(RetryCause::Timeout),
        // The two sides no longer agree on where in the protocol they are.
        sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => ErrorClass::NewConnection,
        // A value that has no form on the wire.
        sqlx::Error::Encode(_) => ErrorClass::Record,
        // The connection's settings, or tables that are not the ones this program knows.
        sqlx::Error::Configuration(_)
        | sqlx::Error::ConfigFile(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::TypeNotFound { .. }
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::Migrate(_) => ErrorClass::Operator,
        // Mistakes of ours, what other drivers say, and what a later sqlx may add.
        _ => ErrorClass::Unknown,
    }
}

/// The code of an error that Postgres answered with.
#[must_use]
pub fn sqlstate_of(error: &sqlx::Error) -> Option<SqlState> {
    SqlState::parse(&error.as_database_error()?.code()?)
}

/// The verdict on a SQLSTATE; `routine` is the place in Postgres that reported it.
fn classify_sqlstate(state: SqlState, routine: Option<&str>) -> ErrorClass {
    match (state.class(), state.as_str()) {
        // "cached plan must not change result type": the one error told by more than its code. The words are
        // translated on some servers, the name of the routine is not.
        ("0A", _) if routine == Some("RevalidateCachedQuery") => ErrorClass::NewConnection,
        (_, "26000" | "42P05") => ErrorClass::NewConnection,

        // A sequence at its end gives no record an id.
        (_, "2200H") => ErrorClass::Operator,
        ("22" | "23", _) | (_, "54000" | "54001" | "P0001") => ErrorClass::Record,

        ("08", _) => ErrorClass::Retry(RetryCause::Connection),
        (_, "57014") => ErrorClass::TooSlow,
        ("57", _) | (_, "25006") => ErrorClass::Retry(RetryCause::Shutdown),
        ("40", _) | (_, "55P03" | "55006") => ErrorClass::Retry(RetryCause::Contention),
        ("53", _) => ErrorClass::Retry(RetryCause::Resources),
        ("58", _) => ErrorClass::Retry(RetryCause::ServerIo),
        (_, "25P03" | "25P04") => ErrorClass::Retry(RetryCause::Timeout),

        ("0A" | "28" | "3D" | "3F" | "42" | "55", _) => ErrorClass::Operator,
        (_, "XX001" | "XX002") => ErrorClass::Corrupt,
        _ => ErrorClass::Unknown,
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

#[cfg(test)]
mod tests;
