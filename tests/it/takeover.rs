//! The first start: where a partition begins that has no row yet.

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use sqlx::{Connection as _, PgConnection};

use testbed::audit::Audit;
use testbed::kafka::kafka;
use testbed::postgres::database;
use testbed::service::{Service, migrated, settings};
use testbed::topic::Topic;
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

/// As the old service left them.
fn commit(topic: &Topic, group: &str, positions: &[(i32, i64)]) {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", kafka().address()).set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    for (partition, position) in positions {
        list.add_partition_offset(&topic.name, *partition, Offset::Offset(*position)).unwrap();
    }
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

async fn starts(start: &str, committed: &[(i32, i64)], expected: &[(i32, i64)]) {
    let (topic, group, database) = (Topic::create(kafka(), 2).await, unique("group"), database().await);
    migrated(&database);
    let before = Workload::bookings("before", 200, 2);
    let producer = topic.producer(&[]);
    producer.send(before.records.iter().cloned()).await;
    if !committed.is_empty() {
        commit(&topic, &group, committed);
    }
    let mut settings = settings(kafka(), &topic, &group, &database);
    settings.push(("KAFKA_START".to_owned(), start.to_owned()));
    let _service = Service::run(&settings);
    let audit = Audit { topic: &topic, group: &group, database: &database };
    eventually(PATIENCE, |rows: &usize| *rows == 2, async || audit.rows().await.len()).await;
    producer.send(Workload::bookings("after", 20, 2).records).await;
    audit.wait_until_read(PATIENCE).await;
    let rows = audit.rows().await;
    for (partition, from) in expected {
        let row = rows.get(partition).unwrap();
        assert_eq!((row.counted_from, row.totals.stored), (*from, 110 - from), "{start} {committed:?} {partition}");
    }
}

#[tokio::test]
async fn the_position_of_the_old_service_is_taken_over_without_a_gap() {
    starts("earliest", &[(0, 37), (1, 100)], &[(0, 37), (1, 100)]).await;
    starts("latest", &[(0, 37)], &[(0, 37), (1, 100)]).await;
    starts("earliest", &[(0, 37)], &[(0, 37), (1, 0)]).await;
}

#[tokio::test]
async fn without_a_position_the_policy_decides() {
    starts("earliest", &[], &[(0, 0), (1, 0)]).await;
    starts("latest", &[], &[(0, 100), (1, 100)]).await;
}

#[tokio::test]
async fn a_start_that_must_not_be_guessed_is_halted_to_be_seen() {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    migrated(&database);
    let workload = Workload::bookings("first", 10, 1);
    topic.producer(&[]).send(workload.records.iter().cloned()).await;
    let mut settings = settings(kafka(), &topic, &group, &database);
    settings.push(("KAFKA_START".to_owned(), "fail".to_owned()));
    let service = Service::run(&settings);
    service.wait_for_line(|line| line.contains("partition_halted"), PATIENCE);
    let audit = Audit { topic: &topic, group: &group, database: &database };
    assert_eq!(audit.rows().await[&0].halt_reason.as_deref(), Some("no_start_position"));
    let lift = "update consumer_offsets set next_offset = 4, counted_from = 4, halted_at = null, halt_reason = null";
    sqlx::query(lift).execute(&mut PgConnection::connect(&database).await.unwrap()).await.unwrap();
    audit.wait_until_read(PATIENCE).await;
    assert_eq!(audit.rows().await[&0].totals.stored, 6);
}

#[tokio::test]
async fn our_own_mirror_is_not_believed_when_the_rows_are_gone() {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    migrated(&database);
    let workload = Workload::bookings("mirrored", 50, 1);
    topic.producer(&[]).send(workload.records.iter().cloned()).await;
    let service = Service::run(&settings(kafka(), &topic, &group, &database));
    let audit = Audit { topic: &topic, group: &group, database: &database };
    audit.wait_until_read(PATIENCE).await;
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 0);
    let mirrored = [(0, (50, "booking-history".to_owned()))].into();
    eventually(PATIENCE, |committed| *committed == mirrored, async || topic.committed(&group)).await;

    let mut restored = PgConnection::connect(&database).await.unwrap();
    sqlx::query("delete from consumer_offsets").execute(&mut restored).await.unwrap();
    sqlx::query("delete from booking_history").execute(&mut restored).await.unwrap();
    let service = Service::run(&settings(kafka(), &topic, &group, &database));
    service.wait_for_line(|line| line.contains("positions_missing"), PATIENCE);
    audit.wait_until_read(PATIENCE).await;
    audit.assert_exact(&workload.expected).await;
}
