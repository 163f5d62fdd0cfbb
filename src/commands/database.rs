//! How a command connects to the database.

use fenced_sink::Event as _;
use fenced_sink::admin::{self, ServerProblem, Session, connect_and_check};
use sqlx::PgConnection;

use super::{CommandError, SchemaState, schema_state};
use crate::booking::Booking;
use crate::config::Settings;

/// A session in which each operation ends within `DATABASE_TIMEOUT`. Its limits on the server would reach other clients
/// of a pooler that shares sessions, so such a pooler is refused. These commands write no text of an event, so each
/// encoding is right.
pub(super) async fn connect(settings: &Settings) -> Result<Session, CommandError> {
    let database = &settings.database;
    let checked = connect_and_check(database.servers(), settings.database_timeout).await;
    let (session, problems) = checked.map_err(|error| CommandError::database(&error, database))?;
    match problems.iter().find(|problem| **problem == ServerProblem::SharedSession) {
        Some(problem) => Err(CommandError::server_problem(problem, database)),
        None => Ok(session),
    }
}

/// The statements that grant what the user lacks of the privileges of `run`. Empty: it lacks none, or the database does
/// not answer.
pub(super) async fn missing_grants(settings: &Settings) -> Vec<String> {
    let Ok(mut session) = connect(settings).await else { return Vec::new() };
    session.run(missing_grants_of).await.unwrap_or_default()
}

/// The statements that grant what the user of the connection lacks of the privileges of `run`.
pub(super) async fn missing_grants_of(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    let tables: Vec<_> =
        Booking::PRIVILEGES.iter().copied().chain([("_sqlx_migrations", ["select"].as_slice())]).collect();
    admin::missing_grants(connection, &tables).await
}

/// A session with a database whose schema is the one of this program.
pub(super) async fn open(settings: &Settings) -> Result<Session, CommandError> {
    let mut session = connect(settings).await?;
    let state = session.run(schema_state).await;
    match state.map_err(|error| CommandError::database(&error, &settings.database))? {
        SchemaState::Current => Ok(session),
        state => Err(CommandError::Unavailable(state.to_string())),
    }
}
