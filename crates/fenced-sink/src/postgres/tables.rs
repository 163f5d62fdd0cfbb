//! Creates the tables of the engine, for a program that does not use the migrations of `booking-history`.

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{PgConnection, SqlSafeStr as _};

/// The table that records which of these migrations are applied. It is not sqlx's default table, so that a program can
/// have its own migrations in the same schema.
const APPLIED: &str = "fenced_sink_migrations";

/// The version, description and text of each migration of the engine, in order.
const MIGRATIONS: [(i64, &str, &str); 8] = [
    (2, "consumer offsets", include_str!("../../../../migrations/0002_consumer_offsets.up.sql")),
    (3, "dead letters", include_str!("../../../../migrations/0003_dead_letters.up.sql")),
    (4, "offset gaps", include_str!("../../../../migrations/0004_offset_gaps.up.sql")),
    (5, "dead letter tools", include_str!("../../../../migrations/0005_dead_letter_tools.up.sql")),
    (6, "log checks", include_str!("../../../../migrations/0006_log_checks.up.sql")),
    (7, "leader epochs", include_str!("../../../../migrations/0007_leader_epochs.up.sql")),
    (8, "batch too large", include_str!("../../../../migrations/0008_batch_too_large.up.sql")),
    (10, "offsets key collation", include_str!("../../../../migrations/0010_offsets_key_collation.up.sql")),
];

/// Creates the tables `consumer_offsets`, `dead_letters` (with its views and functions) and `offset_gaps`, or brings them
/// up to date, in the first schema of the connection's `search_path`. A second call changes nothing.
///
/// Not for a database that `booking-history migrate up` manages: that command creates the same tables.
///
/// # Errors
/// `PostgreSQL` refuses a statement, or another program or another version of the engine has created the tables.
pub async fn create_tables(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let are_of_another_program = "select to_regclass(quote_ident(current_schema()) || '.consumer_offsets') is not null
            and to_regclass(quote_ident(current_schema()) || '.fenced_sink_migrations') is null";
    if sqlx::query_scalar(are_of_another_program).fetch_one(&mut *connection).await? {
        let cause = "consumer_offsets exists, and create_tables did not create it (`booking-history migrate up` creates it, \
                     too); use another database or schema, or the tables as they are";
        return Err(MigrateError::Execute(sqlx::Error::Configuration(cause.into())));
    }
    let migration = |(version, description, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, description.into(), MigrationType::ReversibleUp, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(MIGRATIONS.map(migration).into());
    migrator.dangerous_set_table_name(APPLIED);
    migrator.run(connection).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_except_the_table_of_bookings_is_in_the_list() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations");
        let names =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> =
            names.filter(|name| name.ends_with(".up.sql") && !name.contains("booking")).collect();
        names.sort();
        let listed = MIGRATIONS
            .map(|(version, description, _)| format!("{version:04}_{}.up.sql", description.replace(' ', "_")));
        assert_eq!(names, listed);
    }
}
