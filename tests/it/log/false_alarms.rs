//! What looks like a log that changed and is none: nothing halts.

use std::collections::BTreeMap;

use super::{Scene, stop};
use testbed::kafka::{Kafka, kafka};
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

impl Scene {
    /// All is read, nothing was ever halted, and no gap is on record.
    async fn assert_no_alarm(&self) {
        self.audit().wait_until_read(PATIENCE).await;
        assert_eq!(self.audit().gaps().await, []);
        assert!(self.audit().rows().await.values().all(|row| row.halt_reason.is_none()));
    }
}

#[tokio::test]
async fn a_last_record_that_was_deleted_after_it_was_read() {
    let scene = Scene::new(kafka(), 1, &[]).await;
    let service = scene.run();
    scene.handle("before", 100).await;
    stop(&service);
    scene.topic.delete_records(0, 100).await;
    let service = scene.run();
    service.wait_for_line(|line| line.contains("partition_started") && line.contains("position=100"), PATIENCE);
    scene.handle("after", 10).await;
    scene.assert_no_alarm().await;
    // While it runs, all that was read is removed, too.
    scene.topic.delete_records(0, 110).await;
    scene.handle("later", 10).await;
    scene.assert_no_alarm().await;
    assert_eq!(scene.stored().await.len(), 120);
}

#[tokio::test]
async fn a_position_moved_by_hand_while_nobody_runs() {
    let scene = Scene::new(kafka(), 1, &[]).await;
    let service = scene.run();
    scene.handle("before", 10).await;
    stop(&service);
    scene.send(&Workload::bookings("behind", 20, 1)).await;
    // There are records between the last one that was handled and the position: an operator did not want them.
    scene.audit().execute("update consumer_offsets set next_offset = 15").await;
    let service = scene.run();
    scene.assert_no_alarm().await;
    assert_eq!(scene.stored().await.len(), 25);
    stop(&service);
    scene.audit().execute("update consumer_offsets set next_offset = 3").await;
    let _service = scene.run();
    scene.assert_no_alarm().await;
    assert_eq!(scene.stored().await.len(), 30);
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
    let scene = Scene::of(topic, kafka(), &[]).await;
    let keyed = |key: &str, id: &str| Outgoing { key: Some(key.into()), ..Outgoing::to(0, booking(id, "1")) };
    let service = scene.run();
    scene.topic.producer(&[]).send((0..10).map(|n| keyed("same", &format!("old-{n}")))).await;
    scene.audit().wait_until_read(PATIENCE).await;
    stop(&service);
    scene.topic.producer(&[]).send([keyed("same", "new"), keyed("other", "other")]).await;
    // Each further record lets the broker roll a segment; the last one is never compacted.
    let first = async || {
        scene.topic.producer(&[]).send([keyed("roll", &unique("roll"))]).await;
        scene.topic.first_offset_from(0, 0)
    };
    eventually(PATIENCE, |first| *first > 9, first).await;
    assert_eq!(scene.topic.watermarks()[&0].0, 0, "the log still begins at 0: only its records are gone");
    let _service = scene.run();
    scene.assert_no_alarm().await;
    let stored = scene.stored().await;
    assert!(stored.contains(&"new".to_owned()) && stored.contains(&"other".to_owned()));
}

#[tokio::test]
async fn markers_aborted_data_and_an_open_transaction_at_the_end() {
    let scene = Scene::new(kafka(), 1, &[]).await;
    let mut service = scene.run();
    let producer = scene.topic.transactional_producer();
    for (round, commits) in [true, false, false, true].into_iter().enumerate() {
        producer.begin();
        producer.send(Workload::bookings(&format!("transaction-{round}"), 5, 1).records).await;
        if commits {
            producer.commit();
        } else {
            producer.abort();
        }
        scene.assert_no_alarm().await;
        stop(&service);
        service.start_again();
        service.wait_for_line(|line| line.contains("partition_started"), PATIENCE);
    }
    // An open transaction, and records of others behind it: the log ends where it began.
    producer.begin();
    producer.send(Workload::bookings("open", 5, 1).records).await;
    let other = Workload::bookings("behind", 5, 1);
    scene.send(&other).await;
    stop(&service);
    let lines = service.lines().len();
    service.start_again();
    let started = async || {
        service.lines().iter().skip(lines).any(|line| line.contains("partition_started") && line.contains("position="))
    };
    eventually(PATIENCE, |started| *started, started).await;
    assert_eq!(scene.audit().gaps().await, []);
    producer.commit();
    scene.assert_no_alarm().await;
    assert_eq!(scene.stored().await.len(), 20);
}

#[tokio::test]
async fn a_marker_that_expires_while_nobody_runs_can_not_be_told_from_a_record_and_is_reported() {
    let scene = Scene::new(kafka(), 1, &[]).await;
    let service = scene.run();
    scene.handle("before", 10).await;
    stop(&service);
    // All of it removed, but for what can't be told: the service never saw that offset 10 holds no record.
    let producer = scene.topic.transactional_producer();
    producer.begin();
    producer.send([Outgoing::to(0, "aborted")]).await;
    producer.abort();
    eventually(PATIENCE, |ends| *ends == BTreeMap::from([(0, 12)]), async || scene.topic.ends()).await;
    scene.topic.delete_records(0, 12).await;
    let _service = scene.run();
    assert_eq!(scene.audit().wait_until_halted(0, PATIENCE).await, "retention_gap");
    assert_eq!(scene.audit().gaps().await, [(0, 10, 12, "retention_gap".to_owned(), false)]);
}

#[tokio::test]
async fn a_broker_that_restarts_and_partitions_that_are_added() {
    let kafka = Kafka::start_new();
    let more = [
        ("TOPIC_CHECK_INTERVAL", "200ms"),
        ("KAFKA_PROPERTIES", "topic.metadata.refresh.interval.ms=2000,reconnect.backoff.max.ms=500"),
    ];
    let scene = Scene::new(&kafka, 1, &more).await;
    let service = scene.run();
    scene.handle("before", 100).await;
    kafka.kill();
    kafka.start();
    scene.handle("killed", 100).await;
    kafka.stop();
    kafka.start();
    scene.handle("stopped", 100).await;
    scene.topic.grow(4).await;
    scene.handle("grown", 100).await;
    let again = scene.run();
    again.wait_for_line(|line| line.contains("partition_started"), PATIENCE);
    scene.handle("shared", 100).await;
    scene.assert_no_alarm().await;
    assert_eq!(scene.stored().await.len(), 500);
    assert!(service.is_running() && again.is_running());
}
