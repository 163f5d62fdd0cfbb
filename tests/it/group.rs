//! The consumer group under both protocols: who comes, goes, dies, returns or does not let go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::Message as _;

use testbed::audit::{Audit, Totals};
use testbed::kafka::kafka;
use testbed::postgres::database;
use testbed::service::{Service, migrated, settings};
use testbed::topic::Topic;
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

/// Nobody waits for a session to end: it lasts 45 s.
const SOON: Duration = Duration::from_secs(20);

fn with_properties(settings: &[(String, String)], properties: &str) -> Vec<(String, String)> {
    let mut settings = settings.to_vec();
    settings.push(("KAFKA_PROPERTIES".to_owned(), properties.to_owned()));
    settings
}

fn started(service: &Service) -> usize {
    service.lines().iter().filter(|line| line.contains("partition_started")).count()
}

async fn handled(audit: &Audit<'_>) -> i64 {
    audit.rows().await.into_values().map(|row| row.totals).sum::<Totals>().sum()
}

#[tokio::test]
async fn under_the_newer_group_protocol_a_killed_instance_is_replaced() {
    let (topic, group, database) = (Topic::create(kafka(), 6).await, unique("group"), database().await);
    migrated(&database);
    let settings = with_properties(&settings(kafka(), &topic, &group, &database), "group.protocol=consumer");
    let (victim, survivor) = (Service::run(&settings), Service::run(&settings));
    for service in [&victim, &survivor] {
        eventually(PATIENCE, |started| *started >= 3, async || started(service)).await;
    }
    let workload = Workload::mixed("newer", 12_000, 6);
    let audit = Audit { topic: &topic, group: &group, database: &database };
    let producer = topic.producer(&[]);
    let (before, after) = workload.records.split_at(6_000);
    producer.send(before.iter().cloned()).await;
    eventually(PATIENCE, |handled| *handled > 0, async || handled(&audit).await).await;
    victim.kill9();
    producer.send(after.iter().cloned()).await;
    audit.wait_until_read(PATIENCE).await;
    audit.assert_exact(&workload.expected).await;
    survivor.sigterm();
    assert_eq!(survivor.wait_exit(PATIENCE), 0);
}

#[tokio::test]
async fn a_static_member_that_returns_goes_on_at_once() {
    let (topic, group, database) = (Topic::create(kafka(), 4).await, unique("group"), database().await);
    migrated(&database);
    let settings = settings(kafka(), &topic, &group, &database);
    let named = |name| Service::run(&with_properties(&settings, &format!("group.instance.id={name}")));
    let (mut one, other) = (named("one"), named("other"));
    for service in [&one, &other] {
        eventually(PATIENCE, |started| *started >= 2, async || started(service)).await;
    }
    let revoked = || other.lines().iter().filter(|line| line.contains("partition_revoked")).count();
    let revoked_before = revoked();
    let workload = Workload::bookings("static", 3_000, 4);
    let audit = Audit { topic: &topic, group: &group, database: &database };
    for (round, records) in workload.records.chunks(1_000).enumerate() {
        topic.producer(&[]).send(records.iter().cloned()).await;
        audit.wait_until_read(PATIENCE).await;
        if round == 2 {
            break;
        }
        let before = started(&one);
        if round == 0 {
            one.kill9();
        } else {
            one.sigterm();
            assert_eq!(one.wait_exit(PATIENCE), 0);
        }
        one.start_again();
        // The same partitions as before, and nobody else lost any.
        eventually(SOON, |now| *now >= before + 2, async || started(&one)).await;
    }
    audit.assert_exact(&workload.expected).await;
    assert_eq!(revoked(), revoked_before, "{:#?}", other.lines());

    // Of two of one name the first has to go, and says so.
    let second = named("one");
    assert_eq!(one.wait_exit(PATIENCE), 69);
    one.wait_for_line(|line| line.starts_with("error: ") && line.contains("kafka"), PATIENCE);
    eventually(PATIENCE, |started| *started >= 2, async || started(&second)).await;
    audit.assert_exact(&workload.expected).await;
}

/// The service of old: another assignor, and offsets in Kafka. It reads so many records, then only stays.
struct OldService {
    leave: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl OldService {
    fn reading(topic: &Topic, group: &str, count: usize) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka().address())
            .set("group.id", group)
            .set("partition.assignment.strategy", "range")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        consumer.subscribe(&[&topic.name]).unwrap();
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
async fn an_old_consumer_in_the_group_is_named_and_continued_once_it_is_gone() {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    migrated(&database);
    let workload = Workload::bookings("old", 100, 1);
    topic.producer(&[]).send(workload.records.iter().cloned()).await;
    let old = OldService::reading(&topic, &group, 37);
    let service = Service::run(&settings(kafka(), &topic, &group, &database));
    service.wait_for_line(|line| line.contains("group_in_use") && line.contains("stop it first"), PATIENCE);
    let audit = Audit { topic: &topic, group: &group, database: &database };
    assert!(audit.rows().await.is_empty(), "it reads nothing beside the other");
    old.leave();
    eventually(PATIENCE, |rows: &usize| *rows == 1, async || audit.rows().await.len()).await;
    audit.wait_until_read(PATIENCE).await;
    let row = audit.rows().await.remove(&0).unwrap();
    assert_eq!((row.counted_from, row.totals), (37, Totals { stored: 63, ..Totals::default() }));
}

#[tokio::test]
async fn who_leaves_in_order_is_replaced_long_before_the_session_ends() {
    for protocol in ["session.timeout.ms=45000", "group.protocol=consumer"] {
        let (topic, group, database) = (Topic::create(kafka(), 4).await, unique("group"), database().await);
        migrated(&database);
        let settings = with_properties(&settings(kafka(), &topic, &group, &database), protocol);
        let leaver = Service::run(&settings);
        eventually(PATIENCE, |started| *started == 4, async || started(&leaver)).await;
        let successor = Service::run(&settings);
        eventually(PATIENCE, |started| *started == 2, async || started(&successor)).await;
        leaver.sigterm();
        assert_eq!(leaver.wait_exit(PATIENCE), 0);
        eventually(Duration::from_secs(5), |started| *started == 4, async || started(&successor)).await;
        let workload = Workload::bookings("left", 400, 4);
        topic.producer(&[]).send(workload.records.iter().cloned()).await;
        let audit = Audit { topic: &topic, group: &group, database: &database };
        audit.wait_until_read(PATIENCE).await;
        audit.assert_exact(&workload.expected).await;
    }
}
