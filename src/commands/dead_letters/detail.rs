//! One letter with everything about it: as text for people, with the exact bytes for tools.

use std::fmt::{self, Display, Formatter};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, SecondsFormat};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgConnection;

use super::letter::{LetterAttempt, LetterPayload, LetterSummary};
use crate::commands::output::{printable, table};

/// A letter, its record and its attempts. `Display` writes the text for people, `Serialize` the JSON for tools.
#[derive(Debug)]
pub(super) struct LetterDetail {
    summary: LetterSummary,
    payload: LetterPayload,
    history: Vec<LetterAttempt>,
}

impl LetterDetail {
    pub(super) async fn read(connection: &mut PgConnection, summary: LetterSummary) -> sqlx::Result<Self> {
        let payload = LetterPayload::read(connection, summary.id).await?;
        let history = LetterAttempt::all(connection, summary.id).await?;
        Ok(Self { summary, payload, history })
    }
}

/// Bytes as text if they are UTF-8, otherwise as base64. Both are `None` if there are no bytes.
type Bytes<'a> = (Option<&'a str>, Option<String>);

fn bytes(bytes: Option<&[u8]>) -> Bytes<'_> {
    match bytes.map(|bytes| (bytes, str::from_utf8(bytes))) {
        None => (None, None),
        Some((_, Ok(text))) => (Some(text), None),
        Some((bytes, Err(_))) => (None, Some(BASE64.encode(bytes))),
    }
}

impl Serialize for LetterDetail {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Object<'a> {
            #[serde(flatten)]
            summary: &'a LetterSummary,
            digest: &'a str,
            key: Option<&'a str>,
            key_base64: Option<String>,
            value: Option<&'a str>,
            value_base64: Option<String>,
            original_value: Option<&'a str>,
            original_value_base64: Option<String>,
            headers: &'a Value,
            history: &'a [LetterAttempt],
        }
        let payload = &self.payload;
        let (key, key_base64) = bytes(payload.key.as_deref());
        let (value, value_base64) = bytes(payload.value.as_deref());
        let (original_value, original_value_base64) = bytes(payload.original_value.as_deref());
        let object = Object {
            summary: &self.summary,
            digest: &payload.digest,
            key,
            key_base64,
            value,
            value_base64,
            original_value,
            original_value_base64,
            headers: &payload.headers,
            history: &self.history,
        };
        object.serialize(serializer)
    }
}

impl Display for LetterDetail {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (letter, payload) = (&self.summary, &self.payload);
        line(f, "id", Some(letter.id))?;
        line(f, "group_id", Some(&letter.group_id))?;
        line(f, "topic", Some(&letter.topic))?;
        line(f, "partition", Some(letter.partition))?;
        line(f, "offset", Some(letter.offset))?;
        line(f, "timestamp", letter.record_timestamp_ms.map(instant))?;
        line(f, "timestamp_type", letter.timestamp_type.as_ref())?;
        line(f, "digest", Some(&payload.digest))?;
        line(f, "reason", Some(&letter.reason))?;
        line(f, "field", letter.field.as_ref())?;
        line(f, "detail", Some(&letter.detail))?;
        line(f, "sqlstate", letter.sqlstate.as_ref())?;
        line(f, "constraint_name", letter.constraint_name.as_ref())?;
        line(f, "status", Some(&letter.status))?;
        line(f, "attempts", Some(letter.attempts))?;
        line(f, "next_attempt_at", letter.next_attempt_at)?;
        line(f, "first_failed_at", Some(letter.first_failed_at))?;
        line(f, "last_failed_at", Some(letter.last_failed_at))?;
        line(f, "corrected_at", letter.corrected_at)?;
        line(f, "resolved_at", letter.resolved_at)?;
        line(f, "resolved_by", letter.resolved_by.as_ref())?;
        line(f, "note", letter.note.as_ref())?;
        block(f, "headers", headers(&payload.headers).as_deref())?;
        block(f, "key", payload.key_text.as_deref())?;
        block(f, "value", payload.value_text.as_deref())?;
        if letter.corrected_at.is_some() {
            block(f, "original_value", payload.original_text.as_deref())?;
        }
        block(f, "history", attempts(&self.history).as_deref())?;
        match sql_to_change(letter) {
            Some(lines) => block(f, "in psql", Some(&lines)),
            None => Ok(()),
        }
    }
}

/// Writes nothing if there is no value.
fn line(f: &mut Formatter<'_>, name: &str, value: Option<impl Display>) -> fmt::Result {
    let Some(value) = value else { return Ok(()) };
    writeln!(f, "{name:<15}  {}", printable(&value.to_string()).replace('\n', "\\n"))
}

fn block(f: &mut Formatter<'_>, name: &str, text: Option<&str>) -> fmt::Result {
    let Some(text) = text else { return writeln!(f, "\n{name}: none") };
    writeln!(f, "\n{name}:")?;
    printable(text).split('\n').try_for_each(|line| writeln!(f, "{}", format!("  {line}").trim_end()))
}

fn instant(millis: i64) -> String {
    let instant = DateTime::from_timestamp_millis(millis);
    instant.map_or_else(|| format!("{millis} ms"), |instant| instant.to_rfc3339_opts(SecondsFormat::Millis, true))
}

fn headers(headers: &Value) -> Option<String> {
    let each: Vec<String> = headers.as_array()?.iter().map(header).collect();
    (!each.is_empty()).then(|| each.join("\n"))
}

fn header(header: &Value) -> String {
    let text = |name: &str| header.get(name).and_then(Value::as_str);
    let name = match text("name_base64") {
        Some(bytes) => format!("base64 {bytes}"),
        None => text("name").unwrap_or_default().to_owned(),
    };
    match (text("base64"), text("value")) {
        (Some(bytes), _) => format!("{name}: base64 {bytes}"),
        (None, Some(value)) => format!("{name}: {value}"),
        (None, None) => format!("{name} (null)"),
    }
}

fn attempts(history: &[LetterAttempt]) -> Option<String> {
    let rows = history.iter().map(|one| {
        let detail = one.detail.clone().unwrap_or_default();
        [one.attempt.to_string(), one.at.to_string(), one.outcome.clone(), detail]
    });
    let lines = table(["attempt", "at", "outcome", "detail"], rows);
    (!history.is_empty()).then(|| lines.trim_end().to_owned())
}

/// The SQL statements for a letter that can still be changed.
fn sql_to_change(letter: &LetterSummary) -> Option<String> {
    let id = letter.id;
    (letter.status != "resolved").then(|| {
        format!(
            "select * from dead_letters_correct('{id}', convert_to('{{…}}', 'UTF8'));\n\
             select * from dead_letters_requeue('{{{id}}}');\n\
             select * from dead_letters_discard('{{{id}}}', 'why');"
        )
    })
}
