//! Halts of every reason, made by SQL as the service makes them.

use super::Ground;
use testbed::service::Service;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

const REASONS_OF_THE_LOG: [&str; 3] = ["log_truncated", "log_replaced", "log_corrupt"];

fn halted(reason: &str) -> String {
    format!(
        "halted_at = now(), halt_reason = '{reason}', topic_id = 'old', letters_in_a_row = 7, checked_offset = 5, \
         last_offset = next_offset - 1, last_digest = sha256('x')"
    )
}

const COLUMNS: &str =
    "next_offset, counted_from, stored, halt_reason, letters_in_a_row, last_offset, checked_offset, epoch";
const GAPS: &str = "select concat_ws(' ', partition, from_offset, to_offset, reason, acknowledged_at is not null)
                    from offset_gaps order by id";

#[tokio::test]
async fn a_retention_gap_is_passed_and_acknowledged_up_to_where_the_log_begins_today() {
    let ground = Ground::new(2).await;
    for partition in [0, 1] {
        ground.send(partition, 0..60).await;
    }
    // An older gap that was skipped, then the one that halted it; retention went on since.
    ground.gap(0, 2, 4, "retention_gap").await;
    ground.row(0, 20, &halted("retention_gap")).await;
    ground.gap(0, 20, 30, "retention_gap").await;
    ground.topic.delete_records(0, 40).await;
    // Of this one the halt's gap was acknowledged by hand: the older one must not grow into it.
    ground.gap(1, 2, 4, "retention_gap").await;
    ground.row(1, 20, &halted("retention_gap")).await;
    ground.topic.delete_records(1, 25).await;
    ground.without_kafka().refused("resume --partition 0", 69, &["can't ask Kafka"]).await;
    assert_eq!(
        ground.printed("resume --all"),
        [
            "partition  halt_reason    from  to  acknowledged_gaps",
            "0          retention_gap  20    40  [2, 4) retention_gap, [20, 40) retention_gap",
            "1          retention_gap  20    25  [2, 4) retention_gap",
        ]
    );
    assert_eq!(ground.columns(COLUMNS).await, ["40 40 0 - 0 - 5 5", "25 25 0 - 0 - 5 5"]);
    assert_eq!(ground.columns("topic_id").await, ["old", "old"], "a log that was replaced is still noticed");
    assert_eq!(ground.lines(GAPS).await, ["0 2 4 retention_gap t", "0 20 40 retention_gap t", "1 2 4 retention_gap t"]);
    let by = ground.lines("select distinct acknowledged_by from offset_gaps").await;
    assert!(by.len() == 1 && by[0].starts_with("postgres on "), "{by:?}");
    assert_eq!(ground.printed("resume --all"), ["partition  halt_reason  from  to  acknowledged_gaps"]);
    ground.refused("resume --all", 0, &["nothing done: no such partition is halted"]).await;
    ground.refused("resume --partition 7", 2, &["partition 7 has no row"]).await;
}

#[tokio::test]
async fn a_gap_ends_where_the_log_begins_wherever_it_is_resumed_and_a_position_that_was_set_wins() {
    let ground = Ground::new(2).await;
    for partition in [0, 1] {
        ground.send(partition, 0..60).await;
        ground.row(partition, 20, &halted("retention_gap")).await;
        ground.gap(partition, 20, 30, "retention_gap").await;
        ground.topic.delete_records(partition, 30).await;
    }
    ground.printed("resume --partition 0 --at latest");
    ground.printed("set --partition 1 --to 50");
    ground.printed("resume --partition 1");
    assert_eq!(ground.columns("next_offset, halt_reason").await, ["60 -", "50 -"]);
    assert_eq!(ground.lines(GAPS).await, ["0 20 30 retention_gap t", "1 20 30 retention_gap t"]);
}

#[tokio::test]
async fn a_log_that_is_not_what_it_was_is_resumed_only_where_one_says() {
    let ground = Ground::new(4).await;
    for (partition, reason) in (0..).zip(REASONS_OF_THE_LOG) {
        ground.send(partition, 0..30).await;
        ground.row(partition, 10, &halted(reason)).await;
        ground.gap(partition, 5, 10, reason).await;
    }
    ground.row(3, 0, &halted("too_many_dead_letters").replace("next_offset - 1", "null")).await;
    for (partition, reason) in (0..).zip(REASONS_OF_THE_LOG) {
        let words = format!("partition {partition} is halted, {reason}");
        ground.refused(&format!("resume --partition {partition}"), 2, &["nothing was resumed", &words, "--at"]).await;
        ground.refused("resume --all", 2, &[&words]).await;
    }
    ground.refused("resume --partition 2", 2, &["--at 11` continues with the first record"]).await;
    ground.refused("resume --partition 0 --at 31", 2, &["begins at 0 and ends at 30"]).await;
    ground.refused("resume --all --at 5", 2, &["partition 3", "begins at 0 and ends at 0"]).await;

    ground.printed("resume --partition 0 --at latest");
    ground.printed("resume --partition 1 --at earliest");
    assert_eq!(
        ground.printed("resume --partition 2 --at 11"),
        [
            "partition  halt_reason  from  to  acknowledged_gaps",
            "2          log_corrupt  10    11  [5, 10) log_corrupt"
        ]
    );
    assert_eq!(
        ground.columns(COLUMNS).await,
        ["30 30 0 - 0 - 30 5", "0 0 0 - 0 - 0 5", "11 11 0 - 0 - 5 5", "0 0 0 too_many_dead_letters 7 - 5 4"]
    );
    let known = ground.columns("topic_id").await;
    assert!(known[0].len() == 22 && known[0] == known[1], "the id that the topic has now: {known:?}");
    assert_eq!(known[2], "old", "who mends a damaged log by making the topic anew hears of it");
    let gaps = ground.lines(GAPS).await;
    assert_eq!(gaps, ["0 5 10 log_truncated t", "1 5 10 log_replaced t", "2 5 10 log_corrupt t"], "with their bounds");
}

#[tokio::test]
async fn what_the_log_has_no_part_in_goes_on_where_it_stands_without_kafka() {
    let ground = Ground::new(2).await;
    ground.row(0, 10, &halted("too_many_dead_letters")).await;
    ground.row(1, 3, &halted("no_start_position")).await;
    let alone = ground.without_kafka();
    alone.printed("resume --all");
    assert_eq!(ground.columns(COLUMNS).await, ["10 10 0 - 0 9 5 5", "3 3 0 - 0 2 3 5"]);
    assert_eq!(ground.columns("topic_id").await, ["old", "old"]);
    ground.execute("update consumer_offsets set halted_at = now(), halt_reason = 'log_replaced'").await;
    let (code, lines) = alone.offsets("resume --all --at 4");
    assert!(code == 0 && lines.iter().any(|line| line.contains("not compared with the topic log")), "{lines:#?}");
    assert_eq!(ground.columns(COLUMNS).await, ["4 4 0 - 0 - 4 6", "4 4 0 - 0 - 4 6"]);
    assert_eq!(ground.columns("topic_id").await, ["-", "-"], "whatever it is, it is taken for ours");
}

#[tokio::test]
async fn a_running_service_goes_on_where_it_is_resumed() {
    let ground = Ground::new(2).await;
    let service = Service::run(&ground.settings);
    let first = Workload::bookings("first", 200, 2);
    ground.topic.producer(&[]).send(first.records.iter().cloned()).await;
    ground.audit().wait_until_read(PATIENCE).await;
    ground
        .execute(
            "update consumer_offsets set halted_at = now(), halt_reason = 'retention_gap' where partition = 1;
             insert into offset_gaps (group_id, topic, partition, from_offset, to_offset, reason)
             select group_id, topic, partition, next_offset, next_offset + 10, 'retention_gap'
             from consumer_offsets where partition = 1",
        )
        .await;
    service.wait_for_line(|line| line.contains("partition_halted") && line.contains("partition=1"), PATIENCE);
    let second = Workload::bookings("second", 200, 2);
    ground.topic.producer(&[]).send(second.records.iter().cloned()).await;
    let positions = || async { ground.columns("next_offset").await };
    eventually(PATIENCE, |now: &Vec<String>| *now == ["200", "100"], positions).await;
    ground.topic.delete_records(1, 150).await;
    ground.printed("resume --all");
    eventually(PATIENCE, |now: &Vec<String>| *now == ["200", "200"], positions).await;
    assert_eq!(ground.columns("counted_from, stored").await, ["0 200", "150 50"]);
    assert_eq!(
        ground.lines("select concat_ws(' ', count(*), count(distinct booking_id)) from booking_history").await,
        ["350 350"]
    );
    assert_eq!(ground.lines(GAPS).await, ["1 100 150 retention_gap t"]);
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 0);
}
