//! What the server and the user's settings are, for an operator who looks for the cause of a problem.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// A server, as a session sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// The version as a number, such as 170002.
    pub version: i32,
    /// The version as the server writes it, such as `17.2`.
    pub version_text: String,
    /// Whether the server is in recovery: a standby.
    pub in_recovery: bool,
    /// Whether transactions are read-only by default.
    pub read_only: bool,
    /// The clock of the server.
    pub now: DateTime<Utc>,
}

/// A setting that the database, the role or the URL gives to each session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSetting {
    /// Its name.
    pub name: String,
    /// Its value, with the unit.
    pub value: String,
}

/// A column of text whose order is that of a language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnCollation {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// The collation.
    pub collation: String,
    /// False: different texts can be equal, so one of two keys is refused as a duplicate.
    pub deterministic: bool,
}

/// The keys of the engine's tables that are text.
const KEYS: [(&str, &str); 2] = [("consumer_offsets", "group_id"), ("consumer_offsets", "topic")];

impl ServerFacts {
    /// Reads them.
    ///
    /// # Errors
    /// What the database answered.
    pub async fn read(connection: &mut PgConnection) -> sqlx::Result<Self> {
        sqlx::query_as!(
            Self,
            r#"select current_setting('server_version_num')::integer as "version!",
                   split_part(current_setting('server_version'), ' ', 1) as "version_text!",
                   pg_is_in_recovery() as "in_recovery!",
                   current_setting('transaction_read_only')::boolean as "read_only!", clock_timestamp() as "now!""#
        )
        .fetch_one(connection)
        .await
    }
}

/// The settings with which a session begins that can end or delay its work. Those with their default are left out.
///
/// # Errors
/// What the database answered.
pub async fn session_settings(connection: &mut PgConnection) -> sqlx::Result<Vec<SessionSetting>> {
    // `reset_val`: the session itself has changed some of them.
    sqlx::query_as!(
        SessionSetting,
        r#"select name as "name!", reset_val || coalesce(unit, '') as "value!"
           from pg_settings
           where name in ('statement_timeout', 'lock_timeout', 'idle_session_timeout', 'transaction_timeout',
                   'idle_in_transaction_session_timeout', 'default_transaction_isolation')
               and reset_val is distinct from boot_val
           order by name"#
    )
    .fetch_all(connection)
    .await
}

/// The columns among the keys of the engine and `columns`, each a table and a column, whose collation is neither `C` nor
/// `POSIX`. An upgrade of the C library can change the order of such a column, and then its index can miss a row.
///
/// # Errors
/// What the database answered.
pub async fn language_collations(
    connection: &mut PgConnection,
    columns: &[(&str, &str)],
) -> sqlx::Result<Vec<ColumnCollation>> {
    let (tables, names): (Vec<String>, Vec<String>) =
        KEYS.iter().chain(columns).map(|(table, column)| ((*table).to_owned(), (*column).to_owned())).unzip();
    // The default collation is the one of the database. `datlocprovider` does not exist before version 15.
    sqlx::query_as!(
        ColumnCollation,
        r#"select key.name as "table!", attname::text as "column!", collisdeterministic as "deterministic!",
               case when collprovider = 'd' then datcollate else collname end as "collation!"
           from unnest($1::text[], $2::text[]) with ordinality as key (name, column_name, position)
           join pg_attribute on attrelid = to_regclass(key.name) and attname = column_name
           join pg_collation on pg_collation.oid = attcollation
           join pg_database on datname = current_database()
           where not (
               collname in ('C', 'POSIX')
               or collprovider = 'd' and datcollate in ('C', 'POSIX')
                   and coalesce(to_jsonb(pg_database) ->> 'datlocprovider', 'c') = 'c'
           )
           order by position"#,
        &tables,
        &names
    )
    .fetch_all(connection)
    .await
}
