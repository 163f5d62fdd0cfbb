//! The main job: from a real Kafka into a real `PostgreSQL`, every record exactly once, also when instances are added,
//! stopped, killed or frozen.

use std::time::Duration;

use sqlx::types::chrono::{DateTime, Utc};

use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::Outgoing;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{SEED, Workload};

type BookingRow = (i64, String, String, String, Option<String>, String, String, DateTime<Utc>);

#[tokio::test]
async fn the_seed_message_becomes_exactly_its_row() {
    for format in ["text", "json"] {
        let scene = Scene::new(3).await.with("LOG_FORMAT", format);
        let service = scene.start();
        scene.send([Outgoing::to(1, SEED)]).await;
        service.wait_for_event_with("processing_booking_created_event", &[("booking_id", "13")]);
        let saved = service.wait_for_event("booking_history_saved");
        assert_eq!(saved.level, "info");
        let expected = [
            ("booking_id", "13"),
            ("hotel_id", "test-hotel-1"),
            ("user_id", "test-user-2"),
            ("topic", scene.topic.name.as_str()),
            ("partition", "1"),
            ("offset", "0"),
        ];
        assert!(saved.has(&expected), "{saved:#?}");

        let rows: Vec<BookingRow> = sqlx::query_as(
            "select id, booking_id, user_id, hotel_id, promo_code, discount_percent::text, price::text, created_at
             from booking_history",
        )
        .fetch_all(&mut scene.connect().await)
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
        assert_eq!(saved.field("id"), id.to_string());

        service.stop();
        service.wait_for_event("shutdown_started");
        service.wait_for_event("shutdown_complete");
    }
}

#[tokio::test]
async fn fifty_thousand_mixed_records_over_six_partitions_are_all_accounted_for() {
    let scene = Scene::new(6).await;
    let service = scene.start();
    let workload = Workload::mixed("mixed", 50_000, 6);
    scene.send(&workload.records).await;
    scene.assert_exact(&workload).await;

    // The mirror follows: Kafka has the same positions, with the name of the service as metadata.
    let ends = scene.topic.ends().into_iter().map(|(p, end)| (p, (end, "booking-history".to_owned()))).collect();
    eventually(PATIENCE, |committed| *committed == ends, async || scene.topic.committed(&scene.group)).await;
    service.stop();
}

/// A session is short, so that Kafka soon removes an instance that is killed or frozen.
const SHORT_SESSION: &str = "session.timeout.ms=6000,heartbeat.interval.ms=500";

#[tokio::test]
async fn three_instances_that_stop_start_and_are_killed_keep_the_tables_exact() {
    let scene = Scene::new(6).await.with("KAFKA_PROPERTIES", SHORT_SESSION);
    let mut instances: Vec<Service> = (0..3).map(|_| scene.start()).collect();
    let workload = Workload::mixed("instances", 30_000, 6);
    let (producer, mut sent) = (scene.topic.producer(&[]), 0);
    for (round, records) in workload.records.chunks(2_000).enumerate() {
        producer.send(records).await;
        sent += i64::try_from(records.len()).unwrap();
        // The next instance ends while records are in flight.
        let some = sent - 1_500;
        let handled = async || scene.totals().await.sum();
        eventually(PATIENCE, |handled| *handled >= some, handled).await;
        let victim = &mut instances[round % 3];
        if round % 2 == 0 {
            victim.kill9();
        } else {
            victim.stop();
        }
        victim.start_again();
    }
    scene.assert_exact(&workload).await;
    let rows = scene.audit().rows().await;
    assert!(rows.values().all(|row| row.counted_from == 0), "{rows:?}");
}

#[tokio::test]
async fn an_instance_that_was_frozen_past_its_session_is_fenced() {
    let scene = Scene::new(2).await.with("KAFKA_PROPERTIES", SHORT_SESSION);
    let frozen = scene.start();
    let workload = Workload::bookings("frozen", 60_000, 2);
    let producer = scene.topic.producer(&[]);
    let (before, after) = workload.records.split_at(30_000);
    producer.send(before).await;
    scene.wait_until_claimed(2).await;
    // It is at work, with records in its buffers.
    frozen.sigstop();
    let successor = scene.start();
    successor.wait_until_started(2).await;
    producer.send(after).await;
    scene.wait_until_read().await;
    frozen.sigcont();
    // The fence refuses what it commits, and it joins the group again.
    let more = Workload::bookings("thawed", 2_000, 2);
    producer.send(&more.records).await;
    scene.wait_until_read().await;
    let mut expected = workload.expected;
    expected.extend(more.expected);
    scene.audit().assert_exact(&expected).await;
    for service in [&frozen, &successor] {
        service.stop();
    }
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let scene = Scene::new(1).await.with("SHUTDOWN_TIMEOUT", "5m");
    let service = scene.start();
    service.wait_for_event("partition_started");
    // A lock on the row of the partition delays the batch in flight, and so the stop.
    let lock = scene.hold("select from consumer_offsets for update").await;
    scene.send([Outgoing::to(0, SEED)]).await;
    service.wait_for_event("processing_booking_created_event");
    service.sigterm();
    service.wait_for_event("shutdown_started");
    tokio::time::sleep(Duration::from_millis(100)).await; // two signals at once are one
    service.sigterm();
    assert_eq!(service.wait_exit(), 128 + 15);
    drop(lock);
    assert_eq!(scene.booking_ids().await, [""; 0]);
}

#[tokio::test]
async fn a_partition_does_not_wait_until_others_that_are_far_behind_have_caught_up() {
    let scene = Scene::new(3).await;
    let mut workload = Workload::default();
    for index in 0..60_000 {
        workload.add_booking(&format!("{index}"), index % 2);
    }
    for index in 0..10 {
        workload.add_booking(&format!("few-{index}"), 2);
    }
    // Records that compress well: a response of two partitions fills the queues of the client.
    let padding = format!("{{\"padding\":\"{}\",", "x".repeat(1_000));
    for record in &mut workload.records {
        record.value.as_mut().unwrap().splice(..1, padding.bytes());
    }
    scene.topic.producer(&[("compression.type", "lz4")]).send(&workload.records).await;
    let _service = scene.start();
    scene.assert_exact(&workload).await;
    // The table numbers its rows as they are inserted.
    let late = "select count(*)::text from booking_history where booking_id like 'few-%' and id > 30000";
    assert_eq!(scene.lines(late).await, ["0"]);
}
