//! Every record that can't become a row ends as exactly one dead letter that holds it whole, and nothing else does.

use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use testbed::audit::{Audit, Totals};
use testbed::kafka::kafka;
use testbed::postgres::{database, run};
use testbed::service::{Service, migrated, settings};
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::PATIENCE;
use testbed::wire::RawRecord;
use testbed::workload::{SEED, Workload, booking};

/// Stands in keys, headers and values, and nowhere else in a letter or a log.
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

async fn letters(database: &str) -> Vec<Letter> {
    sqlx::query_as("select * from dead_letters order by partition, \"offset\"")
        .fetch_all(&mut PgConnection::connect(database).await.unwrap())
        .await
        .unwrap()
}

/// The seed message with one thing in it changed.
fn seed_with(from: &str, to: &str) -> Vec<u8> {
    assert!(SEED.contains(from), "{from}");
    SEED.replacen(from, to, 1).into_bytes()
}

/// A value that is refused: the reason, and the field.
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

/// Keys, headers and timestamps of every kind, in turn, with what becomes of the headers.
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
async fn every_refused_record_becomes_one_letter_that_holds_it_whole() {
    // Else the broker refuses timestamps of the future, and retention removes what seems old.
    let any_time = [("message.timestamp.after.max.ms", "9223372036854775807"), ("retention.ms", "-1")];
    let topic = Topic::create_as(kafka(), &unique("refused"), 1, &any_time).await;
    let (group, database) = (unique("group"), database().await);
    migrated(&database);
    let mut settings = settings(kafka(), &topic, &group, &database);
    // Nothing but letters, and twice: more in a row than a partition is let go on with.
    settings.push(("BREAKER_CONSECUTIVE".to_owned(), "0".to_owned()));
    let service = Service::run(&settings);
    let mut sent = Vec::new();
    let mut expected = Vec::new();
    // Every value meets every envelope but for the last of them, since their numbers have no common factor.
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
    let offsets = topic.send_raw(0, &sent);
    let audit = Audit { topic: &topic, group: &group, database: &database };
    audit.wait_until_read(PATIENCE).await;
    let count = i64::try_from(sent.len()).unwrap();
    assert_eq!(audit.rows().await[&0].totals, Totals { dead_lettered: count, ..Totals::default() });
    let kept = letters(&database).await;
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

    // The same log read again: the letters are there already, and the totals count what was handled.
    run(&database, "update consumer_offsets set next_offset = 0").await;
    audit.wait_until_read(PATIENCE).await;
    assert_eq!(audit.rows().await[&0].totals, Totals { dead_lettered: 2 * count, ..Totals::default() });
    assert_eq!(letters(&database).await, kept);
    assert!(service.lines().iter().all(|line| !line.contains(CONTENT)), "{:#?}", service.lines());
}

#[tokio::test]
async fn a_letter_says_when_the_broker_set_the_timestamp() {
    let name = unique("stamped");
    let topic = Topic::create_as(kafka(), &name, 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let (group, database) = (unique("group"), database().await);
    migrated(&database);
    let _service = Service::run(&settings(kafka(), &topic, &group, &database));
    topic.producer(&[]).send([Outgoing { timestamp: Some(1), ..Outgoing::to(0, "poison") }]).await;
    Audit { topic: &topic, group: &group, database: &database }.wait_until_read(PATIENCE).await;
    let kept = letters(&database).await;
    assert_eq!(kept[0].timestamp_type.as_deref(), Some("log_append_time"));
    assert!(kept[0].record_timestamp_ms.unwrap() > 1_700_000_000_000, "{kept:?}");
}

#[tokio::test]
async fn a_conflicting_duplicate_leaves_the_stored_row_untouched() {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    migrated(&database);
    let _service = Service::run(&settings(kafka(), &topic, &group, &database));
    let audit = Audit { topic: &topic, group: &group, database: &database };
    let producer = topic.producer(&[]);
    let row = async || {
        let row: (String, String) =
            sqlx::query_as("select booking_history::text, xmin::text from booking_history where booking_id = 'one'")
                .fetch_one(&mut PgConnection::connect(&database).await.unwrap())
                .await
                .unwrap();
        row
    };
    producer.send([Outgoing::to(0, booking("one", "90.0"))]).await;
    audit.wait_until_read(PATIENCE).await;
    let before = row().await;
    producer.send([Outgoing::to(0, booking("one", "90.01")), Outgoing::to(0, booking("one", "90.00"))]).await;
    audit.wait_until_read(PATIENCE).await;
    assert_eq!(row().await, before);
    let totals = audit.rows().await[&0].totals;
    assert_eq!(totals, Totals { stored: 1, duplicates: 1, dead_lettered: 1, ..Totals::default() });
    let [letter] = letters(&database).await.try_into().unwrap();
    assert_eq!((letter.offset, letter.reason.as_str(), letter.sqlstate), (1, "conflicting_duplicate", None));
    assert_eq!(letter.value, Some(booking("one", "90.01").into_bytes()));
    assert_eq!(letter.status, "parked");
}

#[tokio::test]
async fn of_one_key_sent_twice_in_a_batch_the_first_is_stored() {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    migrated(&database);
    let producer = topic.producer(&[]);
    for price in ["1", "1.00", "2", "1"] {
        producer.send([Outgoing::to(0, booking("one", price)), Outgoing::to(0, booking("two", "5"))]).await;
    }
    // All are there before it starts, so they come in one batch.
    let service = Service::run(&settings(kafka(), &topic, &group, &database));
    let audit = Audit { topic: &topic, group: &group, database: &database };
    audit.wait_until_read(PATIENCE).await;
    service.wait_for_line(|line| line.contains("batch_committed") && line.contains("records=8"), PATIENCE);
    let totals = audit.rows().await[&0].totals;
    assert_eq!(totals, Totals { stored: 2, duplicates: 5, dead_lettered: 1, ..Totals::default() });
    let [letter] = letters(&database).await.try_into().unwrap();
    assert_eq!((letter.offset, letter.reason.as_str()), (4, "conflicting_duplicate"));
}

#[tokio::test]
async fn a_record_of_a_megabyte_is_stored_or_kept_like_any_other() {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    migrated(&database);
    // Bounds that a single record is beyond: it is a batch alone.
    let mut settings = settings(kafka(), &topic, &group, &database);
    for (name, value) in [("BATCH_MAX_BYTES", "100KiB"), ("BUFFER_MAX_BYTES", "200KiB")] {
        settings.push((name.to_owned(), value.to_owned()));
    }
    let _service = Service::run(&settings);
    let padding = "x".repeat(1_000_000);
    let padded = seed_with("\"event_type\"", &format!("\"padding\":\"{padding}\",\"event_type\""));
    let sent = [padding.into_bytes(), padded, SEED.as_bytes().to_vec()];
    topic
        .producer(&[("message.max.bytes", "1040000")])
        .send(sent.iter().map(|value| Outgoing::to(0, value.clone())))
        .await;
    let audit = Audit { topic: &topic, group: &group, database: &database };
    audit.wait_until_read(PATIENCE).await;
    let totals = audit.rows().await[&0].totals;
    assert_eq!(totals, Totals { stored: 1, duplicates: 1, dead_lettered: 1, ..Totals::default() });
    let [letter] = letters(&database).await.try_into().unwrap();
    assert!(letter.value.as_ref() == Some(&sent[0]), "the value is another");
}

/// What an operator adds to the table refuses the bookings whose id begins with `bad`: these are letters, and all others
/// are rows.
async fn refused_by_postgres(rule: &str, sqlstate: Option<&str>, constraint: Option<&str>) {
    let (topic, group, database) = (Topic::create(kafka(), 2).await, unique("group"), database().await);
    migrated(&database);
    run(&database, rule).await;
    let mut workload = Workload::default();
    let mut bad = Vec::new();
    for index in 0..400 {
        let partition = i32::from(index % 3 == 0);
        if matches!(index, 3 | 4 | 77 | 390) {
            let id = format!("bad-{index}");
            workload.add(partition, Some(booking(&id, "9999999999.99")), |totals| &mut totals.dead_lettered);
            bad.push(workload.records.last().unwrap().value.clone());
        } else {
            workload.add_booking(&format!("good-{index}"), partition);
        }
    }
    let others: Vec<(String,)> = sqlx::query_as("select booking_id from booking_history")
        .fetch_all(&mut PgConnection::connect(&database).await.unwrap())
        .await
        .unwrap();
    workload.expected.booking_ids.extend(others.into_iter().map(|(id,)| id));
    topic.producer(&[]).send(workload.records).await;
    let service = Service::run(&settings(kafka(), &topic, &group, &database));
    let audit = Audit { topic: &topic, group: &group, database: &database };
    audit.wait_until_read(PATIENCE).await;
    audit.assert_exact(&workload.expected).await;

    let mut values = Vec::new();
    for letter in letters(&database).await {
        assert_eq!((letter.reason.as_str(), letter.field), ("database_rejected", None), "{rule}");
        assert_eq!((letter.sqlstate.as_deref(), letter.constraint_name.as_deref()), (sqlstate, constraint), "{rule}");
        assert!(!letter.detail.contains("bad-") && !letter.detail.contains(CONTENT), "{}", letter.detail);
        values.push(letter.value);
    }
    values.sort();
    bad.sort();
    assert_eq!(values, bad, "{rule}");
    let tells =
        |line: &String| line.contains(CONTENT) || line.contains("record_dead_lettered") && line.contains("bad-");
    assert!(!service.lines().iter().any(tells), "{:#?}", service.lines());
}

/// A trigger that runs `body` for the bad ones.
fn trigger(kind: &str, body: &str) -> String {
    format!(
        "create function judge() returns trigger language plpgsql as $$
         begin if new.booking_id like 'bad-%' then {body} end if; return new; end $$;
         create {kind} on booking_history for each row execute function judge()"
    )
}

#[tokio::test]
async fn a_check_of_an_operator_refuses_single_records() {
    let rule = "alter table booking_history add constraint not_bad check (booking_id not like 'bad-%')";
    refused_by_postgres(rule, Some("23514"), Some("not_bad")).await;
    refused_by_postgres("alter table booking_history alter price type numeric(6, 2)", Some("22003"), None).await;
}

#[tokio::test]
async fn a_unique_key_on_another_column_refuses_single_records() {
    let rule = "create unique index one_per_user on booking_history (user_id);
                insert into booking_history (booking_id, user_id, hotel_id, discount_percent, price, created_at)
                select 'other-' || n, 'user-bad-' || n, 'hotel', 0, 1, '2026-02-15T14:37:34Z'
                from unnest(array[3, 4, 77, 390]) n";
    refused_by_postgres(rule, Some("23505"), Some("one_per_user")).await;
}

#[tokio::test]
async fn a_foreign_key_refuses_single_records_at_once_or_deferred() {
    for when in ["", "deferrable initially deferred"] {
        let rule = format!(
            "create table users (id text primary key);
             insert into users select 'user-good-' || n from generate_series(0, 400) n;
             alter table booking_history
             add constraint known_user foreign key (user_id) references users {when}"
        );
        refused_by_postgres(&rule, Some("23503"), Some("known_user")).await;
    }
}

#[tokio::test]
async fn a_trigger_that_raises_refuses_single_records() {
    let raise = format!("raise exception '{CONTENT}: % is bad', new.booking_id;");
    refused_by_postgres(&trigger("trigger judge before insert", &raise), Some("P0001"), None).await;
    let deferred = "constraint trigger judge after insert";
    let deferred = trigger(deferred, &raise).replacen("for each row", "deferrable initially deferred for each row", 1);
    refused_by_postgres(&deferred, Some("P0001"), None).await;
}

#[tokio::test]
async fn a_trigger_that_drops_the_row_refuses_single_records() {
    refused_by_postgres(&trigger("trigger judge before insert", "return null;"), None, None).await;
}
