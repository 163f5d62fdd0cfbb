//! `/metrics`: the numbers are those of the tables, and they follow each change.

mod exposition;
mod stalled;

use self::exposition::{Samples, parse};

use testbed::audit::Totals;
use testbed::kafka::kafka;
use testbed::postgres::own_postgres;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::Outgoing;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

fn scraped(service: &Service) -> Samples {
    let answer = service.get("/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    parse(&answer.body)
}

/// A sample, by its name without our prefix, and its labels.
fn sample(samples: &Samples, name: &str) -> Option<f64> {
    samples.get(&format!("booking_history_{name}")).copied()
}

/// Asks until each of these has this value; `None`: until there is no such sample.
async fn until_says(service: &Service, expected: &[(&str, Option<f64>)]) -> Samples {
    let says = |samples: &Samples| expected.iter().all(|(name, value)| sample(samples, name) == *value);
    eventually(PATIENCE, says, async || scraped(service)).await
}

#[tokio::test]
async fn after_a_mixed_workload_the_counts_are_exactly_the_totals_of_the_table() {
    let scene = Scene::without_tables(3).await.with_http();
    let service = scene.start();
    let before = until_says(&service, &[("ready", Some(0.0))]).await;
    let stored = r#"records_total{outcome="stored"}"#;
    assert_eq!(sample(&before, stored), Some(0.0), "a count begins at 0, so that a scraper sees its first increase");
    assert_eq!(sample(&before, r#"dead_letters{status="parked"}"#), None, "they are not counted yet");

    scene.migrate();
    let workload = Workload::mixed("metrics", 6_000, 3);
    scene.send(&workload.records).await;
    scene.wait_until_read().await;
    let totals: Totals = scene.totals().await;
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
    let samples = until_says(&service, &expected).await;
    let (batches, transactions) = (sample(&samples, "batch_records_count"), sample(&samples, "commit_seconds_count"));
    assert!(batches >= Some(3.0) && transactions >= Some(1.0) && transactions <= batches, "{samples:#?}");
    assert!(sample(&samples, "end_to_end_seconds_sum").unwrap() < 6_000.0 * PATIENCE.as_secs_f64());
    assert_eq!(sample(&samples, &format!("build_info{{version={:?}}}", env!("CARGO_PKG_VERSION"))), Some(1.0));

    // The number of letters follows the table, also when an operator changes it by SQL.
    scene.execute("select dead_letters_discard(array(select id from dead_letters), 'of a test')").await;
    until_says(&service, &[(parked, Some(0.0)), (r#"dead_letters{status="discarded"}"#, number(totals.dead_lettered))])
        .await;
}

#[tokio::test]
async fn a_halt_is_counted_and_seen_in_the_states() {
    let scene = Scene::new(2).await.with_http().with("BREAKER_CONSECUTIVE", "3");
    let service = scene.start();
    let (running, halted) = (r#"partitions{state="running"}"#, r#"partitions{state="halted"}"#);
    let halts = r#"halts_total{reason="too_many_dead_letters"}"#;
    let well = [(running, Some(2.0)), (halted, Some(0.0)), (halts, Some(0.0)), ("ready", Some(1.0))];
    until_says(&service, &well).await;
    scene.send((0..5).map(|n| Outgoing::to(1, format!("poison {n}")))).await;
    let ill = [(running, Some(1.0)), (halted, Some(1.0)), (halts, Some(1.0)), ("ready", Some(0.0))];
    until_says(&service, &ill).await;
    // A halt that is found in the table is not counted: this instance did not halt it.
    scene.command("offsets resume --partition 1");
    until_says(&service, &[(running, Some(2.0)), (halted, Some(0.0)), (halts, Some(1.0))]).await;
    let halt = "update consumer_offsets set halted_at = now(), halt_reason = 'log_corrupt' where partition = 0";
    scene.execute(halt).await;
    let found = [(halted, Some(1.0)), (r#"halts_total{reason="log_corrupt"}"#, Some(0.0))];
    until_says(&service, &found).await;
}

#[tokio::test]
async fn a_gap_is_counted_by_its_offsets() {
    let scene = Scene::new(1).await.with_http();
    let mut service = scene.start();
    let producer = scene.topic.producer(&[]);
    producer.send(Workload::bookings("before", 100, 1).records).await;
    scene.wait_until_read().await;
    service.stop();
    producer.send(Workload::bookings("after", 50, 1).records).await;
    scene.topic.delete_records(0, 130).await;
    service.start_again();
    service.wait_for_event("partition_halted");
    let expected = [
        (r#"halts_total{reason="retention_gap"}"#, Some(1.0)),
        (r#"gap_records_total{reason="retention_gap"}"#, Some(30.0)),
        (&format!(r#"lag_records{{topic="{}",partition="0"}}"#, scene.topic.name), Some(50.0)),
        (r#"partitions{state="halted"}"#, Some(1.0)),
    ];
    until_says(&service, &expected).await;
}

#[tokio::test]
async fn a_commit_after_an_operator_moved_the_position_is_counted_as_fenced() {
    let scene = Scene::new(1).await.with_http();
    let service = scene.start();
    let producer = scene.topic.producer(&[]);
    producer.send(Workload::bookings("fenced", 10, 1).records).await;
    scene.wait_until_read().await;

    let mut operator = scene.hold("update consumer_offsets set next_offset = 4").await;
    producer.send([Outgoing::to(0, booking("late", "1"))]).await;
    scene.wait_until_blocked().await;
    sqlx::query("commit").execute(&mut operator).await.unwrap();
    let again = r#"records_total{outcome="duplicate"}"#;
    until_says(&service, &[("commits_fenced_total", Some(1.0)), (again, Some(6.0))]).await;
    scene.wait_until_read().await;
}

#[tokio::test]
async fn tries_are_counted_while_the_database_is_away() {
    let postgres = own_postgres();
    let scene = Scene::on(kafka(), &postgres, 1).await.with_http().with("RETRY_MAX", "1s");
    let service = scene.start();
    let running = r#"partitions{state="running"}"#;
    until_says(&service, &[("ready", Some(1.0)), (running, Some(1.0))]).await;
    let tries = |samples: &Samples| {
        let reasons = samples.iter().filter(|(name, _)| name.starts_with("booking_history_retries_total"));
        reasons.map(|(_, count)| count).sum::<f64>()
    };
    assert!(tries(&scraped(&service)) < 1.0);
    postgres.stop_fast().unwrap();
    // The first tries can meet a server that is still shutting down.
    let refused = |samples: &Samples| sample(samples, r#"retries_total{reason="connection"}"#) >= Some(1.0);
    let unwell = |samples: &Samples| tries(samples) >= 3.0 && refused(samples) && sample(samples, "ready") == Some(0.0);
    eventually(PATIENCE, unwell, async || scraped(&service)).await;
    postgres.start().unwrap();
    until_says(&service, &[("ready", Some(1.0)), (running, Some(1.0))]).await;
}

#[tokio::test]
async fn the_owner_of_a_partition_shows_its_lag_also_while_it_is_halted() {
    let scene = Scene::new(2).await.with_http();
    let first = scene.start();
    let lag = |partition: i32| format!(r#"lag_records{{topic="{}",partition="{partition}"}}"#, scene.topic.name);
    let (zero, one) = (lag(0), lag(1));
    until_says(&first, &[(&zero, Some(0.0)), (&one, Some(0.0))]).await;
    let halt = "update consumer_offsets set halted_at = now(), halt_reason = 'log_corrupt' where partition = 0";
    scene.execute(halt).await;
    until_says(&first, &[(r#"partitions{state="halted"}"#, Some(1.0))]).await;
    scene.send(Workload::bookings("lag", 60, 2).records).await;
    scene.wait_until_at(1, 30).await;
    until_says(&first, &[(&zero, Some(30.0)), (&one, Some(0.0))]).await;

    // Only the owner of a partition shows its lag.
    let second = scene.start();
    let shown = |service: &Service| {
        let samples = scraped(service);
        [sample(&samples, &zero).is_some(), sample(&samples, &one).is_some()]
    };
    let apart =
        |[first, second]: &[[bool; 2]; 2]| first.iter().zip(second).all(|(a, b)| a != b) && first[0] != first[1];
    eventually(PATIENCE, apart, async || [shown(&first), shown(&second)]).await;
    scene.execute("update consumer_offsets set halted_at = null, halt_reason = null").await;
    scene.wait_until_read().await;
    let owner = if shown(&first)[0] { &first } else { &second };
    until_says(owner, &[(&zero, Some(0.0)), (&one, None)]).await;
}
