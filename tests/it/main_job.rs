//! The main job: from a real Kafka into a real `PostgreSQL`, every record once, whoever comes, goes or dies.

use std::time::Duration;

use sqlx::types::chrono::{DateTime, Utc};
use sqlx::{Connection as _, PgConnection};

use testbed::audit::{Audit, Totals};
use testbed::kafka::kafka;
use testbed::postgres::database;
use testbed::service::{Service, migrated, settings};
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{SEED, Workload};

type Row = (i64, String, String, String, Option<String>, String, String, DateTime<Utc>);

#[tokio::test]
async fn the_seed_message_becomes_exactly_its_row() {
    for (format, received, saved) in [
        ("text", "[info     ] processing_booking_created_event booking_id=13", "[info     ] booking_history_saved "),
        ("json", r#""event":"processing_booking_created_event""#, r#""event":"booking_history_saved""#),
    ] {
        let (topic, group, database) = (Topic::create(kafka(), 3).await, unique("group"), database().await);
        migrated(&database);
        let mut settings = settings(kafka(), &topic, &group, &database);
        settings.push(("LOG_FORMAT".to_owned(), format.to_owned()));
        let service = Service::run(&settings);
        topic.producer(&[]).send([Outgoing::to(1, SEED)]).await;
        service.wait_for_line(|line| line.contains(received), PATIENCE);
        let saved = service.wait_for_line(|line| line.contains(saved), PATIENCE);
        for field in ["id", "booking_id", "hotel_id", "user_id", "topic", "partition", "offset"] {
            assert!(saved.contains(field), "{field} is missing in {saved}");
        }

        let rows: Vec<Row> = sqlx::query_as(
            "select id, booking_id, user_id, hotel_id, promo_code, discount_percent::text, price::text, created_at
             from booking_history",
        )
        .fetch_all(&mut PgConnection::connect(&database).await.unwrap())
        .await
        .unwrap();
        let [(id, booking_id, user_id, hotel_id, promo_code, discount_percent, price, created_at)] = rows.as_slice()
        else {
            panic!("{rows:?}");
        };
        assert_eq!([booking_id, user_id, hotel_id], ["13", "test-user-2", "test-hotel-1"]);
        assert_eq!(promo_code.as_deref(), Some("TESTCODE1"));
        assert_eq!(discount_percent.parse::<rust_decimal::Decimal>().unwrap(), rust_decimal::Decimal::from(10));
        assert_eq!(price.parse::<rust_decimal::Decimal>().unwrap(), rust_decimal::Decimal::from(90));
        assert_eq!(*created_at, "2026-02-15T14:37:34.859067Z".parse::<DateTime<Utc>>().unwrap());
        let id = if format == "text" { format!(" id={id} ") } else { format!(r#""id":{id},"#) };
        assert!(saved.contains(&id), "{id} is missing in {saved}");

        service.sigterm();
        assert_eq!(service.wait_exit(PATIENCE), 0);
        for line in ["shutdown_started", "shutdown_complete"] {
            service.wait_for_line(|written| written.contains(line), PATIENCE);
        }
    }
}

#[tokio::test]
async fn fifty_thousand_mixed_records_over_six_partitions_are_all_accounted_for() {
    let (topic, group, database) = (Topic::create(kafka(), 6).await, unique("group"), database().await);
    migrated(&database);
    let service = Service::run(&settings(kafka(), &topic, &group, &database));
    let workload = Workload::mixed("mixed", 50_000, 6);
    topic.producer(&[]).send(workload.records).await;
    let audit = Audit { topic: &topic, group: &group, database: &database };
    audit.wait_until_read(PATIENCE).await;
    audit.assert_exact(&workload.expected).await;

    // The mirror follows: Kafka knows the same positions, and whose they are.
    let ends = topic.ends().into_iter().map(|(p, end)| (p, (end, "booking-history".to_owned()))).collect();
    eventually(PATIENCE, |committed| *committed == ends, async || topic.committed(&group)).await;
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 0);
}

/// With a short session, so that the death of an instance is noticed soon.
fn short_session(mut settings: Vec<(String, String)>) -> Vec<(String, String)> {
    let properties = "session.timeout.ms=6000,heartbeat.interval.ms=500";
    settings.push(("KAFKA_PROPERTIES".to_owned(), properties.to_owned()));
    settings
}

#[tokio::test]
async fn three_instances_come_go_and_are_killed_and_the_tables_stay_exact() {
    let (topic, group, database) = (Topic::create(kafka(), 6).await, unique("group"), database().await);
    migrated(&database);
    let settings = short_session(settings(kafka(), &topic, &group, &database));
    let mut instances: Vec<Service> = (0..3).map(|_| Service::run(&settings)).collect();
    let workload = Workload::mixed("instances", 30_000, 6);
    let audit = Audit { topic: &topic, group: &group, database: &database };
    let (producer, mut sent) = (topic.producer(&[]), 0);
    for (round, records) in workload.records.chunks(2_000).enumerate() {
        producer.send(records.iter().cloned()).await;
        sent += i64::try_from(records.len()).unwrap();
        // Not until the end of what there is: the next blow falls while records are on their way.
        let some = sent - 1_500;
        let handled = async || audit.rows().await.into_values().map(|row| row.totals).sum::<Totals>().sum();
        eventually(PATIENCE, |handled| *handled >= some, handled).await;
        let victim = &mut instances[round % 3];
        if round % 2 == 0 {
            victim.kill9();
        } else {
            victim.sigterm();
            assert_eq!(victim.wait_exit(PATIENCE), 0);
        }
        victim.start_again();
    }
    audit.wait_until_read(PATIENCE).await;
    audit.assert_exact(&workload.expected).await;
    let rows = audit.rows().await;
    assert!(rows.values().all(|row| row.counted_from == 0), "{rows:?}");
}

#[tokio::test]
async fn an_instance_that_was_frozen_past_its_session_is_fenced() {
    let (topic, group, database) = (Topic::create(kafka(), 2).await, unique("group"), database().await);
    migrated(&database);
    let settings = short_session(settings(kafka(), &topic, &group, &database));
    let frozen = Service::run(&settings);
    let audit = Audit { topic: &topic, group: &group, database: &database };
    let workload = Workload::bookings("frozen", 60_000, 2);
    let producer = topic.producer(&[]);
    let (before, after) = workload.records.split_at(30_000);
    producer.send(before.iter().cloned()).await;
    eventually(PATIENCE, |rows: &usize| *rows == 2, async || audit.rows().await.len()).await;
    // In the middle of its work, with records in its buffers.
    frozen.sigstop();
    let successor = Service::run(&settings);
    for _ in 0..2 {
        successor.wait_for_line(|line| line.contains("partition_started"), PATIENCE);
    }
    producer.send(after.iter().cloned()).await;
    audit.wait_until_read(PATIENCE).await;
    frozen.sigcont();
    // Whatever it tries is stopped by the fence, and it is a member like any other again.
    let more = Workload::bookings("thawed", 2_000, 2);
    producer.send(more.records.iter().cloned()).await;
    audit.wait_until_read(PATIENCE).await;
    let mut expected = workload.expected;
    expected.booking_ids.extend(more.expected.booking_ids);
    for (partition, totals) in more.expected.totals {
        expected.totals.get_mut(&partition).unwrap().stored += totals.stored;
    }
    audit.assert_exact(&expected).await;
    for service in [&frozen, &successor] {
        service.sigterm();
        assert_eq!(service.wait_exit(PATIENCE), 0);
    }
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    migrated(&database);
    let mut settings = settings(kafka(), &topic, &group, &database);
    settings.push(("SHUTDOWN_TIMEOUT".to_owned(), "5m".to_owned()));
    let service = Service::run(&settings);
    service.wait_for_line(|line| line.contains("partition_started"), PATIENCE);
    // A lock on its row holds up the batch that is in flight, and so the stop.
    let mut locker = PgConnection::connect(&database).await.unwrap();
    let mut lock = locker.begin().await.unwrap();
    sqlx::query("select from consumer_offsets for update").execute(&mut *lock).await.unwrap();
    topic.producer(&[]).send([Outgoing::to(0, SEED)]).await;
    service.wait_for_line(|line| line.contains("processing_booking_created_event"), PATIENCE);
    service.sigterm();
    service.wait_for_line(|line| line.contains("shutdown_started"), PATIENCE);
    tokio::time::sleep(Duration::from_millis(100)).await; // two signals at once are one
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 128 + 15);
    lock.rollback().await.unwrap();
    let rows: (i64,) = sqlx::query_as("select count(*) from booking_history").fetch_one(&mut locker).await.unwrap();
    assert_eq!(rows.0, 0);
}
