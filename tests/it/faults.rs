//! The tables stay exact when servers fail.

use testbed::audit::Totals;
use testbed::kafka::{Kafka, kafka};
use testbed::postgres::{own_postgres, postgres};
use testbed::scene::Scene;
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

#[tokio::test]
async fn a_database_that_crashes_repeatedly_loses_and_repeats_nothing() {
    let postgres = own_postgres();
    let scene = Scene::on(kafka(), &postgres, 3).await;
    let service = scene.start();
    let workload = Workload::mixed("crash", 20_000, 3);
    let producer = scene.topic.producer(&[]);
    for records in workload.records.chunks(5_000) {
        let before = scene.totals().await.sum();
        producer.send(records).await;
        eventually(PATIENCE, |handled| *handled > before, async || scene.totals().await.sum()).await;
        postgres.stop_immediate().unwrap();
        service.wait_for_event("database_unavailable");
        postgres.start().unwrap();
    }
    scene.assert_exact(&workload).await;
    assert!(service.is_running(), "the service was never restarted");
}

#[tokio::test]
async fn terminated_backends_lose_and_repeat_nothing() {
    let scene = Scene::new(3).await;
    let service = scene.start();
    let workload = Workload::bookings("terminated", 60_000, 3);
    let produce = scene.send(&workload.records);
    let terminate = async {
        let mut killed = 0;
        for _ in 0..25 {
            // Between two terminations the service commits records, on a machine of any speed.
            let before = scene.totals().await.sum();
            if before == 60_000 {
                break;
            }
            let all: Vec<(bool,)> = sqlx::query_as(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and application_name = 'booking-history'",
            )
            .fetch_all(&mut scene.connect().await)
            .await
            .unwrap();
            killed += all.len();
            eventually(PATIENCE, |now| *now > before, async || scene.totals().await.sum()).await;
        }
        killed
    };
    let (_, killed) = tokio::join!(produce, terminate);
    assert!(killed > 5, "{killed} backends were killed");
    scene.assert_exact(&workload).await;
    assert!(service.is_running(), "the service was never restarted");
}

#[tokio::test]
async fn a_broker_that_restarts_and_is_killed_loses_and_repeats_nothing() {
    let kafka = Kafka::start_new();
    let scene = Scene::on(&kafka, postgres(), 3).await;
    let service = scene.start();
    let workload = Workload::bookings("broker", 9_000, 3);
    for (round, records) in workload.records.chunks(3_000).enumerate() {
        scene.send(records).await;
        if round == 0 {
            kafka.stop();
        } else {
            kafka.kill();
        }
        kafka.start();
    }
    scene.assert_exact(&workload).await;
    assert!(service.is_running(), "the service was never restarted");
}

#[tokio::test]
async fn the_service_waits_for_servers_that_do_not_run_yet() {
    let (kafka, postgres) = (Kafka::start_new(), own_postgres());
    let scene = Scene::on(&kafka, &postgres, 1).await;
    scene.send([Outgoing::to(0, booking("1", "1"))]).await;
    kafka.stop();
    postgres.stop_fast().unwrap();
    let service = scene.start();
    service.wait_for_event("database_unavailable");
    postgres.start().unwrap();
    service.wait_for_event("kafka_unavailable");
    kafka.start();
    scene.wait_until_read().await;
}

#[tokio::test]
async fn the_service_waits_for_a_topic_that_does_not_exist_yet() {
    let scene = Scene::of(Topic::named(kafka(), &unique("late"))).await;
    let service = scene.start();
    service.wait_for_event("topic_missing");
    scene.topic.create_again(2, &[]).await;
    scene.send([Outgoing::to(1, booking("1", "1"))]).await;
    scene.wait_until_read().await;
}

#[tokio::test]
async fn a_position_moved_by_hand_is_followed_backwards_and_forwards() {
    let scene = Scene::new(1).await;
    let service = scene.start();
    let workload = Workload::bookings("moved", 100, 1);
    let producer = scene.topic.producer(&[]);
    producer.send(&workload.records).await;
    scene.wait_until_read().await;

    scene.execute("update consumer_offsets set next_offset = 40").await;
    scene.wait_until_read().await;
    let totals = scene.row(0).await.totals;
    assert_eq!(
        totals,
        Totals { stored: 100, duplicates: 60, ..Totals::default() },
        "the records that are read again are duplicates"
    );

    // Forwards, beyond the end of the log: the records below the new position are skipped.
    scene.execute("update consumer_offsets set next_offset = 110").await;
    service.wait_for_event_with("partition_started", &[("position", "110")]);
    producer.send(Workload::bookings("skipped", 20, 1).records).await;
    scene.wait_until_read().await;
    assert_eq!(scene.row(0).await.totals.stored, 110);
}

#[tokio::test]
async fn a_partition_halted_by_hand_stops_alone_and_continues_when_the_halt_is_removed() {
    let scene = Scene::new(2).await;
    let service = scene.start();
    scene.wait_until_claimed(2).await;
    let halt =
        "update consumer_offsets set halted_at = now(), halt_reason = 'too_many_dead_letters' where partition = 0";
    scene.execute(halt).await;
    service.wait_for_event_with("partition_halted", &[("partition", "0")]);
    let workload = Workload::bookings("halted", 100, 2);
    scene.send(&workload.records).await;
    scene.wait_until_at(1, 50).await;
    assert_eq!(scene.row(0).await.next_offset, 0);
    let lift = "update consumer_offsets set halted_at = null, halt_reason = null";
    scene.execute(lift).await;
    scene.assert_exact(&workload).await;
}

#[tokio::test]
async fn partitions_added_while_the_service_runs_are_read_from_their_start() {
    let scene = Scene::new(1)
        .await
        .with("KAFKA_START", "latest")
        .with("KAFKA_PROPERTIES", "topic.metadata.refresh.interval.ms=5000");
    let _service = scene.start();
    scene.wait_until_claimed(1).await;
    scene.topic.grow(3).await;
    let workload = Workload::bookings("added", 300, 3);
    scene.send(&workload.records).await;
    scene.assert_exact(&workload).await;
}

#[tokio::test]
async fn aborted_records_leave_no_row_and_no_lag() {
    let scene = Scene::new(1).await;
    let _service = scene.start();
    let producer = scene.topic.transactional_producer();
    let mut workload = Workload::default();
    for round in 0..12 {
        let records = Workload::bookings(&format!("transaction-{round}"), 5, 1);
        producer.begin();
        producer.send(&records.records).await;
        if round % 3 == 2 {
            producer.abort();
        } else {
            producer.commit();
            workload.expected.extend(records.expected);
        }
        if round % 4 == 1 {
            // At each such point the log ends with a marker, or with aborted records and a marker.
            scene.wait_until_read().await;
        }
    }
    scene.assert_exact(&workload).await;
}

#[tokio::test]
async fn an_error_in_the_ids_that_the_table_generates_makes_no_dead_letter() {
    for (what, sql) in [
        ("a sequence at its end", "alter table booking_history alter id set maxvalue 50"),
        (
            "rows copied in with their own ids",
            "insert into booking_history
             (id, booking_id, user_id, hotel_id, discount_percent, price, created_at)
             select n, 'copied-' || n, 'u', 'h', 0, 0, now() from generate_series(60, 90) as n",
        ),
    ] {
        let scene = Scene::new(1).await.with("STARTUP_TIMEOUT", "2s");
        scene.execute(sql).await;
        let mut service = scene.start();
        let workload = Workload::bookings("id", 200, 1);
        scene.send(&workload.records).await;
        assert_eq!(service.wait_exit(), 69, "{what}: an operator must act");
        assert_eq!(scene.lines("select count(*)::text from dead_letters").await, ["0"], "{what}");
        let repair = "alter table booking_history alter id set maxvalue 2000000000;
            delete from booking_history where booking_id like 'copied-%'";
        scene.execute(repair).await;
        service.start_again();
        scene.assert_exact(&workload).await;
    }
}

#[tokio::test]
async fn a_table_that_cannot_be_written_is_retried_with_backoff_and_then_ends_the_service() {
    let scene = Scene::new(1).await.with("STARTUP_TIMEOUT", "5s");
    let mut service = scene.start();
    service.wait_for_event("partition_started");
    scene.execute("alter table booking_history rename to other_table").await;
    let workload = Workload::bookings("renamed", 20, 1);
    scene.send(&workload.records).await;
    assert_eq!(service.wait_exit(), 69);
    // The rows of consumer_offsets can still be read and claimed. This must not reset the delay between two attempts.
    // Otherwise there would be hundreds of attempts.
    let tries = service.events("database_unavailable").len();
    assert!((2..60).contains(&tries), "{tries} tries");
    scene.execute("alter table other_table rename to booking_history").await;
    service.start_again();
    scene.assert_exact(&workload).await;
}
