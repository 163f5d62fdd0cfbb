//! Each record that cannot become a row becomes exactly one dead letter, which holds the complete record.

mod rejected;

use serde_json::{Value, json};

use testbed::audit::Totals;
use testbed::kafka::kafka;
use testbed::scene::Scene;
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wire::RawRecord;
use testbed::workload::{SEED, booking};

/// A text in keys, headers and values. Neither the detail of a letter nor the service's log may contain it.
const CONTENT: &str = "only-in-the-record";

#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
struct Letter {
    offset: i64,
    record_timestamp_ms: Option<i64>,
    timestamp_type: Option<String>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Value,
    reason: String,
    field: Option<String>,
    detail: String,
    sqlstate: Option<String>,
    constraint_name: Option<String>,
    status: String,
    attempts: i32,
}

async fn letters(scene: &Scene) -> Vec<Letter> {
    sqlx::query_as("select * from dead_letters order by partition, \"offset\"")
        .fetch_all(&mut scene.connect().await)
        .await
        .unwrap()
}

/// The seed message with one change.
fn seed_with(from: &str, to: &str) -> Vec<u8> {
    assert!(SEED.contains(from), "{from}");
    SEED.replacen(from, to, 1).into_bytes()
}

/// A value that is refused, with the reason and the field.
type Refused = (Option<Vec<u8>>, &'static str, Option<&'static str>);

fn refused_values() -> [Refused; 17] {
    let with = |from, to: &str| Some(seed_with(from, to));
    let not_utf8 = [SEED.split_once("TEST").unwrap().0.as_bytes(), &[0xff, 0xfe], br#""}}"#].concat();
    [
        (None, "tombstone", None),
        (Some(Vec::new()), "not_json", None),
        (Some(vec![0xff, 0x00, 0xfe]), "not_json", None),
        (Some(CONTENT.as_bytes().to_vec()), "not_json", None),
        (Some(format!("{SEED}{CONTENT}").into_bytes()), "not_json", None),
        (Some(not_utf8), "not_json", None),
        (Some(format!("[\"{CONTENT}\"]").into_bytes()), "not_an_object", None),
        (Some(b"{}".to_vec()), "missing_field", Some("event_type")),
        (with("\"price\":90.0,", ""), "missing_field", Some("data.price")),
        (with("\"13\"", "13"), "wrong_type", Some("data.id")),
        (with("90.0", &format!("\"{CONTENT}\"")), "wrong_type", Some("data.price")),
        (with("\"price\"", "\"price\":1,\"price\""), "duplicate_field", Some("data.price")),
        (with("90.0", "-1"), "invalid_value", Some("data.price")),
        (with("2026-02-15T14:37:34.859067+00:00", CONTENT), "invalid_value", Some("data.created_at")),
        (with("\"13\"", "\"\""), "invalid_value", Some("data.id")),
        (with("test-user-2", &CONTENT.repeat(20)), "too_long", Some("data.user_id")),
        (with("test-hotel-1", &format!("{CONTENT}\\u0000")), "nul_character", Some("data.hotel_id")),
    ]
}

/// Keys, headers and timestamps of every kind, and the headers as stored in the letter.
fn envelopes() -> Vec<(RawRecord, Value)> {
    let content = || Some(CONTENT.as_bytes().to_vec());
    let with = |key, timestamp, headers: &[(&[u8], Option<&[u8]>)]| RawRecord {
        key,
        value: None,
        headers: headers.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect(),
        timestamp,
    };
    let many: &[(&[u8], Option<&[u8]>)] = &[
        (b"trace", Some(b"1")),
        (b"other", Some(CONTENT.as_bytes())),
        (b"trace", Some(b"2")),
        (b"trace", Some(b"1")),
        (b"", Some(b"")),
        (b"null", None),
    ];
    let odd: &[(&[u8], Option<&[u8]>)] = &[
        (&[0xff, 0xfe], Some(b"text")),
        (b"bytes", Some(&[0xff, 0x00])),
        (b"nul", Some(b"a\0b")),
        (&[0x80], None),
        ("\u{10ffff}".as_bytes(), Some("\u{e9}".as_bytes())),
    ];
    let many_kept = json!([
        {"name": "trace", "value": "1"},
        {"name": "other", "value": CONTENT},
        {"name": "trace", "value": "2"},
        {"name": "trace", "value": "1"},
        {"name": "", "value": ""},
        {"name": "null", "value": null},
    ]);
    let odd_kept = json!([
        {"name_base64": "//4=", "value": "text"},
        {"name": "bytes", "base64": "/wA="},
        {"name": "nul", "base64": "YQBi"},
        {"name_base64": "gA==", "value": null},
        {"name": "\u{10ffff}", "value": "\u{e9}"},
    ]);
    vec![
        (with(None, 1_771_166_254_859, &[]), json!([])),
        (with(Some(Vec::new()), 0, many), many_kept),
        (with(Some(vec![0xff, 0x00, 0x80]), -62_135_596_800_001, odd), odd_kept),
        (with(content(), i64::MAX, &[]), json!([])),
        (with(content(), i64::MIN, &[]), json!([])),
    ]
}

#[tokio::test]
async fn every_refused_record_becomes_one_letter_with_the_complete_record() {
    // By default the broker refuses timestamps of the future, and retention removes records that look old.
    let any_time = [("message.timestamp.after.max.ms", "9223372036854775807"), ("retention.ms", "-1")];
    let topic = Topic::create_as(kafka(), &unique("refused"), 1, &any_time).await;
    // All records become letters, more than the breaker allows.
    let scene = Scene::of(topic).await.with("BREAKER_CONSECUTIVE", "0");
    let service = scene.start();
    let mut sent = Vec::new();
    let mut expected = Vec::new();
    // Each value is combined with each envelope: the two numbers have no common factor.
    for ((value, reason, field), (envelope, headers)) in refused_values()
        .into_iter()
        .cycle()
        .zip(envelopes().into_iter().cycle())
        .take(refused_values().len() * envelopes().len())
    {
        let record = RawRecord { value, ..envelope };
        expected.push((record.clone(), headers, reason, field));
        sent.push(record);
    }
    let offsets = scene.topic.send_raw(0, &sent);
    scene.wait_until_read().await;
    let count = i64::try_from(sent.len()).unwrap();
    assert_eq!(scene.row(0).await.totals, Totals { dead_lettered: count, ..Totals::default() });
    let kept = letters(&scene).await;
    assert_eq!(kept.len(), sent.len());
    for (letter, ((record, headers, reason, field), offset)) in kept.iter().zip(expected.into_iter().zip(offsets)) {
        let wanted = Letter {
            offset,
            record_timestamp_ms: Some(record.timestamp),
            timestamp_type: Some("create_time".to_owned()),
            key: record.key,
            value: record.value,
            headers,
            reason: reason.to_owned(),
            field: field.map(str::to_owned),
            detail: letter.detail.clone(),
            sqlstate: None,
            constraint_name: None,
            status: "parked".to_owned(),
            attempts: 1,
        };
        assert_eq!(*letter, wanted);
        assert!(!letter.detail.is_empty() && !letter.detail.contains(CONTENT), "{}", letter.detail);
    }

    // The same records again make no new letters, and the totals count them again.
    scene.execute("update consumer_offsets set next_offset = 0").await;
    scene.wait_until_read().await;
    assert_eq!(scene.row(0).await.totals, Totals { dead_lettered: 2 * count, ..Totals::default() });
    assert_eq!(letters(&scene).await, kept);
    assert!(service.lines().iter().all(|line| !line.contains(CONTENT)), "{:#?}", service.lines());
}

#[tokio::test]
async fn a_letter_records_that_the_broker_set_the_timestamp() {
    let name = unique("stamped");
    let topic = Topic::create_as(kafka(), &name, 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let scene = Scene::of(topic).await;
    let _service = scene.start();
    scene.send([Outgoing { timestamp: Some(1), ..Outgoing::to(0, "poison") }]).await;
    scene.wait_until_read().await;
    let kept = letters(&scene).await;
    assert_eq!(kept[0].timestamp_type.as_deref(), Some("log_append_time"));
    assert!(kept[0].record_timestamp_ms.unwrap() > 1_700_000_000_000, "{kept:?}");
}

#[tokio::test]
async fn a_conflicting_duplicate_leaves_the_stored_row_untouched() {
    let scene = Scene::new(1).await;
    let _service = scene.start();
    let producer = scene.topic.producer(&[]);
    let row = async || scene.lines("select booking_history::text || ' ' || xmin::text from booking_history").await;
    producer.send([Outgoing::to(0, booking("one", "90.0"))]).await;
    scene.wait_until_read().await;
    let before = row().await;
    producer.send([Outgoing::to(0, booking("one", "90.01")), Outgoing::to(0, booking("one", "90.00"))]).await;
    scene.wait_until_read().await;
    assert_eq!(row().await, before);
    let totals = scene.row(0).await.totals;
    assert_eq!(totals, Totals { stored: 1, duplicates: 1, dead_lettered: 1, ..Totals::default() });
    let [letter] = letters(&scene).await.try_into().unwrap();
    assert_eq!((letter.offset, letter.reason.as_str(), letter.sqlstate), (1, "conflicting_duplicate", None));
    assert_eq!(letter.value, Some(booking("one", "90.01").into_bytes()));
    assert_eq!(letter.status, "parked");
}

#[tokio::test]
async fn the_first_of_two_records_with_one_key_in_a_batch_is_stored() {
    let scene = Scene::new(1).await;
    let producer = scene.topic.producer(&[]);
    for price in ["1", "1.00", "2", "1"] {
        producer.send([Outgoing::to(0, booking("one", price)), Outgoing::to(0, booking("two", "5"))]).await;
    }
    // All records exist before the service starts, so they come in one batch.
    let service = scene.start();
    scene.wait_until_read().await;
    service.wait_for_event_with("batch_committed", &[("records", "8")]);
    let totals = scene.row(0).await.totals;
    assert_eq!(totals, Totals { stored: 2, duplicates: 5, dead_lettered: 1, ..Totals::default() });
    let [letter] = letters(&scene).await.try_into().unwrap();
    assert_eq!((letter.offset, letter.reason.as_str()), (4, "conflicting_duplicate"));
}

#[tokio::test]
async fn a_record_of_a_megabyte_is_handled_like_any_other() {
    // A record larger than these limits is a batch alone.
    let scene = Scene::new(1).await.with("BATCH_MAX_BYTES", "100KiB").with("BUFFER_MAX_BYTES", "200KiB");
    let _service = scene.start();
    let padding = "x".repeat(1_000_000);
    let padded = seed_with("\"event_type\"", &format!("\"padding\":\"{padding}\",\"event_type\""));
    let sent = [padding.into_bytes(), padded, SEED.as_bytes().to_vec()];
    scene
        .topic
        .producer(&[("message.max.bytes", "1040000")])
        .send(sent.iter().map(|value| Outgoing::to(0, value.clone())))
        .await;
    scene.wait_until_read().await;
    let totals = scene.row(0).await.totals;
    assert_eq!(totals, Totals { stored: 1, duplicates: 1, dead_lettered: 1, ..Totals::default() });
    let [letter] = letters(&scene).await.try_into().unwrap();
    assert!(letter.value.as_ref() == Some(&sent[0]), "another value");
}
