//! A connection to the broker that is slow, or that passes nothing for a while, is no fault of the topic log.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use testbed::kafka::Kafka;
use testbed::postgres::postgres;
use testbed::proxy::Proxy;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::Outgoing;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

/// The service reads through the proxy. The producers of the test do not.
async fn scene_behind(kafka: &Kafka, proxy: &Proxy, partitions: i32) -> Scene {
    Scene::on(kafka, postgres(), partitions).await.with("KAFKA_BOOTSTRAP_SERVERS", &proxy.address()).with_http()
}

/// New bookings that are as large as this, by an unknown field.
fn large_bookings(count: usize, partitions: i32, bytes: usize) -> Workload {
    let mut workload = Workload::bookings("large", count, partitions);
    let padding = format!("{{\"padding\":\"{}\",", "x".repeat(bytes));
    for record in &mut workload.records {
        record.value.as_mut().unwrap().splice(..1, padding.bytes());
    }
    workload
}

/// The partitions whose lag is known.
fn known_lags(service: &Service) -> usize {
    let metrics = service.get("/metrics").body;
    metrics.lines().filter(|line| line.starts_with("booking_history_lag_records{")).count()
}

fn threads(service: &Service) -> usize {
    fs::read_dir(format!("/proc/{}/task", service.pid())).unwrap().count()
}

/// Each record was read once, by one member, and no partition was started again.
async fn assert_undisturbed(scene: &Scene, service: &Service, workload: &Workload) {
    scene.assert_exact(workload).await;
    for event in ["fetch_stalled", "partition_revoked", "partition_halted", "membership_lost"] {
        assert!(service.events(event).is_empty(), "{event}");
    }
    let started = service.events("partition_started");
    let partitions: BTreeSet<&str> = started.iter().map(|line| line.field("partition")).collect();
    assert_eq!(started.len(), partitions.len(), "no partition was started twice");
}

#[tokio::test]
async fn a_catch_up_over_many_partitions_is_no_stall_and_does_not_hide_their_ends() {
    const PARTITIONS: i32 = 64;
    let (kafka, proxy) = Kafka::start_behind_proxy();
    let scene = scene_behind(&kafka, &proxy, PARTITIONS).await.with("TOPIC_CHECK_INTERVAL", "1s");
    // 38 MB, for 38 s: each partition waits for its turn for most of this time.
    let workload = large_bookings(1_920, PARTITIONS, 20_000);
    scene.topic.producer(&[("batch.size", "60000")]).send(&workload.records).await;
    proxy.limit(Some(1_000_000));
    let service = scene.start();
    let all = usize::try_from(PARTITIONS).unwrap();
    service.wait_until_started(all).await;
    eventually(PATIENCE, |known| *known == all, async || known_lags(&service)).await;
    let threads_before = threads(&service);

    let ends = scene.topic.ends();
    let done = async || {
        assert_eq!(known_lags(&service), all, "the ends are known all the time");
        assert!(threads(&service) < threads_before + 16, "no thread is left behind");
        let rows = scene.audit().rows().await;
        rows.iter().all(|(partition, row)| ends.get(partition) == Some(&row.next_offset))
    };
    eventually(2 * PATIENCE, |done| *done, done).await;
    assert_undisturbed(&scene, &service, &workload).await;
}

#[tokio::test]
async fn a_response_that_takes_longer_than_a_stall_is_none_while_its_bytes_arrive() {
    let (kafka, proxy) = Kafka::start_behind_proxy();
    let scene = scene_behind(&kafka, &proxy, 1).await.with("TOPIC_CHECK_INTERVAL", "1s");
    // One response has all of this, and takes 40 s. A read of the first batch takes less than a second.
    let workload = large_bookings(140, 1, 5_000);
    scene.topic.producer(&[("batch.size", "5500")]).send(&workload.records).await;
    proxy.limit(Some(17_500));
    let began = Instant::now();
    let service = scene.start();
    scene.audit().wait_until_read(2 * PATIENCE).await;
    assert!(began.elapsed() > Duration::from_secs(25), "it took {:?}", began.elapsed());
    assert_undisturbed(&scene, &service, &workload).await;
}

#[tokio::test]
async fn an_interruption_of_the_network_makes_no_gap_larger_than_the_damage() {
    let (kafka, proxy) = Kafka::start_behind_proxy();
    let scene = scene_behind(&kafka, &proxy, 1).await.with("LOG_LEVEL", "INFO,fenced_sink=debug");
    let producer = scene.topic.producer(&[("linger.ms", "0")]);
    for number in 0..100 {
        producer.send([Outgoing::to(0, booking(&format!("single-{number}"), "1"))]).await;
    }
    kafka.stop();
    kafka.damage(&scene.topic.name, 0, "single-50");
    kafka.start();
    let service = scene.start();
    // The search for the end of the damage begins. The slow connection makes it last until nothing passes any more.
    service.wait_for_event_with("probed", &[("purpose", "LastRecord"), ("probe", "Record")]);
    proxy.limit(Some(2_000));
    service.wait_for_event_with("probed", &[("position", "50"), ("probe", "Unreadable")]);
    proxy.black_hole(true);
    proxy.limit(None);
    service.wait_for_event_with("probed", &[("position", "51"), ("probe", "NoAnswer")]);
    proxy.black_hole(false);
    assert_eq!(scene.wait_until_halted(0).await, "log_corrupt");
    assert_eq!(scene.audit().gaps().await, [(0, 50, 51, "log_corrupt".to_owned(), false)]);
    scene.command("offsets resume --partition 0 --at 51");
    scene.wait_until_read().await;
    assert_eq!(scene.booking_ids().await.len(), 99);
}
