//! Records that are removed before the service has read them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::wait_for_halt;
use testbed::kafka::kafka;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

fn gap(partition: i32, from: i64, to: i64, acknowledged: bool) -> (i32, i64, i64, String, bool) {
    (partition, from, to, "retention_gap".to_owned(), acknowledged)
}

#[tokio::test]
async fn a_gap_found_at_start_halts_its_partition_once_and_the_others_continue() {
    let scene = Scene::new(2).await;
    let service = scene.start();
    let before = scene.send_and_handle("before", 200).await;
    service.stop();
    let behind = Workload::bookings("behind", 200, 2);
    scene.send(&behind.records).await;
    scene.topic.delete_records(0, 150).await;
    let service = scene.start();
    assert_eq!(scene.wait_until_halted(0).await, "retention_gap");
    wait_for_halt(&service, 0, "retention_gap", 100, 150);
    scene.wait_until_at(1, 200).await;
    assert_eq!(scene.row(0).await.next_offset, 100, "no record is skipped");
    service.stop();
    let service = scene.start();
    service.wait_for_event("partition_halted");
    assert_eq!(scene.audit().gaps().await, [gap(0, 100, 150, false)], "the gap is recorded once");

    // Retention removes more before the operator resumes the partition.
    scene.topic.delete_records(0, 160).await;
    scene.command("offsets resume --partition 0");
    scene.wait_until_read().await;
    assert_eq!(scene.audit().gaps().await, [gap(0, 100, 160, true)]);
    let gone = |id: &String| {
        let number: usize = id.strip_prefix("behind-").unwrap().parse().unwrap();
        number.is_multiple_of(2) && number / 2 < 60
    };
    let mut expected: Vec<String> = before.expected.booking_ids.into_iter().collect();
    expected.extend(behind.expected.booking_ids.into_iter().filter(|id| !gone(id)));
    expected.sort();
    assert_eq!(scene.booking_ids().await, expected, "each record that was not removed is stored once");
}

#[tokio::test]
async fn a_gap_found_while_the_service_runs_halts_the_partition_after_the_records_before_it() {
    let scene = Scene::new(2).await.with_http();
    let service = scene.start();
    scene.send_and_handle("before", 200).await;
    // The frozen service falls behind. Its open fetch ends without records after fetch.wait.max.ms.
    service.sigstop();
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.send(Workload::bookings("behind", 200, 2).records).await;
    scene.topic.delete_records(0, 150).await;
    service.sigcont();
    assert_eq!(scene.wait_until_halted(0).await, "retention_gap");
    wait_for_halt(&service, 0, "retention_gap", 100, 150);
    scene.wait_until_at(1, 200).await;
    assert_eq!(scene.audit().gaps().await, [gap(0, 100, 150, false)]);
    let starts = service.events("partition_started");
    assert_eq!(starts.iter().filter(|line| line.field("partition") == "1").count(), 1, "partition 1 is not restarted");
    let answer = service.get("/readyz");
    assert_eq!(answer.status, 503);
    let reason = format!("partition 0 of {} is halted: retention_gap", scene.topic.name);
    assert!(answer.body.contains(&reason), "{answer:?}");
    let metrics = service.get("/metrics").body;
    for sample in [
        r#"booking_history_halts_total{reason="retention_gap"} 1"#,
        r#"booking_history_gap_records_total{reason="retention_gap"} 50"#,
        r#"booking_history_partitions{state="halted"} 1"#,
    ] {
        assert!(metrics.lines().any(|line| line == sample), "{sample}: {metrics}");
    }
    // A running service follows the command.
    scene.command("offsets resume --all");
    scene.wait_until_read().await;
    eventually(PATIENCE, |status| *status == 200, async || service.get("/readyz").status).await;
    assert_eq!(scene.booking_ids().await.len(), 350);
    assert_eq!(scene.row(0).await.counted_from, 150, "the totals begin after the gap");
}

#[tokio::test]
async fn records_that_were_read_before_the_rest_was_removed_are_stored() {
    // The service reads little at a time, and the table is locked until the rest is removed.
    let scene = Scene::new(1)
        .await
        .with("BATCH_MAX_RECORDS", "100")
        .with("BUFFER_MAX_BYTES", "100KiB")
        .with("KAFKA_PROPERTIES", PROPERTIES);
    let service = scene.start();
    scene.send_and_handle("before", 10).await;
    let lock = scene.hold("lock table booking_history in share mode").await;
    scene.send(Workload::bookings("behind", 30_000, 1).records).await;
    // The service has begun to write the new records.
    eventually(
        PATIENCE,
        |begun| *begun,
        async || {
            let lines = service.events("processing_booking_created_event");
            lines.iter().any(|line| line.field("booking_id").starts_with("behind-"))
        },
    )
    .await;
    scene.topic.delete_records(0, 29_000).await;
    drop(lock);
    assert_eq!(scene.wait_until_halted(0).await, "retention_gap");
    let at = scene.row(0).await.next_offset;
    assert!(at > 10, "the records that were read before are stored");
    assert_eq!(scene.audit().gaps().await, [gap(0, at, 29_000, false)]);
    wait_for_halt(&service, 0, "retention_gap", at, 29_000);
    assert_eq!(scene.booking_ids().await.len(), usize::try_from(at).unwrap());
}

/// Three partitions with 100 records each that were delivered while the table is locked. Then two of them lose records
/// that were not delivered: each gap begins behind the delivered ones, and the third partition is not disturbed.
async fn two_partitions_out_of_range_at_once(policy: &str) -> (Scene, Service) {
    // All records have the same size.
    let records = |partitions: Range<i32>, numbers: Range<i32>| {
        let record = |partition, number| Outgoing::to(partition, booking(&format!("{partition}-{number:03}"), "1"));
        partitions.flat_map(move |partition| numbers.clone().map(move |number| record(partition, number)))
    };
    let scene = Scene::new(3).await.with_http().with("KAFKA_GAP_POLICY", policy);
    let service = scene.start();
    service.wait_until_started(3).await;
    let buffered = || {
        let sample =
            |line: &str| line.strip_prefix("booking_history_buffered_bytes ").map(|bytes| bytes.parse().unwrap());
        service.get("/metrics").body.lines().find_map(sample).unwrap_or_default()
    };
    let lock = scene.hold("lock table booking_history in share mode").await;
    scene.send(records(0..1, 0..1)).await;
    let one: u64 = eventually(PATIENCE, |bytes| *bytes > 0, async || buffered()).await;
    scene.send(records(0..3, 0..100).skip(1)).await;
    eventually(PATIENCE, |bytes| *bytes == 300 * one, async || buffered()).await;

    // The open fetch of the frozen service ends without records after fetch.wait.max.ms.
    service.sigstop();
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.send(records(0..2, 100..200)).await;
    for partition in [0, 1] {
        scene.topic.delete_records(partition, 150).await;
    }
    service.sigcont();
    for partition in ["0", "1"] {
        service.wait_for_event_with("position_out_of_range", &[("partition", partition)]);
    }
    drop(lock);
    scene.wait_until_at(2, 100).await;
    eventually(PATIENCE, |gaps: &Vec<_>| gaps.len() == 2, async || scene.audit().gaps().await).await;
    let mut gaps = scene.audit().gaps().await;
    gaps.sort();
    assert_eq!(gaps, [gap(0, 100, 150, false), gap(1, 100, 150, false)]);
    let starts = service.events("partition_started");
    assert_eq!(starts.iter().filter(|line| line.field("partition") == "2").count(), 1, "partition 2 is not restarted");
    (scene, service)
}

#[tokio::test]
async fn two_partitions_out_of_range_at_once_halt_behind_all_that_was_delivered() {
    let (scene, _service) = two_partitions_out_of_range_at_once("halt").await;
    for partition in [0, 1] {
        assert_eq!(scene.wait_until_halted(partition).await, "retention_gap");
    }
    assert_eq!(scene.booking_ids().await.len(), 300);
}

#[tokio::test]
async fn the_policy_skip_of_two_partitions_at_once_skips_only_what_was_not_delivered() {
    let (scene, _service) = two_partitions_out_of_range_at_once("skip").await;
    scene.wait_until_read().await;
    assert_eq!(scene.booking_ids().await.len(), 300 + 50 + 50);
}

/// The client fetches little ahead, so that records it has not fetched can be removed.
const PROPERTIES: &str = "queued.max.messages.kbytes=64,fetch.message.max.bytes=65536,fetch.max.bytes=1000000";

#[tokio::test]
async fn the_policy_skip_records_the_same_gap_and_continues() {
    let scene = Scene::new(1).await.with("KAFKA_GAP_POLICY", "skip");
    let service = scene.start();
    scene.send_and_handle("before", 100).await;
    service.stop();
    scene.send(Workload::bookings("behind", 100, 1).records).await;
    scene.topic.delete_records(0, 150).await;
    let service = scene.start();
    scene.wait_until_read().await;
    assert_eq!(scene.audit().gaps().await, [gap(0, 100, 150, false)]);
    service.wait_for_event_with("gap_skipped", &[("from", "100"), ("to", "150")]);
    let row = scene.row(0).await;
    assert_eq!((row.halt_reason, row.counted_from, row.totals.stored), (None, 0, 150));
    assert_eq!(scene.booking_ids().await.len(), 150);
}

#[tokio::test]
async fn when_all_records_are_removed_the_gap_ends_at_the_end_of_the_log() {
    let settings = [("retention.ms", "1"), ("segment.ms", "1"), ("file.delete.delay.ms", "1")];
    let topic = Topic::create_as(kafka(), &unique("short"), 1, &[]).await;
    let scene = Scene::of(topic).await;
    let service = scene.start();
    scene.send_and_handle("before", 10).await;
    service.stop();
    scene.send(Workload::bookings("behind", 20, 1).records).await;
    scene.topic.alter(&settings).await;
    eventually(PATIENCE, |marks: &BTreeMap<i32, (i64, i64)>| marks[&0].0 == 30, async || scene.topic.watermarks())
        .await;
    let service = scene.start();
    assert_eq!(scene.wait_until_halted(0).await, "retention_gap");
    wait_for_halt(&service, 0, "retention_gap", 10, 30);
    assert_eq!(scene.audit().gaps().await, [gap(0, 10, 30, false)]);
}
