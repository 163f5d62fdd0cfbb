//! What a real broker can't be made to show: errors of a chosen kind at a chosen moment, and topics without ids. On
//! librdkafka's mock cluster.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::{Scene, stop};
use testbed::postgres::database;
use testbed::service::migrated;
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::PATIENCE;
use testbed::workload::{Workload, booking};

/// The topic of this name on a mock cluster, for a group and a database that are there already or new.
async fn scene(cluster: &MockCluster<'_, DefaultProducerContext>, partitions: i32, of: Option<Scene>) -> Scene {
    let name = of.as_ref().map_or_else(|| unique("mock"), |scene| scene.topic.name.clone());
    // As a broker of before KIP-516: version 10 is the first that tells a topic's id.
    cluster.apiversion(RDKafkaApiKey::Metadata, None, Some(9)).unwrap();
    let topic = Topic::at(cluster.bootstrap_servers(), &name);
    cluster.create_topic(&topic.name, partitions, 1).unwrap();
    let (group, database) = match of {
        Some(scene) => (scene.group, scene.database),
        None => (unique("group"), database().await),
    };
    migrated(&database);
    let settings = [
        ("KAFKA_BOOTSTRAP_SERVERS", cluster.bootstrap_servers().as_str()),
        ("KAFKA_TOPIC", &topic.name),
        ("KAFKA_GROUP_ID", &group),
        ("DATABASE_URL", &database),
        ("HTTP_ADDR", ""),
        ("TOPIC_CHECK_INTERVAL", "300ms"),
        ("KAFKA_PROPERTIES", "session.timeout.ms=6000"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    Scene { topic, group, database, settings }
}

#[tokio::test]
async fn leaders_that_change_and_fetches_that_are_refused_for_a_moment_halt_nothing() {
    let cluster = MockCluster::new(2).unwrap();
    let scene = scene(&cluster, 2, None).await;
    let service = scene.run();
    scene.handle("before", 100).await;
    for leader in [2, 1, 2] {
        for partition in 0..2 {
            cluster.partition_leader(&scene.topic.name, partition, Some(leader)).unwrap();
        }
        scene.handle(&format!("leader-{leader}-{}", scene.next(0).await), 100).await;
    }
    for refusal in [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        // As a leader that has just been elected may say, of a position that is within the log all the same.
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
    ] {
        cluster.request_errors(RDKafkaApiKey::Fetch, &[refusal, refusal]);
        scene.handle(&format!("{refusal:?}"), 100).await;
    }
    stop(&service);
    let service = scene.run();
    scene.handle("after", 100).await;
    stop(&service);

    assert_eq!(scene.audit().gaps().await, []);
    let rows = scene.audit().rows().await;
    assert!(rows.values().all(|row| row.halt_reason.is_none()), "{rows:?}");
    assert_eq!(scene.stored().await.len(), 1_100);
    assert!(scene.audit().topic_ids().await.iter().all(Option::is_none), "this broker tells none");
}

#[tokio::test]
async fn another_record_at_the_last_offset_is_noticed_where_topics_have_no_ids() {
    let cluster = MockCluster::new(1).unwrap();
    let before = scene(&cluster, 1, None).await;
    let service = before.run();
    before.handle("before", 50).await;
    stop(&service);

    // Another cluster with a topic of this name, and more records: only the digest tells.
    let other = MockCluster::new(1).unwrap();
    let scene = scene(&other, 1, Some(before)).await;
    scene.send(&Workload::bookings("other", 80, 1)).await;
    let service = scene.run();
    assert_eq!(scene.audit().wait_until_halted(0, PATIENCE).await, "log_replaced");
    assert_eq!(scene.audit().gaps().await, [(0, 0, 50, "log_replaced".to_owned(), false)]);
    scene.command("offsets resume --all --at earliest");
    scene.audit().wait_until_read(PATIENCE).await;
    assert_eq!(scene.stored().await.len(), 130);
    stop(&service);
}

#[tokio::test]
async fn a_partition_without_a_leader_does_not_keep_its_neighbour_from_being_looked_at() {
    let cluster = MockCluster::new(1).unwrap();
    let before = scene(&cluster, 2, None).await;
    let service = before.run();
    before.handle("before", 100).await;
    stop(&service);

    // Another cluster, whose log is shorter; the other partition can't be asked for.
    let other = MockCluster::new(1).unwrap();
    let scene = scene(&other, 2, Some(before)).await;
    scene.topic.producer(&[]).send((0..20).map(|n| Outgoing::to(0, booking(&format!("other-{n}"), "1")))).await;
    other.partition_leader(&scene.topic.name, 1, None).unwrap();
    let _service = scene.run();
    assert_eq!(scene.audit().wait_until_halted(0, PATIENCE).await, "log_truncated");
    assert_eq!(scene.audit().gaps().await, [(0, 20, 50, "log_truncated".to_owned(), false)]);
}
