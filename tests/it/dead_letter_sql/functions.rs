//! Each function with letters of each status, and with transactions that run at the same time.

use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::{DISCARD, Letter, REQUEUE, call, correct, letter, migrated, read};
use crate::adoption::MIGRATIONS;
use testbed::postgres::database;
use testbed::wait::{PATIENCE, eventually};

const STATUSES: [&str; 4] = ["waiting", "parked", "resolved", "discarded"];
const RESOLVED: &str = "nothing done: it is resolved";
const UNKNOWN: &str = "nothing done: there is no such letter";

#[tokio::test]
async fn requeue_makes_all_but_resolved_letters_due_at_once() {
    let mut connection = migrated().await;
    let mut ids = Vec::new();
    for status in STATUSES {
        ids.push(letter(&mut connection, status, Some(b"first")).await);
    }
    call(&mut connection, DISCARD, &[ids[3]]).await;
    let before = read(&mut connection, ids[2]).await;
    assert_eq!(call(&mut connection, REQUEUE, &ids).await, ["requeued", "requeued", RESOLVED, "requeued"]);
    for id in [ids[0], ids[1], ids[3]] {
        let letter = read(&mut connection, id).await;
        assert!(letter.status == "waiting" && letter.due && !letter.settled, "{letter:?}");
        assert_eq!(letter.attempts, 3, "the number of attempts does not start again");
    }
    assert_eq!(read(&mut connection, ids[3]).await.note.as_deref(), Some("why"), "the note is kept");
    assert_eq!(read(&mut connection, ids[2]).await, before);
}

#[tokio::test]
async fn discard_closes_all_but_resolved_letters_and_stores_the_user_and_the_note() {
    let mut connection = migrated().await;
    let mut ids = Vec::new();
    for status in STATUSES {
        ids.push(letter(&mut connection, status, None).await);
    }
    let before = read(&mut connection, ids[2]).await;
    assert_eq!(call(&mut connection, DISCARD, &ids).await, ["discarded", "discarded", RESOLVED, "discarded"]);
    for id in [ids[0], ids[1], ids[3]] {
        let letter = read(&mut connection, id).await;
        assert!(letter.status == "discarded" && !letter.due && letter.settled, "{letter:?}");
        assert_eq!((letter.note.as_deref(), letter.resolved_by.as_deref()), (Some("why"), Some("postgres")));
    }
    assert_eq!(read(&mut connection, ids[2]).await, before);
    let again = "select outcome from dead_letters_discard($1, null)";
    assert_eq!(call(&mut connection, again, &ids[..1]).await, ["discarded"]);
    assert_eq!(read(&mut connection, ids[0]).await.note.as_deref(), Some("why"));
}

#[tokio::test]
async fn correct_changes_only_the_value_of_all_but_resolved_letters() {
    let mut connection = migrated().await;
    for (status, outcome) in STATUSES.into_iter().zip([
        "corrected: it is waiting for its next try",
        "corrected: dead_letters_requeue has it tried again",
        RESOLVED,
        "corrected: dead_letters_requeue has it tried again",
    ]) {
        let id = letter(&mut connection, status, Some(b"first")).await;
        let before = read(&mut connection, id).await;
        assert_eq!(correct(&mut connection, id, Some(b"second")).await, [outcome]);
        let after = read(&mut connection, id).await;
        if status == "resolved" {
            assert_eq!(after, before);
        } else {
            let (value, original_value) = (Some(b"second".to_vec()), Some(b"first".to_vec()));
            assert_eq!(after, Letter { value, original_value, corrected: true, ..before });
        }
    }
}

#[tokio::test]
async fn the_first_value_is_kept_over_any_number_of_corrections() {
    let mut connection = migrated().await;
    // An empty value is a value. Null is a tombstone.
    for first in [Some(&b"first"[..]), Some(b""), None] {
        let id = letter(&mut connection, "parked", first).await;
        for next in [Some(&b"second"[..]), Some(b"third"), None, Some(b"")] {
            correct(&mut connection, id, next).await;
            let letter = read(&mut connection, id).await;
            assert_eq!((letter.value.as_deref(), letter.original_value.as_deref()), (next, first));
        }
    }
}

#[tokio::test]
async fn the_answers_are_in_the_order_of_the_ids() {
    let mut connection = migrated().await;
    let (parked, resolved) =
        (letter(&mut connection, "parked", None).await, letter(&mut connection, "resolved", None).await);
    let ids = [Uuid::nil(), resolved, parked, Uuid::max(), parked];
    assert_eq!(call(&mut connection, REQUEUE, &ids).await, [UNKNOWN, RESOLVED, "requeued", UNKNOWN, "requeued"]);
    assert_eq!(call(&mut connection, DISCARD, &ids).await, [UNKNOWN, RESOLVED, "discarded", UNKNOWN, "discarded"]);
    assert_eq!(correct(&mut connection, Uuid::nil(), None).await, [UNKNOWN]);
    assert_eq!(call(&mut connection, REQUEUE, &[]).await, [""; 0]);
    let answered: Vec<Option<Uuid>> = sqlx::query_scalar("select id from dead_letters_requeue($1 || null::uuid)")
        .bind(&ids[1..3])
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(answered, [Some(resolved), Some(parked), None]);
}

#[tokio::test]
async fn the_functions_wait_for_a_running_attempt_and_use_its_result() {
    let url = database().await;
    let mut service = PgConnection::connect(&url).await.unwrap();
    MIGRATIONS.run(&mut service).await.unwrap();
    for (function, done) in [
        (REQUEUE, "requeued"),
        (DISCARD, "discarded"),
        (
            "select outcome from unnest($1) as given (id), dead_letters_correct(id, 'x')",
            "corrected: dead_letters_requeue has it tried again",
        ),
    ] {
        for (status, expected) in [("resolved", RESOLVED), ("parked", done)] {
            let id = letter(&mut service, "waiting", None).await;
            let mut running = service.begin().await.unwrap();
            sqlx::query("update dead_letters set status = $2 where id = $1")
                .bind(id)
                .bind(status)
                .execute(&mut *running)
                .await
                .unwrap();
            let mut person = PgConnection::connect(&url).await.unwrap();
            let asked = tokio::spawn(async move { call(&mut person, function, &[id]).await });
            wait_until_a_session_waits(&url).await;
            running.commit().await.unwrap();
            assert_eq!(asked.await.unwrap(), [expected]);
        }
    }
}

#[tokio::test]
async fn two_operators_with_the_same_letters_never_deadlock() {
    let url = database().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    MIGRATIONS.run(&mut connection).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(letter(&mut connection, "parked", None).await);
    }
    let people = [REQUEUE, DISCARD, REQUEUE].map(|function| {
        ids.rotate_left(70);
        ids.reverse();
        let (url, ids) = (url.clone(), ids.clone());
        tokio::spawn(async move {
            let mut person = PgConnection::connect(&url).await.unwrap();
            for _ in 0..30 {
                assert_eq!(call(&mut person, function, &ids).await.len(), ids.len());
            }
        })
    });
    for person in people {
        person.await.unwrap();
    }
}

async fn wait_until_a_session_waits(url: &str) {
    let watcher = sqlx::PgPool::connect(url).await.unwrap();
    let waits = "select exists (select from pg_locks join pg_stat_activity using (pid)
        where not granted and datname = current_database())";
    let state = async || sqlx::query_scalar::<_, bool>(waits).fetch_one(&watcher).await.unwrap();
    eventually(PATIENCE, |waits| *waits, state).await;
}
