//! The views and functions as parts of the schema: in which schema they are found, who may use them, and the effect of
//! a migration.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use super::{DISCARD, REQUEUE, call, correct, letter, migrated, read, sql};
use crate::adoption::MIGRATIONS;
use testbed::postgres::database;

#[tokio::test]
async fn the_functions_work_in_any_schema_and_with_any_search_path() {
    let mut connection = PgConnection::connect(&database().await).await.unwrap();
    sql(&mut connection, "create schema ours; set search_path = ours").await;
    MIGRATIONS.run(&mut connection).await.unwrap();
    let id = letter(&mut connection, "parked", Some(b"{\"a\":1}")).await;
    // A table and a function of another program, with the same names, are first in the search path.
    sql(
        &mut connection,
        "create schema other; create table other.dead_letters (id uuid);
         create function other.convert_from(bytea, text) returns text language sql as 'select 1 / 0';
         set search_path = other, pg_catalog",
    )
    .await;
    for call in ["requeue(array[$1])", "discard(array[$1], 'why')", "correct($1, 'x')", "requeue(array[$1])"] {
        let call = format!("select outcome from ours.dead_letters_{call}");
        let outcome: String =
            sqlx::query_scalar(AssertSqlSafe(call)).bind(id).fetch_one(&mut connection).await.unwrap();
        assert!(!outcome.contains("nothing"), "{outcome}");
    }
    let shown: (String, i64) =
        sqlx::query_as("select value_text, letters from ours.dead_letters_readable, ours.dead_letters_overview")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(shown, ("x".to_owned(), 1));
}

#[tokio::test]
async fn plain_privileges_on_tables_are_enough() {
    let mut connection = migrated().await;
    let id = letter(&mut connection, "parked", Some(b"[]")).await;
    let role = format!("person_{}", Uuid::now_v7().simple());
    let grants = format!(
        "create role {role}; grant select on all tables in schema public to {role};
         grant update on dead_letters to {role}; set role {role}"
    );
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(&mut connection).await.unwrap();
    assert_eq!(call(&mut connection, REQUEUE, &[id]).await, ["requeued"]);
    assert_eq!(correct(&mut connection, id, None).await, ["corrected: it is waiting for its next try"]);
    assert_eq!(call(&mut connection, DISCARD, &[id]).await, ["discarded"]);
    sql(&mut connection, "select * from dead_letters_readable, dead_letters_overview, dead_letter_attempts").await;
}

#[tokio::test]
async fn the_overview_counts_letters_by_fault_and_status() {
    let mut connection = migrated().await;
    for status in ["parked", "waiting", "parked", "parked"] {
        letter(&mut connection, status, None).await;
    }
    sql(
        &mut connection,
        "update dead_letters set field = 'data.price', first_failed_at = '2026-02-15', last_failed_at = '2026-02-16'
         where id in (select id from dead_letters where status = 'parked' limit 1)",
    )
    .await;
    let overview = "select concat_ws(' ', reason, field, status, letters) from dead_letters_overview";
    let lines: Vec<String> = sqlx::query_scalar(overview).fetch_all(&mut connection).await.unwrap();
    assert_eq!(lines, ["not_json parked 2", "not_json data.price parked 1", "not_json waiting 1"]);
    let times =
        "select first_failed_at::date || ' ' || last_failed_at::date from dead_letters_overview where field <> ''";
    assert_eq!(
        sqlx::query_scalar::<_, String>(times).fetch_one(&mut connection).await.unwrap(),
        "2026-02-15 2026-02-16"
    );
}

#[tokio::test]
async fn the_migration_goes_down_and_up_with_letters_in_the_table() {
    let mut connection = migrated().await;
    let (kept, corrected) =
        (letter(&mut connection, "parked", None).await, letter(&mut connection, "waiting", Some(b"first")).await);
    correct(&mut connection, corrected, Some(b"second")).await;
    let table = "select to_jsonb(letter) - 'corrected_at' from dead_letters as letter order by id";
    let letters: Vec<serde_json::Value> = sqlx::query_scalar(table).fetch_all(&mut connection).await.unwrap();
    for _ in 0..2 {
        MIGRATIONS.undo(&mut connection, 4).await.unwrap();
        let left = "select count(*) from pg_class where relname ~ '^dead_letter' and relkind in ('r', 'v')";
        assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_one(&mut connection).await.unwrap(), 1);
        let left = "select count(*) from pg_proc where proname ~ '^dead_letter'";
        assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_one(&mut connection).await.unwrap(), 0);
        MIGRATIONS.run(&mut connection).await.unwrap();
        let now: Vec<serde_json::Value> = sqlx::query_scalar(table).fetch_all(&mut connection).await.unwrap();
        assert_eq!(now, letters);
    }
    let history = "select dead_letter_id, concat_ws(' ', attempt, outcome, history.detail)
        from dead_letter_attempts as history join dead_letters as letter on id = dead_letter_id and at = first_failed_at order by id";
    let history: Vec<(Uuid, String)> = sqlx::query_as(history).fetch_all(&mut connection).await.unwrap();
    let first = "1 failed is not JSON".to_owned();
    assert_eq!(history, [(kept, first.clone()), (corrected, first)]);
    correct(&mut connection, corrected, Some(b"third")).await;
    assert_eq!(read(&mut connection, corrected).await.original_value, Some(b"first".to_vec()));
}

#[tokio::test]
async fn deleting_a_letter_deletes_its_attempts() {
    let mut connection = migrated().await;
    let id = letter(&mut connection, "resolved", None).await;
    let attempts = "insert into dead_letter_attempts (dead_letter_id, attempt, outcome)
        select $1, place, outcome from unnest(array['failed', 'stored', 'duplicate', 'conflict'])
        with ordinality as attempt (outcome, place)";
    sqlx::query(attempts).bind(id).execute(&mut connection).await.unwrap();
    sql(&mut connection, "delete from dead_letters where status = 'resolved'").await;
    let left = "select count(*) from dead_letter_attempts";
    assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_one(&mut connection).await.unwrap(), 0);
}
