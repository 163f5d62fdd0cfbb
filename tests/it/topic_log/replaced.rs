//! Another topic log under the same name, or the same one cut off.

use std::collections::BTreeSet;
use std::ops::Range;

use super::wait_for_halt;
use testbed::kafka::{Kafka, is_before_4, supports};
use testbed::postgres::postgres;
use testbed::scene::Scene;
use testbed::topic::{Outgoing, Topic};
use testbed::workload::{Workload, booking};

/// Bookings of a partition, by number.
pub(super) fn bookings(numbers: Range<usize>) -> Vec<Outgoing> {
    numbers.map(|number| Outgoing::to(0, booking(&format!("b-{number:04}"), "9"))).collect()
}

pub(super) fn ids(numbers: Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("b-{number:04}")).collect()
}

/// Makes the topic a new one with these bookings.
async fn recreate(scene: &Scene, numbers: Range<usize>) {
    scene.topic.delete().await;
    scene.topic.create_again(1, &[]).await;
    scene.send(bookings(numbers)).await;
}

/// Keeps a copy of the broker's data. After [`restore`], the records that came between the two are lost.
fn save(kafka: &Kafka) {
    kafka.stop();
    kafka.save();
    kafka.start();
}

fn restore(kafka: &Kafka) {
    kafka.stop();
    kafka.restore();
    kafka.start();
}

/// The service reads 60 bookings, and 40 that are lost by a [`restore`].
async fn read_more_than_is_saved(scene: &Scene, kafka: &Kafka) {
    scene.send(bookings(0..60)).await;
    scene.wait_until_read().await;
    save(kafka);
    scene.send(bookings(60..100)).await;
    scene.wait_until_read().await;
}

/// The partition is halted because its log was replaced, and the gap ends at its position.
async fn assert_replaced(scene: &Scene, next_offset: i64) {
    assert_eq!(scene.wait_until_halted(0).await, "log_replaced");
    assert_eq!(scene.row(0).await.next_offset, next_offset);
    let gaps = scene.audit().gaps().await;
    let [(0, from, to, reason, false)] = gaps.as_slice() else { panic!("{gaps:?}") };
    assert_eq!((reason.as_str(), *to), ("log_replaced", next_offset));
    assert!((0..=next_offset).contains(from), "{gaps:?}");
}

/// After `offsets resume --at earliest` the tables hold these bookings, each once.
async fn resume_at_earliest(scene: &Scene, expected: Vec<String>) {
    let (code, lines) = scene.finish("offsets resume --partition 0");
    assert_ne!(code, 0, "the operator has to say where to continue: {lines:#?}");
    scene.command("offsets resume --partition 0 --at earliest");
    scene.wait_until_read().await;
    assert_eq!(scene.booking_ids().await, expected);
    assert!(scene.audit().gaps().await.iter().all(|(.., acknowledged)| *acknowledged));
}

#[tokio::test]
async fn a_topic_recreated_while_stopped_halts_whether_it_is_shorter_or_longer() {
    for recreated in [80..90, 80..300] {
        let scene = Scene::new(1).await;
        let service = scene.start();
        scene.send(bookings(0..100)).await;
        scene.wait_until_read().await;
        service.stop();
        recreate(&scene, recreated.clone()).await;
        let service = scene.start();
        assert_replaced(&scene, 100).await;
        service.stop();
        let service = scene.start();
        service.wait_for_event("partition_halted");
        assert_replaced(&scene, 100).await;
        resume_at_earliest(&scene, ids(0..recreated.end.max(100))).await;
        service.stop();
    }
}

#[tokio::test]
async fn a_topic_recreated_while_its_partition_is_halted_is_found_after_it_is_resumed() {
    let scene = Scene::new(1).await;
    let service = scene.start();
    scene.send(bookings(0..100)).await;
    scene.wait_until_read().await;
    service.stop();
    scene
        .execute(
            "update consumer_offsets set halted_at = now(), halt_reason = 'log_truncated';
             insert into offset_gaps (group_id, topic, partition, from_offset, to_offset, reason)
             select group_id, topic, partition, 60, next_offset, halt_reason from consumer_offsets",
        )
        .await;
    recreate(&scene, 200..290).await;
    let (code, lines) = scene.finish("offsets resume --partition 0");
    let text = lines.join("\n");
    assert!(code == 2 && text.contains("created again") && text.contains("--at earliest"), "{text}");
    // The begin of the gap, as it was printed before the topic was created again.
    scene.command("offsets resume --partition 0 --at 60");
    let _service = scene.start();
    assert_eq!(scene.wait_until_halted(0).await, "log_replaced");
    resume_at_earliest(&scene, [ids(0..100), ids(200..290)].concat()).await;
}

#[tokio::test]
async fn a_topic_recreated_under_a_running_service_halts_whether_it_is_shorter_or_longer() {
    for (recreated, protocol) in [(80..90, "classic"), (80..3_000, "classic"), (80..3_000, "consumer")] {
        let properties = format!("group.protocol={protocol},topic.metadata.refresh.interval.ms=3000");
        if !supports(&properties) {
            continue;
        }
        let scene = Scene::new(1).await.with("KAFKA_PROPERTIES", &properties).with("TOPIC_CHECK_INTERVAL", "500ms");
        let _service = scene.start();
        scene.send(bookings(0..100)).await;
        scene.wait_until_read().await;
        recreate(&scene, recreated.clone()).await;
        assert_eq!(scene.wait_until_halted(0).await, "log_replaced");
        // It may have read some of the new log before it noticed; the gap covers what it stored then.
        let next = scene.row(0).await.next_offset;
        assert_replaced(&scene, next).await;
        let gap = scene.audit().gaps().await[0].clone();
        assert!(gap.1 <= 100, "the gap begins at the last good check: {gap:?}");
        resume_at_earliest(&scene, ids(0..recreated.end.max(100))).await;
    }
}

#[tokio::test]
async fn another_cluster_behind_the_same_name_halts() {
    let (first, second) = (Kafka::start_new(), Kafka::start_new());
    let scene = Scene::on(&first, postgres(), 1).await;
    let service = scene.start();
    scene.send(bookings(0..100)).await;
    scene.wait_until_read().await;
    service.stop();
    // The very same records at the same offsets, and some more.
    let topic = Topic::create_as(&second, &scene.topic.name, 1, &[]).await;
    let scene = scene.with_topic(topic);
    scene.send(bookings(0..120)).await;
    let _service = scene.start();
    assert_replaced(&scene, 100).await;
    resume_at_earliest(&scene, ids(0..120)).await;
    let totals = scene.row(0).await.totals;
    assert_eq!((totals.stored, totals.duplicates), (20, 100));
}

#[tokio::test]
async fn another_cluster_at_the_same_address_under_a_running_service_halts() {
    let kafka = Kafka::start_new();
    let properties = "topic.metadata.refresh.interval.ms=1000,reconnect.backoff.max.ms=500";
    let scene = Scene::on(&kafka, postgres(), 1)
        .await
        .with("KAFKA_PROPERTIES", properties)
        .with("TOPIC_CHECK_INTERVAL", "500ms");
    let _service = scene.start();
    scene.send(bookings(0..100)).await;
    scene.wait_until_read().await;
    kafka.stop();
    kafka.replace();
    kafka.start();
    scene.topic.create_again(1, &[]).await;
    scene.send(bookings(80..300)).await;
    assert_eq!(scene.wait_until_halted(0).await, "log_replaced");
    let next = scene.row(0).await.next_offset;
    assert_replaced(&scene, next).await;
    resume_at_earliest(&scene, ids(0..300)).await;
}

#[tokio::test]
async fn a_log_cut_off_below_the_position_halts_while_stopped_and_while_running() {
    for running in [false, true] {
        let kafka = Kafka::start_new();
        let scene = Scene::on(&kafka, postgres(), 1).await;
        let service = scene.start();
        read_more_than_is_saved(&scene, &kafka).await;
        if !running {
            service.stop();
        }
        restore(&kafka);
        let again = (!running).then(|| scene.start());
        let service = again.as_ref().unwrap_or(&service);
        // The restored broker gives its leader epochs the same numbers again, so they do not prove that the log has the
        // same records up to its end: it could have grown after the restore.
        wait_for_halt(service, 0, "log_truncated", 0, 100);
        assert_eq!(scene.wait_until_halted(0).await, "log_truncated");
        assert_eq!(scene.audit().gaps().await, [(0, 0, 100, "log_truncated".to_owned(), false)]);
        // Other records take the old offsets.
        scene.send(bookings(100..130)).await;
        resume_at_earliest(&scene, ids(0..130)).await;
        let totals = scene.row(0).await.totals;
        assert_eq!((totals.stored, totals.duplicates), (30, 60), "running: {running}");
        if running && !is_before_4() {
            // The restored broker has a lower leader epoch: its client takes it for outdated, and would never receive a
            // record again. Before Kafka 4, each start of a broker raises the epoch.
            service.wait_for_event("fetch_stalled");
        }
    }
}

#[tokio::test]
async fn another_record_at_the_last_offset_halts_where_the_topic_id_is_the_same() {
    let kafka = Kafka::start_new();
    let scene = Scene::on(&kafka, postgres(), 1).await;
    let service = scene.start();
    read_more_than_is_saved(&scene, &kafka).await;
    service.stop();
    restore(&kafka);
    scene.send(bookings(100..200)).await;
    let _service = scene.start();
    assert_replaced(&scene, 100).await;
    let from = scene.audit().gaps().await[0].1;
    assert!(from < 100, "the gap holds at least the record that differs: {from}");
    resume_at_earliest(&scene, ids(0..200)).await;
}

#[tokio::test]
async fn a_log_cut_off_and_grown_again_under_a_running_service_halts() {
    let kafka = Kafka::start_new();
    let scene = Scene::on(&kafka, postgres(), 1).await;
    let service = scene.start();
    read_more_than_is_saved(&scene, &kafka).await;
    // While it is frozen, the log gets another history. Then it sees the same topic, longer than before.
    service.sigstop();
    restore(&kafka);
    scene.send(bookings(100..200)).await;
    service.sigcont();
    assert_eq!(scene.wait_until_halted(0).await, "log_replaced");
    resume_at_earliest(&scene, ids(0..200)).await;
}

#[tokio::test]
async fn a_replaced_log_is_noticed_by_its_digest_where_the_topic_id_is_not_known() {
    let scene = Scene::new(1).await;
    let service = scene.start();
    scene.send(bookings(0..100)).await;
    scene.wait_until_read().await;
    service.stop();
    scene.execute("update consumer_offsets set topic_id = null, checked_offset = null").await;
    recreate(&scene, 80..300).await;
    let _service = scene.start();
    assert_replaced(&scene, 100).await;
    assert_eq!(scene.audit().gaps().await[0].1, 0, "no check was ever made");
    resume_at_earliest(&scene, ids(0..300)).await;
}

#[tokio::test]
async fn a_record_where_there_was_none_halts() {
    let scene = Scene::new(1).await;
    let service = scene.start();
    scene.send(bookings(0..10)).await;
    scene.wait_until_read().await;
    service.stop();
    // As if markers had taken these offsets, and a new leader did not have them.
    scene.execute("update consumer_offsets set next_offset = 15, last_next_offset = 15").await;
    scene.send(bookings(10..30)).await;
    let _service = scene.start();
    assert_replaced(&scene, 15).await;
    resume_at_earliest(&scene, ids(0..30)).await;
}

#[tokio::test]
async fn one_partition_of_a_replaced_topic_after_the_other_is_resumed() {
    let scene = Scene::new(3).await;
    let service = scene.start();
    let before = scene.send_and_handle("before", 90).await;
    service.stop();
    scene.topic.delete().await;
    scene.topic.create_again(3, &[]).await;
    let after = Workload::bookings("after", 300, 3);
    scene.send(&after.records).await;
    let _service = scene.start();
    for partition in 0..3 {
        assert_eq!(scene.wait_until_halted(partition).await, "log_replaced");
    }
    assert_eq!(scene.audit().gaps().await.len(), 3);
    scene.command("offsets resume --partition 1 --at earliest");
    scene.wait_until_at(1, 100).await;
    let halted = scene.audit().rows().await.values().filter(|row| row.halt_reason.is_some()).count();
    assert_eq!(halted, 2, "the others stay halted");
    scene.command("offsets resume --all --at earliest");
    scene.wait_until_read().await;
    let expected: BTreeSet<String> = before.expected.booking_ids.union(&after.expected.booking_ids).cloned().collect();
    assert_eq!(scene.booking_ids().await, expected.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_topic_id_that_the_row_lacks_is_stored_while_the_partition_is_idle() {
    let scene = Scene::new(2).await;
    let _service = scene.start();
    scene.wait_until_claimed(2).await;
    let known = "select count(topic_id)::text from consumer_offsets";
    scene.wait_until_lines(known, &["2"]).await;
    scene.execute("update consumer_offsets set topic_id = null where partition = 1").await;
    scene.wait_until_lines(known, &["2"]).await;
}
