//! Assigns a class to each error of the database: one total function of the SQLSTATE, never of the message of
//! `PostgreSQL`. Only the one code that `PgBouncer` has for all its errors needs the message.
//!
//! Invariant: a record with an error of [`ErrorClass::Record`] becomes a dead letter, so an error that the environment
//! causes never has this class.
//! No error is retried by default: an error that is not listed is [`ErrorClass::Unknown`].

use sqlx::postgres::PgDatabaseError;
use std::error::Error;
use std::io;

use crate::model::error_class::{ErrorClass, RetryCause};
use crate::model::sqlstate::SqlState;
use crate::postgres::servers::decisive;

/// The class of an error of sqlx.
#[must_use]
pub fn classify(error: &sqlx::Error) -> ErrorClass {
    let error = decisive(error);
    match error {
        sqlx::Error::Database(refusal) => match sqlstate_of(error) {
            Some(state) if pooler_refuses(state, refusal.message()) => ErrorClass::Operator,
            Some(state) => {
                let routine = refusal.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::routine);
                classify_sqlstate(state, routine)
            }
            None => ErrorClass::Unknown,
        },
        // A time limit of this program or of the network: a smaller batch may succeed.
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => ErrorClass::TooSlow,
        sqlx::Error::Io(_) => ErrorClass::Retry(RetryCause::Connection),
        // A handshake that was interrupted is a network error. A certificate that is not trusted needs an operator.
        sqlx::Error::Tls(cause) if is_caused_by_io(cause.as_ref()) => ErrorClass::Retry(RetryCause::Connection),
        sqlx::Error::PoolTimedOut => ErrorClass::Retry(RetryCause::Timeout),
        // Client and server disagree about the state of the protocol.
        sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => ErrorClass::NewConnection,
        // A value that can't be encoded.
        sqlx::Error::Encode(_) => ErrorClass::Record,
        // Wrong settings of the connection, or tables with other columns or types than this program expects.
        sqlx::Error::Configuration(_)
        | sqlx::Error::ConfigFile(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::TypeNotFound { .. }
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::Migrate(_) => ErrorClass::Operator,
        // Errors in our own code, errors of other drivers, and variants that a later sqlx may add.
        _ => ErrorClass::Unknown,
    }
}

/// The code of an error that Postgres returned.
#[must_use]
pub fn sqlstate_of(error: &sqlx::Error) -> Option<SqlState> {
    SqlState::parse(&decisive(error).as_database_error()?.code()?)
}

/// What an operator can do about an error of an operation without a record. `None`: the text of the error is enough, or
/// a retry is the only help.
#[must_use]
pub fn advice(error: &sqlx::Error) -> Option<&'static str> {
    if let sqlx::Error::Tls(cause) = decisive(error) {
        return certificate_advice(&cause.to_string());
    }
    match (classify(error).without_a_record(), sqlstate_of(error)?.as_str()) {
        (_, "53300") => Some(
            "raise max_connections of PostgreSQL or the connection limit of the role or the database, or lower WRITERS: an \
             instance needs WRITERS + 1 connections",
        ),
        (ErrorClass::Operator, "08P01") if error.to_string().contains(STARTUP_PARAMETER) => Some(
            "add the name of the parameter to ignore_startup_parameters of PgBouncer; for options, remove them from \
             DATABASE_URL and use `alter role … set …`",
        ),
        (ErrorClass::Operator, "08P01") => {
            Some("check user, password and database in DATABASE_URL, and in the settings of PgBouncer")
        }
        (_, "26000" | "42P05") => Some(
            "if a connection pooler is in transaction or statement mode, use session mode, and server_reset_query = \
             DISCARD ALL in PgBouncer",
        ),
        (_, "2200H") => Some(
            "widen the column of this sequence (`alter table … alter column … type bigint`), and the sequence (`alter \
             sequence … as bigint no maxvalue`)",
        ),
        _ => None,
    }
}

/// What to do about a certificate of the server that failed a check. It looks for the words of OpenSSL, which names the check
/// at the end of its error.
fn certificate_advice(error: &str) -> Option<&'static str> {
    let has = |part| error.contains(part);
    if has("certificate has expired") {
        Some("renew the certificate of the server")
    } else if has("certificate is not yet valid") {
        Some("correct the clock of this machine, or the certificate of the server")
    } else if has("ostname mismatch") || has("IP address mismatch") {
        Some(
            "the certificate of the server is for another host: use the host name of the certificate in DATABASE_URL, or a \
             certificate for this host",
        )
    } else if has("issuer certificate") || has("self-signed certificate") {
        Some(
            "the service does not trust the authority that signed the certificate of the server: set sslrootcert in \
             DATABASE_URL to the certificate of this authority",
        )
    } else {
        None
    }
}

/// Part of "unsupported startup parameter: NAME" and "unsupported startup parameter in options: NAME".
const STARTUP_PARAMETER: &str = "startup parameter";

/// Whether a refusal comes from `PgBouncer`, and only an operator can end it. `PgBouncer` has one code for all its errors,
/// also for those of an outage, but it does not translate its texts. An unknown text is an outage, which is retried.
fn pooler_refuses(state: SqlState, message: &str) -> bool {
    let refusals = [STARTUP_PARAMETER, "authentication failed", "does not exist", "no such database", "no such user"];
    state.as_str() == "08P01" && refusals.iter().any(|refusal| message.contains(refusal))
}

/// The class of a SQLSTATE. `routine` is the function in Postgres that reported the error.
fn classify_sqlstate(state: SqlState, routine: Option<&str>) -> ErrorClass {
    match (state.class(), state.as_str()) {
        // "cached plan must not change result type": the only error that needs more than its code. Some servers translate
        // the message, but not the name of the routine.
        ("0A", _) if routine == Some("RevalidateCachedQuery") => ErrorClass::NewConnection,
        (_, "26000" | "42P05") => ErrorClass::NewConnection,

        // A sequence has reached its end: no record can get an id.
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
