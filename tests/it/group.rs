//! The consumer group under both protocols: members join, leave, are killed and return.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::Message as _;

use testbed::audit::Totals;
use testbed::kafka::{Kafka, kafka, supports};
use testbed::postgres::postgres;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::Topic;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

/// Much less than a session of 45 s, which is Kafka's default.
const SOON: Duration = Duration::from_secs(20);
const LONG_SESSION: &str = "session.timeout.ms=45000";

#[tokio::test]
async fn under_the_newer_group_protocol_a_killed_instance_is_replaced() {
    let scene = Scene::new(6).await.with("KAFKA_PROPERTIES", "group.protocol=consumer");
    a_killed_instance_is_replaced(scene, PATIENCE).await;
}

#[tokio::test]
async fn by_default_a_killed_instance_is_replaced_long_before_a_session_of_45_s_would_end() {
    a_killed_instance_is_replaced(Scene::new(6).await, Duration::from_secs(30)).await;
}

async fn a_killed_instance_is_replaced(scene: Scene, limit: Duration) {
    let (victim, survivor) = (scene.start(), scene.start());
    for service in [&victim, &survivor] {
        service.wait_until_started(3).await;
    }
    let workload = Workload::mixed("killed", 12_000, 6);
    let producer = scene.topic.producer(&[]);
    let (before, after) = workload.records.split_at(6_000);
    producer.send(before).await;
    eventually(PATIENCE, |handled| *handled > 0, async || scene.totals().await.sum()).await;
    victim.kill9();
    producer.send(after).await;
    scene.audit().wait_until_read(limit).await;
    scene.audit().assert_exact(&workload.expected).await;
    survivor.stop();
}

/// Starts two instances, and ends the first one again and again. It gets the same partitions each time, and the other
/// instance loses none.
async fn returns_at_once(scene: Scene, properties: [&str; 2], ends: &[fn(&Service)]) {
    let start = |properties| scene.clone().with("KAFKA_PROPERTIES", properties).start();
    let (mut one, other) = (start(properties[0]), start(properties[1]));
    for service in [&one, &other] {
        service.wait_until_started(2).await;
    }
    let revoked = || other.events("partition_revoked").len();
    let revoked_before = revoked();
    let workload = Workload::bookings("returns", 3_000, 4);
    for (round, records) in workload.records.chunks(1_000).enumerate() {
        scene.send(records).await;
        scene.wait_until_read().await;
        let Some(end) = ends.get(round) else { break };
        end(&one);
        one.start_again();
        let started = async || one.events("partition_started").len();
        eventually(SOON, |started| *started >= 2, started).await;
    }
    scene.audit().assert_exact(&workload.expected).await;
    assert_eq!(revoked(), revoked_before, "{:#?}", other.lines());
}

#[tokio::test]
async fn an_instance_that_is_killed_continues_at_once_after_its_restart() {
    returns_at_once(Scene::new(4).await, [LONG_SESSION, LONG_SESSION], &[Service::kill9, Service::kill9]).await;
}

/// Kafka does not compare the topics of a static member that returns.
#[tokio::test]
async fn an_instance_that_is_killed_and_restarted_for_another_topic_reads_all_partitions_of_that_topic() {
    let scene = Scene::new(2).await;
    let mut service = scene.start();
    service.wait_until_started(2).await;
    service.kill9();
    let other = scene.clone().with_topic(Topic::create(kafka(), 4).await);
    service = other.start();
    service.wait_until_started(4).await;
}

/// Kafka gives a static member that returns its former partitions, without a rebalance.
#[tokio::test]
async fn partitions_that_are_added_while_a_killed_instance_is_down_are_read_after_its_restart() {
    let scene = Scene::new(2).await;
    let mut service = scene.start();
    service.wait_until_started(2).await;
    scene.send(&Workload::bookings("before", 100, 2).records).await;
    scene.wait_until_read().await;
    service.kill9();
    scene.topic.grow(4).await;
    service.start_again();
    scene.send(&Workload::bookings("after", 100, 4).records).await;
    scene.audit().wait_until_read(PATIENCE).await;
    assert_eq!(scene.booking_ids().await.len(), 200);
}

#[tokio::test]
async fn a_static_member_of_the_user_continues_at_once_also_after_a_stop() {
    let [one, other] = ["one", "other"].map(|name| format!("{LONG_SESSION},group.instance.id={name}"));
    returns_at_once(Scene::new(4).await, [&one, &other], &[Service::kill9, Service::stop]).await;
}

#[tokio::test]
async fn two_processes_with_one_id_share_the_partitions() {
    for protocol in [LONG_SESSION, "group.protocol=consumer"].into_iter().filter(|protocol| supports(protocol)) {
        let properties = format!("{protocol},group.instance.id=one");
        let scene = Scene::new(4).await.with("KAFKA_PROPERTIES", &properties);
        let first = scene.start();
        first.wait_until_started(4).await;
        let second = scene.start();
        // Kafka fences the older member. With the newer protocol, it refuses the younger one.
        let (keeps, gives_up) = if protocol == LONG_SESSION { (&second, &first) } else { (&first, &second) };
        gives_up.wait_for_event("instance_id_taken");
        let revoked = async || keeps.events("partition_revoked").len();
        eventually(PATIENCE, |revoked| *revoked == 2, revoked).await;
        let workload = Workload::bookings("one-id", 1_000, 4);
        scene.send(&workload.records).await;
        scene.assert_exact(&workload).await;
        assert!(keeps.events("instance_id_taken").is_empty(), "{:#?}", keeps.lines());
        assert_eq!(gives_up.events("instance_id_taken").len(), 1, "{:#?}", gives_up.lines());
        first.stop();
        second.stop();
    }
}

/// After the session has ended, librdkafka sends a commit without the member id, and Kafka fences it.
#[tokio::test]
async fn an_outage_that_is_longer_than_a_session_ends_no_static_membership() {
    let kafka = Kafka::start_new();
    let scene = Scene::on(&kafka, postgres(), 2).await;
    let scene = scene.with("KAFKA_PROPERTIES", "session.timeout.ms=4000,heartbeat.interval.ms=500");
    let service = scene.start();
    for prefix in ["first", "second"] {
        scene.send(&Workload::bookings(prefix, 100, 2).records).await;
        scene.wait_until_read().await;
        kafka.kill();
        let lost = async || service.events("membership_lost").len();
        eventually(PATIENCE, |lost| *lost > 0, lost).await;
        kafka.start();
    }
    scene.send(&Workload::bookings("last", 100, 2).records).await;
    scene.wait_until_read().await;
    assert!(service.is_running() && service.events("instance_id_taken").is_empty(), "{:#?}", service.lines());
}

/// The Python service: another assignor, and its offsets in Kafka. It reads `count` records and stays in the group.
struct OldService {
    leave: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl OldService {
    fn reading(scene: &Scene, count: usize) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", scene.topic.broker())
            .set("group.id", &scene.group)
            .set("partition.assignment.strategy", "range")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        consumer.subscribe(&[&scene.topic.name]).unwrap();
        for _ in 0..count {
            let began = Instant::now();
            let message = loop {
                if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                    break message.unwrap();
                }
                assert!(began.elapsed() < PATIENCE, "nothing to read");
            };
            assert!(message.payload().is_some());
            consumer.commit_message(&message, CommitMode::Sync).unwrap();
        }
        let leave = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&leave);
        let thread = thread::spawn(move || {
            consumer.pause(&consumer.assignment().unwrap()).unwrap();
            while !until.load(Ordering::Relaxed) {
                assert!(consumer.poll(Duration::from_millis(20)).is_none(), "it is paused");
            }
        });
        Self { leave, thread }
    }

    fn leave(self) {
        self.leave.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

#[tokio::test]
async fn while_the_python_service_is_in_the_group_nothing_is_read_and_then_its_positions_are_continued() {
    // With the newer protocol, Kafka accepts members of both protocols in one group.
    let scene = Scene::new(1).await.with("KAFKA_PROPERTIES", "group.protocol=classic");
    let workload = Workload::bookings("old", 100, 1);
    scene.send(&workload.records).await;
    let old = OldService::reading(&scene, 37);
    let service = scene.start();
    let in_use = service.wait_for_event("group_in_use");
    assert!(in_use.field("hint").contains("stop it first"), "{in_use:#?}");
    assert!(scene.audit().rows().await.is_empty(), "it reads nothing while the other is a member");
    old.leave();
    scene.wait_until_claimed(1).await;
    scene.wait_until_read().await;
    let row = scene.row(0).await;
    assert_eq!((row.counted_from, row.totals), (37, Totals { stored: 63, ..Totals::default() }));
}

#[tokio::test]
async fn an_instance_that_stops_in_order_is_replaced_long_before_its_session_ends() {
    for protocol in [LONG_SESSION, "group.protocol=consumer"].into_iter().filter(|protocol| supports(protocol)) {
        let scene = Scene::new(4).await.with("KAFKA_PROPERTIES", protocol);
        let leaver = scene.start();
        leaver.wait_until_started(4).await;
        let successor = scene.start();
        successor.wait_until_started(2).await;
        leaver.stop();
        let started = async || successor.events("partition_started").len();
        eventually(Duration::from_secs(5), |started| *started == 4, started).await;
        let workload = Workload::bookings("left", 400, 4);
        scene.send(&workload.records).await;
        scene.assert_exact(&workload).await;
    }
}
