//! Letters as stored in the table, for the comparison with their records.

use bytes::Bytes;
use serde_json::Value;
use sqlx::PgConnection;

use crate::model::record::{Offset, Partition, Record};
use crate::postgres::dead_letters::{headers, timestamp};
use crate::postgres::ledger::Ledger;

/// A letter as stored in the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredLetter {
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
    digest: Vec<u8>,
    timestamp_ms: Option<i64>,
    timestamp_type: Option<String>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    /// An operator has replaced the value.
    pub(crate) is_corrected: bool,
    /// The value of the record, if the letter is corrected.
    original_value: Option<Vec<u8>>,
    headers: Value,
    /// Its status: a redrive has stored its row.
    pub(crate) is_resolved: bool,
}

/// The first and last offset of some records of a partition.
pub(crate) type OffsetRange = (Partition, Offset, Offset);

/// Reads the letters of these offsets, by the index of their unique key. If the topic log was replaced, some of them
/// may belong to records of the old log.
pub(crate) async fn read_letters(
    connection: &mut PgConnection,
    ledger: &Ledger,
    ranges: &[OffsetRange],
) -> sqlx::Result<Vec<StoredLetter>> {
    let partitions: Vec<i32> = ranges.iter().map(|(partition, ..)| partition.0).collect();
    let firsts: Vec<i64> = ranges.iter().map(|(_, first, _)| first.0).collect();
    let lasts: Vec<i64> = ranges.iter().map(|(.., last)| last.0).collect();
    let rows = sqlx::query!(
        r#"select letter.partition, letter."offset", digest, record_timestamp_ms, timestamp_type, key, value, original_value,
                  corrected_at is not null as "corrected!", headers, status = 'resolved' as "resolved!"
           from unnest($3::integer[], $4::bigint[], $5::bigint[]) as range (partition, first, last)
           join dead_letters as letter
             on letter.group_id = $1 and letter.topic = $2 and letter.partition = range.partition
            and letter."offset" between range.first and range.last"#,
        ledger.group_id(),
        ledger.topic(),
        &partitions,
        &firsts,
        &lasts
    )
    .fetch_all(connection)
    .await?;
    let letters = rows.into_iter().map(|row| StoredLetter {
        partition: Partition(row.partition),
        offset: Offset(row.offset),
        digest: row.digest,
        timestamp_ms: row.record_timestamp_ms,
        timestamp_type: row.timestamp_type,
        key: row.key,
        value: row.value,
        is_corrected: row.corrected,
        original_value: row.original_value,
        headers: row.headers,
        is_resolved: row.resolved,
    });
    Ok(letters.collect())
}

impl StoredLetter {
    /// Whether it is the letter of this record: same partition, offset and digest.
    pub(crate) fn is_of(&self, record: &Record) -> bool {
        (self.partition, self.offset) == (record.partition, record.offset)
            && self.digest.as_slice() == record.digest().0.as_slice()
    }

    /// The first column whose value differs from the record.
    pub(crate) fn altered_column(&self, record: &Record) -> Option<&'static str> {
        let (millis, kind) = (timestamp::to_millis(record.timestamp), timestamp::to_text(record.timestamp.kind));
        let (value, value_column) =
            if self.is_corrected { (&self.original_value, "original_value") } else { (&self.value, "value") };
        let parts = [
            (value.as_deref() == record.value.as_deref(), value_column),
            (self.key.as_deref() == record.key.as_deref(), "key"),
            (self.headers == headers::to_json(&record.headers), "headers"),
            (self.timestamp_ms == millis, "record_timestamp_ms"),
            (self.timestamp_type.as_deref() == kind, "timestamp_type"),
        ];
        parts.into_iter().find_map(|(same, column)| (!same).then_some(column))
    }

    /// The record with the corrected value, which a redrive stores. `None` if the letter is not corrected.
    pub(crate) fn corrected(&self) -> Option<Record> {
        self.is_corrected.then(|| Record {
            partition: self.partition,
            offset: self.offset,
            timestamp: timestamp::from_columns(self.timestamp_ms, self.timestamp_type.as_deref()),
            key: self.key.clone().map(Bytes::from),
            value: self.value.clone().map(Bytes::from),
            headers: headers::from_json(&self.headers),
            leader_epoch: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::{Header, Timestamp, TimestampType};

    fn record() -> Record {
        Record {
            partition: Partition(1),
            offset: Offset(7),
            timestamp: Timestamp { millis: 5, kind: TimestampType::CreateTime },
            key: Some("key".into()),
            value: Some("value".into()),
            headers: vec![Header { name: "name".into(), value: None }],
            leader_epoch: None,
        }
    }

    fn stored() -> StoredLetter {
        let record = record();
        StoredLetter {
            partition: record.partition,
            offset: record.offset,
            digest: record.digest().0.to_vec(),
            timestamp_ms: Some(5),
            timestamp_type: Some("create_time".to_owned()),
            headers: headers::to_json(&record.headers),
            key: record.key.map(Vec::from),
            value: record.value.map(Vec::from),
            is_corrected: false,
            original_value: None,
            is_resolved: false,
        }
    }

    fn check(change: impl FnOnce(&mut StoredLetter), expected: Option<&str>) {
        let mut letter = stored();
        change(&mut letter);
        assert_eq!(letter.altered_column(&record()), expected, "{letter:?}");
    }

    #[test]
    fn a_letter_must_hold_all_of_its_record() {
        check(|_| {}, None);
        check(|letter| letter.value = Some(b"Value".to_vec()), Some("value"));
        check(|letter| letter.value = None, Some("value"));
        check(|letter| letter.key = Some(Vec::new()), Some("key"));
        check(|letter| letter.headers = Value::Array(Vec::new()), Some("headers"));
        check(|letter| letter.timestamp_ms = None, Some("record_timestamp_ms"));
        check(|letter| letter.timestamp_type = Some("log_append_time".to_owned()), Some("timestamp_type"));
    }

    #[test]
    fn the_original_value_of_a_corrected_letter_is_compared() {
        let corrected = |first: Option<&[u8]>| {
            let first = first.map(<[u8]>::to_vec);
            move |letter: &mut StoredLetter| {
                letter.value = Some(b"better".to_vec());
                letter.is_corrected = true;
                letter.original_value = first;
            }
        };
        check(corrected(Some(b"value")), None);
        check(corrected(Some(b"other")), Some("original_value"));
        check(corrected(None), Some("original_value"));
        let mut letter = stored();
        assert_eq!(letter.corrected(), None);
        corrected(Some(b"value"))(&mut letter);
        assert_eq!(letter.corrected(), Some(Record { value: Some("better".into()), ..record() }));
    }

    #[test]
    fn a_letter_belongs_to_the_record_with_its_offset_and_digest() {
        assert!(stored().is_of(&record()));
        assert!(!stored().is_of(&Record { offset: Offset(8), ..record() }));
        assert!(!stored().is_of(&Record { value: None, ..record() }));
    }
}
