//! Inserts many rows with one binary `COPY`, and ends the `COPY` of a process that is frozen.

use sqlx::PgConnection;
use std::time::Duration;

use crate::event::copy::{CopyInto, CopyRows};

/// The rows are sent in pieces of about this size, so that `PostgreSQL` stores the first rows while the next ones are
/// encoded.
const PIECE: usize = 64 << 10;

/// Inserts all events, and returns the number of rows that `PostgreSQL` stored. This number is smaller than the number
/// of events if, for example, a trigger returned null.
///
/// # Errors
/// What the database answered. No row is stored then.
pub async fn copy_rows<E>(connection: &mut PgConnection, into: CopyInto<E>, events: &[&E]) -> sqlx::Result<u64> {
    let mut copy = connection.copy_in_raw(into.statement).await?;
    let mut rows = CopyRows::new();
    for event in events {
        if let Err(error) = rows.add(*event, into.write) {
            copy.abort("a value can't be encoded").await?;
            return Err(error);
        }
        if rows.len() >= PIECE {
            copy.send(rows.take().as_slice()).await?;
        }
    }
    rows.end();
    copy.send(rows.take().as_slice()).await?;
    copy.finish().await
}

/// Ends every session of the same user and database that has waited for the data of this `COPY` for longer than
/// `limit`, and returns how many.
///
/// No time limit of the server ends such a session: `statement_timeout` and the like do not interrupt a backend that
/// waits for its client in the middle of `COPY`. If the client is a process that is frozen, or a host that is
/// unreachable, the session would hold the locks of its transaction without end. No live process waits for longer than
/// its own time limit, and a transaction that is rolled back here is written again. So this is safe.
pub(crate) async fn end_abandoned(
    connection: &mut PgConnection,
    statement: &str,
    limit: Duration,
) -> sqlx::Result<u64> {
    let ended = sqlx::query_scalar!(
        r#"select count(*) filter (where pg_terminate_backend(pid)) as "ended!"
           from pg_stat_activity
           where datname = current_database() and usename = current_user and pid <> pg_backend_pid()
               and state = 'active' and wait_event = 'ClientRead' and query <> '' and starts_with($1, query)
               and clock_timestamp() - state_change > make_interval(secs => $2)"#,
        statement,
        limit.as_secs_f64()
    )
    .fetch_one(connection)
    .await?;
    Ok(u64::try_from(ended).unwrap_or_default())
}
