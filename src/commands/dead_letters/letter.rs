//! The rows of letters, as `list` and `show` read them.

use chrono::{DateTime, Utc};
use fenced_sink::admin::Time;
use serde::{Serialize, Serializer};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::config::Settings;

/// The filter for letters. A field that is `None` does not restrict them.
pub(super) struct LetterFilter<'a> {
    pub(super) group_id: &'a str,
    pub(super) topic: &'a str,
    pub(super) id: Option<Uuid>,
    pub(super) status: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
    pub(super) partition: Option<i32>,
    pub(super) since: Option<DateTime<Utc>>,
    pub(super) limit: i64,
}

/// A letter without its payload.
#[derive(Debug, Serialize)]
pub(super) struct LetterSummary {
    #[serde(serialize_with = "as_text")]
    pub(super) id: Uuid,
    pub(super) group_id: String,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// The timestamp of the record, if it has one. It can be any number, because the producer sets it.
    pub(super) record_timestamp_ms: Option<i64>,
    pub(super) timestamp_type: Option<String>,
    pub(super) reason: String,
    pub(super) field: Option<String>,
    pub(super) detail: String,
    pub(super) sqlstate: Option<String>,
    pub(super) constraint_name: Option<String>,
    pub(super) status: String,
    pub(super) attempts: i32,
    pub(super) next_attempt_at: Option<Time>,
    pub(super) first_failed_at: Time,
    pub(super) last_failed_at: Time,
    pub(super) corrected_at: Option<Time>,
    pub(super) resolved_at: Option<Time>,
    pub(super) resolved_by: Option<String>,
    pub(super) note: Option<String>,
}

/// The record in a letter: its bytes, and the text that people read.
#[derive(Debug)]
pub(super) struct LetterPayload {
    pub(super) digest: String,
    pub(super) headers: Value,
    pub(super) key: Option<Vec<u8>>,
    pub(super) key_text: Option<String>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) value_text: Option<String>,
    pub(super) original_value: Option<Vec<u8>>,
    pub(super) original_text: Option<String>,
}

/// One attempt to store a letter.
#[derive(Debug, Serialize)]
pub(super) struct LetterAttempt {
    pub(super) attempt: i32,
    pub(super) at: Time,
    pub(super) outcome: String,
    pub(super) detail: Option<String>,
}

impl<'a> LetterFilter<'a> {
    /// All letters of the group and topic in the settings.
    pub(super) fn of(settings: &'a Settings) -> Self {
        let (group_id, topic) = (&settings.kafka_group_id, &settings.kafka_topic);
        Self { group_id, topic, id: None, status: None, reason: None, partition: None, since: None, limit: i64::MAX }
    }

    /// Reads the letters, the newest first: the order of the ids is the order of time.
    pub(super) async fn summaries(&self, connection: &mut PgConnection) -> sqlx::Result<Vec<LetterSummary>> {
        sqlx::query_as!(
            LetterSummary,
            r#"select id, group_id, topic, partition, "offset", record_timestamp_ms, timestamp_type, reason, field,
                      detail, sqlstate, constraint_name, status, attempts, next_attempt_at as "next_attempt_at: Time",
                      first_failed_at as "first_failed_at: Time", last_failed_at as "last_failed_at: Time",
                      corrected_at as "corrected_at: Time", resolved_at as "resolved_at: Time", resolved_by, note
               from dead_letters
               where group_id = $1 and topic = $2 and ($3::uuid is null or id = $3)
                 and ($4::text is null or status = $4) and ($5::text is null or reason = $5)
                 and ($6::integer is null or partition = $6) and ($7::timestamptz is null or first_failed_at >= $7)
               order by id desc limit $8"#,
            self.group_id,
            self.topic,
            self.id,
            self.status,
            self.reason,
            self.partition,
            self.since,
            self.limit
        )
        .fetch_all(connection)
        .await
    }
}

impl LetterPayload {
    /// Reads the record of a letter. `dead_letters_text` never fails: it returns text for any bytes.
    pub(super) async fn read(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<Self> {
        sqlx::query_as!(
            Self,
            r#"select encode(digest, 'hex') as "digest!", headers, key, dead_letters_text(key) as key_text, value,
                    dead_letters_text(value) as value_text, original_value,
                    dead_letters_text(original_value) as original_text
             from dead_letters where id = $1"#,
            id
        )
        .fetch_one(connection)
        .await
    }
}

impl LetterAttempt {
    /// Reads the attempts of a letter, in their order.
    pub(super) async fn all(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<Vec<Self>> {
        sqlx::query_as!(
            Self,
            r#"select attempt, at as "at: Time", outcome, detail
               from dead_letter_attempts where dead_letter_id = $1 order by attempt"#,
            id
        )
        .fetch_all(connection)
        .await
    }
}

fn as_text<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}
