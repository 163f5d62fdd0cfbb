//! Servers that are away, slow or damaged: `verify` says that it did not compare everything.

use std::time::Duration;

use super::{read_all, scene, verify};
use testbed::kafka::Kafka;
use testbed::postgres::{database, postgres};
use testbed::scene::Scene;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::booking;

/// Longer than a verification waits for anything.
const LIMIT: Duration = Duration::from_mins(2);

/// Ten stored bookings and a position beyond them: `verify` waits for the missing records while its snapshot is open.
async fn ten_of(next_offset: i64) -> Scene {
    let scene = scene(1).await.with("DATABASE_TIMEOUT", "1s");
    let ten: Vec<String> = (0..10).map(|n| booking(&format!("a-{n}"), "1")).collect();
    scene.send_values(&ten).await;
    read_all(&scene).await;
    scene.execute(&format!("update consumer_offsets set next_offset = {next_offset}, stored = {next_offset}")).await;
    scene
}

/// Waits until its snapshot has been idle for longer than the service lets a transaction be.
async fn wait_until_it_waits(scene: &Scene) {
    let idle = "select count(*)::text from pg_stat_activity where datname = current_database()
                and state = 'idle in transaction' and now() - state_change > interval '3 s'";
    eventually(PATIENCE, |idle: &Vec<String>| *idle != ["0"], async || scene.lines(idle).await).await;
}

#[tokio::test]
async fn a_snapshot_outlives_the_limits_of_the_service() {
    let scene = ten_of(12).await;
    let running = scene.start_command("verify --output json");
    wait_until_it_waits(&scene).await;
    scene.send_values(&[booking("new", "1"), "poison".to_owned()]).await;
    let (code, lines) = running.finished_within(LIMIT);
    assert_eq!((code, lines.len()), (1, 4), "two findings, the sums and the error: {lines:#?}");
    assert!(
        lines[0].contains(r#""offset":10,"booking_id":"new""#) && lines[1].contains(r#""offset":11"#),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn records_that_are_removed_while_they_are_read_are_reported() {
    let scene = ten_of(15).await;
    let running = scene.start_command("verify");
    wait_until_it_waits(&scene).await;
    running.sigstop();
    tokio::time::sleep(Duration::from_secs(1)).await; // a fetch may be on its way, for a tenth of that
    scene.send_values(&(0..5).map(|n| booking(&format!("b-{n}"), "1")).collect::<Vec<_>>()).await;
    scene.topic.delete_records(0, 13).await;
    running.sigcont();
    let (code, lines) = running.finished_within(LIMIT);
    let text = lines.concat();
    assert!(code == 69 && text.contains("lost records while they were read"), "{code} {lines:#?}");
    assert!(text.contains("read up to 10 of 15, and its log now begins at 13 and ends at 15"), "{lines:#?}");
}

#[tokio::test]
async fn a_topic_that_is_replaced_while_it_is_read_is_an_error_and_no_finding() {
    let scene = ten_of(15).await;
    let running = scene.start_command("verify");
    wait_until_it_waits(&scene).await;
    scene.topic.delete().await;
    scene.topic.create_again(1, &[("retention.ms", "-1")]).await;
    scene.send_values(&(0..20).map(|n| booking(&format!("b-{n}"), "1")).collect::<Vec<_>>()).await;
    let (code, lines) = running.finished_within(LIMIT);
    let text = lines.concat();
    assert!(code == 69 && text.contains("deleted and created again while it was read"), "{code} {lines:#?}");
    assert!(!text.contains("missing") && !text.contains("altered"), "{lines:#?}");
}

#[tokio::test]
async fn a_broker_that_is_away_is_waited_for_for_a_limited_time() {
    let broker = Kafka::start_new();
    let scene = Scene::on(&broker, postgres(), 1).await;
    scene.send_values(&[booking("a", "1")]).await;
    read_all(&scene).await;
    verify(&scene, "").assert_clean(1);
    // The broker is killed while `verify` reads.
    scene.execute("update consumer_offsets set next_offset = 2").await;
    let running = scene.start_command("verify");
    wait_until_it_waits(&scene).await;
    broker.kill();
    let (code, lines) = running.finished_within(LIMIT);
    assert!(code == 69 && lines.concat().contains("Kafka gave nothing for 30 s"), "{code} {lines:#?}");
    // The broker is away from the start.
    let (code, lines) = scene.finish("verify");
    assert!(code == 69 && lines.concat().contains("can't ask Kafka"), "{code} {lines:#?}");
    scene.execute("update consumer_offsets set next_offset = 1").await;
    broker.start();
    verify(&scene, "").assert_clean(1);
}

#[tokio::test]
async fn a_damaged_batch_is_reported_and_the_rest_of_its_partition_is_not_compared() {
    let broker = Kafka::start_new();
    let scene = Scene::on(&broker, postgres(), 1).await;
    for id in ["first", "second", "third"] {
        scene.send_values(&[booking(id, "1")]).await;
    }
    read_all(&scene).await;
    scene.execute("update booking_history set price = 2 where booking_id = 'first'").await;
    broker.stop();
    broker.damage(&scene.topic.name, 0, "second");
    broker.start();
    let (code, lines) = scene.finish("verify");
    assert!(code == 70 && lines.concat().contains("the topic log is damaged"), "{code} {lines:#?}");
    assert!(lines.concat().contains("partition 0 is read up to 1 of 3"), "{lines:#?}");
    // The records that were read before are compared.
    assert!(lines.concat().contains("altered  0          0           first"), "{lines:#?}");
    assert!(lines.concat().contains("not everything was compared, 1 finding so far"), "{lines:#?}");
}

#[tokio::test]
async fn a_database_without_tables_or_out_of_reach_is_reported() {
    let scene = scene(1).await;
    let (code, lines) = scene.finish("verify");
    assert!(code == 69 && lines.concat().contains("there is nothing to verify"), "{code} {lines:#?}");
    let empty = scene.clone().with_database(database().await);
    let (code, lines) = empty.finish("verify");
    assert!(code == 69 && lines.concat().contains("migrate up"), "{code} {lines:#?}");
    let nowhere = scene.with_database("postgresql://nobody@127.0.0.1:1/none".to_owned());
    let (code, lines) = nowhere.start_command("verify").finished_within(LIMIT);
    assert!(code == 69 && lines.concat().contains("can't use PostgreSQL"), "{code} {lines:#?}");
}
