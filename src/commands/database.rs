//! How a command connects to the database.

use fenced_sink::Event as _;
use fenced_sink::admin::{self, Session};

use super::{CommandError, SchemaState, schema_state};
use crate::booking::Booking;
use crate::config::Settings;

/// A session in which each operation ends within `DATABASE_TIMEOUT`.
pub(super) async fn connect(settings: &Settings) -> sqlx::Result<Session> {
    Session::connect(settings.database.servers(), settings.database_timeout).await
}

/// A session, and the comparison of its database's schema with this program.
pub(super) async fn connect_and_compare(settings: &Settings) -> sqlx::Result<(Session, SchemaState)> {
    let mut session = connect(settings).await?;
    let state = session.run(schema_state).await?;
    Ok((session, state))
}

/// The statements that grant what the user lacks of the privileges of `run`. Empty: it lacks none, or the database does
/// not answer.
pub(super) async fn missing_grants(settings: &Settings) -> Vec<String> {
    let tables: Vec<_> =
        Booking::PRIVILEGES.iter().copied().chain([("_sqlx_migrations", ["select"].as_slice())]).collect();
    let ask = async || connect(settings).await?.run(|connection| admin::missing_grants(connection, &tables)).await;
    ask().await.unwrap_or_default()
}

/// A session with a database whose schema is the one of this program.
pub(super) async fn open(settings: &Settings) -> Result<Session, CommandError> {
    match connect_and_compare(settings).await.map_err(|error| CommandError::database(&error, &settings.database))? {
        (session, SchemaState::Current) => Ok(session),
        (_, state) => Err(CommandError::Unavailable(state.to_string())),
    }
}
