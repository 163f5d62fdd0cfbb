//! Halts for each reason, set by SQL as the service sets them.

use super::{columns, insert_gap, insert_row, offsets, printed, refused, scene, send, without_kafka};
use testbed::scene::Scene;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

const REASONS_OF_THE_LOG: [&str; 3] = ["log_truncated", "log_replaced", "log_corrupt"];

fn halted(reason: &str) -> String {
    format!(
        "halted_at = now(), halt_reason = '{reason}', topic_id = 'old', letters_in_a_row = 7, checked_offset = 5, \
         last_offset = next_offset - 1, last_digest = sha256('x'), leader_epochs = '{{}}'"
    )
}

const COLUMNS: &str =
    "next_offset, counted_from, stored, halt_reason, letters_in_a_row, last_offset, checked_offset, epoch";
const GAPS: &str = "select concat_ws(' ', partition, from_offset, to_offset, reason, acknowledged_at is not null)
                    from offset_gaps order by id";

/// The leader epochs are kept as long as the last record is.
async fn assert_epochs_follow(scene: &Scene) {
    let differ = "select concat_ws(' ', partition, last_offset, leader_epochs) from consumer_offsets
                  where (last_offset is null) <> (leader_epochs is null)";
    assert_eq!(scene.lines(differ).await, [""; 0]);
}

#[tokio::test]
async fn after_a_retention_gap_reading_continues_where_the_log_starts_now() {
    let scene = scene(2).await;
    for partition in [0, 1] {
        send(&scene, partition, 0..60).await;
    }
    // An older gap that was skipped, then the one that halted the partition. Retention has removed more since.
    insert_gap(&scene, 0, 2, 4, "retention_gap").await;
    insert_row(&scene, 0, 20, &halted("retention_gap")).await;
    insert_gap(&scene, 0, 20, 30, "retention_gap").await;
    scene.topic.delete_records(0, 40).await;
    // Here the gap of the halt is missing: the older gap must not be extended instead.
    insert_gap(&scene, 1, 2, 4, "retention_gap").await;
    insert_row(&scene, 1, 20, &halted("retention_gap")).await;
    scene.topic.delete_records(1, 25).await;
    refused(&without_kafka(&scene), "resume --partition 0", 69, &["can't ask Kafka"]).await;
    assert_eq!(
        printed(&scene, "resume --all"),
        [
            "partition  halt_reason    from  to  acknowledged_gaps",
            "0          retention_gap  20    40  [2, 4) retention_gap, [20, 40) retention_gap",
            "1          retention_gap  20    25  [2, 4) retention_gap",
        ]
    );
    assert_eq!(columns(&scene, COLUMNS).await, ["40 40 0 - 0 - 5 5", "25 25 0 - 0 - 5 5"]);
    assert_eq!(columns(&scene, "topic_id").await, ["old", "old"], "a log that was replaced would still be noticed");
    assert_eq!(scene.lines(GAPS).await, ["0 2 4 retention_gap t", "0 20 40 retention_gap t", "1 2 4 retention_gap t"]);
    let by = scene.lines("select distinct acknowledged_by from offset_gaps").await;
    assert!(by.len() == 1 && by[0].starts_with("postgres on "), "{by:?}");
    assert_eq!(printed(&scene, "resume --all"), ["partition  halt_reason  from  to  acknowledged_gaps"]);
    refused(&scene, "resume --all", 0, &["nothing done: no such partition is halted"]).await;
    refused(&scene, "resume --partition 7", 2, &["partition 7 has no row"]).await;
}

#[tokio::test]
async fn a_gap_ends_where_the_log_starts_and_a_position_that_was_set_is_kept() {
    let scene = scene(2).await;
    for partition in [0, 1] {
        send(&scene, partition, 0..60).await;
        insert_row(&scene, partition, 20, &halted("retention_gap")).await;
        insert_gap(&scene, partition, 20, 30, "retention_gap").await;
        scene.topic.delete_records(partition, 30).await;
    }
    printed(&scene, "resume --partition 0 --at latest");
    printed(&scene, "set --partition 1 --to 50");
    printed(&scene, "resume --partition 1");
    assert_epochs_follow(&scene).await;
    assert_eq!(columns(&scene, "next_offset, halt_reason").await, ["60 -", "50 -"]);
    assert_eq!(scene.lines(GAPS).await, ["0 20 30 retention_gap t", "1 20 30 retention_gap t"]);
}

#[tokio::test]
async fn after_a_log_fault_the_operator_has_to_say_where_to_continue() {
    let scene = scene(4).await;
    for (partition, reason) in (0..).zip(REASONS_OF_THE_LOG) {
        send(&scene, partition, 0..30).await;
        insert_row(&scene, partition, 10, &halted(reason)).await;
        insert_gap(&scene, partition, 5, 10, reason).await;
    }
    insert_row(&scene, 3, 0, &halted("too_many_dead_letters").replace("next_offset - 1", "null")).await;
    for (partition, reason) in (0..).zip(REASONS_OF_THE_LOG) {
        let words = format!("partition {partition} is halted, {reason}");
        refused(&scene, &format!("resume --partition {partition}"), 2, &["nothing was resumed", &words, "--at"]).await;
        refused(&scene, "resume --all", 2, &[&words]).await;
    }
    refused(&scene, "resume --partition 2", 2, &["--at 11` continues with the first record"]).await;
    refused(&scene, "resume --partition 0 --at 31", 2, &["begins at 0 and ends at 30"]).await;
    refused(&scene, "resume --all --at 5", 2, &["partition 3", "begins at 0 and ends at 0"]).await;

    printed(&scene, "resume --partition 0 --at latest");
    printed(&scene, "resume --partition 1 --at earliest");
    assert_eq!(
        printed(&scene, "resume --partition 2 --at 11"),
        [
            "partition  halt_reason  from  to  acknowledged_gaps",
            "2          log_corrupt  10    11  [5, 10) log_corrupt"
        ]
    );
    assert_eq!(
        columns(&scene, COLUMNS).await,
        ["30 30 0 - 0 - 30 5", "0 0 0 - 0 - 0 5", "11 11 0 - 0 - 5 5", "0 0 0 too_many_dead_letters 7 - 5 4"]
    );
    scene.execute("update consumer_offsets set leader_epochs = null where partition = 3").await;
    assert_epochs_follow(&scene).await;
    let known = columns(&scene, "topic_id").await;
    assert_eq!(known[1].len(), 22, "the current id of the topic: {known:?}");
    assert_eq!((&*known[0], &*known[2]), ("old", "old"), "a topic that is created again would still be noticed");
    let gaps = scene.lines(GAPS).await;
    assert_eq!(gaps, ["0 5 10 log_truncated t", "1 5 10 log_replaced t", "2 5 10 log_corrupt t"], "with their bounds");
}

#[tokio::test]
async fn a_halt_that_is_no_log_fault_is_resumed_at_its_position_without_kafka() {
    let scene = scene(2).await;
    insert_row(&scene, 0, 10, &halted("too_many_dead_letters")).await;
    insert_row(&scene, 1, 3, &halted("no_start_position")).await;
    let alone = without_kafka(&scene);
    printed(&alone, "resume --all");
    assert_eq!(columns(&scene, COLUMNS).await, ["10 10 0 - 0 9 5 5", "3 3 0 - 0 2 3 5"]);
    assert_epochs_follow(&scene).await;
    assert_eq!(columns(&scene, "topic_id").await, ["old", "old"]);
    scene.execute("update consumer_offsets set halted_at = now(), halt_reason = 'log_replaced'").await;
    let (code, lines) = offsets(&alone, "resume --all --at 4");
    assert!(code == 0 && lines.iter().any(|line| line.contains("not compared with the topic log")), "{lines:#?}");
    assert_eq!(columns(&scene, COLUMNS).await, ["4 4 0 - 0 - 4 6", "4 4 0 - 0 - 4 6"]);
    assert_eq!(columns(&scene, "topic_id").await, ["-", "-"], "the topic that exists is accepted");
}

#[tokio::test]
async fn a_running_service_continues_where_it_is_resumed() {
    let scene = scene(2).await;
    let service = scene.start();
    let first = Workload::bookings("first", 200, 2);
    scene.send(&first.records).await;
    scene.wait_until_read().await;
    scene
        .execute(
            "update consumer_offsets set halted_at = now(), halt_reason = 'retention_gap' where partition = 1;
             insert into offset_gaps (group_id, topic, partition, from_offset, to_offset, reason)
             select group_id, topic, partition, next_offset, next_offset + 10, 'retention_gap'
             from consumer_offsets where partition = 1",
        )
        .await;
    service.wait_for_event_with("partition_halted", &[("partition", "1")]);
    let second = Workload::bookings("second", 200, 2);
    scene.send(&second.records).await;
    let positions = || async { columns(&scene, "next_offset").await };
    eventually(PATIENCE, |now: &Vec<String>| *now == ["200", "100"], positions).await;
    scene.topic.delete_records(1, 150).await;
    printed(&scene, "resume --all");
    eventually(PATIENCE, |now: &Vec<String>| *now == ["200", "200"], positions).await;
    assert_eq!(columns(&scene, "counted_from, stored").await, ["0 200", "150 50"]);
    assert_eq!(
        scene.lines("select concat_ws(' ', count(*), count(distinct booking_id)) from booking_history").await,
        ["350 350"]
    );
    assert_eq!(scene.lines(GAPS).await, ["1 100 150 retention_gap t"]);
    service.stop();
}
