//! The consumer group under both protocols: members join, leave, are killed and return.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::Message as _;

use testbed::audit::Totals;
use testbed::scene::Scene;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

/// Much less than a session, which lasts 45 s.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn under_the_newer_group_protocol_a_killed_instance_is_replaced() {
    let scene = Scene::new(6).await.with("KAFKA_PROPERTIES", "group.protocol=consumer");
    let (victim, survivor) = (scene.start(), scene.start());
    for service in [&victim, &survivor] {
        service.wait_until_started(3).await;
    }
    let workload = Workload::mixed("newer", 12_000, 6);
    let producer = scene.topic.producer(&[]);
    let (before, after) = workload.records.split_at(6_000);
    producer.send(before).await;
    eventually(PATIENCE, |handled| *handled > 0, async || scene.totals().await.sum()).await;
    victim.kill9();
    producer.send(after).await;
    scene.assert_exact(&workload).await;
    survivor.stop();
}

#[tokio::test]
async fn a_static_member_that_returns_continues_at_once() {
    let scene = Scene::new(4).await;
    let named = |name| scene.clone().with("KAFKA_PROPERTIES", &format!("group.instance.id={name}")).start();
    let (mut one, other) = (named("one"), named("other"));
    for service in [&one, &other] {
        service.wait_until_started(2).await;
    }
    let revoked = || other.events("partition_revoked").len();
    let revoked_before = revoked();
    let workload = Workload::bookings("static", 3_000, 4);
    for (round, records) in workload.records.chunks(1_000).enumerate() {
        scene.send(records).await;
        scene.wait_until_read().await;
        if round == 2 {
            break;
        }
        if round == 0 {
            one.kill9();
        } else {
            one.stop();
        }
        one.start_again();
        // It gets the same partitions, and the other instance loses none.
        let started = async || one.events("partition_started").len();
        eventually(SOON, |started| *started >= 2, started).await;
    }
    scene.audit().assert_exact(&workload.expected).await;
    assert_eq!(revoked(), revoked_before, "{:#?}", other.lines());

    // A second member of the same name replaces the first, which ends with an error.
    let second = named("one");
    assert_eq!(one.wait_exit(), 69);
    one.wait_for_error("kafka");
    second.wait_until_started(2).await;
    scene.audit().assert_exact(&workload.expected).await;
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
async fn nothing_is_read_while_the_python_service_is_in_the_group_and_then_its_positions_are_used() {
    let scene = Scene::new(1).await;
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
async fn an_instance_that_shuts_down_is_replaced_long_before_its_session_ends() {
    for protocol in ["session.timeout.ms=45000", "group.protocol=consumer"] {
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
