//! One connection, on which nothing waits without end.

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use std::time::Duration;

/// Opens a connection whose every statement, lock wait and idle transaction ends within `limit`, so that the row lock
/// of a frozen or cut-off owner ends too.
///
/// # Errors
/// Whatever the server or the network answered.
pub async fn connect(options: &PgConnectOptions, limit: Duration) -> sqlx::Result<PgConnection> {
    let options = options.clone().disable_statement_logging();
    let mut connection = within(limit, options.connect()).await?;
    let millis = limit.as_millis().to_string();
    within(
        limit,
        sqlx::query!(
            "select set_config(name, value, false) from unnest($1::text[], $2::text[]) as setting (name, value)",
            &["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"].map(str::to_owned),
            &[(); 3].map(|()| millis.clone())
        )
        .fetch_all(&mut connection),
    )
    .await?;
    Ok(connection)
}

/// Gives up on a database that does not answer. The server's own limits are the same, so the extra second lets its
/// answer arrive first. Whoever gets the time-out must drop the connection.
///
/// # Errors
/// The time-out, as an I/O error, or whatever `work` failed with.
pub async fn within<T>(limit: Duration, work: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let answer = tokio::time::timeout(limit.saturating_add(Duration::from_secs(1)), work).await;
    answer.unwrap_or_else(|_| {
        let text = format!("no answer from the database within {}", humantime::format_duration(limit));
        Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text)))
    })
}
