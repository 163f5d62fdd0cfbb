//! Servers fail in many ways, and the tables stay exact.

use crate::adoption::OLD_TABLE;
use testbed::audit::Totals;
use testbed::kafka::{Kafka, kafka};
use testbed::postgres::{own_postgres, postgres};
use testbed::scene::Scene;
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

#[tokio::test]
async fn a_database_that_crashes_again_and_again_loses_and_repeats_nothing() {
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
    assert!(service.is_running(), "it was never restarted");
}

#[tokio::test]
async fn backends_that_are_terminated_under_it_lose_and_repeat_nothing() {
    let scene = Scene::new(3).await;
    let service = scene.start();
    let workload = Workload::bookings("terminated", 60_000, 3);
    let produce = scene.send(&workload.records);
    let terminate = async {
        let mut killed = 0;
        for _ in 0..25 {
            // It commits something between two terminations, on a machine of any speed.
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
    assert!(service.is_running(), "it was never restarted");
}

#[tokio::test]
async fn a_broker_that_restarts_and_dies_loses_and_repeats_nothing() {
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
    assert!(service.is_running(), "it was never restarted");
}

#[tokio::test]
async fn servers_that_are_not_up_yet_are_waited_for() {
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
async fn a_topic_that_does_not_exist_yet_is_waited_for() {
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

    // Forwards, beyond the end of the partition log: the records below the new position are skipped.
    scene.execute("update consumer_offsets set next_offset = 110").await;
    service.wait_for_event_with("partition_started", &[("position", "110")]);
    producer.send(Workload::bookings("skipped", 20, 1).records).await;
    scene.wait_until_read().await;
    assert_eq!(scene.row(0).await.totals.stored, 110);
}

#[tokio::test]
async fn a_partition_halted_by_hand_stops_alone_and_continues_when_the_halt_is_lifted() {
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
async fn partitions_added_while_it_runs_are_read_from_their_beginning() {
    let scene = Scene::new(1)
        .await
        .with("KAFKA_START", "latest")
        .with("KAFKA_PROPERTIES", "topic.metadata.refresh.interval.ms=5000");
    let service = scene.start();
    service.wait_until_started(1).await;
    scene.send([Outgoing::to(0, booking("first", "1"))]).await;
    // The partition that exists has a mirror in Kafka, and a row.
    let mirrored = [(0, (1, "booking-history".to_owned()))].into();
    eventually(PATIENCE, |committed| *committed == mirrored, async || scene.topic.committed(&scene.group)).await;
    scene.topic.grow(3).await;
    let workload = Workload::bookings("added", 300, 3);
    scene.send(&workload.records).await;
    scene.wait_until_read().await;
    assert_eq!(scene.booking_ids().await.len(), 301);
    assert_eq!(service.events("positions_missing").len(), 0, "no row was lost");
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
            // At each such point the partition log ends with a marker, or with aborted records and a marker.
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
        assert_eq!(service.wait_exit(), 69, "{what}: an operator has to act");
        assert_eq!(scene.lines("select count(*)::text from dead_letters").await, ["0"], "{what}");
        let heal = "alter table booking_history alter id set maxvalue 2000000000;
            delete from booking_history where booking_id like 'copied-%'";
        scene.execute(heal).await;
        service.start_again();
        scene.assert_exact(&workload).await;
    }
}

#[tokio::test]
async fn a_duplicate_id_makes_no_dead_letter_whatever_its_index_and_its_sequence_are_called() {
    // A primary key of another name and a sequence that no column owns; a table whose rows are in partitions.
    let other_names = format!(
        "{OLD_TABLE}; alter sequence booking_history_id_seq owned by none;
        alter sequence booking_history_id_seq rename to numbers"
    );
    let in_partitions = "
        create sequence numbers;
        create table booking_history (
            id bigint not null default nextval('numbers'),
            booking_id text not null, user_id text not null, hotel_id text not null, promo_code text,
            discount_percent numeric not null, price numeric not null, created_at timestamptz not null,
            primary key (booking_id)
        ) partition by hash (booking_id);
        create table first_half partition of booking_history for values with (modulus 2, remainder 0);
        create table second_half partition of booking_history for values with (modulus 2, remainder 1);
        create unique index on first_half (id);
        create unique index on second_half (id)";
    for table in [other_names.as_str(), in_partitions] {
        let scene = Scene::without_tables(1).await.with("STARTUP_TIMEOUT", "2s");
        scene.execute(table).await;
        scene.migrate();
        scene
            .execute(
                "insert into booking_history (id, booking_id, user_id, hotel_id, discount_percent, price, created_at)
                 select n, concat_ws('-', 'copied', n, k), 'u', 'h', 0, 0, now()
                 from generate_series(1000, 1400) as n, generate_series(1, 20) as k
                 on conflict do nothing; -- each number once, in each part of the table
                 delete from booking_history where id < 1000",
            )
            .await;
        scene.execute("select setval('numbers', 950)").await;
        let workload = Workload::bookings("id", 200, 1);
        scene.send(&workload.records).await;
        let mut service = scene.start();
        assert_eq!(service.wait_exit(), 69, "an operator has to act");
        let error = service.wait_for_error("the next id of booking_history exists already");
        assert_eq!(scene.lines("select count(*)::text from dead_letters").await, ["0"]);
        // As the error advises.
        let advice = "select setval('numbers', max(id)) from booking_history";
        assert!(error.contains(advice), "{error}");
        scene.execute(advice).await;
        service.start_again();
        scene.wait_until_read().await;
        assert_eq!(scene.row(0).await.totals.stored, 200);
        service.stop();
    }
}

#[tokio::test]
async fn a_row_that_is_deleted_between_the_insert_and_the_comparison_is_inserted_again() {
    let scene = Scene::new(1).await;
    let record = Outgoing::to(0, booking("13", "1"));
    scene.send([&record]).await;
    let service = scene.start();
    scene.wait_until_read().await;
    // The insert found the row and has ended; the comparison has not begun.
    scene
        .execute(
            "create function wait_after() returns trigger language plpgsql as $$
             begin perform pg_advisory_xact_lock_shared(13); return null; end $$;
             create trigger wait_after after insert on booking_history for each statement execute function wait_after()",
        )
        .await;
    let lock = scene.hold("select pg_advisory_xact_lock(13)").await;
    scene.send([&record]).await;
    scene.wait_until_blocked().await;
    scene.execute("delete from booking_history").await;
    drop(lock);
    scene.wait_until_read().await;
    assert_eq!(scene.booking_ids().await, ["13"]);
    let totals = scene.row(0).await.totals;
    assert_eq!((totals.stored, totals.duplicates, totals.dead_lettered), (2, 0, 0));
    service.stop();
}

#[tokio::test]
async fn a_table_that_can_not_be_written_is_tried_with_growing_pauses_and_then_ends_the_service() {
    let scene = Scene::new(1).await.with("STARTUP_TIMEOUT", "5s");
    let mut service = scene.start();
    service.wait_for_event("partition_started");
    scene.execute("alter table booking_history rename to other_table").await;
    let workload = Workload::bookings("renamed", 20, 1);
    scene.send(&workload.records).await;
    assert_eq!(service.wait_exit(), 69);
    // The rows of consumer_offsets can still be read and claimed. That must not reset the pause between two tries, or
    // there would be hundreds of them.
    let tries = service.events("database_unavailable").len();
    assert!((2..60).contains(&tries), "{tries} tries");
    scene.execute("alter table other_table rename to booking_history").await;
    service.start_again();
    scene.assert_exact(&workload).await;
}
