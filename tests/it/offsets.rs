//! `offsets list`, `set` and `resume`, by the built program.

mod live;
mod resume;

use std::ops::Range;

use serde_json::{Value, json};

use testbed::kafka::kafka;
use testbed::scene::Scene;
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::workload::booking;

/// 2026-02-15T14:00:00Z
const NOON: i64 = 1_771_164_000_000;

/// A topic whose records may have old timestamps.
async fn scene(partitions: i32) -> Scene {
    let topic = Topic::create_as(kafka(), &unique("bookings"), partitions, &[("retention.ms", "-1")]).await;
    Scene::of(topic).await
}

/// Produces bookings whose timestamps are one second apart, from [`NOON`] on.
async fn send(scene: &Scene, partition: i32, numbers: Range<i64>) {
    let records = numbers.map(|number| Outgoing {
        timestamp: Some(NOON + number * 1_000),
        ..Outgoing::to(partition, booking(&format!("{partition}-{number}"), "1"))
    });
    scene.send(records).await;
}

/// Makes the row of a partition as a service leaves it, and sets further columns.
async fn insert_row(scene: &Scene, partition: i32, next_offset: i64, further: &str) {
    let (group, topic) = (&scene.group, &scene.topic.name);
    let insert = format!(
        "insert into consumer_offsets (group_id, topic, partition, next_offset, counted_from, stored, epoch)
         values ('{group}', '{topic}', {partition}, {next_offset}, 0, {next_offset}, 4)"
    );
    scene.execute(&insert).await;
    if !further.is_empty() {
        scene.execute(&format!("update consumer_offsets set {further} where partition = {partition}")).await;
    }
}

/// Records a gap as a service does.
async fn insert_gap(scene: &Scene, partition: i32, from: i64, to: i64, reason: &str) {
    let (group, topic) = (&scene.group, &scene.topic.name);
    let insert = format!(
        "insert into offset_gaps (group_id, topic, partition, from_offset, to_offset, reason)
         values ('{group}', '{topic}', {partition}, {from}, {to}, '{reason}')"
    );
    scene.execute(&insert).await;
}

/// These columns of `consumer_offsets`, by partition.
async fn columns(scene: &Scene, columns: &str) -> Vec<String> {
    let each: Vec<String> = columns.split(", ").map(|column| format!("coalesce(({column})::text, '-')")).collect();
    scene.lines(&format!("select concat_ws(' ', {}) from consumer_offsets order by partition", each.join(", "))).await
}

fn offsets(scene: &Scene, arguments: &str) -> (i32, Vec<String>) {
    scene.finish(&format!("offsets {arguments}"))
}

/// The standard output of a command that must succeed.
fn printed(scene: &Scene, arguments: &str) -> Vec<String> {
    scene.command(&format!("offsets {arguments} 2>&-"))
}

/// The command ends with this code and says all of this; no row is changed.
async fn refused(scene: &Scene, arguments: &str, code: i32, words: &[&str]) {
    let all = "select concat_ws(' ', o::text) from consumer_offsets o union all
               select g::text from offset_gaps g order by 1";
    let before = scene.lines(all).await;
    let (ended_with, lines) = offsets(scene, arguments);
    let text = lines.join("\n");
    assert_eq!(ended_with, code, "{arguments}: {text}");
    for word in words {
        assert!(text.contains(word), "{arguments}: {word:?} is not in\n{text}");
    }
    assert_eq!(scene.lines(all).await, before, "{arguments} changed something");
}

/// The same, with a broker that does not exist.
fn without_kafka(scene: &Scene) -> Scene {
    scene.clone().with("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
}

#[tokio::test]
async fn list_shows_each_partition_with_its_state_and_since_when() {
    let scene = scene(3).await;
    send(&scene, 0, 0..5).await;
    send(&scene, 2, 0..2).await;
    let claimed = "owner = 'app-1/7', updated_at = '2026-02-15T14:00:01.5Z'";
    insert_row(&scene, 0, 3, claimed).await;
    let halted = "halted_at = '2026-02-15T13:00:00Z', halt_reason = 'log_corrupt', updated_at = 'infinity'";
    insert_row(&scene, 1, 0, halted).await;
    assert_eq!(
        printed(&scene, "list"),
        [
            "partition  next_offset  log_start  log_end  lag  state      since                 halt_reason  epoch  owner",
            "0          3            0          5        2    claimed    2026-02-15T14:00:01Z               4      app-1/7",
            "1          0            0          0        0    halted     2026-02-15T13:00:00Z  log_corrupt  4",
            "2                       0          2             unclaimed",
        ]
    );
    let objects: Vec<Value> =
        printed(&scene, "list --output json").iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let topic = &scene.topic.name;
    assert_eq!(
        objects,
        [
            json!({
                "topic": topic, "partition": 0, "next_offset": 3, "log_start": 0, "log_end": 5, "lag": 2,
                "owner": "app-1/7", "epoch": 4, "state": "claimed", "halt_reason": null,
                "since": "2026-02-15T14:00:01.500000Z", "updated_at": "2026-02-15T14:00:01.500000Z",
                "letters_in_a_row": 0, "counted_from": 0, "stored": 3, "duplicates": 0, "ignored": 0, "dead_lettered": 0
            }),
            json!({
                "topic": topic, "partition": 1, "next_offset": 0, "log_start": 0, "log_end": 0, "lag": 0,
                "owner": null, "epoch": 4, "state": "halted", "halt_reason": "log_corrupt",
                "since": "2026-02-15T13:00:00.000000Z", "updated_at": "infinity",
                "letters_in_a_row": 0, "counted_from": 0, "stored": 0, "duplicates": 0, "ignored": 0, "dead_lettered": 0
            }),
            json!({
                "topic": topic, "partition": 2, "next_offset": null, "log_start": 0, "log_end": 2, "lag": null,
                "owner": null, "epoch": null, "state": "unclaimed", "halt_reason": null, "since": null,
                "updated_at": null, "letters_in_a_row": null, "counted_from": null, "stored": null,
                "duplicates": null, "ignored": null, "dead_lettered": null
            }),
        ]
    );

    let (code, lines) = offsets(&without_kafka(&scene), "list");
    assert_eq!(code, 0, "{lines:#?}");
    let text = lines.join("\n");
    for words in ["can't ask Kafka at 127.0.0.1:1", "0          3            ?          ?        ?    claimed"] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
}

#[tokio::test]
async fn set_moves_to_each_kind_of_position_and_resets_the_totals() {
    let scene = scene(2).await;
    send(&scene, 0, 0..60).await;
    send(&scene, 1, 0..20).await;
    scene.topic.delete_records(0, 10).await;
    let known =
        "checked_offset = 45, last_offset = 49, last_digest = sha256('x'), topic_id = 'same', leader_epochs = '{}'";
    insert_row(&scene, 0, 50, known).await;
    insert_row(&scene, 1, 20, "letters_in_a_row = 3, ignored = 1").await;
    let both = "next_offset, counted_from, stored, ignored, checked_offset, last_offset, last_digest is null, letters_in_a_row, \
                topic_id, epoch, (last_offset is null) = (leader_epochs is null)";

    assert_eq!(
        printed(&scene, "set --partition 0 --to earliest"),
        ["partition  from  to  effect", "0          50    10  up to 40 records are read again"]
    );
    assert_eq!(columns(&scene, both).await, ["10 10 0 0 10 - true 0 same 4 true", "20 0 20 1 - - true 3 - 4 true"]);
    assert_eq!(
        printed(&scene, "set --all --to latest"),
        [
            "partition  from  to  effect",
            "0          10    60  up to 50 records are skipped",
            "1          20    20  not moved",
        ]
    );
    assert_eq!(columns(&scene, both).await, ["60 60 0 0 10 - true 0 same 4 true", "20 20 0 0 20 - true 0 - 4 true"]);
    // The last record stays known if it lies before the new position.
    scene
        .execute("update consumer_offsets set last_offset = 15, last_digest = sha256('x'), leader_epochs = '{}'")
        .await;
    printed(&scene, "set --partition 0 --to 16");
    printed(&scene, "set --partition 1 --to 15");
    assert_eq!(columns(&scene, both).await, ["16 16 0 0 10 15 false 0 same 4 true", "15 15 0 0 15 - true 0 - 4 true"]);

    // By timestamp: one record a second; the first record of partition 0 is ten seconds after noon.
    for (time, expected) in [
        ("2026-02-15T13:00:00Z", ["10", "0"]),
        ("2026-02-15T14:00:15Z", ["15", "15"]),
        ("2026-02-15T16:00:15.0+02:00", ["15", "15"]),
        ("2026-02-15T14:00:15.0001Z", ["16", "16"]),
        ("2026-02-15T14:00:19.5Z", ["20", "20"]),
        ("2026-02-15T14:00:59Z", ["59", "20"]),
        ("2026-02-16T00:00:00Z", ["60", "20"]),
        ("1950-01-01T00:00:00Z", ["10", "0"]),
    ] {
        printed(&scene, &format!("set --all --to {time}"));
        assert_eq!(columns(&scene, "next_offset").await, expected, "{time}");
    }
}

#[tokio::test]
async fn a_dry_run_prints_the_same_and_changes_nothing() {
    let scene = scene(2).await;
    send(&scene, 0, 0..10).await;
    insert_row(&scene, 0, 4, "halted_at = now(), halt_reason = 'too_many_dead_letters'").await;
    refused(&scene, "set --all --to latest --dry-run", 0, &["dry run: nothing was changed"]).await;
    let would = printed(&scene, "set --all --to latest --dry-run");
    let (code, did) = offsets(&scene, "set --all --to latest");
    assert_eq!(code, 0, "{did:#?}");
    assert!(did.starts_with(&would), "{did:#?} after {would:#?}");
    let remarks = [
        "partition 0 stays halted (too_many_dead_letters): `booking-history offsets resume` resumes it".to_owned(),
        "partition 1 is not moved: it has no row, because no service has claimed it yet".to_owned(),
    ];
    assert_eq!(did[would.len()..], remarks);
    assert_eq!(columns(&scene, "next_offset, halt_reason").await, ["10 too_many_dead_letters"]);
}

#[tokio::test]
async fn set_refuses_a_position_that_the_partition_log_does_not_have_and_a_partition_without_a_row() {
    let scene = scene(2).await;
    refused(&scene, "set --all --to earliest", 2, &["no partition has a row", "KAFKA_GROUP_ID"]).await;
    refused(&scene, "set --partition 0 --to earliest", 2, &["partition 0 has no row"]).await;
    send(&scene, 0, 0..30).await;
    send(&scene, 1, 0..20).await;
    scene.topic.delete_records(0, 10).await;
    insert_row(&scene, 0, 15, "").await;
    insert_row(&scene, 1, 15, "").await;
    refused(&scene, "set --partition 0 --to 9", 2, &["9 is outside", "begins at 10 and ends at 30"]).await;
    refused(&scene, "set --partition 0 --to 31", 2, &["31 is outside", "begins at 10 and ends at 30"]).await;
    refused(&scene, "set --all --to 25 --dry-run", 2, &["partition 1", "begins at 0 and ends at 20"]).await;
    // Partition 0 has this offset, and is not moved either.
    refused(&scene, "set --all --to 25", 2, &["partition 1", "begins at 0 and ends at 20"]).await;
    refused(&scene, "set --partition 9 --to 0", 2, &["partition 9 has no row"]).await;
    for wrong in [
        "set --to 0",
        "set --partition 0",
        "set --partition 0 --all --to 0",
        "set --partition -1 --to 0",
        "set --partition 0 --to 2026-02-15T14:00:00",
        "set --partition 0 --to=-1",
        "resume",
        "resume --partition 0 --at 2026-02-15T14:00:00Z",
    ] {
        refused(&scene, wrong, 2, &["--help"]).await;
    }
    insert_row(&scene, 9, 7, "").await;
    refused(&scene, "set --partition 9 --to 0", 69, &["Kafka does not list partition 9"]).await;
    refused(&scene, "set --all --to earliest", 69, &["Kafka does not list partition 9"]).await;

    // Without Kafka only an offset is accepted.
    let alone = without_kafka(&scene);
    refused(&alone, "set --partition 0 --to earliest", 69, &["can't ask Kafka at 127.0.0.1:1"]).await;
    refused(&alone, "set --partition 0 --to 2026-02-15T14:00:00Z", 69, &["can't ask Kafka"]).await;
    let (code, lines) = offsets(&alone, "set --partition 0 --to 12");
    assert_eq!(code, 0, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("not compared with the topic log")), "{lines:#?}");
    assert_eq!(columns(&scene, "next_offset").await, ["12", "15", "7"]);
}

#[tokio::test]
async fn another_group_or_topic_is_not_touched() {
    let scene = scene(1).await;
    send(&scene, 0, 0..10).await;
    insert_row(&scene, 0, 5, "halted_at = now(), halt_reason = 'retention_gap'").await;
    insert_gap(&scene, 0, 5, 6, "retention_gap").await;
    scene
        .execute(
            "insert into consumer_offsets (group_id, topic, partition, next_offset, counted_from, halted_at, halt_reason)
             select 'another', topic, 0, 5, 5, now(), halt_reason from consumer_offsets
             union all select group_id, 'another', 0, 5, 5, now(), halt_reason from consumer_offsets;
             insert into offset_gaps (group_id, topic, partition, from_offset, to_offset, reason)
             select 'another', topic, 0, 5, 6, reason from offset_gaps
             union all select group_id, 'another', 0, 5, 6, reason from offset_gaps",
        )
        .await;
    printed(&scene, "set --all --to 4");
    assert_eq!(printed(&scene, "resume --all --at 9").len(), 2);
    let left = "select concat_ws(' ', count(*), count(*) filter (where next_offset = 5 and halted_at is not null))
                from consumer_offsets where group_id = 'another' or topic = 'another'";
    assert_eq!(scene.lines(left).await, ["2 2"]);
    let open = "select concat_ws(' ', count(*), count(*) filter (where to_offset = 6 and acknowledged_at is null))
                from offset_gaps where group_id = 'another' or topic = 'another'";
    assert_eq!(scene.lines(open).await, ["2 2"]);
    assert_eq!(printed(&scene, "list").len(), 2);
}

#[tokio::test]
async fn a_move_waits_for_the_transaction_in_flight() {
    let scene = scene(1).await;
    send(&scene, 0, 0..10).await;
    insert_row(&scene, 0, 5, "").await;
    let step = "update consumer_offsets set next_offset = 8, stored = 8, last_offset = 7, last_digest = sha256('x')";
    let mut writer = scene.hold(step).await;
    let set = scene.start_command("offsets set --partition 0 --to 3");
    scene.wait_until_blocked().await;
    sqlx::query("commit").execute(&mut writer).await.unwrap();
    let (code, lines) = set.finished();
    assert_eq!(code, 0, "{lines:#?}");
    assert_eq!(lines, ["partition  from  to  effect", "0          8     3   up to 5 records are read again"]);
    assert_eq!(columns(&scene, "next_offset, stored, last_offset").await, ["3 0 -"]);
}
