//! A record that can't become a row, and why: kept whole in `dead_letters`, in the transaction that moves past it.

mod count;
mod headers;
pub(crate) mod stored;

pub(crate) use crate::postgres::dead_letters::count::count;
use serde_json::Value;
use sqlx::PgConnection;
use std::num::NonZeroU32;
use std::time::Duration;
use uuid::Uuid;

use crate::model::event::Reason;
use crate::model::outcome::DeadLetterCause;
use crate::model::record::{Offset, Partition, Record, Timestamp, TimestampType};
use crate::postgres::ledger::Ledger;
use crate::postgres::retry::wait_after;

/// When a letter that may heal is tried again.
#[derive(Clone, Copy, Debug)]
pub struct RetrySchedule {
    /// Tries in all, the first failure included.
    pub max_attempts: NonZeroU32,
    /// The first wait.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Default for RetrySchedule {
    fn default() -> Self {
        Self {
            max_attempts: NonZeroU32::MIN.saturating_add(4),
            initial: Duration::from_secs(1),
            max: Duration::from_mins(5),
        }
    }
}

impl RetrySchedule {
    /// The wait after so many failures; `None`: a person has to look.
    #[must_use]
    pub fn wait(&self, cause: &DeadLetterCause, failures: u32) -> Option<Duration> {
        let again = cause.may_heal() && failures < self.max_attempts.get();
        again.then(|| wait_after(failures, self.initial, self.max))
    }
}

/// A record on its way into the table.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetter<'a> {
    /// The record, whole.
    pub record: &'a Record,
    /// Why.
    pub cause: DeadLetterCause,
}

/// Writes letters, each with its first failed attempt: `waiting` if it may heal by itself, else `parked`. A letter that
/// is there already (the same record, read again after its position was moved back) stays as it is.
///
/// # Errors
/// Whatever the database answered; nothing in a letter can be refused for its content.
#[expect(clippy::as_conversions, reason = "how a query is told the type of an array of optional values")]
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
    let timestamps: Vec<Option<i64>> = records()
        .map(|record| (record.timestamp.kind != TimestampType::None).then_some(record.timestamp.millis))
        .collect();
    let timestamp_types: Vec<Option<&str>> = records().map(|record| timestamp_type(record.timestamp.kind)).collect();
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

/// A letter that is due, held by this transaction.
#[derive(Clone, Debug)]
pub(crate) struct DueLetter {
    /// Names it.
    pub id: Uuid,
    /// The record, with the value that a person may have corrected.
    pub record: Record,
    /// Failed tries so far.
    pub attempts: u32,
}

/// Takes the letter that has been due for longest, that no other instance is trying and that is not to be passed over. It is held until the transaction
/// ends, however it ends.
///
/// # Errors
/// Whatever the database answered.
pub(crate) async fn take_due(
    transaction: &mut PgConnection,
    ledger: &Ledger,
    passed_over: &[Uuid],
) -> sqlx::Result<Option<DueLetter>> {
    let row = sqlx::query!(
        r#"select id, partition, "offset", record_timestamp_ms, timestamp_type, key, value, headers, attempts
           from dead_letters
           where group_id = $1 and topic = $2 and status = 'waiting' and next_attempt_at <= now() and id <> all ($3)
           order by next_attempt_at limit 1
           for update skip locked"#,
        ledger.group_id(),
        ledger.topic(),
        passed_over
    )
    .fetch_optional(transaction)
    .await?;
    Ok(row.map(|row| DueLetter {
        id: row.id,
        attempts: u32::try_from(row.attempts).unwrap_or_default(),
        record: Record {
            partition: Partition(row.partition),
            offset: Offset(row.offset),
            timestamp: timestamp(row.record_timestamp_ms, row.timestamp_type.as_deref()),
            key: row.key,
            value: row.value,
            headers: headers::from_json(&row.headers),
        },
    }))
}

/// The letter's row is in its table: it is resolved.
///
/// # Errors
/// Whatever the database answered.
pub(crate) async fn resolve(
    transaction: &mut PgConnection,
    due: &DueLetter,
    outcome: &'static str,
    resolved_by: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "with resolved as (
             update dead_letters
             set status = 'resolved', next_attempt_at = null, resolved_at = now(), resolved_by = $2
             where id = $1 returning id, attempts
         )
         insert into dead_letter_attempts (dead_letter_id, attempt, outcome)
         select id, attempts + 1, $3 from resolved",
        due.id,
        resolved_by,
        outcome
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// The letter was refused again: it waits for its next try, or for a person.
///
/// # Errors
/// Whatever the database answered.
pub(crate) async fn refuse(
    transaction: &mut PgConnection,
    due: &DueLetter,
    cause: &DeadLetterCause,
    wait: Option<Duration>,
) -> sqlx::Result<()> {
    let outcome = if cause.reason == Reason::ConflictingDuplicate { "conflict" } else { "failed" };
    sqlx::query!(
        "with refused as (
             update dead_letters
             set status = case when $8::float8 is null then 'parked' else 'waiting' end,
                 next_attempt_at = now() + make_interval(secs => $8), attempts = attempts + 1, last_failed_at = now(),
                 reason = $2, field = $3, detail = $4, sqlstate = $5, constraint_name = $6
             where id = $1 returning id, attempts, detail
         )
         insert into dead_letter_attempts (dead_letter_id, attempt, outcome, detail)
         select id, attempts, $7, detail from refused",
        due.id,
        cause.reason.as_str(),
        cause.field,
        cause.detail,
        cause.sqlstate,
        cause.constraint,
        outcome,
        wait.map(|wait| wait.as_secs_f64())
    )
    .execute(transaction)
    .await?;
    Ok(())
}

pub(crate) fn timestamp(millis: Option<i64>, kind: Option<&str>) -> Timestamp {
    let kind = match kind {
        Some("create_time") => TimestampType::CreateTime,
        Some("log_append_time") => TimestampType::LogAppendTime,
        _ => TimestampType::None,
    };
    Timestamp { millis: millis.unwrap_or(-1), kind }
}

pub(crate) fn timestamp_type(kind: TimestampType) -> Option<&'static str> {
    match kind {
        TimestampType::None => None,
        TimestampType::CreateTime => Some("create_time"),
        TimestampType::LogAppendTime => Some("log_append_time"),
    }
}
