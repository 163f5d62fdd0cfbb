//! A batch that is larger than the client accepts. It is not damaged, so none of its records is lost.

use super::wait_for_halt;
use testbed::kafka::kafka;
use testbed::scene::Scene;
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::PATIENCE;
use testbed::workload::booking;

/// Properties with which the producer makes one batch of all records.
const ONE_BATCH: [(&str, &str); 4] = [
    ("message.max.bytes", "200000000"),
    ("batch.size", "200000000"),
    ("queue.buffering.max.kbytes", "400000"),
    ("linger.ms", "2000"),
];

/// A booking of this number of bytes and a few more: blanks are valid JSON.
fn padded(id: &str, bytes: usize) -> String {
    format!("{}{}", " ".repeat(bytes), booking(id, "1"))
}

#[tokio::test]
async fn a_batch_that_becomes_large_when_it_is_decompressed_is_stored() {
    let scene = Scene::new(1).await;
    let service = scene.start();
    let producer = scene.topic.producer(&[&ONE_BATCH[..], &[("compression.type", "zstd")]].concat());
    producer.send((10..40).map(|number| Outgoing::to(0, padded(&format!("padded-{number}"), 4_000_000)))).await;
    scene.wait_until_read().await;
    assert_eq!(scene.booking_ids().await.len(), 30);
    assert_eq!(service.events("unclassified_kafka_error"), []);
    service.stop();
    assert_eq!(scene.finish("verify").0, 0);
}

#[tokio::test]
async fn a_batch_above_the_limit_of_the_user_halts_its_partition_and_no_record_is_lost() {
    const LIMITS: &str = "fetch.max.bytes=1000000,receive.message.max.bytes=1500000";
    let topic = Topic::create_as(kafka(), &unique("large"), 3, &[("max.message.bytes", "5000000")]).await;
    let scene = Scene::of(topic).await.with_http();
    let limited = scene.clone().with("KAFKA_PROPERTIES", LIMITS);
    let service = limited.start();
    scene.send((0..3).map(|partition| Outgoing::to(partition, booking(&format!("before-{partition}"), "1")))).await;
    scene.wait_until_read().await;

    let compressed = scene.topic.producer(&[&ONE_BATCH[..], &[("compression.type", "zstd")]].concat());
    compressed.send((0..2).map(|number| Outgoing::to(0, padded(&format!("compressed-{number}"), 2_000_000)))).await;
    wait_for_halt(&service, 0, "batch_too_large", 1, 1);
    let plain = scene.topic.producer(&ONE_BATCH);
    plain.send([Outgoing::to(1, padded("plain", 2_000_000))]).await;
    // librdkafka does not repeat the error of a connection for a while.
    scene.audit().wait_until_halted(1, 4 * PATIENCE).await;
    wait_for_halt(&service, 1, "batch_too_large", 1, 1);
    let line = service.wait_for_event_with("partition_halted", &[("partition", "1")]);
    assert!(line.field("hint").contains("receive.message.max.bytes"), "{line:?}");
    let ready = service.get("/readyz").body;
    assert!(ready.contains(&format!("partition 1 of {} is halted: batch_too_large", scene.topic.name)), "{ready}");
    scene.send([Outgoing::to(2, booking("after", "1"))]).await;
    scene.wait_until_at(2, 2).await;
    service.stop();

    // An older program does not know the reason.
    scene.command("migrate down 3 --yes");
    let older = "select distinct reason || ' ' || halt_reason from offset_gaps natural join consumer_offsets";
    assert_eq!(scene.lines(older).await, ["log_corrupt log_corrupt"]);
    scene.migrate();
    scene.execute("update consumer_offsets set halt_reason = 'batch_too_large' where halted_at is not null").await;

    // The position was chosen before, so no argument chooses one.
    limited.command("offsets resume --all");
    let service = scene.start();
    scene.wait_until_read().await;
    let stored = ["after", "before-0", "before-1", "before-2", "compressed-0", "compressed-1", "plain"];
    assert_eq!(scene.booking_ids().await, stored);
    service.stop();
    assert_eq!(scene.finish("verify").0, 0);
    for partition in ["0", "1"] {
        let (code, lines) = limited.finish(&format!("verify --partition {partition}"));
        let says = lines.iter().any(|line| line.contains("receive.message.max.bytes"));
        assert_eq!((code, says), (69, true), "{lines:#?}");
    }
}
