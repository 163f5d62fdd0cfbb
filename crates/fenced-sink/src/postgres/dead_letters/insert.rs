//! Inserts dead letters, in the transaction that moves past their records.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::outcome::DeadLetterCause;
use crate::model::record::Record;
use crate::postgres::dead_letters::schedule::RetrySchedule;
use crate::postgres::dead_letters::{headers, timestamp};
use crate::postgres::ledger::Ledger;

/// A record that becomes a dead letter, and why.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetter<'a> {
    /// The record. The table gets all of it.
    pub record: &'a Record,
    /// Why it is a dead letter.
    pub cause: DeadLetterCause,
}

/// Inserts the letters, each with its first failed attempt. The status is `waiting` if a retry may succeed, otherwise
/// `parked`. A letter that the table already has is not changed: the same record was read again after its position was
/// moved back.
///
/// # Errors
/// What the database answered. It never refuses a letter for its content.
#[expect(clippy::as_conversions, reason = "with this syntax the macro knows the type of an array of optional values")]
pub(crate) async fn insert(
    connection: &mut PgConnection,
    ledger: &Ledger,
    letters: &[DeadLetter<'_>],
    schedule: &RetrySchedule,
) -> sqlx::Result<()> {
    if letters.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = letters.iter().map(|_| Uuid::now_v7()).collect();
    let records = || letters.iter().map(|letter| letter.record);
    let causes = || letters.iter().map(|letter| &letter.cause);
    let partitions: Vec<i32> = records().map(|record| record.partition.0).collect();
    let offsets: Vec<i64> = records().map(|record| record.offset.0).collect();
    let digests: Vec<Vec<u8>> = records().map(|record| record.digest().0.to_vec()).collect();
    let timestamps: Vec<Option<i64>> = records().map(|record| timestamp::to_millis(record.timestamp)).collect();
    let timestamp_types: Vec<Option<&str>> =
        records().map(|record| timestamp::to_text(record.timestamp.kind)).collect();
    let keys: Vec<Option<&[u8]>> = records().map(|record| record.key.as_deref()).collect();
    let values: Vec<Option<&[u8]>> = records().map(|record| record.value.as_deref()).collect();
    let headers: Vec<Value> = records().map(|record| headers::to_json(&record.headers)).collect();
    let reasons: Vec<&str> = causes().map(|cause| cause.reason.as_str()).collect();
    let fields: Vec<Option<&str>> = causes().map(|cause| cause.field).collect();
    let details: Vec<&str> = causes().map(|cause| cause.detail.as_str()).collect();
    let sqlstates: Vec<Option<&str>> = causes().map(|cause| cause.sqlstate.as_deref()).collect();
    let constraints: Vec<Option<&str>> = causes().map(|cause| cause.constraint.as_deref()).collect();
    let waits: Vec<Option<f64>> =
        causes().map(|cause| schedule.wait(cause, 1).map(|wait| wait.as_secs_f64())).collect();
    sqlx::query!(
        r#"with inserted as (
               insert into dead_letters (group_id, topic, id, partition, "offset", digest, record_timestamp_ms,
                                         timestamp_type, key, value, headers, reason, field, detail, sqlstate,
                                         constraint_name, status, next_attempt_at)
               select $1, $2, id, partition, "offset", digest, record_timestamp_ms, timestamp_type, key, value, headers,
                      reason, field, detail, sqlstate, constraint_name,
                      case when wait is null then 'parked' else 'waiting' end, now() + make_interval(secs => wait)
               from unnest($3::uuid[], $4::integer[], $5::bigint[], $6::bytea[], $7::bigint[], $8::text[], $9::bytea[],
                           $10::bytea[], $11::jsonb[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
                           $17::float8[])
                    as letter (id, partition, "offset", digest, record_timestamp_ms, timestamp_type, key, value, headers,
                               reason, field, detail, sqlstate, constraint_name, wait)
               on conflict (group_id, topic, partition, "offset", digest) do nothing
               returning id, detail
           )
           insert into dead_letter_attempts (dead_letter_id, attempt, outcome, detail)
           select id, 1, 'failed', detail from inserted"#,
        ledger.group_id(),
        ledger.topic(),
        &ids,
        &partitions,
        &offsets,
        &digests,
        &timestamps as &[Option<i64>],
        &timestamp_types as &[Option<&str>],
        &keys as &[Option<&[u8]>],
        &values as &[Option<&[u8]>],
        &headers,
        &reasons as &[&str],
        &fields as &[Option<&str>],
        &details as &[&str],
        &sqlstates as &[Option<&str>],
        &constraints as &[Option<&str>],
        &waits as &[Option<f64>]
    )
    .execute(connection)
    .await?;
    Ok(())
}
