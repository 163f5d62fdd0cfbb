//! Records that are gone before they were read.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Scene, stop, wait_for_halt};
use testbed::http::{address, get};
use testbed::kafka::kafka;
use testbed::topic::Topic;
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

fn gap(partition: i32, from: i64, to: i64, acknowledged: bool) -> (i32, i64, i64, String, bool) {
    (partition, from, to, "retention_gap".to_owned(), acknowledged)
}

#[tokio::test]
async fn a_gap_found_at_start_halts_its_partition_once_and_the_others_go_on() {
    let scene = Scene::new(kafka(), 2, &[]).await;
    let service = scene.run();
    let before = scene.handle("before", 200).await;
    stop(&service);
    let behind = Workload::bookings("behind", 200, 2);
    scene.send(&behind).await;
    scene.topic.delete_records(0, 150).await;

    let audit = scene.audit();
    let service = scene.run();
    assert_eq!(audit.wait_until_halted(0, PATIENCE).await, "retention_gap");
    wait_for_halt(&service, 0, "retention_gap", 100, 150);
    eventually(PATIENCE, |at| *at == 200, async || scene.next(1).await).await;
    assert_eq!(scene.next(0).await, 100, "nothing is passed over");
    stop(&service);
    let service = scene.run();
    service.wait_for_line(|line| line.contains("partition_halted"), PATIENCE);
    assert_eq!(audit.gaps().await, [gap(0, 100, 150, false)], "it is on record once, however often one looks");

    // More is gone by the time that somebody looks.
    scene.topic.delete_records(0, 160).await;
    scene.command("offsets resume --partition 0");
    audit.wait_until_read(PATIENCE).await;
    assert_eq!(audit.gaps().await, [gap(0, 100, 160, true)]);
    let gone = |id: &String| {
        let number: usize = id.strip_prefix("behind-").unwrap().parse().unwrap();
        number.is_multiple_of(2) && number / 2 < 60
    };
    let mut expected: Vec<String> = before.expected.booking_ids.into_iter().collect();
    expected.extend(behind.expected.booking_ids.into_iter().filter(|id| !gone(id)));
    expected.sort();
    assert_eq!(scene.stored().await, expected, "what is not gone is there, once");
}

#[tokio::test]
async fn a_gap_found_while_it_runs_halts_after_what_was_read_before_it() {
    let scene = Scene::new(kafka(), 2, &[("HTTP_ADDR", "127.0.0.1:0")]).await;
    let service = scene.run();
    scene.handle("before", 200).await;
    // Frozen, so that it falls behind; the fetch that is open is answered with nothing after fetch.wait.max.ms.
    service.sigstop();
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.send(&Workload::bookings("behind", 200, 2)).await;
    scene.topic.delete_records(0, 150).await;
    service.sigcont();
    let audit = scene.audit();
    assert_eq!(audit.wait_until_halted(0, PATIENCE).await, "retention_gap");
    wait_for_halt(&service, 0, "retention_gap", 100, 150);
    eventually(PATIENCE, |at| *at == 200, async || scene.next(1).await).await;
    assert_eq!(audit.gaps().await, [gap(0, 100, 150, false)]);
    let starts = |partition: &str| {
        let is_start = |line: &&String| line.contains("partition_started") && line.contains(partition);
        service.lines().iter().filter(is_start).count()
    };
    assert_eq!(starts(" partition=1 "), 1, "its neighbour is left alone");
    let address = address(&service);
    let told = get(&address, "/readyz");
    assert_eq!(told.status, 503);
    assert!(told.body.contains(&format!("partition 0 of {} is halted: retention_gap", scene.topic.name)), "{told:?}");
    let metrics = get(&address, "/metrics").body;
    for sample in [
        r#"booking_history_halts_total{reason="retention_gap"} 1"#,
        r#"booking_history_gap_records_total{reason="retention_gap"} 50"#,
        r#"booking_history_partitions{state="halted"} 1"#,
    ] {
        assert!(metrics.lines().any(|line| line == sample), "{sample}: {metrics}");
    }
    // A running service follows the command.
    scene.command("offsets resume --all");
    audit.wait_until_read(PATIENCE).await;
    eventually(PATIENCE, |status| *status == 200, async || get(&address, "/readyz").status).await;
    assert_eq!(scene.stored().await.len(), 350);
    assert_eq!(audit.rows().await[&0].counted_from, 150, "totals count what can be counted");
}

#[tokio::test]
async fn what_was_in_hand_when_the_rest_went_is_kept() {
    // Little is in hand at a time, and the table is locked until the rest is gone.
    let more = [("BATCH_MAX_RECORDS", "100"), ("BUFFER_MAX_BYTES", "100KiB"), ("KAFKA_PROPERTIES", PROPERTIES)];
    let scene = Scene::new(kafka(), 1, &more).await;
    let service = scene.run();
    scene.handle("before", 10).await;
    let audit = scene.audit();
    let lock = audit.lock("booking_history").await;
    scene.send(&Workload::bookings("behind", 30_000, 1)).await;
    service
        .wait_for_line(|line| line.contains("processing_booking_created_event") && line.contains("behind-"), PATIENCE);
    scene.topic.delete_records(0, 29_000).await;
    drop(lock);
    assert_eq!(audit.wait_until_halted(0, PATIENCE).await, "retention_gap");
    let at = scene.next(0).await;
    assert!(at > 10, "what had been read before is stored");
    assert_eq!(audit.gaps().await, [gap(0, at, 29_000, false)]);
    wait_for_halt(&service, 0, "retention_gap", at, 29_000);
    assert_eq!(scene.stored().await.len(), usize::try_from(at).unwrap());
}

/// So little is fetched ahead that the log can be cut off behind it.
const PROPERTIES: &str = "queued.max.messages.kbytes=64,fetch.message.max.bytes=65536,fetch.max.bytes=1000000";

#[tokio::test]
async fn the_policy_skip_records_the_same_gap_and_goes_on() {
    let scene = Scene::new(kafka(), 1, &[("KAFKA_GAP_POLICY", "skip")]).await;
    let service = scene.run();
    scene.handle("before", 100).await;
    stop(&service);
    scene.send(&Workload::bookings("behind", 100, 1)).await;
    scene.topic.delete_records(0, 150).await;
    let service = scene.run();
    let audit = scene.audit();
    audit.wait_until_read(PATIENCE).await;
    assert_eq!(audit.gaps().await, [gap(0, 100, 150, false)]);
    let words = |line: &str| line.contains("gap_skipped") && line.contains("from=100 to=150");
    service.wait_for_line(words, PATIENCE);
    let row = audit.rows().await[&0].clone();
    assert_eq!((row.halt_reason, row.counted_from, row.totals.stored), (None, 0, 150));
    assert_eq!(scene.stored().await.len(), 150);
}

#[tokio::test]
async fn all_gone_is_a_gap_up_to_the_end() {
    let settings = [("retention.ms", "1"), ("segment.ms", "1"), ("file.delete.delay.ms", "1")];
    let topic = Topic::create_as(kafka(), &unique("short"), 1, &[]).await;
    let scene = Scene::of(topic, kafka(), &[]).await;
    let service = scene.run();
    scene.handle("before", 10).await;
    stop(&service);
    scene.send(&Workload::bookings("behind", 20, 1)).await;
    scene.topic.alter(&settings).await;
    eventually(PATIENCE, |marks: &BTreeMap<i32, (i64, i64)>| marks[&0].0 == 30, async || scene.topic.watermarks())
        .await;
    let service = scene.run();
    assert_eq!(scene.audit().wait_until_halted(0, PATIENCE).await, "retention_gap");
    wait_for_halt(&service, 0, "retention_gap", 10, 30);
    assert_eq!(scene.audit().gaps().await, [gap(0, 10, 30, false)]);
}
