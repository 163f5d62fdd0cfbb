//! What only looks like a change of the topic log halts nothing.

use std::collections::BTreeMap;

use testbed::kafka::{Kafka, kafka};
use testbed::postgres::postgres;
use testbed::scene::Scene;
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

/// All is read, no partition is halted, and no gap is recorded.
async fn assert_no_alarm(scene: &Scene) {
    scene.wait_until_read().await;
    assert_eq!(scene.audit().gaps().await, []);
    assert!(scene.audit().rows().await.values().all(|row| row.halt_reason.is_none()));
}

#[tokio::test]
async fn a_last_record_that_was_deleted_after_it_was_read() {
    let scene = Scene::new(1).await;
    let service = scene.start();
    scene.send_and_handle("before", 100).await;
    service.stop();
    scene.topic.delete_records(0, 100).await;
    let service = scene.start();
    service.wait_for_event_with("partition_started", &[("position", "100")]);
    scene.send_and_handle("after", 10).await;
    assert_no_alarm(&scene).await;
    // The same while the service runs.
    scene.topic.delete_records(0, 110).await;
    scene.send_and_handle("later", 10).await;
    assert_no_alarm(&scene).await;
    assert_eq!(scene.booking_ids().await.len(), 120);
}

#[tokio::test]
async fn a_position_moved_by_hand_while_no_service_runs() {
    let scene = Scene::new(1).await;
    let service = scene.start();
    scene.send_and_handle("before", 10).await;
    service.stop();
    scene.send(Workload::bookings("behind", 20, 1).records).await;
    // An operator skips records between the last one that was handled and the new position.
    scene.execute("update consumer_offsets set next_offset = 15").await;
    let service = scene.start();
    assert_no_alarm(&scene).await;
    assert_eq!(scene.booking_ids().await.len(), 25);
    service.stop();
    scene.execute("update consumer_offsets set next_offset = 3").await;
    let _service = scene.start();
    assert_no_alarm(&scene).await;
    assert_eq!(scene.booking_ids().await.len(), 30);
}

#[tokio::test]
async fn a_position_moved_forward_before_a_step_without_records() {
    let scene = Scene::new(1).await;
    let service = scene.start();
    scene.send_and_handle("before", 10).await;
    service.stop();
    scene.send(Workload::bookings("skipped", 20, 1).records).await;
    scene.command("offsets set --partition 0 --to 30");
    let producer = scene.topic.transactional_producer();
    producer.begin();
    producer.send([Outgoing::to(0, "aborted")]).await;
    producer.abort();
    let service = scene.start();
    scene.wait_until_at(0, 32).await;
    service.stop();
    // Records that were not read lie between the last one that was handled and the position.
    scene.send(Workload::bookings("behind", 5, 1).records).await;
    let _service = scene.start();
    assert_no_alarm(&scene).await;
    assert_eq!(scene.booking_ids().await.len(), 15);
}

#[tokio::test]
async fn a_last_record_that_was_compacted_away() {
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "500"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.compaction.lag.ms", "500"),
        ("delete.retention.ms", "0"),
    ];
    let topic = Topic::create_as(kafka(), &unique("compact"), 1, &settings).await;
    let scene = Scene::of(topic).await;
    let keyed = |key: &str, id: &str| Outgoing { key: Some(key.into()), ..Outgoing::to(0, booking(id, "1")) };
    let service = scene.start();
    scene.send((0..10).map(|n| keyed("same", &format!("old-{n}")))).await;
    scene.wait_until_read().await;
    service.stop();
    scene.send([keyed("same", "new"), keyed("other", "other")]).await;
    // Each further record lets the broker roll a segment; the last one is never compacted.
    let first = async || {
        scene.send([keyed("roll", &unique("roll"))]).await;
        scene.topic.first_offset_from(0, 0)
    };
    eventually(PATIENCE, |first| *first > 9, first).await;
    assert_eq!(scene.topic.watermarks()[&0].0, 0, "the partition log still starts at 0: only its records are gone");
    let _service = scene.start();
    assert_no_alarm(&scene).await;
    let stored = scene.booking_ids().await;
    assert!(stored.contains(&"new".to_owned()) && stored.contains(&"other".to_owned()));
}

#[tokio::test]
async fn markers_aborted_data_and_an_open_transaction_at_the_end() {
    let scene = Scene::new(1).await;
    let mut service = scene.start();
    let producer = scene.topic.transactional_producer();
    for (round, commits) in [true, false, false, true].into_iter().enumerate() {
        producer.begin();
        producer.send(Workload::bookings(&format!("transaction-{round}"), 5, 1).records).await;
        if commits {
            producer.commit();
        } else {
            producer.abort();
        }
        assert_no_alarm(&scene).await;
        service.stop();
        service.start_again();
        service.wait_for_event("partition_started");
    }
    // An open transaction with records of others behind it: consumers see the log end where the transaction began.
    producer.begin();
    producer.send(Workload::bookings("open", 5, 1).records).await;
    let other = Workload::bookings("behind", 5, 1);
    scene.send(&other.records).await;
    service.stop();
    service.start_again();
    service.wait_for_event("partition_started");
    assert_eq!(scene.audit().gaps().await, []);
    producer.commit();
    assert_no_alarm(&scene).await;
    assert_eq!(scene.booking_ids().await.len(), 20);
}

#[tokio::test]
async fn a_marker_that_expires_while_no_service_runs_looks_like_a_record_and_is_a_gap() {
    let scene = Scene::new(1).await;
    let service = scene.start();
    scene.send_and_handle("before", 10).await;
    service.stop();
    // The service never saw that offset 10 holds no record, so it cannot know that no record was lost.
    let producer = scene.topic.transactional_producer();
    producer.begin();
    producer.send([Outgoing::to(0, "aborted")]).await;
    producer.abort();
    eventually(PATIENCE, |ends| *ends == BTreeMap::from([(0, 12)]), async || scene.topic.ends()).await;
    scene.topic.delete_records(0, 12).await;
    let _service = scene.start();
    assert_eq!(scene.wait_until_halted(0).await, "retention_gap");
    assert_eq!(scene.audit().gaps().await, [(0, 10, 12, "retention_gap".to_owned(), false)]);
}

#[tokio::test]
async fn a_broker_that_restarts_and_partitions_that_are_added() {
    let kafka = Kafka::start_new();
    let scene = Scene::on(&kafka, postgres(), 1)
        .await
        .with("TOPIC_CHECK_INTERVAL", "200ms")
        .with("KAFKA_PROPERTIES", "topic.metadata.refresh.interval.ms=2000,reconnect.backoff.max.ms=500");
    let service = scene.start();
    scene.send_and_handle("before", 100).await;
    kafka.kill();
    kafka.start();
    scene.send_and_handle("killed", 100).await;
    kafka.stop();
    kafka.start();
    scene.send_and_handle("stopped", 100).await;
    scene.topic.grow(4).await;
    scene.send_and_handle("grown", 100).await;
    let again = scene.start();
    again.wait_for_event("partition_started");
    scene.send_and_handle("shared", 100).await;
    assert_no_alarm(&scene).await;
    assert_eq!(scene.booking_ids().await.len(), 500);
    assert!(service.is_running() && again.is_running());
}
