//! Columns that get their numbers from a sequence, and have few numbers left.

use sqlx::PgConnection;

use crate::postgres::error::sqlstate_of;
use crate::postgres::privileges::written_tables;

/// A column that has used at least 90 % of the numbers that it can store. `Display` writes an instruction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the sequence {sequence} of the column {table}.{column} ({data_type}) is at {last_value}, and the last number is {last}: \
     stop the service and run `alter table {table} alter column {column} type bigint; alter sequence {sequence} as bigint \
     no maxvalue;`, which locks the table while it is rewritten"
)]
pub struct NearlyFullColumn {
    /// The table, with its schema if it is not in the `search_path`.
    pub table: String,
    /// The name of the column.
    pub column: String,
    /// The type of the column.
    pub data_type: String,
    /// The sequence.
    pub sequence: String,
    /// The last number of the sequence that was used.
    pub last_value: i64,
    /// The last number that the column and the sequence can have.
    pub last: i64,
}

/// The nearly full columns of the tables of the engine and of `tables`, those of an event with their privileges, into
/// which the user may insert. A sequence that the user may not read is left out.
///
/// # Errors
/// What the database answered.
pub async fn nearly_full_columns(
    connection: &mut PgConnection,
    tables: &[(&str, &[&str])],
) -> sqlx::Result<Vec<NearlyFullColumn>> {
    sqlx::query_as!(
        NearlyFullColumn,
        r#"with used as (
               -- a serial or an identity
               select refobjid as table_id, refobjsubid as number, objid as sequence_id from pg_depend
               where classid = 'pg_class'::regclass and refclassid = 'pg_class'::regclass and deptype in ('a', 'i')
               union
               -- a default that calls nextval()
               select adrelid, adnum, refobjid from pg_attrdef
               join pg_depend on classid = 'pg_attrdef'::regclass and objid = pg_attrdef.oid
                   and refclassid = 'pg_class'::regclass
           ), found as (
               select table_id, attname, atttypid, sequence_id, last_value, least(max_value, case atttypid
                   when 'smallint'::regtype then 32767 when 'integer'::regtype then 2147483647 else max_value end) as last
               from used
               join pg_attribute on attrelid = table_id and attnum = number
               join pg_class on pg_class.oid = sequence_id and relkind = 'S'
               join pg_namespace on pg_namespace.oid = relnamespace
               join pg_sequences on schemaname = nspname and sequencename = relname
               where increment_by > 0 and not cycle
                   and table_id in (select to_regclass(name) from unnest($1::text[]) as one (name))
                   and has_any_column_privilege(table_id, 'insert')
           )
           select table_id::regclass::text as "table!", attname::text as "column!",
               format_type(atttypid, null) as "data_type!", sequence_id::regclass::text as "sequence!",
               last_value as "last_value!", last as "last!"
           from found where last_value >= last * 0.9 order by 1, 2"#,
        &written_tables(tables)
    )
    .fetch_all(connection)
    .await
}

/// The column that is the cause of an error of one record. `None`: the record is the cause.
///
/// A sequence can be larger than its column. Then each insert fails with 22003, the code of a number in a record that is
/// too large. A table that is neither in `tables` nor of the engine is not the cause.
pub(crate) async fn full_column(
    connection: &mut PgConnection,
    error: &sqlx::Error,
    tables: &[(&str, &[&str])],
) -> sqlx::Result<Option<NearlyFullColumn>> {
    if sqlstate_of(error).is_none_or(|state| state.as_str() != "22003") {
        return Ok(None);
    }
    let columns = nearly_full_columns(connection, tables).await?;
    Ok(columns.into_iter().find(|column| column.last_value > column.last))
}
