//! Checks of the server and of a connection pooler in front of it. A retry does not help against these problems.

use sqlx::{PgConnection, Row as _};
use std::fmt;
use std::pin::pin;
use std::time::Duration;
use tokio::time::timeout;

use crate::postgres::servers::DatabaseServers;
use crate::postgres::session::Session;

/// How long the second session waits for its first answer before the first session is asked too.
const HEAD_START: Duration = Duration::from_secs(1);
/// How long it waits after that. A shared pool gives it the server session that the first one has used, at once unless the
/// machine is under load. A pool in session mode whose server sessions are all in use lets it wait in vain.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// A pooler may give a session the same server process several times in a row.
const ROUNDS: usize = 5;

/// Marks the session. Each call makes another mark.
const MARK: &str = "select set_config('fenced_sink.mark', gen_random_uuid()::text, false)";
/// The mark of the session.
const READ_MARK: &str = "select current_setting('fenced_sink.mark', true)";

/// Why the service can't work with a server. A retry does not help. `Display` adds what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerProblem {
    /// The statements of one session are executed in several sessions of the server.
    SharedSession,
    /// The encoding of the database does not have every character.
    Encoding(String),
}

impl ServerProblem {
    /// What is wrong.
    #[must_use]
    pub fn finding(&self) -> String {
        match self {
            Self::SharedSession => {
                "a connection pooler executes the statements of one session in several sessions of PostgreSQL (transaction \
                 or statement mode), and this service needs a session for each connection"
                    .to_owned()
            }
            Self::Encoding(encoding) => {
                format!("the encoding of the database is {encoding}, which can't store every character")
            }
        }
    }

    /// What to do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::SharedSession => {
                "use session mode (PgBouncer: pool_mode = session for this database), or connect to PostgreSQL directly"
            }
            Self::Encoding(_) => {
                "create a database with encoding UTF8 (create database NAME encoding 'UTF8' template template0), copy the \
                 tables, and change DATABASE_URL"
            }
        }
    }
}

impl fmt::Display for ServerProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.finding(), self.hint())
    }
}

impl std::error::Error for ServerProblem {}

/// Opens a session, and finds the problems of the server. If a [`ServerProblem::SharedSession`] is among them, the
/// session has no time limits on the server, because other clients would get them.
///
/// # Errors
/// What the server or the network answered, or the time-out.
pub async fn connect_and_check(
    servers: &DatabaseServers,
    limit: Duration,
) -> sqlx::Result<(Session, Vec<ServerProblem>)> {
    let mut session = Session::open(servers, limit).await?;
    if is_shared(&mut session, Session::open(servers, limit)).await? {
        return Ok((session, vec![ServerProblem::SharedSession]));
    }
    session.set_limits(limit.mul_f64(0.9)).await?;
    let encoding = session.run(unsuitable_encoding).await?;
    Ok((session, encoding.map(ServerProblem::Encoding).into_iter().collect()))
}

/// Whether the statements of one session are executed in several sessions of the server.
///
/// The first session gets a mark. With a direct connection, and in session mode, only this session sees the mark. A pooler
/// in transaction mode breaks this rule: the second session gets the server session that the first one used last, or the
/// first one gets another server session while the second one has a transaction. Some poolers give a session its own
/// server session when it sets a parameter. They pass this check.
///
/// Without a second session the answer is no: the role or the pool may have only one connection.
async fn is_shared(first: &mut Session, second: impl Future<Output = sqlx::Result<Session>>) -> sqlx::Result<bool> {
    let mut mark = first.run(|connection| text(connection, MARK)).await?;
    let Ok(mut second) = second.await else { return Ok(false) };
    let Some(mut seen) = first_answer(first, &mut second).await? else { return Ok(false) };
    for _ in 0..ROUNDS {
        if seen == mark {
            return Ok(true);
        }
        let mut transaction = match second.begin().await {
            Err(sqlx::Error::Database(refusal)) if is_of_statement_mode(refusal.message()) => return Ok(true),
            begun => begun?,
        };
        seen = transaction.run(|connection| text(connection, READ_MARK)).await?;
        if seen == mark || first.run(|connection| text(connection, READ_MARK)).await? != mark {
            return Ok(true);
        }
        transaction.rollback().await?;
        mark = first.run(|connection| text(connection, MARK)).await?;
        seen = second.run(|connection| text(connection, READ_MARK)).await?;
    }
    second.close().await?;
    Ok(false)
}

/// The mark that the second session sees. `None`: it gets no connection to the server.
///
/// `PgBouncer` logs a session in without a connection to the server, so the first statement can wait for one. In session
/// mode, a pool of one connection never has one, because the first session keeps it: the first session is answered, and
/// the second one is not. In a shared pool that is busy, the first session waits behind the second one.
async fn first_answer(first: &mut Session, second: &mut Session) -> sqlx::Result<Option<Option<String>>> {
    let mut answer = pin!(second.run(|connection| text(connection, READ_MARK)));
    if let Ok(answer) = timeout(HEAD_START, &mut answer).await {
        return Ok(answer.ok());
    }
    first.run(|connection| text(connection, READ_MARK)).await?;
    Ok(timeout(LAST_WAIT, answer).await.ok().and_then(Result::ok))
}

/// Whether `PgBouncer` refuses each transaction. It has one code for all its errors, also for those of an outage, but it
/// does not translate its texts.
fn is_of_statement_mode(message: &str) -> bool {
    message.contains("not allowed in statement pooling mode")
}

/// By the simple protocol: a prepared statement does not work in a shared session.
async fn text(connection: &mut PgConnection, statement: &'static str) -> sqlx::Result<Option<String>> {
    sqlx::raw_sql(statement).fetch_one(connection).await?.try_get(0)
}

/// The encoding of the database, unless it can store every character. `SQL_ASCII` stores the bytes as they are.
async fn unsuitable_encoding(connection: &mut PgConnection) -> sqlx::Result<Option<String>> {
    let encoding = sqlx::query_scalar!(r#"select current_setting('server_encoding') as "encoding!""#);
    let encoding = encoding.fetch_one(connection).await?;
    Ok(Some(encoding).filter(|encoding| !matches!(encoding.as_str(), "UTF8" | "SQL_ASCII")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_of_a_pooler_does_not_show_its_mode() {
        assert!(is_of_statement_mode("transaction blocks not allowed in statement pooling mode"));
        for outage in ["server conn crashed?", "the database system is shutting down", "query_wait_timeout"] {
            assert!(!is_of_statement_mode(outage), "{outage}");
        }
    }
}
