//! A record that can't become a row, and why: kept whole in `dead_letters`, in the transaction that moves past it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sqlx::PgConnection;
use uuid::Uuid;

use super::event::{Reason, Refusal};
use super::ledger::Ledger;
use super::record::{Header, Record, TimestampType};

/// Why a record is a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What kind of fault it is.
    pub reason: Reason,
    /// The path of the field at fault.
    pub field: Option<&'static str>,
    /// One sentence, without any of the record's content.
    pub detail: String,
    /// What Postgres refused it with.
    pub sqlstate: Option<String>,
    /// The constraint that it broke.
    pub constraint: Option<String>,
}

impl From<Refusal> for Cause {
    fn from(refusal: Refusal) -> Self {
        Self { reason: refusal.reason, field: refusal.field, detail: refusal.detail, sqlstate: None, constraint: None }
    }
}

/// A record on its way into the table.
#[derive(Clone, Debug)]
pub struct DeadLetter<'a> {
    /// The record, whole.
    pub record: &'a Record,
    /// Why.
    pub cause: Cause,
}

/// Writes letters, `parked`: the same bytes can't succeed later. A letter that is there already (the same record, read
/// again after its position was moved back) stays as it is.
///
/// # Errors
/// Whatever the database answered; nothing in a letter can be refused for its content.
#[expect(clippy::as_conversions, reason = "how a query is told the type of an array of optional values")]
pub async fn insert(connection: &mut PgConnection, ledger: &Ledger, letters: &[DeadLetter<'_>]) -> sqlx::Result<()> {
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
    let headers: Vec<Value> = records().map(|record| record.headers.iter().map(header).collect()).collect();
    let reasons: Vec<&str> = causes().map(|cause| cause.reason.as_str()).collect();
    let fields: Vec<Option<&str>> = causes().map(|cause| cause.field).collect();
    let details: Vec<&str> = causes().map(|cause| cause.detail.as_str()).collect();
    let sqlstates: Vec<Option<&str>> = causes().map(|cause| cause.sqlstate.as_deref()).collect();
    let constraints: Vec<Option<&str>> = causes().map(|cause| cause.constraint.as_deref()).collect();
    sqlx::query!(
        r#"insert into dead_letters (group_id, topic, id, partition, "offset", digest, record_timestamp_ms, timestamp_type,
                                     key, value, headers, reason, field, detail, sqlstate, constraint_name, status)
           select $1, $2, letter.*, 'parked'
           from unnest($3::uuid[], $4::integer[], $5::bigint[], $6::bytea[], $7::bigint[], $8::text[], $9::bytea[],
                       $10::bytea[], $11::jsonb[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[]) as letter
           on conflict (group_id, topic, partition, "offset", digest) do nothing"#,
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
        &constraints as &[Option<&str>]
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn timestamp_type(kind: TimestampType) -> Option<&'static str> {
    match kind {
        TimestampType::None => None,
        TimestampType::CreateTime => Some("create_time"),
        TimestampType::LogAppendTime => Some("log_append_time"),
    }
}

/// Postgres refuses bytes that are not UTF-8, and NUL: such a name or value goes in as base64.
fn header(header: &Header) -> Value {
    let mut object = match text(&header.name) {
        Some(name) => json!({ "name": name }),
        None => json!({ "name_base64": BASE64.encode(&header.name) }),
    };
    let (key, value) = match header.value.as_deref().map(|bytes| (bytes, text(bytes))) {
        None => ("value", Value::Null),
        Some((_, Some(text))) => ("value", text.into()),
        Some((bytes, None)) => ("base64", BASE64.encode(bytes).into()),
    };
    if let Value::Object(object) = &mut object {
        object.insert(key.to_owned(), value);
    }
    object
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &[u8], value: Option<&[u8]>, expected: &Value) {
        assert_eq!(&header(&Header { name: name.to_vec(), value: value.map(<[u8]>::to_vec) }), expected);
    }

    #[test]
    fn a_header_of_any_bytes_becomes_json_that_postgres_accepts() {
        check(b"trace", Some(b"abc"), &json!({"name": "trace", "value": "abc"}));
        check(b"trace", Some(b""), &json!({"name": "trace", "value": ""}));
        check(b"trace", None, &json!({"name": "trace", "value": null}));
        check(b"raw", Some(&[0xff, 0x00]), &json!({"name": "raw", "base64": "/wA="}));
        check(b"nul", Some(b"a\0b"), &json!({"name": "nul", "base64": "YQBi"}));
        check(&[0xfe], Some(b"x"), &json!({"name_base64": "/g==", "value": "x"}));
        check(b"", Some("\u{10ffff}".as_bytes()), &json!({"name": "", "value": "\u{10ffff}"}));
    }
}
