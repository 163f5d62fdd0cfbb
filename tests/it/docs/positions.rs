//! The samples about positions, halts and gaps, health and metrics.

use super::walk::Walk;
use testbed::kafka::{Kafka, kafka};
use testbed::scene::Scene;
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

pub const SAMPLES: &[&str] = &[
    "offsets-list",
    "positions-sql",
    "totals-sql",
    "offsets-set",
    "totals-after-set",
    "offsets-set-checks",
    "partition-halted-gap",
    "offsets-resume",
    "gaps-acknowledged",
    "readyz-halted",
    "metrics-halted",
];

/// A topic with three partitions, whose records may have any timestamps.
async fn scene(kafka: &Kafka) -> Scene {
    let any_time = [("message.timestamp.after.max.ms", "9223372036854775807"), ("retention.ms", "-1")];
    Scene::of(Topic::create_as(kafka, &unique("positions"), 3, &any_time).await).await
}

#[tokio::test]
async fn the_samples_of_positions() {
    // 2026-11-24T22:17:11Z, to which a sample moves the positions.
    const MOVED_TO: i64 = 1_795_558_631_000;
    let scene = scene(kafka()).await;
    let service = scene.start();
    let mut records = Workload::mixed("position", 300, 3).records;
    for record in &mut records {
        record.timestamp = Some(MOVED_TO - 60_000);
    }
    scene.send(&records).await;
    scene.wait_until_read().await;

    let mut walk = Walk::new("docs/operate/lag-and-positions.md", scene);
    walk.run("offsets-list").await;
    walk.run("positions-sql").await;
    walk.run("totals-sql").await;
    walk.run("offsets-set").await;
    walk.scene.wait_until_read().await;
    walk.run("totals-after-set").await;
    let mut later = Workload::bookings("later", 30, 3).records;
    for record in &mut later {
        record.timestamp = Some(MOVED_TO + 60_000);
    }
    walk.scene.send(&later).await;
    walk.scene.wait_until_read().await;
    walk.run("offsets-set-checks").await;
    service.stop();
}

#[tokio::test]
async fn the_samples_of_halts_and_gaps() {
    let kafka = Kafka::start_new();
    let scene = scene(&kafka).await;
    let producer = scene.topic.producer(&[]);
    let bookings = |partition, prefix: &'static str, count: usize| {
        (0..count).map(move |number| Outgoing::to(partition, booking(&format!("{prefix}-{number}"), "1")))
    };
    let service = scene.start();
    producer.send(bookings(0, "a", 57).chain(bookings(1, "b", 60)).chain(bookings(2, "c", 110))).await;
    scene.wait_until_read().await;
    service.stop();
    // Kafka keeps one checksum for a batch of records. This record is a batch of its own.
    producer.send([Outgoing::to(0, booking("damaged", "1"))]).await;
    producer.send(bookings(0, "d", 52).chain(bookings(1, "e", 50))).await;
    kafka.stop();
    kafka.damage(&scene.topic.name, 0, "damaged");
    kafka.start();
    scene.topic.delete_records(1, 85).await;
    let service = scene.start();
    assert_eq!(scene.wait_until_halted(0).await, "log_corrupt");
    assert_eq!(scene.wait_until_halted(1).await, "retention_gap");
    service.wait_for_event_with("partition_halted", &[("reason", "retention_gap")]);
    // Kafka removes more before the operator resumes the partition.
    scene.topic.delete_records(1, 90).await;

    let mut walk = Walk::new("docs/operate/gaps.md", scene);
    walk.logged("partition-halted-gap", &[&service]);
    walk.turn_to("docs/operate/halts.md");
    walk.run("offsets-resume").await;
    walk.turn_to("docs/operate/gaps.md");
    walk.run("gaps-acknowledged").await;
    walk.scene.wait_until_read().await;
}

#[tokio::test]
async fn the_samples_of_health_and_metrics() {
    let scene = Scene::new(3).await.with_http().with("BREAKER_CONSECUTIVE", "5");
    let service = scene.start();
    scene.send(&Workload::mixed("health", 60, 3).records).await;
    scene.wait_until_read().await;
    scene.send((0..8).map(|number| Outgoing::to(1, format!("poison {number}")))).await;
    assert_eq!(scene.wait_until_halted(1).await, "too_many_dead_letters");
    let lag = format!("lag_records{{topic=\"{}\",partition=\"1\"}} 6", scene.topic.name);
    let shown = |metrics: &String| {
        [lag.as_str(), "partitions{state=\"halted\"} 1", "dead_letters{status=\"parked\"} 11"]
            .iter()
            .all(|part| metrics.contains(part))
    };
    eventually(PATIENCE, shown, async || service.get("/metrics").body).await;

    let mut walk = Walk::new("docs/operate/health.md", scene);
    walk.get("readyz-halted", &service);
    walk.turn_to("docs/operate/metrics.md");
    walk.get("metrics-halted", &service);
}
