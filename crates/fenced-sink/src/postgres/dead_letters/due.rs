//! Dead letters that are due for a retry: one transaction takes a letter, and then resolves or refuses it.

use bytes::Bytes;
use sqlx::PgConnection;
use std::time::Duration;
use uuid::Uuid;

use crate::model::event::Reason;
use crate::model::outcome::DeadLetterCause;
use crate::model::record::{Offset, Partition, Record};
use crate::postgres::dead_letters::{headers, timestamp};
use crate::postgres::ledger::Ledger;

/// A letter that is due. The transaction that took it holds a lock on its row.
#[derive(Clone, Debug)]
pub(crate) struct DueLetter {
    /// The id of the letter.
    pub id: Uuid,
    /// The record, with the corrected value if a person has corrected it.
    pub record: Record,
    /// The number of failed attempts so far.
    pub attempts: u32,
}

/// Takes the letter that has been due for longest, of those that no other transaction holds and that are not in
/// `passed_over`. It stays locked until the transaction ends.
///
/// # Errors
/// What the database answered.
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
            timestamp: timestamp::from_columns(row.record_timestamp_ms, row.timestamp_type.as_deref()),
            key: row.key.map(Bytes::from),
            value: row.value.map(Bytes::from),
            headers: headers::from_json(&row.headers),
            leader_epoch: None,
        },
    }))
}

/// Resolves the letter, and records the attempt that stored its row or found it stored.
///
/// # Errors
/// What the database answered.
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

/// Records a failed attempt and its cause. With a `wait`, the letter waits for its next attempt. Without one, it is
/// parked.
///
/// # Errors
/// What the database answered.
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
