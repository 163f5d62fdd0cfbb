//! Another log under the same name, or the same log cut off.

use std::collections::BTreeSet;

use super::{Scene, stop, wait_for_halt};
use testbed::kafka::{Kafka, kafka};
use testbed::service::Service;
use testbed::topic::{Outgoing, Topic};
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

/// Bookings of a partition, by number.
fn bookings(numbers: std::ops::Range<usize>) -> Vec<Outgoing> {
    numbers.map(|number| Outgoing::to(0, booking(&format!("b-{number:04}"), "9"))).collect()
}

fn ids(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("b-{number:04}")).collect()
}

impl Scene {
    async fn send_bookings(&self, numbers: std::ops::Range<usize>) {
        self.topic.producer(&[]).send(bookings(numbers)).await;
    }

    /// The topic is another one, with these bookings.
    async fn recreate(&self, numbers: std::ops::Range<usize>) {
        self.topic.delete().await;
        self.topic.create_again(1, &[]).await;
        self.send_bookings(numbers).await;
    }

    /// The partition is halted for a log that was replaced, with a gap that ends where it stands.
    async fn assert_replaced(&self, next: i64) {
        assert_eq!(self.audit().wait_until_halted(0, PATIENCE).await, "log_replaced");
        assert_eq!(self.next(0).await, next);
        let gaps = self.audit().gaps().await;
        let [(0, from, to, reason, false)] = gaps.as_slice() else { panic!("{gaps:?}") };
        assert_eq!((reason.as_str(), *to), ("log_replaced", next));
        assert!((0..=next).contains(from), "{gaps:?}");
    }

    /// After `offsets resume --at earliest` all of the new log is there, and nothing is there twice.
    async fn resume_at_earliest(&self, expected: Vec<String>) {
        let (code, lines) = Service::finish("offsets resume --partition 0", &self.settings, PATIENCE);
        assert_ne!(code, 0, "where to go on has to be said: {lines:#?}");
        self.command("offsets resume --partition 0 --at earliest");
        self.audit().wait_until_read(PATIENCE).await;
        assert_eq!(self.stored().await, expected);
        assert!(self.audit().gaps().await.iter().all(|(.., acknowledged)| *acknowledged));
    }
}

#[tokio::test]
async fn a_topic_recreated_while_stopped_halts_whether_it_is_shorter_or_longer() {
    for recreated in [80..90, 80..300] {
        let scene = Scene::new(kafka(), 1, &[]).await;
        let service = scene.run();
        scene.send_bookings(0..100).await;
        scene.audit().wait_until_read(PATIENCE).await;
        stop(&service);
        scene.recreate(recreated.clone()).await;
        let service = scene.run();
        scene.assert_replaced(100).await;
        stop(&service);
        let service = scene.run();
        service.wait_for_line(|line| line.contains("partition_halted"), PATIENCE);
        scene.assert_replaced(100).await;
        scene.resume_at_earliest(ids(0..recreated.end.max(100))).await;
        stop(&service);
    }
}

#[tokio::test]
async fn a_topic_recreated_under_a_running_service_halts_whether_it_is_shorter_or_longer() {
    for (recreated, protocol) in [(80..90, "classic"), (80..3_000, "classic"), (80..3_000, "consumer")] {
        let properties = format!("group.protocol={protocol},topic.metadata.refresh.interval.ms=3000");
        let more = [("KAFKA_PROPERTIES", properties.as_str()), ("TOPIC_CHECK_INTERVAL", "500ms")];
        let scene = Scene::new(kafka(), 1, &more).await;
        let _service = scene.run();
        scene.send_bookings(0..100).await;
        scene.audit().wait_until_read(PATIENCE).await;
        scene.recreate(recreated.clone()).await;
        assert_eq!(scene.audit().wait_until_halted(0, PATIENCE).await, "log_replaced");
        // It may have slid onto the new log before anybody could tell; what it stored then is in the gap.
        let next = scene.next(0).await;
        scene.assert_replaced(next).await;
        let gap = scene.audit().gaps().await[0].clone();
        assert!(gap.1 <= 100, "all that came after the last good check is in doubt: {gap:?}");
        scene.resume_at_earliest(ids(0..recreated.end.max(100))).await;
    }
}

#[tokio::test]
async fn another_cluster_behind_the_same_name_halts() {
    let (first, second) = (Kafka::start_new(), Kafka::start_new());
    let scene = Scene::new(&first, 1, &[]).await;
    let service = scene.run();
    scene.send_bookings(0..100).await;
    scene.audit().wait_until_read(PATIENCE).await;
    stop(&service);
    // The very same records at the same offsets, and some more.
    let topic = Topic::create_as(&second, &scene.topic.name, 1, &[]).await;
    topic.producer(&[]).send(bookings(0..120)).await;
    let mut elsewhere = Scene { topic, ..scene };
    for (name, value) in &mut elsewhere.settings {
        if name == "KAFKA_BOOTSTRAP_SERVERS" {
            *value = second.address();
        }
    }
    let _service = elsewhere.run();
    elsewhere.assert_replaced(100).await;
    elsewhere.resume_at_earliest(ids(0..120)).await;
    let totals = elsewhere.audit().rows().await[&0].totals;
    assert_eq!((totals.stored, totals.duplicates), (20, 100));
}

#[tokio::test]
async fn another_cluster_at_the_same_address_under_a_running_service_halts() {
    let kafka = Kafka::start_new();
    let properties = "topic.metadata.refresh.interval.ms=1000,reconnect.backoff.max.ms=500";
    let more = [("KAFKA_PROPERTIES", properties), ("TOPIC_CHECK_INTERVAL", "500ms")];
    let scene = Scene::new(&kafka, 1, &more).await;
    let _service = scene.run();
    scene.send_bookings(0..100).await;
    scene.audit().wait_until_read(PATIENCE).await;
    kafka.stop();
    kafka.replace();
    kafka.start();
    scene.topic.create_again(1, &[]).await;
    scene.send_bookings(80..300).await;
    assert_eq!(scene.audit().wait_until_halted(0, 2 * PATIENCE).await, "log_replaced");
    let next = scene.next(0).await;
    scene.assert_replaced(next).await;
    scene.resume_at_earliest(ids(0..300)).await;
}

#[tokio::test]
async fn a_log_cut_off_below_the_position_halts_while_stopped_and_while_running() {
    for running in [false, true] {
        let kafka = Kafka::start_new();
        let scene = Scene::new(&kafka, 1, &[]).await;
        let service = scene.run();
        scene.send_bookings(0..60).await;
        scene.audit().wait_until_read(PATIENCE).await;
        kafka.stop();
        kafka.save();
        kafka.start();
        scene.send_bookings(60..100).await;
        scene.audit().wait_until_read(PATIENCE).await;
        if !running {
            stop(&service);
        }
        kafka.stop();
        kafka.restore();
        kafka.start();
        let again = (!running).then(|| scene.run());
        let service = again.as_ref().unwrap_or(&service);
        wait_for_halt(service, 0, "log_truncated", 60, 100);
        assert_eq!(scene.audit().wait_until_halted(0, PATIENCE).await, "log_truncated");
        assert_eq!(scene.audit().gaps().await, [(0, 60, 100, "log_truncated".to_owned(), false)]);
        // What comes at the old offsets now is something else.
        scene.send_bookings(100..130).await;
        scene.resume_at_earliest(ids(0..130)).await;
        let totals = scene.audit().rows().await[&0].totals;
        assert_eq!((totals.stored, totals.duplicates), (30, 60), "running: {running}");
        if running {
            // Its client takes the restored brokers for outdated, and would never have heard of a record again.
            service.wait_for_line(|line| line.contains("consumer_deaf"), PATIENCE);
        }
    }
}

#[tokio::test]
async fn another_record_at_the_last_offset_halts_where_the_topic_id_is_the_same() {
    let kafka = Kafka::start_new();
    let scene = Scene::new(&kafka, 1, &[]).await;
    let service = scene.run();
    scene.send_bookings(0..60).await;
    scene.audit().wait_until_read(PATIENCE).await;
    kafka.stop();
    kafka.save();
    kafka.start();
    scene.send_bookings(60..100).await;
    scene.audit().wait_until_read(PATIENCE).await;
    stop(&service);
    kafka.stop();
    kafka.restore();
    kafka.start();
    scene.send_bookings(100..200).await;
    let _service = scene.run();
    scene.assert_replaced(100).await;
    let from = scene.audit().gaps().await[0].1;
    assert!(from < 100, "at least the record that was recognised as another one is in doubt: {from}");
    scene.resume_at_earliest(ids(0..200)).await;
}

#[tokio::test]
async fn a_log_cut_off_and_grown_again_under_a_running_service_halts() {
    let kafka = Kafka::start_new();
    let scene = Scene::new(&kafka, 1, &[]).await;
    let service = scene.run();
    scene.send_bookings(0..60).await;
    scene.audit().wait_until_read(PATIENCE).await;
    kafka.stop();
    kafka.save();
    kafka.start();
    scene.send_bookings(60..100).await;
    scene.audit().wait_until_read(PATIENCE).await;
    // It is frozen while the log gets another past: it sees the same topic, which is longer than before.
    service.sigstop();
    kafka.stop();
    kafka.restore();
    kafka.start();
    scene.send_bookings(100..200).await;
    service.sigcont();
    assert_eq!(scene.audit().wait_until_halted(0, PATIENCE).await, "log_replaced");
    scene.resume_at_earliest(ids(0..200)).await;
}

#[tokio::test]
async fn the_digest_alone_tells_where_nobody_knows_the_topic_id() {
    let scene = Scene::new(kafka(), 1, &[]).await;
    let service = scene.run();
    scene.send_bookings(0..100).await;
    scene.audit().wait_until_read(PATIENCE).await;
    stop(&service);
    scene.audit().execute("update consumer_offsets set topic_id = null, checked_offset = null").await;
    scene.recreate(80..300).await;
    let _service = scene.run();
    scene.assert_replaced(100).await;
    assert_eq!(scene.audit().gaps().await[0].1, 0, "nothing was ever checked");
    scene.resume_at_earliest(ids(0..300)).await;
}

#[tokio::test]
async fn a_record_where_there_was_none_halts() {
    let scene = Scene::new(kafka(), 1, &[]).await;
    let service = scene.run();
    scene.send_bookings(0..10).await;
    scene.audit().wait_until_read(PATIENCE).await;
    stop(&service);
    // As if markers had been there, and the log had lost them with whoever led it.
    scene.audit().execute("update consumer_offsets set next_offset = 15, last_next_offset = 15").await;
    scene.send_bookings(10..30).await;
    let _service = scene.run();
    scene.assert_replaced(15).await;
    scene.resume_at_earliest(ids(0..30)).await;
}

#[tokio::test]
async fn one_partition_of_a_replaced_topic_after_the_other_is_resumed() {
    let scene = Scene::new(kafka(), 3, &[]).await;
    let service = scene.run();
    let before = scene.handle("before", 90).await;
    stop(&service);
    scene.topic.delete().await;
    scene.topic.create_again(3, &[]).await;
    let after = Workload::bookings("after", 300, 3);
    scene.send(&after).await;
    let _service = scene.run();
    let audit = scene.audit();
    for partition in 0..3 {
        assert_eq!(audit.wait_until_halted(partition, PATIENCE).await, "log_replaced");
    }
    assert_eq!(audit.gaps().await.len(), 3);
    scene.command("offsets resume --partition 1 --at earliest");
    eventually(PATIENCE, |at| *at == 100, async || scene.next(1).await).await;
    let halted = audit.rows().await.values().filter(|row| row.halt_reason.is_some()).count();
    assert_eq!(halted, 2, "the others wait");
    scene.command("offsets resume --all --at earliest");
    audit.wait_until_read(PATIENCE).await;
    let expected: BTreeSet<String> = before.expected.booking_ids.union(&after.expected.booking_ids).cloned().collect();
    assert_eq!(scene.stored().await, expected.into_iter().collect::<Vec<_>>());
}
