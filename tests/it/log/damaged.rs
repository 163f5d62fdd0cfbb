//! A byte that is no longer what was written.

use std::fs;

use super::{Scene, stop, wait_for_halt};
use testbed::kafka::Kafka;
use testbed::topic::Outgoing;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::booking;

/// Flips a bit of the first place where `text` stands in a file.
fn damage(path: &std::path::Path, text: &str) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    *bytes.get_mut(at).unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn damage_in_what_was_read_long_ago_stops_nobody() {
    let kafka = Kafka::start_new();
    let scene = Scene::new(&kafka, 2, &[]).await;
    let service = scene.run();
    let producer = scene.topic.producer(&[]);
    for partition in 0..2 {
        producer.send([Outgoing::to(partition, booking(&format!("last-{partition}"), "1"))]).await;
    }
    scene.audit().wait_until_read(PATIENCE).await;
    stop(&service);
    producer.send([Outgoing::to(0, booking("next-0", "1")), Outgoing::to(1, booking("next-1", "1"))]).await;
    kafka.stop();
    // The very record that reading begins with, to see whether the log is the same.
    damage(&kafka.segment(&scene.topic.name, 0), "last-0");
    kafka.start();
    let _service = scene.run();
    scene.audit().wait_until_read(PATIENCE).await;
    assert_eq!(scene.stored().await, ["last-0", "last-1", "next-0", "next-1"]);
    assert_eq!(scene.audit().gaps().await, []);
}

#[tokio::test]
async fn a_batch_that_fails_its_checksum_halts_its_partition_alone_and_is_passed_by_hand() {
    let kafka = Kafka::start_new();
    // The first partition holds a batch for each record, the second one batch for several; the third is well, and idle.
    let scene = Scene::new(&kafka, 4, &[]).await;
    let service = scene.run();
    scene.handle("before", 40).await;
    stop(&service);
    let producer = scene.topic.producer(&[]);
    for number in 0..3 {
        producer.send([Outgoing::to(0, booking(&format!("single-{number}"), "1"))]).await;
    }
    let batched = scene.topic.producer(&[("linger.ms", "500")]);
    for batch in ["good", "bad", "fine"] {
        batched.send((0..4).map(|number| Outgoing::to(1, booking(&format!("{batch}-{number}"), "1")))).await;
    }
    kafka.stop();
    damage(&kafka.segment(&scene.topic.name, 0), "single-1");
    damage(&kafka.segment(&scene.topic.name, 1), "bad-2");
    kafka.start();

    let service = scene.run();
    let audit = scene.audit();
    for partition in [0, 1] {
        assert_eq!(audit.wait_until_halted(partition, PATIENCE).await, "log_corrupt");
    }
    wait_for_halt(&service, 0, "log_corrupt", 11, 12);
    wait_for_halt(&service, 1, "log_corrupt", 14, 18);
    let mut gaps = audit.gaps().await;
    gaps.sort();
    let gap = |partition, from, to| (partition, from, to, "log_corrupt".to_owned(), false);
    assert_eq!(gaps, [gap(0, 11, 12), gap(1, 14, 18)], "what can't be read, to the record");
    // The others go on, those that have nothing to read as well.
    scene.topic.producer(&[]).send([Outgoing::to(3, booking("healthy", "1"))]).await;
    eventually(PATIENCE, |at| *at == 11, async || scene.next(3).await).await;
    assert!(audit.rows().await.values().filter(|row| row.halt_reason.is_some()).count() == 2);

    scene.command("offsets resume --partition 0 --at 12");
    scene.command("offsets resume --partition 1 --at 18");
    audit.wait_until_read(PATIENCE).await;
    let stored = scene.stored().await;
    let there = |id: &str| stored.binary_search(&id.to_owned()).is_ok();
    assert_eq!(stored.len(), 40 + 2 + 8 + 1);
    assert!(there("single-0") && there("single-2") && there("good-3") && there("fine-0"));
    assert!(!there("single-1") && !there("bad-0"), "no damaged record becomes a row");
}

#[tokio::test]
async fn damage_in_some_of_many_partitions_does_not_hold_up_those_that_have_nothing_to_read() {
    let kafka = Kafka::start_new();
    let scene = Scene::new(&kafka, 40, &[]).await;
    let service = scene.run();
    scene.handle("before", 40).await;
    let producer = scene.topic.producer(&[]);
    for damaged in 0..3 {
        for what in ["damaged", "behind"] {
            producer.send([Outgoing::to(damaged, booking(&format!("{what}-{damaged}"), "1"))]).await;
        }
    }
    scene.audit().wait_until_read(PATIENCE).await;
    kafka.stop();
    for partition in 0..3 {
        damage(&kafka.segment(&scene.topic.name, partition), &format!("damaged-{partition}"));
    }
    kafka.start();
    scene.audit().execute("update consumer_offsets set next_offset = 1 where partition < 3").await;
    // All of them start again each time, so all are in question; a wait for each would add up.
    for partition in 0..3 {
        wait_for_halt(&service, partition, "log_corrupt", 1, 2);
    }
    scene.topic.producer(&[]).send([Outgoing::to(39, booking("healthy", "1"))]).await;
    eventually(PATIENCE, |at| *at == 2, async || scene.next(39).await).await;
    assert_eq!(scene.audit().gaps().await.len(), 3);
}

#[tokio::test]
async fn what_can_be_read_between_two_damaged_batches_is_no_part_of_the_gap() {
    let kafka = Kafka::start_new();
    let scene = Scene::new(&kafka, 1, &[]).await;
    let batched = scene.topic.producer(&[("linger.ms", "500")]);
    for (batch, count) in [("good", 4), ("bad", 4), ("fine", 2), ("worse", 8), ("well", 4)] {
        batched.send((0..count).map(|number| Outgoing::to(0, booking(&format!("{batch}-{number}"), "1")))).await;
    }
    kafka.stop();
    damage(&kafka.segment(&scene.topic.name, 0), "bad-2");
    damage(&kafka.segment(&scene.topic.name, 0), "worse-5");
    kafka.start();
    let service = scene.run();
    wait_for_halt(&service, 0, "log_corrupt", 4, 8);
    scene.command("offsets resume --partition 0 --at 8");
    wait_for_halt(&service, 0, "log_corrupt", 10, 18);
    scene.command("offsets resume --partition 0 --at 18");
    scene.audit().wait_until_read(PATIENCE).await;
    assert_eq!(scene.stored().await.len(), 4 + 2 + 4);
}
