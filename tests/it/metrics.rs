//! `/metrics`: the numbers are those of the tables, and they move with what happens.

mod exposition;
mod stalled;

use sqlx::{Connection as _, PgConnection};

use self::exposition::{Samples, parse};
use testbed::audit::{Audit, Totals};
use testbed::http::{address, get, listening};
use testbed::kafka::kafka;
use testbed::postgres::{database, own_postgres, run};
use testbed::service::{Service, migrated};
use testbed::topic::Outgoing;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

fn scraped(address: &str) -> Samples {
    let answer = get(address, "/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    parse(&answer.body)
}

/// A sample, by its name without our prefix, and its labels.
fn sample(samples: &Samples, name: &str) -> Option<f64> {
    samples.get(&format!("booking_history_{name}")).copied()
}

/// Asks until each of these has this value; `None`: until there is no such sample.
async fn until_says(address: &str, expected: &[(&str, Option<f64>)]) -> Samples {
    let says = |samples: &Samples| expected.iter().all(|(name, value)| sample(samples, name) == *value);
    eventually(PATIENCE, says, async || scraped(address)).await
}

fn group(settings: &[(String, String)]) -> &str {
    &settings.iter().find(|(name, _)| name == "KAFKA_GROUP_ID").unwrap().1
}

#[tokio::test]
async fn after_a_mixed_workload_the_counts_are_exactly_the_totals_of_the_table() {
    let database = database().await;
    let (topic, settings) = listening(kafka(), 3, &database, &[]).await;
    let service = Service::run(&settings);
    let address = address(&service);
    let before = until_says(&address, &[("ready", Some(0.0))]).await;
    let stored = r#"records_total{outcome="stored"}"#;
    assert_eq!(sample(&before, stored), Some(0.0), "a count that begins at 0 is there, so that its rise is seen");
    assert_eq!(sample(&before, r#"dead_letters{status="parked"}"#), None, "nobody has counted them");

    migrated(&database);
    let workload = Workload::mixed("metrics", 6_000, 3);
    topic.producer(&[]).send(workload.records).await;
    let audit = Audit { topic: &topic, group: group(&settings), database: &database };
    audit.wait_until_read(PATIENCE).await;
    let totals: Totals = audit.rows().await.into_values().map(|row| row.totals).sum();
    let number = |count: i64| Some(f64::from(i32::try_from(count).unwrap()));
    let parked = r#"dead_letters{status="parked"}"#;
    let expected = [
        (stored, number(totals.stored)),
        (r#"records_total{outcome="duplicate"}"#, number(totals.duplicates)),
        (r#"records_total{outcome="ignored"}"#, number(totals.ignored)),
        (r#"records_total{outcome="dead_lettered"}"#, number(totals.dead_lettered)),
        ("batch_records_sum", Some(6_000.0)),
        ("end_to_end_seconds_count", Some(6_000.0)),
        (parked, number(totals.dead_lettered)),
        (r#"dead_letters{status="waiting"}"#, Some(0.0)),
        ("buffered_bytes", Some(0.0)),
        (r#"partitions{state="running"}"#, Some(3.0)),
        ("ready", Some(1.0)),
        ("stalled", Some(0.0)),
        ("commits_fenced_total", Some(0.0)),
    ];
    let samples = until_says(&address, &expected).await;
    let (batches, transactions) = (sample(&samples, "batch_records_count"), sample(&samples, "commit_seconds_count"));
    assert!(batches >= Some(3.0) && transactions >= Some(1.0) && transactions <= batches, "{samples:#?}");
    assert!(sample(&samples, "end_to_end_seconds_sum").unwrap() < 6_000.0 * PATIENCE.as_secs_f64());
    assert_eq!(sample(&samples, &format!("build_info{{version={:?}}}", env!("CARGO_PKG_VERSION"))), Some(1.0));

    // A letter's fate goes with the table, also where a person decides it.
    run(&database, "select dead_letters_discard(array(select id from dead_letters), 'of a test')").await;
    until_says(&address, &[(parked, Some(0.0)), (r#"dead_letters{status="discarded"}"#, number(totals.dead_lettered))])
        .await;
}

#[tokio::test]
async fn a_halt_is_counted_and_seen_in_the_states() {
    let database = database().await;
    migrated(&database);
    let (topic, settings) = listening(kafka(), 2, &database, &[("BREAKER_CONSECUTIVE", "3")]).await;
    let service = Service::run(&settings);
    let address = address(&service);
    let (running, halted) = (r#"partitions{state="running"}"#, r#"partitions{state="halted"}"#);
    let halts = r#"halts_total{reason="too_many_dead_letters"}"#;
    let well = [(running, Some(2.0)), (halted, Some(0.0)), (halts, Some(0.0)), ("ready", Some(1.0))];
    until_says(&address, &well).await;
    topic.producer(&[]).send((0..5).map(|n| Outgoing::to(1, format!("poison {n}")))).await;
    let ill = [(running, Some(1.0)), (halted, Some(1.0)), (halts, Some(1.0)), ("ready", Some(0.0))];
    until_says(&address, &ill).await;
    // One who finds the halt in the table has not halted it.
    let (code, lines) = Service::finish("offsets resume --partition 1", &settings, PATIENCE);
    assert_eq!(code, 0, "{lines:#?}");
    until_says(&address, &[(running, Some(2.0)), (halted, Some(0.0)), (halts, Some(1.0))]).await;
    let halt = "update consumer_offsets set halted_at = now(), halt_reason = 'log_corrupt' where partition = 0";
    run(&database, halt).await;
    let found = [(halted, Some(1.0)), (r#"halts_total{reason="log_corrupt"}"#, Some(0.0))];
    until_says(&address, &found).await;
}

#[tokio::test]
async fn a_gap_is_counted_by_its_offsets() {
    let database = database().await;
    migrated(&database);
    let (topic, settings) = listening(kafka(), 1, &database, &[]).await;
    let mut service = Service::run(&settings);
    let audit = Audit { topic: &topic, group: group(&settings), database: &database };
    let producer = topic.producer(&[]);
    producer.send(Workload::bookings("before", 100, 1).records).await;
    audit.wait_until_read(PATIENCE).await;
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 0);
    producer.send(Workload::bookings("after", 50, 1).records).await;
    topic.delete_records(0, 130).await;
    service.start_again();
    service.wait_for_line(|line| line.contains("partition_halted"), PATIENCE);
    let lines = service.lines();
    let line = lines.iter().rfind(|line| line.contains("http_listening")).unwrap();
    let address = line.split_once("address=").unwrap().1.split(' ').next().unwrap();
    let expected = [
        (r#"halts_total{reason="retention_gap"}"#, Some(1.0)),
        (r#"gap_records_total{reason="retention_gap"}"#, Some(30.0)),
        (&format!(r#"lag_records{{topic="{}",partition="0"}}"#, topic.name), Some(50.0)),
        (r#"partitions{state="halted"}"#, Some(1.0)),
    ];
    until_says(address, &expected).await;
}

#[tokio::test]
async fn a_commit_that_an_operator_forestalls_is_counted_as_fenced() {
    let database = database().await;
    migrated(&database);
    let (topic, settings) = listening(kafka(), 1, &database, &[]).await;
    let service = Service::run(&settings);
    let address = address(&service);
    let audit = Audit { topic: &topic, group: group(&settings), database: &database };
    let producer = topic.producer(&[]);
    producer.send(Workload::bookings("fenced", 10, 1).records).await;
    audit.wait_until_read(PATIENCE).await;

    let mut operator = PgConnection::connect(&database).await.unwrap();
    let mut moved = operator.begin().await.unwrap();
    sqlx::query("update consumer_offsets set next_offset = 4").execute(&mut *moved).await.unwrap();
    producer.send([Outgoing::to(0, booking("late", "1"))]).await;
    let waits = "select count(*) from pg_stat_activity
                 where datname = current_database() and application_name = 'booking-history' and wait_event_type = 'Lock'";
    let waiting = async || {
        let mut watcher = PgConnection::connect(&database).await.unwrap();
        sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut watcher).await.unwrap()
    };
    eventually(PATIENCE, |waiting| *waiting > 0, waiting).await;
    moved.commit().await.unwrap();
    let again = r#"records_total{outcome="duplicate"}"#;
    until_says(&address, &[("commits_fenced_total", Some(1.0)), (again, Some(6.0))]).await;
    audit.wait_until_read(PATIENCE).await;
}

#[tokio::test]
async fn tries_are_counted_while_the_database_is_away() {
    let postgres = own_postgres();
    let database = postgres.create_database("retries").await.unwrap();
    migrated(&database);
    let (_topic, settings) = listening(kafka(), 1, &database, &[("RETRY_MAX", "1s")]).await;
    let service = Service::run(&settings);
    let address = address(&service);
    let running = r#"partitions{state="running"}"#;
    until_says(&address, &[("ready", Some(1.0)), (running, Some(1.0))]).await;
    let tries = |samples: &Samples| {
        let reasons = samples.iter().filter(|(name, _)| name.starts_with("booking_history_retries_total"));
        reasons.map(|(_, count)| count).sum::<f64>()
    };
    assert!(tries(&scraped(&address)) < 1.0);
    postgres.stop_fast().unwrap();
    let unwell = |samples: &Samples| tries(samples) >= 3.0 && sample(samples, "ready") == Some(0.0);
    let samples = eventually(PATIENCE, unwell, async || scraped(&address)).await;
    assert!(sample(&samples, r#"retries_total{reason="connection"}"#) >= Some(1.0), "{samples:#?}");
    postgres.start().unwrap();
    until_says(&address, &[("ready", Some(1.0)), (running, Some(1.0))]).await;
}

#[tokio::test]
async fn lag_is_told_by_whoever_holds_the_partition_also_while_it_is_halted() {
    let database = database().await;
    migrated(&database);
    let (topic, settings) = listening(kafka(), 2, &database, &[]).await;
    let first = Service::run(&settings);
    let first_address = address(&first);
    let lag = |partition: i32| format!(r#"lag_records{{topic="{}",partition="{partition}"}}"#, topic.name);
    let (zero, one) = (lag(0), lag(1));
    until_says(&first_address, &[(&zero, Some(0.0)), (&one, Some(0.0))]).await;
    let halt = "update consumer_offsets set halted_at = now(), halt_reason = 'log_corrupt' where partition = 0";
    run(&database, halt).await;
    until_says(&first_address, &[(r#"partitions{state="halted"}"#, Some(1.0))]).await;
    topic.producer(&[]).send(Workload::bookings("lag", 60, 2).records).await;
    let audit = Audit { topic: &topic, group: group(&settings), database: &database };
    eventually(PATIENCE, |at| *at == 30, async || audit.rows().await[&1].next_offset).await;
    until_says(&first_address, &[(&zero, Some(30.0)), (&one, Some(0.0))]).await;

    // Each partition is told of by one instance, and no longer by the one that it was taken from.
    let second = Service::run(&settings);
    let second_address = address(&second);
    let told = |address: &str| {
        let samples = scraped(address);
        [sample(&samples, &zero).is_some(), sample(&samples, &one).is_some()]
    };
    let apart =
        |[first, second]: &[[bool; 2]; 2]| first.iter().zip(second).all(|(a, b)| a != b) && first[0] != first[1];
    eventually(PATIENCE, apart, async || [told(&first_address), told(&second_address)]).await;
    run(&database, "update consumer_offsets set halted_at = null, halt_reason = null").await;
    audit.wait_until_read(PATIENCE).await;
    let holder = if told(&first_address)[0] { &first_address } else { &second_address };
    until_says(holder, &[(&zero, Some(0.0)), (&one, None)]).await;
}
