//! The first start: where the service begins to read a partition that has no row.

mod python_service;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use testbed::scene::Scene;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

/// Commits positions to Kafka, as the Python service did.
fn commit(scene: &Scene, positions: &[(i32, i64)]) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", scene.topic.broker())
        .set("group.id", &scene.group)
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for (partition, position) in positions {
        list.add_partition_offset(&scene.topic.name, *partition, Offset::Offset(*position)).unwrap();
    }
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

async fn starts(start: &str, committed: &[(i32, i64)], expected: &[(i32, i64)]) {
    let scene = Scene::new(2).await.with("KAFKA_START", start);
    let before = Workload::bookings("before", 200, 2);
    let producer = scene.topic.producer(&[]);
    producer.send(&before.records).await;
    if !committed.is_empty() {
        commit(&scene, committed);
    }
    let _service = scene.start();
    scene.wait_until_claimed(2).await;
    producer.send(Workload::bookings("after", 20, 2).records).await;
    scene.wait_until_read().await;
    let rows = scene.audit().rows().await;
    for (partition, from) in expected {
        let row = rows.get(partition).unwrap();
        assert_eq!((row.counted_from, row.totals.stored), (*from, 110 - from), "{start} {committed:?} {partition}");
    }
}

#[tokio::test]
async fn reading_begins_at_the_position_of_the_python_service() {
    starts("earliest", &[(0, 37), (1, 100)], &[(0, 37), (1, 100)]).await;
    starts("latest", &[(0, 37)], &[(0, 37), (1, 100)]).await;
    starts("earliest", &[(0, 37)], &[(0, 37), (1, 0)]).await;
}

#[tokio::test]
async fn without_a_position_kafka_start_decides() {
    starts("earliest", &[], &[(0, 0), (1, 0)]).await;
    starts("latest", &[], &[(0, 100), (1, 100)]).await;
}

#[tokio::test]
async fn with_kafka_start_fail_a_partition_without_a_position_is_halted() {
    let scene = Scene::new(1).await.with("KAFKA_START", "fail");
    let workload = Workload::bookings("first", 10, 1);
    scene.send(&workload.records).await;
    let service = scene.start();
    service.wait_for_event("partition_halted");
    assert_eq!(scene.row(0).await.halt_reason.as_deref(), Some("no_start_position"));
    let lift = "update consumer_offsets set next_offset = 4, counted_from = 4, halted_at = null, halt_reason = null";
    scene.execute(lift).await;
    scene.wait_until_read().await;
    assert_eq!(scene.row(0).await.totals.stored, 6);
}

#[tokio::test]
async fn when_the_rows_are_lost_reading_begins_at_the_start_and_not_at_the_mirror() {
    let scene = Scene::new(1).await;
    let workload = Workload::bookings("mirrored", 50, 1);
    scene.send(&workload.records).await;
    let service = scene.start();
    scene.wait_until_read().await;
    service.stop();
    let mirrored = [(0, (50, "booking-history".to_owned()))].into();
    eventually(PATIENCE, |committed| *committed == mirrored, async || scene.topic.committed(&scene.group)).await;

    scene.execute("delete from consumer_offsets; delete from booking_history").await;
    let service = scene.start();
    service.wait_for_event_with("positions_missing", &[("partitions", "0")]);
    scene.assert_exact(&workload).await;
}
