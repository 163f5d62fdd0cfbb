use chrono::TimeZone as _;
use sqlx::{
    SqlSafeStr as _,
    migrate::MigrationType::{ReversibleDown, ReversibleUp},
};

use super::*;

fn migrator(versions: &[i64]) -> Migrator {
    let pair = |version: &i64| {
        let name = format!("step {version}").into();
        let up = Migration::new(*version, name, ReversibleUp, "create table t ()".into_sql_str(), false);
        let down = Migration::new(*version, "step".into(), ReversibleDown, "drop table t".into_sql_str(), false);
        [up, down]
    };
    Migrator::with_migrations(versions.iter().flat_map(pair).collect())
}

fn applied_versions(versions: &[i64]) -> Vec<AppliedMigration> {
    let all = migrator(versions);
    let applied = ups(&all).map(|up| AppliedMigration {
        version: up.version,
        description: up.description.to_string(),
        installed_on: chrono::Utc.with_ymd_and_hms(2026, 2, 15, 14, 37, 35).unwrap(),
        checksum: up.checksum.to_vec(),
    });
    applied.collect()
}

fn check(known: &[i64], applied: &[i64], expected: &SchemaState) {
    assert_eq!(compare(&migrator(known), &applied_versions(applied)), *expected, "{applied:?} of {known:?}");
}

#[test]
fn the_schema_is_compared_with_the_migrations_of_the_program() {
    check(&[1, 2], &[1, 2], &SchemaState::Current);
    check(&[1, 2], &[], &SchemaState::Missing);
    check(&[1, 2, 3], &[1], &SchemaState::Older { pending: vec![2, 3] });
    check(&[1, 2, 3], &[1, 3], &SchemaState::Older { pending: vec![2] });
    check(&[1], &[1, 2], &SchemaState::Newer { unknown: vec![2] });
    check(&[1, 3], &[1, 2], &SchemaState::Newer { unknown: vec![2] });
}

#[test]
fn a_changed_text_of_a_known_version_is_found() {
    let mut applied = applied_versions(&[1, 2]);
    applied[1].checksum = vec![0];
    assert_eq!(compare(&migrator(&[1, 2, 3]), &applied), SchemaState::Altered { version: 2 });
}

#[test]
fn status_has_a_line_for_each_migration() {
    let mut applied = applied_versions(&[1, 2, 9]);
    applied[1].checksum = vec![0];
    assert_eq!(
        status_lines(&migrator(&[1, 2, 3]), &applied),
        [
            "0001 step 1                      applied 2026-02-15T14:37:35Z",
            "0002 step 2                      applied 2026-02-15T14:37:35Z, but altered since",
            "0003 step 3                      pending",
            "0009 step 9                      applied 2026-02-15T14:37:35Z, unknown to this program",
        ]
    );
}

#[test]
fn every_state_except_the_current_one_has_an_instruction() {
    assert!(SchemaState::Missing.to_string().contains("booking-history migrate up"));
    assert!(SchemaState::Older { pending: vec![2, 3] }.to_string().contains("lacks 0002, 0003: stop the service"));
    assert!(SchemaState::Newer { unknown: vec![9] }.to_string().contains("newer than this program"));
}

#[test]
fn each_migration_can_be_reverted() {
    for up in ups(&MIGRATOR) {
        let down = MIGRATOR.iter().any(|m| m.version == up.version && m.migration_type.is_down_migration());
        assert!(down, "{:04} has no down migration", up.version);
    }
}

#[test]
fn each_table_that_a_down_migration_drops_is_known() {
    let downs = MIGRATOR.iter().filter(|migration| migration.migration_type.is_down_migration());
    for down in downs {
        let all = down.sql.as_str().matches("drop table").count();
        assert_eq!(dropped::dropped_tables(down).count(), all, "{:04}: one statement and one line each", down.version);
    }
    let down =
        |version| MIGRATOR.iter().rfind(|down| down.version == version && down.migration_type.is_down_migration());
    let tables: Vec<&str> = dropped::dropped_tables(down(3).unwrap()).collect();
    assert_eq!(tables, ["dead_letters"]);
}

#[test]
fn the_rows_that_would_be_lost_are_counted_in_words() {
    let rows = [("dead_letters".to_owned(), 1), ("consumer_offsets".to_owned(), 3)];
    assert_eq!(in_words(&rows), "1 row of dead_letters, 3 rows of consumer_offsets");
}

#[test]
fn an_output_that_cannot_be_written_is_kept_as_the_first_error_and_a_closed_pipe_is_none() {
    struct Broken(io::ErrorKind);
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut first = None;
    write_line(&mut Broken(io::ErrorKind::BrokenPipe), "a", &mut first);
    assert!(first.is_none());
    write_line(&mut Broken(io::ErrorKind::StorageFull), "b", &mut first);
    write_line(&mut Broken(io::ErrorKind::PermissionDenied), "c", &mut first);
    assert_eq!(first.unwrap().kind(), io::ErrorKind::StorageFull);
}
