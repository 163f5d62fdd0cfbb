//! A byte of the topic log that is not what was written.

use super::wait_for_halt;
use testbed::kafka::Kafka;
use testbed::postgres::postgres;
use testbed::scene::Scene;
use testbed::topic::Outgoing;
use testbed::workload::booking;

#[tokio::test]
async fn damage_in_records_that_were_read_before_halts_nothing() {
    let kafka = Kafka::start_new();
    let scene = Scene::on(&kafka, postgres(), 2).await;
    let service = scene.start();
    let producer = scene.topic.producer(&[]);
    for partition in 0..2 {
        producer.send([Outgoing::to(partition, booking(&format!("last-{partition}"), "1"))]).await;
    }
    scene.wait_until_read().await;
    service.stop();
    producer.send([Outgoing::to(0, booking("next-0", "1")), Outgoing::to(1, booking("next-1", "1"))]).await;
    kafka.stop();
    // The damaged record is the last one that was handled, with which the service compares the log.
    kafka.damage(&scene.topic.name, 0, "last-0");
    kafka.start();
    let _service = scene.start();
    scene.wait_until_read().await;
    assert_eq!(scene.booking_ids().await, ["last-0", "last-1", "next-0", "next-1"]);
    assert_eq!(scene.audit().gaps().await, []);
}

#[tokio::test]
async fn a_batch_that_fails_its_checksum_halts_its_partition_alone_until_an_operator_resumes_it_behind_the_batch() {
    let kafka = Kafka::start_new();
    // Partition 0 gets a batch for each record, partition 1 a batch for four records, the others nothing.
    let scene = Scene::on(&kafka, postgres(), 4).await;
    let service = scene.start();
    scene.send_and_handle("before", 40).await;
    service.stop();
    let producer = scene.topic.producer(&[]);
    for number in 0..3 {
        producer.send([Outgoing::to(0, booking(&format!("single-{number}"), "1"))]).await;
    }
    let batched = scene.topic.producer(&[("linger.ms", "500")]);
    for batch in ["good", "bad", "fine"] {
        batched.send((0..4).map(|number| Outgoing::to(1, booking(&format!("{batch}-{number}"), "1")))).await;
    }
    kafka.stop();
    kafka.damage(&scene.topic.name, 0, "single-1");
    kafka.damage(&scene.topic.name, 1, "bad-2");
    kafka.start();

    let service = scene.start();
    for partition in [0, 1] {
        assert_eq!(scene.wait_until_halted(partition).await, "log_corrupt");
    }
    wait_for_halt(&service, 0, "log_corrupt", 11, 12);
    wait_for_halt(&service, 1, "log_corrupt", 14, 18);
    for (partition, position) in [("0", "11"), ("1", "14")] {
        let expected =
            [("topic", &*scene.topic.name), ("partition", partition), ("position", position), ("times", "3")];
        let line = service.wait_for_event_with("fetch_failed_again", &expected);
        assert!(line.field("error").contains("BadMessage"), "{line:?}");
    }
    let starts = service.events("partition_started");
    let started = |partition| starts.iter().filter(|line| line.field("partition") == partition).count();
    assert_eq!([started("2"), started("3")], [1, 1], "no other partition is restarted: {starts:?}");
    let mut gaps = scene.audit().gaps().await;
    gaps.sort();
    let gap = |partition, from, to| (partition, from, to, "log_corrupt".to_owned(), false);
    assert_eq!(gaps, [gap(0, 11, 12), gap(1, 14, 18)], "the gap is exactly what cannot be read");
    // The other partitions continue, also one that had nothing to read.
    scene.send([Outgoing::to(3, booking("healthy", "1"))]).await;
    scene.wait_until_at(3, 11).await;
    assert!(scene.audit().rows().await.values().filter(|row| row.halt_reason.is_some()).count() == 2);

    scene.command("offsets resume --partition 0 --at 12");
    scene.command("offsets resume --partition 1 --at 18");
    scene.wait_until_read().await;
    let stored = scene.booking_ids().await;
    let there = |id: &str| stored.binary_search(&id.to_owned()).is_ok();
    assert_eq!(stored.len(), 40 + 2 + 8 + 1);
    assert!(there("single-0") && there("single-2") && there("good-3") && there("fine-0"));
    assert!(!there("single-1") && !there("bad-0"), "no damaged record becomes a row");
}

#[tokio::test]
async fn damage_in_some_of_many_partitions_does_not_delay_those_that_have_nothing_to_read() {
    let kafka = Kafka::start_new();
    let scene = Scene::on(&kafka, postgres(), 40).await;
    let service = scene.start();
    scene.send_and_handle("before", 40).await;
    let producer = scene.topic.producer(&[]);
    for damaged in 0..3 {
        for what in ["damaged", "behind"] {
            producer.send([Outgoing::to(damaged, booking(&format!("{what}-{damaged}"), "1"))]).await;
        }
    }
    scene.wait_until_read().await;
    kafka.stop();
    for partition in 0..3 {
        kafka.damage(&scene.topic.name, partition, &format!("damaged-{partition}"));
    }
    kafka.start();
    scene.execute("update consumer_offsets set next_offset = 1 where partition < 3").await;
    // Each time all partitions are checked again: a wait for each of them would add up.
    for partition in 0..3 {
        wait_for_halt(&service, partition, "log_corrupt", 1, 2);
    }
    scene.send([Outgoing::to(39, booking("healthy", "1"))]).await;
    scene.wait_until_at(39, 2).await;
    assert_eq!(scene.audit().gaps().await.len(), 3);
}

#[tokio::test]
async fn records_between_two_damaged_batches_are_no_part_of_the_gap() {
    let kafka = Kafka::start_new();
    let scene = Scene::on(&kafka, postgres(), 1).await;
    let batched = scene.topic.producer(&[("linger.ms", "500")]);
    for (batch, count) in [("good", 4), ("bad", 4), ("fine", 2), ("worse", 8), ("well", 4)] {
        batched.send((0..count).map(|number| Outgoing::to(0, booking(&format!("{batch}-{number}"), "1")))).await;
    }
    kafka.stop();
    kafka.damage(&scene.topic.name, 0, "bad-2");
    kafka.damage(&scene.topic.name, 0, "worse-5");
    kafka.start();
    let service = scene.start();
    wait_for_halt(&service, 0, "log_corrupt", 4, 8);
    scene.command("offsets resume --partition 0 --at 8");
    wait_for_halt(&service, 0, "log_corrupt", 10, 18);
    scene.command("offsets resume --partition 0 --at 18");
    scene.wait_until_read().await;
    assert_eq!(scene.booking_ids().await.len(), 4 + 2 + 4);
}
