//! The servers of one database, and the choice of the one to connect to.
//!
//! The rules are those of libpq for several hosts: the servers are tried in their order, each within its own time limit,
//! until one gives a session of the wanted kind. Unlike in libpq, a server that refuses the user does not end the attempt:
//! in a failover, the settings of one server can be wrong.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fmt, io, iter};

use crate::model::error_class::ErrorClass;
use crate::postgres::error::classify;
use crate::postgres::session::no_answer;

/// The longest wait for one of several servers, unless a connect timeout is given.
const SERVER_LIMIT: Duration = Duration::from_secs(5);

/// The kind of session that is wanted: `target_session_attrs` of libpq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetSession {
    /// Any server that accepts the connection.
    Any,
    /// A server whose transactions can write by default.
    ReadWrite,
    /// A server whose transactions cannot write by default.
    ReadOnly,
    /// A server that is not in recovery.
    Primary,
    /// A server that is in recovery: a replica.
    Standby,
    /// A standby if there is one, else any server.
    PreferStandby,
}

impl TargetSession {
    /// The name in a URL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }

    /// Whether the session that is wanted can write. The engine needs one that can.
    #[must_use]
    pub const fn can_write(self) -> bool {
        matches!(self, Self::Any | Self::ReadWrite | Self::Primary)
    }

    /// The kinds to look for, one after the other.
    const fn rounds(self) -> &'static [Self] {
        match self {
            Self::Any => &[Self::Any],
            Self::ReadWrite => &[Self::ReadWrite],
            Self::ReadOnly => &[Self::ReadOnly],
            Self::Primary => &[Self::Primary],
            Self::Standby => &[Self::Standby],
            Self::PreferStandby => &[Self::Standby, Self::Any],
        }
    }

    const fn accepts(self, in_recovery: bool, read_only: bool) -> bool {
        match self {
            Self::Any | Self::PreferStandby => true,
            Self::ReadWrite => !in_recovery && !read_only,
            Self::ReadOnly => in_recovery || read_only,
            Self::Primary => !in_recovery,
            Self::Standby => in_recovery,
        }
    }
}

/// The servers of one database in the order in which they are tried. `Display` and `Debug` show no user and no password.
#[derive(Clone)]
pub struct DatabaseServers {
    first: PgConnectOptions,
    others: Vec<PgConnectOptions>,
    target: TargetSession,
    connect_timeout: Option<Duration>,
    /// Whether a login succeeded, with these servers or a clone of them.
    logged_in: Arc<AtomicBool>,
}

/// One server, as it is. This is also right for a connection pooler or a virtual address.
impl From<PgConnectOptions> for DatabaseServers {
    fn from(server: PgConnectOptions) -> Self {
        Self::new(server, Vec::new())
    }
}

impl DatabaseServers {
    /// Servers in their order. Of several servers, the one that can write is wanted: the engine writes.
    #[must_use]
    pub fn new(first: PgConnectOptions, others: Vec<PgConnectOptions>) -> Self {
        let target = if others.is_empty() { TargetSession::Any } else { TargetSession::ReadWrite };
        Self { first, others, target, connect_timeout: None, logged_in: Arc::default() }
    }

    /// The same servers, and another kind of session.
    #[must_use]
    pub fn target(self, target: TargetSession) -> Self {
        Self { target, ..self }
    }

    /// The same servers, and another time limit for each of them.
    #[must_use]
    pub fn connect_timeout(self, limit: Duration) -> Self {
        Self { connect_timeout: Some(limit), ..self }
    }

    /// The options of each server, in their order. Their `Debug` shows the password: never log them.
    pub fn iter(&self) -> impl Iterator<Item = &PgConnectOptions> {
        iter::once(&self.first).chain(&self.others)
    }

    /// Each server alone, with its address. Any kind of session is wanted.
    pub fn each(&self) -> impl Iterator<Item = (String, Self)> {
        self.iter().map(|server| (address(server), Self::from(server.clone())))
    }

    /// The user that connects.
    #[must_use]
    pub fn user(&self) -> &str {
        self.first.get_username()
    }

    /// The name of the database. Without one, `PostgreSQL` uses the name of the user.
    #[must_use]
    pub fn database(&self) -> &str {
        self.first.get_database().unwrap_or_else(|| self.user())
    }

    /// The kind of session that is wanted.
    #[must_use]
    pub fn wanted(&self) -> TargetSession {
        self.target
    }

    /// Opens a connection to the first server that gives a session of the wanted kind, within this time limit for all of
    /// them. The server sets no time limits for this connection: see [`crate::admin::Session`].
    ///
    /// # Errors
    /// The error of the one server, or the errors of all servers.
    pub async fn connect(&self, limit: Duration) -> sqlx::Result<PgConnection> {
        let limit = self.server_limit(limit);
        let mut failures = Vec::new();
        for (wanted, server) in self.attempts() {
            let opened = tokio::time::timeout(limit, self.open(server, wanted)).await;
            match opened.unwrap_or_else(|_| Err(no_answer(limit))) {
                Ok(connection) => {
                    tracing::debug!(server = address(server), "database_connected");
                    return Ok(connection);
                }
                Err(error) => failures.push(ServerFailure { server: address(server), error }),
            }
        }
        Err(match failures.pop() {
            // With only one server, the caller names it.
            Some(last) if self.others.is_empty() => last.error,
            last => {
                failures.extend(last);
                NoServer(failures).into()
            }
        })
    }

    async fn open(&self, server: &PgConnectOptions, wanted: TargetSession) -> sqlx::Result<PgConnection> {
        // No column is a float. A pooler can refuse a start-up parameter that it does not know.
        let connection = server.clone().extra_float_digits(None).disable_statement_logging().connect().await;
        let mut connection =
            connection.map_err(|error| refused_login(error, self.logged_in.load(Ordering::Relaxed)))?;
        self.logged_in.store(true, Ordering::Relaxed);
        if wanted == TargetSession::Any {
            return Ok(connection);
        }
        let (in_recovery, read_only) = session_kind(&mut connection).await?;
        if wanted.accepts(in_recovery, read_only) {
            return Ok(connection);
        }
        // The answer does not matter: this connection is not used.
        connection.close().await.ok();
        let found = match (in_recovery, read_only) {
            (true, _) => "a standby",
            (false, true) => "read-only",
            (false, false) => "a primary that can write",
        };
        let text = format!("this server is {found}, and target_session_attrs={} is wanted", wanted.name());
        Err(sqlx::Error::Io(io::Error::other(text)))
    }

    fn attempts(&self) -> Vec<(TargetSession, &PgConnectOptions)> {
        let rounds = self.target.rounds().iter();
        rounds.flat_map(|wanted| self.iter().map(|server| (*wanted, server))).collect()
    }

    /// The time limit for one server. A server that does not answer must leave time for the others.
    fn server_limit(&self, limit: Duration) -> Duration {
        let attempts = self.attempts().len();
        let share = limit / u32::try_from(attempts).unwrap_or(u32::MAX).max(1);
        match self.connect_timeout {
            Some(own) => own.min(share),
            None if attempts > 1 => SERVER_LIMIT.min(share),
            None => share,
        }
    }
}

/// The servers as host and port, separated by commas.
impl fmt::Display for DatabaseServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&address(&self.first))?;
        self.others.iter().try_for_each(|server| write!(f, ",{}", address(server)))
    }
}

impl fmt::Debug for DatabaseServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseServers({self}, {})", self.target.name())
    }
}

/// Host and port, or the path of the socket.
fn address(server: &PgConnectOptions) -> String {
    let (host, port) = (server.get_host(), server.get_port());
    match server.get_socket() {
        Some(directory) => format!("{}:{port}", directory.display()),
        None if host.contains(':') => format!("[{host}]:{port}"),
        None => format!("{host}:{port}"),
    }
}

/// Before the login, a server writes its errors in its own language and encoding. The driver reads UTF-8 only, and loses
/// the SQLSTATE of the others: a wrong password, a server that starts and a server without a free connection have the same
/// error. Only a user who was never accepted is probably wrong. Any other error of the protocol can be a proxy without a
/// server, which ends the connection.
fn refused_login(error: sqlx::Error, logged_in: bool) -> sqlx::Error {
    match error {
        sqlx::Error::Protocol(text) if !logged_in && text.contains("non-UTF-8 string") => sqlx::Error::Configuration(
            format!(
                "the login failed: {text} Look into the log of the server. Check user, password and database in \
                 DATABASE_URL, and that the server has started and has a free connection"
            )
            .into(),
        ),
        other => other,
    }
}

/// Whether the server is in recovery, and whether its transactions are read-only by default.
async fn session_kind(connection: &mut PgConnection) -> sqlx::Result<(bool, bool)> {
    let kind = sqlx::query!(
        r#"
        select pg_is_in_recovery() as "in_recovery!", current_setting('transaction_read_only')::boolean as "read_only!"
        "#
    )
    .fetch_one(connection)
    .await?;
    Ok((kind.in_recovery, kind.read_only))
}

/// Why one server cannot be used.
#[derive(Debug)]
struct ServerFailure {
    server: String,
    error: sqlx::Error,
}

/// Why none of several servers can be used.
#[derive(Debug)]
struct NoServer(Vec<ServerFailure>);

impl fmt::Display for NoServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no server can be used")?;
        self.0.iter().try_for_each(|ServerFailure { server, error }| write!(f, "; {server}: {error}"))
    }
}

impl std::error::Error for NoServer {}

impl From<NoServer> for sqlx::Error {
    fn from(failures: NoServer) -> Self {
        Self::Io(io::Error::other(failures))
    }
}

/// The error that decides what to do: the error itself, or one of the errors of several servers. If one of the
/// servers may work later, a retry can succeed, also while another one refuses the user.
pub(super) fn decisive(error: &sqlx::Error) -> &sqlx::Error {
    let sqlx::Error::Io(cause) = error else { return error };
    let Some(NoServer(failures)) = cause.get_ref().and_then(|cause| cause.downcast_ref()) else { return error };
    let mut errors = failures.iter().map(|failure| &failure.error);
    let temporary = errors.clone().find(|error| {
        matches!(classify(error), ErrorClass::Retry(_) | ErrorClass::TooSlow | ErrorClass::NewConnection)
    });
    temporary.or_else(|| errors.next()).unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error_class::RetryCause;

    fn servers(count: u16) -> DatabaseServers {
        let server = |number| PgConnectOptions::new_without_pgpass().host("db").port(number).password("s3cret");
        DatabaseServers::new(server(1), (2..=count).map(server).collect())
    }

    #[test]
    fn a_server_that_does_not_answer_leaves_time_for_the_others() {
        let limit =
            |servers: DatabaseServers, seconds| servers.server_limit(Duration::from_secs(seconds)).as_secs_f32();
        assert!((limit(servers(1), 30) - 30.0).abs() < 0.01);
        assert!((limit(servers(2), 30) - 5.0).abs() < 0.01);
        assert!((limit(servers(2), 3) - 1.5).abs() < 0.01);
        assert!((limit(servers(2).connect_timeout(Duration::from_secs(8)), 30) - 8.0).abs() < 0.01);
        assert!((limit(servers(1).connect_timeout(Duration::from_mins(1)), 30) - 30.0).abs() < 0.01);
        assert!((limit(servers(2).target(TargetSession::PreferStandby), 8) - 2.0).abs() < 0.01);
    }

    #[test]
    fn each_kind_of_session_is_accepted_from_the_servers_that_libpq_accepts() {
        use TargetSession::{Any, PreferStandby, Primary, ReadOnly, ReadWrite, Standby};
        let accepted = |in_recovery, read_only| -> Vec<_> {
            let kinds = [Any, ReadWrite, ReadOnly, Primary, Standby, PreferStandby].into_iter();
            kinds.filter(|kind| kind.accepts(in_recovery, read_only)).collect()
        };
        assert_eq!(accepted(false, false), [Any, ReadWrite, Primary, PreferStandby]);
        assert_eq!(accepted(false, true), [Any, ReadOnly, Primary, PreferStandby]);
        assert_eq!(accepted(true, true), [Any, ReadOnly, Standby, PreferStandby]);
    }

    #[test]
    fn several_servers_are_shown_without_user_and_password_and_the_one_that_can_write_is_wanted() {
        assert_eq!(format!("{:?}", servers(2)), "DatabaseServers(db:1,db:2, read-write)");
        assert_eq!(format!("{:?}", servers(1)), "DatabaseServers(db:1, any)");
        let socket = PgConnectOptions::new_without_pgpass().socket("/run/pg").port(3);
        let address = PgConnectOptions::new_without_pgpass().host("::1").port(4);
        assert_eq!(DatabaseServers::new(socket, vec![address]).to_string(), "/run/pg:3,[::1]:4");
    }

    fn check(errors: Vec<sqlx::Error>, expected: ErrorClass) {
        let failures = (1..).zip(errors).map(|(port, error)| ServerFailure { server: format!("db:{port}"), error });
        let error = NoServer(failures.collect()).into();
        assert_eq!(classify(&error), expected, "{error}");
    }

    #[test]
    fn the_reaction_is_a_retry_if_one_of_the_servers_may_work_later() {
        let refused = || sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into());
        let wrong_tls = || sqlx::Error::Tls("certificate not trusted".into());
        check(vec![wrong_tls(), wrong_tls()], ErrorClass::Operator);
        check(vec![wrong_tls(), refused()], ErrorClass::Retry(RetryCause::Connection));
        check(vec![no_answer(Duration::from_secs(1)), wrong_tls()], ErrorClass::TooSlow);
        let proxy_without_server = || sqlx::Error::Protocol("unexpected response from SSLRequest: 0x00".to_owned());
        check(vec![wrong_tls(), proxy_without_server()], ErrorClass::NewConnection);
        let both = [refused(), wrong_tls()].map(|error| ServerFailure { server: "db:1".to_owned(), error });
        let text = NoServer(both.into()).to_string();
        assert!(text.contains("no server can be used; db:1: ") && text.contains("not trusted"), "{text}");
    }
    #[test]
    fn only_a_refusal_that_is_not_utf_8_and_of_a_user_who_was_never_accepted_is_a_refusal_of_the_user() {
        let check = |text: &str, logged_in, expected| {
            assert_eq!(classify(&refused_login(sqlx::Error::Protocol(text.to_owned()), logged_in)), expected, "{text}");
        };
        let refusal = "Postgres returned a non-UTF-8 string for its error message.";
        check(refusal, false, ErrorClass::Operator);
        check(refusal, true, ErrorClass::NewConnection);
        check("unexpected response from SSLRequest: 0x00", false, ErrorClass::NewConnection);
    }
}
