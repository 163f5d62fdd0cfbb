//! On librdkafka's mock cluster, what a real broker does not do on demand: chosen errors at a chosen moment, and topics
//! without ids.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use testbed::scene::Scene;
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::workload::{Workload, booking};

/// A topic of this name on a mock cluster that does not tell the ids of topics, as brokers before KIP-516.
fn topic(cluster: &MockCluster<'_, DefaultProducerContext>, name: &str, partitions: i32) -> Topic {
    cluster.apiversion(RDKafkaApiKey::Metadata, None, Some(9)).unwrap();
    cluster.create_topic(name, partitions, 1).unwrap();
    Topic::at(cluster.bootstrap_servers(), name)
}

/// A new topic on a mock cluster.
async fn scene(cluster: &MockCluster<'_, DefaultProducerContext>, partitions: i32) -> Scene {
    let scene = Scene::of(topic(cluster, &unique("mock"), partitions)).await;
    scene.with("TOPIC_CHECK_INTERVAL", "300ms").with("KAFKA_PROPERTIES", "session.timeout.ms=6000")
}

#[tokio::test]
async fn leaders_that_change_and_fetches_that_are_refused_for_a_moment_halt_nothing() {
    let cluster = MockCluster::new(2).unwrap();
    let scene = scene(&cluster, 2).await;
    let service = scene.start();
    scene.send_and_handle("before", 100).await;
    for leader in [2, 1, 2] {
        for partition in 0..2 {
            cluster.partition_leader(&scene.topic.name, partition, Some(leader)).unwrap();
        }
        scene.send_and_handle(&format!("leader-{leader}-{}", scene.row(0).await.next_offset), 100).await;
    }
    for refusal in [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        // A leader that has just been elected may refuse a position that its log has.
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
    ] {
        cluster.request_errors(RDKafkaApiKey::Fetch, &[refusal, refusal]);
        scene.send_and_handle(&format!("{refusal:?}"), 100).await;
    }
    service.stop();
    let service = scene.start();
    scene.send_and_handle("after", 100).await;
    service.stop();

    assert_eq!(scene.audit().gaps().await, []);
    let rows = scene.audit().rows().await;
    assert!(rows.values().all(|row| row.halt_reason.is_none()), "{rows:?}");
    assert_eq!(scene.booking_ids().await.len(), 1_100);
    assert!(scene.audit().topic_ids().await.iter().all(Option::is_none), "this broker does not tell topic ids");
}

#[tokio::test]
async fn another_record_at_the_last_offset_halts_where_topics_have_no_ids() {
    let cluster = MockCluster::new(1).unwrap();
    let before = scene(&cluster, 1).await;
    let service = before.start();
    before.send_and_handle("before", 50).await;
    service.stop();

    // Another cluster with a topic of this name and more records: only the digest of the last record differs.
    let other = MockCluster::new(1).unwrap();
    let name = before.topic.name.clone();
    let scene = before.with_topic(topic(&other, &name, 1));
    scene.send(Workload::bookings("other", 80, 1).records).await;
    let service = scene.start();
    assert_eq!(scene.wait_until_halted(0).await, "log_replaced");
    assert_eq!(scene.audit().gaps().await, [(0, 0, 50, "log_replaced".to_owned(), false)]);
    scene.command("offsets resume --all --at earliest");
    scene.wait_until_read().await;
    assert_eq!(scene.booking_ids().await.len(), 130);
    service.stop();
}

#[tokio::test]
async fn a_run_until_the_end_compares_the_last_record_before_it_ends() {
    let cluster = MockCluster::new(1).unwrap();
    let before = scene(&cluster, 1).await;
    let service = before.start();
    before.send_and_handle("before", 50).await;
    service.stop();

    // Another cluster with a topic of this name and as many records. Its first answers to the consumer are errors, so the
    // position is at the end long before the last record is compared.
    let other = MockCluster::new(1).unwrap();
    let name = before.topic.name.clone();
    let scene = before.with_topic(topic(&other, &name, 1));
    scene.send(Workload::bookings("other", 50, 1).records).await;
    other.request_errors(RDKafkaApiKey::Fetch, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR; 10]);
    let (code, lines) = scene.finish("run --until-end");
    assert_eq!(code, 69, "{lines:#?}");
    assert!(lines.last().unwrap().contains("partition 0 (log_replaced)"), "{lines:#?}");

    // The same topic log: it ends after the comparison.
    scene.command("offsets resume --all --at latest");
    scene.send(Workload::bookings("after", 50, 1).records).await;
    assert_eq!(scene.finish("run --until-end").0, 0);
    assert_eq!(scene.booking_ids().await.len(), 100);
}

#[tokio::test]
async fn a_partition_without_a_leader_does_not_keep_another_from_being_checked() {
    let cluster = MockCluster::new(1).unwrap();
    let before = scene(&cluster, 2).await;
    let service = before.start();
    before.send_and_handle("before", 100).await;
    service.stop();

    // Another cluster with a shorter partition log. Its other partition has no leader, so it cannot be checked.
    let other = MockCluster::new(1).unwrap();
    let name = before.topic.name.clone();
    let scene = before.with_topic(topic(&other, &name, 2));
    scene.send((0..20).map(|n| Outgoing::to(0, booking(&format!("other-{n}"), "1")))).await;
    other.partition_leader(&scene.topic.name, 1, None).unwrap();
    let _service = scene.start();
    assert_eq!(scene.wait_until_halted(0).await, "log_truncated");
    // Without a topic id, the leader epochs prove nothing: the 20 records of the other cluster are in the gap.
    assert_eq!(scene.audit().gaps().await, [(0, 0, 50, "log_truncated".to_owned(), false)]);
}

#[tokio::test]
async fn a_broker_that_cannot_tell_leader_epochs_delays_the_start_and_halts_nothing() {
    let cluster = MockCluster::new(1).unwrap();
    let scene = scene(&cluster, 1).await;
    let service = scene.start();
    scene.send_and_handle("before", 50).await;
    service.stop();
    cluster.apiversion(RDKafkaApiKey::OffsetForLeaderEpoch, None, None).unwrap();
    let service = scene.start();
    scene.send_and_handle("after", 50).await;
    service.stop();
    assert_eq!(scene.audit().gaps().await, []);
    assert_eq!(scene.booking_ids().await.len(), 100);
}
