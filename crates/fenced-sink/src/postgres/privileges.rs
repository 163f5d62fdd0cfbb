//! The privileges that a run needs, compared with those of the database user.

use sqlx::PgConnection;

/// What a run needs for the tables of the engine.
const NEEDED: [(&str, &[&str]); 4] = [
    ("consumer_offsets", &["select", "insert", "update"]),
    ("dead_letters", &["select", "insert", "update"]),
    ("dead_letter_attempts", &["insert"]),
    ("offset_gaps", &["insert"]),
];

/// The names of the tables of the engine and of these tables of an event.
pub(crate) fn written_tables(tables: &[(&str, &[&str])]) -> Vec<String> {
    NEEDED.iter().chain(tables).map(|(table, _)| (*table).to_owned()).collect()
}

/// A statement for each of [`missing_privileges`] that grants it, such as `grant insert on dead_letters to service;`.
///
/// # Errors
/// What the database answered.
pub async fn missing_grants(connection: &mut PgConnection, tables: &[(&str, &[&str])]) -> sqlx::Result<Vec<String>> {
    let missing = missing_privileges(&mut *connection, tables).await?;
    let user = sqlx::query_scalar!(r#"select quote_ident(current_user) as "user!""#).fetch_one(connection).await?;
    Ok(missing.into_iter().map(|one| format!("grant {one} to {user};")).collect())
}

/// The privileges that a run needs and the user of the connection lacks, such as `insert on dead_letters`. It checks
/// the tables of the engine, the tables in `tables` with the privileges that the event needs, and the sequences of
/// their columns. A privilege for some columns is enough.
///
/// # Errors
/// What the database answered.
async fn missing_privileges(connection: &mut PgConnection, tables: &[(&str, &[&str])]) -> sqlx::Result<Vec<String>> {
    let needed = || NEEDED.iter().chain(tables).flat_map(|(table, names)| names.iter().map(move |name| (table, name)));
    let tables: Vec<String> = needed().map(|(table, _)| (*table).to_owned()).collect();
    let names: Vec<String> = needed().map(|(_, name)| (*name).to_owned()).collect();
    // A missing table lacks no privilege: the check of the schema reports it. An identity column needs none for its
    // sequence; a default that calls nextval() does. For nextval() `update` is enough, but `id_columns` also reads the
    // sequence, and needs `usage` or `select`.
    sqlx::query_scalar!(
        r#"with needed as (
               select distinct name, to_regclass(name) as id, privilege, position
               from unnest($1::text[], $2::text[]) with ordinality as one (name, privilege, position)
           ), missing as (
               select privilege || ' on ' || name as text, position from needed
               where id is not null and not has_any_column_privilege(id, privilege)
               union all
               select 'usage on sequence ' || sequence.oid::regclass, max(needed.position) + 1000
               from needed
               join pg_attrdef on adrelid = id
               join pg_depend on classid = 'pg_attrdef'::regclass and objid = pg_attrdef.oid
                   and refclassid = 'pg_class'::regclass
               join pg_class as sequence on sequence.oid = refobjid
               where privilege = 'insert'
                   and case when sequence.relkind = 'S' then not (
                       has_sequence_privilege(sequence.oid, 'usage')
                       or has_sequence_privilege(sequence.oid, 'select') and has_sequence_privilege(sequence.oid, 'update')
                   ) end
               group by sequence.oid
           )
           select text as "text!" from missing order by position"#,
        &tables,
        &names
    )
    .fetch_all(connection)
    .await
}
