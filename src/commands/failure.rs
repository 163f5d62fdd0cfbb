//! Why a command failed: a text with an instruction, and the exit code.

use fenced_sink::admin::{ErrorClass, RetryCause, ServerProblem, SqlState, advice, classify, sqlstate_of};
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
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Finding(_) => 1,
            Self::Usage(_) => 2,                             // as clap uses it
            Self::Config(_) => 78,                           // EX_CONFIG
            Self::Unavailable(_) | Self::Privilege(_) => 69, // EX_UNAVAILABLE
            Self::Internal(_) => 70,                         // EX_SOFTWARE
        }
    }

    /// A problem of the server or of a pooler. A retry does not help.
    #[must_use]
    pub(super) fn server_problem(problem: &ServerProblem, database: &Database) -> Self {
        Self::Unavailable(format!("can't use PostgreSQL at {database}: {problem}"))
    }

    /// The meaning of a database error for the user of a command. For operations in which no record can be the cause.
    #[must_use]
    pub fn database(error: &sqlx::Error, database: &Database) -> Self {
        let DatabaseProblem { class, state, error, hint } = DatabaseProblem::of(error);
        let code = state.as_ref().map(|state| format!(" ({state})")).unwrap_or_default();
        if class == ErrorClass::Corrupt {
            return Self::Internal(format!("PostgreSQL at {database} found corrupt data{code}: {error}"));
        }
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        let text = format!("can't use PostgreSQL at {database}{code}: {error}{hint}");
        if state.is_some_and(|state| state.as_str() == "42501") {
            Self::Privilege(text)
        } else {
            Self::Unavailable(text)
        }
    }
}

/// A database error for the user of a command.
pub(super) struct DatabaseProblem {
    class: ErrorClass,
    state: Option<SqlState>,
    /// Without details: they can contain rows.
    pub(super) error: String,
    /// What the user can do. `None`: the error says it, or the user can do nothing.
    pub(super) hint: Option<String>,
}

impl DatabaseProblem {
    pub(super) fn of(error: &sqlx::Error) -> Self {
        let class = classify(error).without_a_record();
        let state = sqlstate_of(error);
        // This error has its own instruction.
        if let sqlx::Error::Configuration(cause) = error {
            return Self { class, state, error: cause.to_string(), hint: None };
        }
        let refusal = error.as_database_error();
        // A hint from the server or from a migration is better than our advice.
        let hint = refusal.and_then(|refusal| refusal.try_downcast_ref::<PgDatabaseError>()?.hint());
        let hint = hint.or(advice(error)).or_else(|| instruction(class, state.as_ref().map(SqlState::as_str), error));
        let text = refusal.map_or_else(|| error.to_string(), |refusal| refusal.message().to_owned());
        Self { class, state, error: text, hint: hint.map(str::to_owned) }
    }
}

/// What the user can do. `None`: the error says it, or the user can do nothing.
fn instruction(class: ErrorClass, state: Option<&str>, error: &sqlx::Error) -> Option<&'static str> {
    Some(match (state, class, error) {
        (Some("28P01" | "28000"), ..) => "check user and password in DATABASE_URL, and pg_hba.conf",
        (Some("3D000"), ..) => "create the database, or check its name in DATABASE_URL",
        (Some("3F000"), ..) => "create the schema, or check search_path in DATABASE_URL",
        (Some("42501"), ..) => "grant the privilege, or connect as the owner of the tables",
        (Some("42P01" | "42703"), ..)
        | (
            None,
            _,
            sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::Decode(_),
        ) => "check the tables: `booking-history migrate status` shows what is applied",
        (Some("25006"), ..) => {
            "this server is read-only: DATABASE_URL must name the primary, or all servers as host1,host2"
        }
        (Some("53100"), ..) => "free disk space on the server",
        (Some("57014"), ..) => "try again; with a longer DATABASE_TIMEOUT a statement may take longer",
        (Some(_), ErrorClass::Retry(RetryCause::Contention), _) => "try again when other sessions hold no locks",
        (Some(_), ErrorClass::Retry(RetryCause::Shutdown), _) => "try again when the server has started",
        (Some(_), ErrorClass::Operator, _) => "check the database's schema, settings and privileges",
        (Some(_), ..) => "try again",
        (None, _, sqlx::Error::Tls(_)) => {
            "check sslmode, sslrootcert, sslcert and sslkey in DATABASE_URL, and the certificate of the server"
        }
        (None, ErrorClass::NewConnection, _) => "check that a PostgreSQL server answers there",
        (None, ErrorClass::Retry(_), _) => "check that it runs and that DATABASE_URL names it",
        (None, ..) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;
    use std::fmt;
    use std::io;

    use sqlx::error::{DatabaseError, ErrorKind};
    use sqlx::postgres::PgConnectOptions;

    /// A refusal with this SQLSTATE.
    #[derive(Debug)]
    struct RefusalOfTest(&'static str);

    impl fmt::Display for RefusalOfTest {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("refused")
        }
    }

    impl std::error::Error for RefusalOfTest {}

    impl DatabaseError for RefusalOfTest {
        fn message(&self) -> &'static str {
            "refused"
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    fn check(error: &sqlx::Error, expected: &str) {
        let options = PgConnectOptions::new_without_pgpass();
        let database = options.host("db").port(5434).username("me").password("s3cret").database("b").into();
        let found = CommandError::database(error, &database);
        let text = found.to_string();
        assert!(text.starts_with("can't use PostgreSQL at db:5434/b as me"), "{text}");
        assert!(text.ends_with(expected) && !text.contains("s3cret"), "{text}");
        assert_eq!(found.exit_code(), 69);
    }

    #[test]
    fn each_failure_of_the_database_ends_with_what_the_user_can_do() {
        for (state, advice) in [
            ("28P01", "(28P01): refused; check user and password in DATABASE_URL, and pg_hba.conf"),
            ("28000", "; check user and password in DATABASE_URL, and pg_hba.conf"),
            ("3D000", "; create the database, or check its name in DATABASE_URL"),
            ("3F000", "; create the schema, or check search_path in DATABASE_URL"),
            ("42501", "; grant the privilege, or connect as the owner of the tables"),
            ("42P01", "; check the tables: `booking-history migrate status` shows what is applied"),
            ("25006", "; this server is read-only: DATABASE_URL must name the primary, or all servers as host1,host2"),
            ("53100", "; free disk space on the server"),
            ("57014", "; try again; with a longer DATABASE_TIMEOUT a statement may take longer"),
            ("40P01", "; try again when other sessions hold no locks"),
            ("57P03", "; try again when the server has started"),
            ("42601", "; check the database's schema, settings and privileges"),
            ("53200", "; try again"),
        ] {
            check(&sqlx::Error::Database(Box::new(RefusalOfTest(state))), advice);
        }
        let tables = "; check the tables: `booking-history migrate status` shows what is applied";
        let runs = "; check that it runs and that DATABASE_URL names it";
        let of_tls = "in DATABASE_URL, and the certificate of the server";
        for (error, advice) in [
            (sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into()), runs),
            (sqlx::Error::Io(io::ErrorKind::TimedOut.into()), runs),
            (sqlx::Error::Tls("certificate not trusted".into()), of_tls),
            (sqlx::Error::Protocol("not PostgreSQL".into()), "; check that a PostgreSQL server answers there"),
            (sqlx::Error::ColumnNotFound("id".into()), tables),
            (sqlx::Error::Decode("null".into()), tables),
            // The errors of our own checks say what to do.
            (sqlx::Error::Configuration("type this".into()), "type this"),
        ] {
            check(&error, advice);
        }
    }

    #[test]
    fn corrupt_data_is_not_a_temporary_failure() {
        let database = PgConnectOptions::new_without_pgpass().host("db").into();
        let corrupt = sqlx::Error::Database(Box::new(RefusalOfTest("XX001")));
        assert_eq!(CommandError::database(&corrupt, &database).exit_code(), 70);
    }
}
