//! `run --until-end`, and a second run over the topic into other tables, as docs/operate/replay.md describes it.

mod other_tables;

use std::time::{Duration, Instant};

use testbed::kafka::kafka;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

/// Runs until the ends of the topic log, and must succeed.
fn run_until_end(scene: &Scene) {
    let (code, lines) = scene.finish("run --until-end");
    assert_eq!(code, 0, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("end_reached")), "{lines:#?}");
}

#[tokio::test]
async fn it_waits_for_a_topic_and_ends_at_once_if_there_is_nothing_to_read() {
    let scene = Scene::of(Topic::named(kafka(), &unique("bookings"))).await;
    let service = scene.start_command("run --until-end");
    service.wait_for_event("topic_missing");
    scene.topic.create_again(2, &[]).await;
    assert_eq!(service.wait_exit(), 0, "{:#?}", service.lines());
    assert_eq!(scene.audit().rows().await.len(), 2);
    // A second run, with nothing left to read.
    run_until_end(&scene);
}

#[tokio::test]
async fn markers_aborted_records_and_an_open_transaction_do_not_delay_the_end() {
    let scene = Scene::new(2).await;
    let record = |id: &str, partition| Outgoing::to(partition, booking(id, "1"));
    let producer = scene.topic.transactional_producer();
    for (ids, keep) in [(["committed-0", "committed-1"], true), (["aborted-0", "aborted-1"], false)] {
        producer.begin();
        producer.send([record(ids[0], 0), record(ids[1], 1)]).await;
        if keep { producer.commit() } else { producer.abort() }
    }
    let open = scene.topic.transactional_producer();
    open.begin();
    open.send([record("open", 1)]).await;
    scene.send([record("behind the open one", 1), record("free", 0)]).await;
    run_until_end(&scene);
    assert_eq!(scene.booking_ids().await, ["committed-0", "committed-1", "free"]);
    open.commit();
    run_until_end(&scene);
    assert_eq!(scene.booking_ids().await, ["behind the open one", "committed-0", "committed-1", "free", "open"]);
}

#[tokio::test]
async fn records_that_come_after_the_start_are_not_waited_for_and_a_signal_ends_it_sooner() {
    let scene = Scene::new(1).await;
    scene.send(Workload::bookings("first", 100, 1).records).await;
    // A lock delays the first run, so that it cannot end before the later records exist.
    let lock = scene.hold("lock table booking_history in share mode").await;
    let service = scene.start_command("run --until-end");
    service.wait_for_event_with("end_seen", &[("end", "100")]);
    scene.send(Workload::bookings("later", 100, 1).records).await;
    service.sigterm();
    drop(lock);
    assert_eq!(service.wait_exit(), 0, "{:#?}", service.lines());
    assert!(service.events("end_reached").is_empty(), "{:#?}", service.lines());

    let service = scene.start_command("run --until-end");
    service.wait_for_event_with("end_seen", &[("end", "200")]);
    assert_eq!(service.wait_exit(), 0, "{:#?}", service.lines());
    assert_eq!(scene.booking_ids().await.len(), 200);
}

#[tokio::test]
async fn instances_that_share_the_work_end_together() {
    let scene = Scene::new(2).await;
    let workload = Workload::mixed("shared", 2_000, 2);
    scene.send(&workload.records).await;
    // There are more instances than partitions, so one has nothing to do.
    let services: Vec<Service> = (0..3).map(|_| scene.start_command("run --until-end")).collect();
    for service in services {
        let (code, lines) = service.finished();
        assert_eq!(code, 0, "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("end_reached")), "{lines:#?}");
    }
    scene.audit().assert_exact(&workload.expected).await;
}

#[tokio::test]
async fn a_halted_partition_ends_it_with_69_once_the_others_are_done() {
    let scene = Scene::new(2).await.with("BREAKER_CONSECUTIVE", "2");
    let poison = (0..5).map(|number| Outgoing::to(1, format!("poison {number}")));
    scene.send(poison).await;
    scene.send((0..50).map(|n| Outgoing::to(0, booking(&format!("good-{n}"), "1")))).await;
    let (code, lines) = scene.finish("run --until-end");
    assert_eq!(code, 69, "{lines:#?}");
    let last = lines.last().unwrap();
    for words in ["partition 1 (too_many_dead_letters)", "offsets resume"] {
        assert!(last.contains(words), "{words:?} is not in {last}");
    }
    assert!(!last.contains("partition 0"), "{last}");
    assert_eq!(scene.booking_ids().await.len(), 50);
}

#[tokio::test]
async fn a_position_that_the_log_does_not_have_is_no_end() {
    let scene = Scene::new(1).await;
    scene.send(Workload::bookings("first", 10, 1).records).await;
    run_until_end(&scene);
    scene.execute("update consumer_offsets set next_offset = 999, counted_from = 999").await;
    let service = scene.start_command("run --until-end");
    service.wait_for_event("end_seen");
    // It would end within a second or two. It may also end because the partition is halted.
    let (patience, began) = (Duration::from_secs(4), Instant::now());
    let ended = |running: &bool| !running || began.elapsed() > patience;
    if !eventually(PATIENCE, ended, async || service.is_running()).await {
        assert_eq!(service.wait_exit(), 69, "{:#?}", service.lines());
    }
    assert!(service.events("end_reached").is_empty(), "{:#?}", service.lines());
}
