//! Servers fail in every way they can, and the tables stay exact.

use sqlx::{Connection as _, PgConnection};

use testbed::audit::{Audit, Totals};
use testbed::kafka::{Kafka, kafka};
use testbed::postgres::{database, own_postgres};
use testbed::service::{Service, migrated, settings};
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

async fn handled(audit: &Audit<'_>) -> i64 {
    audit.rows().await.into_values().map(|row| row.totals).sum::<Totals>().sum()
}

#[tokio::test]
async fn a_database_that_crashes_again_and_again_loses_and_repeats_nothing() {
    let (topic, group, postgres) = (Topic::create(kafka(), 3).await, unique("group"), own_postgres());
    let database = postgres.create_database("crash").await.unwrap();
    migrated(&database);
    let service = Service::run(&settings(kafka(), &topic, &group, &database));
    let workload = Workload::mixed("crash", 20_000, 3);
    let audit = Audit { topic: &topic, group: &group, database: &database };
    let producer = topic.producer(&[]);
    for records in workload.records.chunks(5_000) {
        let before = handled(&audit).await;
        producer.send(records.iter().cloned()).await;
        eventually(PATIENCE, |handled| *handled > before, async || handled(&audit).await).await;
        postgres.stop_immediate().unwrap();
        service.wait_for_line(|line| line.contains("database_unavailable"), PATIENCE);
        postgres.start().unwrap();
    }
    audit.wait_until_read(PATIENCE).await;
    audit.assert_exact(&workload.expected).await;
    assert!(service.is_running(), "it was never restarted");
}

#[tokio::test]
async fn backends_that_are_terminated_under_it_lose_and_repeat_nothing() {
    let (topic, group, database) = (Topic::create(kafka(), 3).await, unique("group"), database().await);
    migrated(&database);
    let service = Service::run(&settings(kafka(), &topic, &group, &database));
    let workload = Workload::bookings("terminated", 60_000, 3);
    let audit = Audit { topic: &topic, group: &group, database: &database };
    let mut connection = PgConnection::connect(&database).await.unwrap();
    let producing = topic.producer(&[]);
    let produce = producing.send(workload.records.iter().cloned());
    let terminate = async {
        let mut killed = 0;
        for _ in 0..25 {
            // It gets on between two blows, however fast or slow the machine is.
            let before = handled(&audit).await;
            if before == 60_000 {
                break;
            }
            let all: Vec<(bool,)> = sqlx::query_as(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where datname = current_database() and application_name = 'booking-history'",
            )
            .fetch_all(&mut connection)
            .await
            .unwrap();
            killed += all.len();
            eventually(PATIENCE, |now| *now > before, async || handled(&audit).await).await;
        }
        killed
    };
    let (_, killed) = tokio::join!(produce, terminate);
    assert!(killed > 5, "{killed} backends were killed");
    audit.wait_until_read(PATIENCE).await;
    audit.assert_exact(&workload.expected).await;
    assert!(service.is_running(), "it was never restarted");
}

#[tokio::test]
async fn a_broker_that_restarts_and_dies_loses_and_repeats_nothing() {
    let kafka = Kafka::start_new();
    let (topic, group, database) = (Topic::create(&kafka, 3).await, unique("group"), database().await);
    migrated(&database);
    let service = Service::run(&settings(&kafka, &topic, &group, &database));
    let workload = Workload::bookings("broker", 9_000, 3);
    let audit = Audit { topic: &topic, group: &group, database: &database };
    for (round, records) in workload.records.chunks(3_000).enumerate() {
        topic.producer(&[]).send(records.iter().cloned()).await;
        if round == 0 {
            kafka.stop();
        } else {
            kafka.kill();
        }
        kafka.start();
    }
    audit.wait_until_read(PATIENCE).await;
    audit.assert_exact(&workload.expected).await;
    assert!(service.is_running(), "it was never restarted");
}

#[tokio::test]
async fn servers_that_are_not_up_yet_are_waited_for() {
    let (kafka, postgres) = (Kafka::start_new(), own_postgres());
    let (topic, group) = (Topic::create(&kafka, 1).await, unique("group"));
    let database = postgres.create_database("late").await.unwrap();
    migrated(&database);
    topic.producer(&[]).send([Outgoing::to(0, booking("1", "1"))]).await;
    kafka.stop();
    postgres.stop_fast().unwrap();
    let service = Service::run(&settings(&kafka, &topic, &group, &database));
    service.wait_for_line(|line| line.contains("database_unavailable"), PATIENCE);
    postgres.start().unwrap();
    service.wait_for_line(|line| line.contains("kafka_unavailable"), PATIENCE);
    kafka.start();
    Audit { topic: &topic, group: &group, database: &database }.wait_until_read(PATIENCE).await;
}

#[tokio::test]
async fn a_topic_that_does_not_exist_yet_is_waited_for() {
    let (group, database, name) = (unique("group"), database().await, unique("late"));
    migrated(&database);
    let topic = Topic::named(kafka(), &name);
    let service = Service::run(&settings(kafka(), &topic, &group, &database));
    service.wait_for_line(|line| line.contains("topic_missing"), PATIENCE);
    topic.create_again(2, &[]).await;
    topic.producer(&[]).send([Outgoing::to(1, booking("1", "1"))]).await;
    Audit { topic: &topic, group: &group, database: &database }.wait_until_read(PATIENCE).await;
}

#[tokio::test]
async fn a_position_moved_by_hand_is_followed_backwards_and_forwards() {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    migrated(&database);
    let service = Service::run(&settings(kafka(), &topic, &group, &database));
    let audit = Audit { topic: &topic, group: &group, database: &database };
    let workload = Workload::bookings("moved", 100, 1);
    let producer = topic.producer(&[]);
    producer.send(workload.records.iter().cloned()).await;
    audit.wait_until_read(PATIENCE).await;

    let mut operator = PgConnection::connect(&database).await.unwrap();
    sqlx::query("update consumer_offsets set next_offset = 40").execute(&mut operator).await.unwrap();
    audit.wait_until_read(PATIENCE).await;
    let totals = audit.rows().await[&0].totals;
    assert_eq!(
        totals,
        Totals { stored: 100, duplicates: 60, ..Totals::default() },
        "what is read again is there already"
    );

    // Forwards, while nothing is there: what comes below the new position is passed over.
    sqlx::query("update consumer_offsets set next_offset = 110").execute(&mut operator).await.unwrap();
    service.wait_for_line(|line| line.contains("partition_started") && line.contains("position=110"), PATIENCE);
    producer.send(Workload::bookings("skipped", 20, 1).records).await;
    audit.wait_until_read(PATIENCE).await;
    assert_eq!(audit.rows().await[&0].totals.stored, 110);
}

#[tokio::test]
async fn a_partition_halted_by_hand_stops_alone_and_goes_on_when_the_halt_is_lifted() {
    let (topic, group, database) = (Topic::create(kafka(), 2).await, unique("group"), database().await);
    migrated(&database);
    let service = Service::run(&settings(kafka(), &topic, &group, &database));
    let audit = Audit { topic: &topic, group: &group, database: &database };
    eventually(PATIENCE, |rows: &usize| *rows == 2, async || audit.rows().await.len()).await;
    let mut operator = PgConnection::connect(&database).await.unwrap();
    let halt =
        "update consumer_offsets set halted_at = now(), halt_reason = 'too_many_dead_letters' where partition = 0";
    sqlx::query(halt).execute(&mut operator).await.unwrap();
    service.wait_for_line(|line| line.contains("partition_halted") && line.contains("partition=0"), PATIENCE);
    let workload = Workload::bookings("halted", 100, 2);
    topic.producer(&[]).send(workload.records.iter().cloned()).await;
    eventually(PATIENCE, |at| *at == 50, async || audit.rows().await[&1].next_offset).await;
    assert_eq!(audit.rows().await[&0].next_offset, 0);
    let lift = "update consumer_offsets set halted_at = null, halt_reason = null";
    sqlx::query(lift).execute(&mut operator).await.unwrap();
    audit.wait_until_read(PATIENCE).await;
    audit.assert_exact(&workload.expected).await;
}

#[tokio::test]
async fn partitions_added_while_it_runs_are_read_from_their_beginning() {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    migrated(&database);
    let mut settings = settings(kafka(), &topic, &group, &database);
    settings.push(("KAFKA_START".to_owned(), "latest".to_owned()));
    settings.push(("KAFKA_PROPERTIES".to_owned(), "topic.metadata.refresh.interval.ms=5000".to_owned()));
    let _service = Service::run(&settings);
    let audit = Audit { topic: &topic, group: &group, database: &database };
    eventually(PATIENCE, |rows: &usize| *rows == 1, async || audit.rows().await.len()).await;
    topic.grow(3).await;
    let workload = Workload::bookings("added", 300, 3);
    topic.producer(&[]).send(workload.records.iter().cloned()).await;
    audit.wait_until_read(PATIENCE).await;
    audit.assert_exact(&workload.expected).await;
}

#[tokio::test]
async fn aborted_records_leave_no_row_and_no_lag() {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    migrated(&database);
    let _service = Service::run(&settings(kafka(), &topic, &group, &database));
    let audit = Audit { topic: &topic, group: &group, database: &database };
    let producer = topic.transactional_producer();
    let mut workload = Workload::default();
    for round in 0..12 {
        let records = Workload::bookings(&format!("transaction-{round}"), 5, 1);
        producer.begin();
        producer.send(records.records.iter().cloned()).await;
        if round % 3 == 2 {
            producer.abort();
        } else {
            producer.commit();
            workload.expected.booking_ids.extend(records.expected.booking_ids);
            workload.expected.totals.entry(0).or_default().stored += 5;
        }
        if round % 4 == 1 {
            // At every such point the log ends with a marker, or with aborted records and a marker.
            audit.wait_until_read(PATIENCE).await;
        }
    }
    audit.wait_until_read(PATIENCE).await;
    audit.assert_exact(&workload.expected).await;
}

#[tokio::test]
async fn an_id_that_the_table_made_up_blames_no_record() {
    for (what, sql) in [
        ("a sequence at its end", "alter table booking_history alter id set maxvalue 50"),
        (
            "rows copied in with their own ids",
            "insert into booking_history
             (id, booking_id, user_id, hotel_id, discount_percent, price, created_at)
             select n, 'copied-' || n, 'u', 'h', 0, 0, now() from generate_series(60, 90) as n",
        ),
    ] {
        let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
        migrated(&database);
        let mut operator = PgConnection::connect(&database).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut operator).await.unwrap();
        let mut settings = settings(kafka(), &topic, &group, &database);
        settings.push(("STARTUP_TIMEOUT".to_owned(), "2s".to_owned()));
        let mut service = Service::run(&settings);
        let workload = Workload::bookings("id", 200, 1);
        topic.producer(&[]).send(workload.records.iter().cloned()).await;
        let code = service.wait_exit(PATIENCE);
        assert_eq!(code, 69, "{what}: it takes a person");
        let letters: (i64,) =
            sqlx::query_as("select count(*) from dead_letters").fetch_one(&mut operator).await.unwrap();
        assert_eq!(letters.0, 0, "{what}");
        let heal = "alter table booking_history alter id set maxvalue 2000000000;
            delete from booking_history where booking_id like 'copied-%'";
        sqlx::raw_sql(heal).execute(&mut operator).await.unwrap();
        service.start_again();
        let audit = Audit { topic: &topic, group: &group, database: &database };
        audit.wait_until_read(PATIENCE).await;
        audit.assert_exact(&workload.expected).await;
    }
}

#[tokio::test]
async fn a_table_that_can_not_be_written_is_waited_for_with_growing_pauses_and_then_ends_the_service() {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    migrated(&database);
    let mut settings = settings(kafka(), &topic, &group, &database);
    settings.push(("STARTUP_TIMEOUT".to_owned(), "5s".to_owned()));
    let mut service = Service::run(&settings);
    service.wait_for_line(|line| line.contains("partition_started"), PATIENCE);
    let mut operator = PgConnection::connect(&database).await.unwrap();
    sqlx::query("alter table booking_history rename to elsewhere").execute(&mut operator).await.unwrap();
    let workload = Workload::bookings("renamed", 20, 1);
    topic.producer(&[]).send(workload.records.iter().cloned()).await;
    assert_eq!(service.wait_exit(PATIENCE), 69);
    // That rows of consumer_offsets can still be read and claimed proves nothing: without a pause that grows it would
    // have tried hundreds of times.
    let tries = service.lines().iter().filter(|line| line.contains("database_unavailable")).count();
    assert!((2..60).contains(&tries), "{tries} tries");
    sqlx::query("alter table elsewhere rename to booking_history").execute(&mut operator).await.unwrap();
    service.start_again();
    let audit = Audit { topic: &topic, group: &group, database: &database };
    audit.wait_until_read(PATIENCE).await;
    audit.assert_exact(&workload.expected).await;
}
