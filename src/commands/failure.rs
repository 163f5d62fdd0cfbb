//! Why a command failed: a text with an instruction, and the exit code.

use fenced_sink::admin::{ErrorClass, ServerProblem, SqlState, advice, classify, sqlstate_of};
use sqlx::postgres::PgDatabaseError;

use crate::config::{ConfigFaults, Database};

/// Each variant has one exit code.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// 1: the command succeeded, and has a finding.
    #[error("{0}")]
    Finding(String),
    /// 2: the arguments do not fit the partitions or the topic log. Nothing was changed.
    #[error("{0}")]
    Usage(String),
    /// 78: the settings can't be used.
    #[error(transparent)]
    Config(#[from] ConfigFaults),
    /// 69: the command can't use a server.
    #[error("{0}")]
    Unavailable(String),
    /// 69: the database user lacks a privilege.
    #[error("{0}")]
    Privilege(String),
    /// 70: an error in this program, or corrupt data.
    #[error("{0}")]
    Internal(String),
}

impl CommandError {
    /// The exit code of the process. The names in the comments are those of `sysexits.h`.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Finding(_) => 1,
            Self::Usage(_) => 2,                             // as clap uses it
            Self::Config(_) => 78,                           // EX_CONFIG
            Self::Unavailable(_) | Self::Privilege(_) => 69, // EX_UNAVAILABLE
            Self::Internal(_) => 70,                         // EX_SOFTWARE
        }
    }

    /// A problem of the server that ends only with another server or another pooler.
    #[must_use]
    pub(super) fn server_problem(problem: &ServerProblem, database: &Database) -> Self {
        Self::Unavailable(format!("can't use PostgreSQL at {database}: {problem}"))
    }

    /// The meaning of a database error for the user of a command. For operations in which no record can be the cause.
    #[must_use]
    pub fn database(error: &sqlx::Error, database: &Database) -> Self {
        // This error has its own instruction.
        if let sqlx::Error::Configuration(cause) = error {
            return Self::Unavailable(format!("can't use PostgreSQL at {database}: {cause}"));
        }
        let state = sqlstate_of(error);
        let cause = match error.as_database_error() {
            Some(refusal) => refusal.message().to_owned(),
            None => error.to_string(),
        };
        let code = state.map(|state| format!(" ({state})")).unwrap_or_default();
        // A hint from the server or from a migration is better than our advice. Details are not shown: they can hold rows.
        let hint = error.as_database_error().and_then(|refusal| refusal.try_downcast_ref::<PgDatabaseError>()?.hint());
        let hint = hint.or(advice(error));
        let advice = match (classify(error).without_a_record(), state.as_ref().map(SqlState::as_str)) {
            (ErrorClass::Corrupt, _) => {
                return Self::Internal(format!("PostgreSQL at {database} found corrupt data{code}: {cause}"));
            }
            _ if hint.is_some() => hint.unwrap_or_default(),
            (_, Some("28P01" | "28000")) => "check user and password in DATABASE_URL, and pg_hba.conf",
            (_, Some("3D000")) => "create the database, or check its name in DATABASE_URL",
            (_, Some("42501")) => "grant the privilege, or connect as the owner of the tables",
            (_, Some("25006")) => "DATABASE_URL must name the primary: this server is read-only",
            (ErrorClass::Operator, None) => "check DATABASE_URL and the server's TLS settings",
            (ErrorClass::Operator, Some(_)) => "check the database's schema, settings and privileges",
            (_, None) => "check that it runs and that DATABASE_URL names it",
            (_, Some(_)) => "try again",
        };
        let text = format!("can't use PostgreSQL at {database}{code}: {cause}; {advice}");
        if state.is_some_and(|state| state.as_str() == "42501") {
            Self::Privilege(text)
        } else {
            Self::Unavailable(text)
        }
    }
}
