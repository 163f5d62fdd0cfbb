//! Inserts many rows with one binary `COPY`, finds the rows that exist already, and ends the `COPY` of a process that is frozen.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row, ValueRef};

use crate::event::Event;
use crate::event::copy::{CopyInto, CopyRows};

/// The rows are sent in pieces of about this size, so that `PostgreSQL` stores the first rows while the next ones are
/// encoded.
pub(crate) const PIECE: usize = 64 << 10;

/// Inserts all events, and returns the number of rows that `PostgreSQL` stored. It differs from the number of events
/// if, for example, a trigger returned null.
///
/// The statement has the time `limit` after which the caller gives up. Another process may end the session after it.
///
/// # Errors
/// What the database answered. No row is stored then.
pub async fn copy_rows<E>(
    connection: &mut PgConnection,
    into: CopyInto<E>,
    events: &[&E],
    limit: Duration,
) -> sqlx::Result<u64> {
    let columns: Vec<&str> = into.columns.iter().map(|(name, _)| *name).collect();
    let statement = format!(
        "/* fenced_sink gives up after {} ms */ copy {} ({}) from stdin (format binary)",
        limit.as_millis(),
        into.table,
        columns.join(", ")
    );
    let mut copy = connection.copy_in_raw(&statement).await?;
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

/// A row that has the key of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowOfKey {
    /// It has exactly the values that `COPY` would send.
    Same,
    /// It has at least one value with another encoding. The value itself can be equal, as 10 and 10.0.
    Other,
}

/// Looks up the rows by the keys of the events. Returns one answer for each event, in their order. `None`: no row has the key.
///
/// It sends only the keys, and compares the rows here: that costs `PostgreSQL` half of [`Event::find`].
///
/// # Errors
/// What the database answered, or a value that can't be encoded.
pub(crate) async fn find_rows<E: Event>(
    connection: &mut PgConnection,
    into: &CopyInto<E>,
    events: &[&E],
) -> sqlx::Result<Vec<Option<RowOfKey>>> {
    let mut found = vec![None; events.len()];
    let Some((key, key_type)) = into.columns.first() else { return Ok(found) };
    // A join: with `= any`, each partition of a table would search for each key.
    let statement = format!(
        "select place, {} from unnest($1::text[]::{key_type}[]) with ordinality as sent (key, place) \
         join {} as stored on stored.{key} = sent.key",
        into.columns.iter().map(|(name, _)| format!("stored.{name}")).collect::<Vec<_>>().join(", "),
        into.table,
    );
    let keys: Vec<&str> = events.iter().map(|event| event.key()).collect();
    let rows = sqlx::query(AssertSqlSafe(statement)).bind(keys).fetch_all(connection).await?;
    let mut encoder = CopyRows::new();
    for row in rows {
        let place = usize::try_from(row.try_get::<i64, _>(0)?.saturating_sub(1)).unwrap_or(usize::MAX);
        if let (Some(event), Some(found)) = (events.get(place), found.get_mut(place)) {
            let values = values(&row, into.columns.len())?;
            let is_same = encoder.sends(*event, into.write, values.into_iter())?;
            *found = Some(if is_same { RowOfKey::Same } else { RowOfKey::Other });
        }
    }
    Ok(found)
}

/// The values of the columns after the first one, as bytes.
fn values(row: &PgRow, columns: usize) -> sqlx::Result<Vec<Option<&[u8]>>> {
    let value = |column| {
        let value = row.try_get_raw(column)?;
        if value.is_null() { Ok(None) } else { value.as_bytes().map(Some).map_err(sqlx::Error::Decode) }
    };
    (1..=columns).map(value).collect()
}

/// Why `COPY` must not be used for a table, although inserts may be. `None`: it may be used.
///
/// `COPY` ignores rules, is refused under row-level security, and reads a binary value as the type of the column. Under
/// another role than the one of the login, [`end_abandoned`] would not see a session.
///
/// # Errors
/// What the database answered.
pub(crate) async fn obstacle<E>(connection: &mut PgConnection, into: CopyInto<E>) -> sqlx::Result<Option<String>> {
    let (names, types): (Vec<String>, Vec<String>) =
        into.columns.iter().map(|(name, type_name)| ((*name).to_owned(), (*type_name).to_owned())).unzip();
    sqlx::query_scalar!(
        r#"select case
               when current_user <> session_user then 'the session has another role than the login'
               when exists (select from pg_rewrite where ev_class = to_regclass($1) and ev_type = '3')
                   then 'the table has a rule for inserts'
               when row_security_active(to_regclass($1)) then 'the table has row-level security'
               when exists (
                   select from unnest($2::text[], $3::text[]) as wanted (name, type)
                   left join pg_attribute on attrelid = to_regclass($1) and attname = name and not attisdropped
                   where format_type(atttypid, null) is distinct from type
               ) then 'a column of the table has another type'
           end as obstacle"#,
        into.table,
        &names,
        &types
    )
    .fetch_one(connection)
    .await
}

/// Ends every session of the same user and database that has waited for the data of a `COPY` of this engine for longer
/// than its own process waits. Returns how many.
///
/// No time limit of the server ends such a session: `statement_timeout` and the like do not interrupt a backend that
/// waits for its client in the middle of `COPY`. If the client is a process that is frozen, or a host that is
/// unreachable, the session would keep the locks of its transaction without end. A live process gives up after the limit
/// in its statement, and one second for the answer. So this is safe.
pub(crate) async fn end_abandoned(connection: &mut PgConnection) -> sqlx::Result<u64> {
    let ended = sqlx::query_scalar!(
        r#"with copies as (
               select pid, state_change,
                   substring(query from '^/\* fenced_sink gives up after ([0-9]{1,12}) ms \*/')::bigint as millis
               from pg_stat_activity
               where datname = current_database() and usename = session_user and pid <> pg_backend_pid()
                   and state = 'active' and wait_event = 'ClientRead'
           )
           select count(*) filter (where pg_terminate_backend(pid)) as "ended!" from copies
           where clock_timestamp() - state_change > (millis + 2000) * interval '1 ms'"#
    )
    .fetch_one(connection)
    .await?;
    Ok(u64::try_from(ended).unwrap_or_default())
}
