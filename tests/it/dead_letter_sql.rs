//! Dead letters by SQL only: the views, and the functions that requeue, discard and correct.

mod text;
mod functions;
mod schema;

use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::adoption::MIGRATIONS;
use testbed::postgres::database;

pub(crate) const REQUEUE: &str = "select outcome from dead_letters_requeue($1)";
pub(crate) const DISCARD: &str = "select outcome from dead_letters_discard($1, 'why')";

pub(crate) async fn migrated() -> PgConnection {
    let mut connection = PgConnection::connect(&database().await).await.unwrap();
    MIGRATIONS.run(&mut connection).await.unwrap();
    connection
}

pub(crate) async fn sql(connection: &mut PgConnection, text: &'static str) {
    sqlx::raw_sql(text).execute(connection).await.unwrap();
}

pub(crate) async fn call(connection: &mut PgConnection, function: &'static str, ids: &[Uuid]) -> Vec<String> {
    sqlx::query_scalar(function).bind(ids).fetch_all(connection).await.unwrap()
}

pub(crate) async fn correct(connection: &mut PgConnection, id: Uuid, value: Option<&[u8]>) -> Vec<String> {
    let correct = "select outcome from dead_letters_correct($1, $2)";
    sqlx::query_scalar(correct).bind(id).bind(value).fetch_all(connection).await.unwrap()
}

/// The columns that the functions may change.
#[derive(Debug, PartialEq, sqlx::FromRow)]
pub(crate) struct Letter {
    pub(crate) status: String,
    pub(crate) attempts: i32,
    pub(crate) due: bool,
    pub(crate) settled: bool,
    pub(crate) resolved_by: Option<String>,
    pub(crate) note: Option<String>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) original_value: Option<Vec<u8>>,
    pub(crate) corrected: bool,
}

pub(crate) async fn read(connection: &mut PgConnection, id: Uuid) -> Letter {
    let letter = "select status, attempts, next_attempt_at is not null and next_attempt_at <= now() as due,
            resolved_at is not null as settled, resolved_by, note, value, original_value, corrected_at is not null as corrected
        from dead_letters where id = $1";
    sqlx::query_as(letter).bind(id).fetch_one(connection).await.unwrap()
}

/// A letter that was tried three times.
pub(crate) async fn letter(connection: &mut PgConnection, status: &str, value: Option<&[u8]>) -> Uuid {
    let id = Uuid::now_v7();
    sqlx::query(
        r#"insert into dead_letters (id, group_id, topic, partition, "offset", digest, value, reason, detail, status,
                                     attempts, next_attempt_at, resolved_at)
           values ($1, 'group', 'topic', 0, 0, sha256(uuid_send($1)), $2, 'not_json', 'is not JSON', $3, 3,
                   case when $3 = 'waiting' then now() + interval '1 hour' end,
                   case when $3 in ('resolved', 'discarded') then now() end)"#,
    )
    .bind(id)
    .bind(value)
    .bind(status)
    .execute(connection)
    .await
    .unwrap();
    id
}
