//! `offsets list`, `set` and `resume`, by the built program.

mod live;
mod resume;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use testbed::audit::Audit;
use testbed::kafka::kafka;
use testbed::postgres::{self, database};
use testbed::service::{Service, migrated, settings};
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::booking;

/// 2026-02-15T14:00:00Z
const NOON: i64 = 1_771_164_000_000;

/// A topic and tables, and rows as a service would have left them.
struct Ground {
    topic: Topic,
    group: String,
    database: String,
    settings: Vec<(String, String)>,
}

impl Ground {
    async fn new(partitions: i32) -> Self {
        // Its records are old, by their timestamps.
        let topic = Topic::create_as(kafka(), &unique("bookings"), partitions, &[("retention.ms", "-1")]).await;
        let (group, database) = (unique("group"), database().await);
        migrated(&database);
        let settings = settings(kafka(), &topic, &group, &database);
        Self { topic, group, database, settings }
    }

    /// Bookings, one a second from [`NOON`] on.
    async fn send(&self, partition: i32, bookings: impl Iterator<Item = i64>) {
        let records = bookings.map(|number| Outgoing {
            timestamp: Some(NOON + number * 1_000),
            ..Outgoing::to(partition, booking(&format!("{partition}-{number}"), "1"))
        });
        self.topic.producer(&[]).send(records).await;
    }

    /// A row, and what else is to be set in it.
    async fn row(&self, partition: i32, next_offset: i64, also: &str) {
        let (group, topic) = (&self.group, &self.topic.name);
        self.execute(&format!(
            "insert into consumer_offsets (group_id, topic, partition, next_offset, counted_from, stored, epoch)
             values ('{group}', '{topic}', {partition}, {next_offset}, 0, {next_offset}, 4)"
        ))
        .await;
        if !also.is_empty() {
            self.execute(&format!("update consumer_offsets set {also} where partition = {partition}")).await;
        }
    }

    async fn gap(&self, partition: i32, from: i64, to: i64, reason: &str) {
        let (group, topic) = (&self.group, &self.topic.name);
        self.execute(&format!(
            "insert into offset_gaps (group_id, topic, partition, from_offset, to_offset, reason)
             values ('{group}', '{topic}', {partition}, {from}, {to}, '{reason}')"
        ))
        .await;
    }

    async fn execute(&self, sql: &str) {
        postgres::run(&self.database, sql).await;
    }

    /// One line of text for each row of an answer.
    async fn lines(&self, sql: &str) -> Vec<String> {
        let mut connection = PgConnection::connect(&self.database).await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap()
    }

    /// These columns of `consumer_offsets`, by partition.
    async fn columns(&self, columns: &str) -> Vec<String> {
        let each: Vec<String> = columns.split(", ").map(|column| format!("coalesce(({column})::text, '-')")).collect();
        self.lines(&format!("select concat_ws(' ', {}) from consumer_offsets order by partition", each.join(", ")))
            .await
    }

    fn audit(&self) -> Audit<'_> {
        Audit { topic: &self.topic, group: &self.group, database: &self.database }
    }

    fn offsets(&self, arguments: &str) -> (i32, Vec<String>) {
        Service::finish(&format!("offsets {arguments}"), &self.settings, PATIENCE)
    }

    /// Standard output of a command that does what it is asked to.
    fn printed(&self, arguments: &str) -> Vec<String> {
        let (code, lines) = self.offsets(&format!("{arguments} 2>&-"));
        assert_eq!(code, 0, "{arguments}: {lines:#?}");
        lines
    }

    /// The command ends with this code and says all of this; no row is changed.
    async fn refused(&self, arguments: &str, code: i32, words: &[&str]) {
        let all = "select concat_ws(' ', o::text) from consumer_offsets o union all
                   select g::text from offset_gaps g order by 1";
        let before = self.lines(all).await;
        let (ended_with, lines) = self.offsets(arguments);
        let text = lines.join("\n");
        assert_eq!(ended_with, code, "{arguments}: {text}");
        for word in words {
            assert!(text.contains(word), "{arguments}: {word:?} is not in\n{text}");
        }
        assert_eq!(self.lines(all).await, before, "{arguments} changed something");
    }

    /// The same, with a broker that is not there.
    fn without_kafka(&self) -> Self {
        let mut settings = self.settings.clone();
        settings.retain(|(name, _)| name != "KAFKA_BOOTSTRAP_SERVERS");
        settings.push(("KAFKA_BOOTSTRAP_SERVERS".to_owned(), "127.0.0.1:1".to_owned()));
        let topic = Topic::named(kafka(), &self.topic.name);
        Self { topic, group: self.group.clone(), database: self.database.clone(), settings }
    }
}

#[tokio::test]
async fn list_shows_every_partition_and_since_when_it_is_in_its_state() {
    let ground = Ground::new(3).await;
    ground.send(0, 0..5).await;
    ground.send(2, 0..2).await;
    let claimed = "owner = 'app-1/7', updated_at = '2026-02-15T14:00:01.5Z'";
    ground.row(0, 3, claimed).await;
    let halted = "halted_at = '2026-02-15T13:00:00Z', halt_reason = 'log_corrupt', updated_at = 'infinity'";
    ground.row(1, 0, halted).await;
    assert_eq!(
        ground.printed("list"),
        [
            "partition  next_offset  log_start  log_end  lag  state      since                 halt_reason  epoch  owner",
            "0          3            0          5        2    claimed    2026-02-15T14:00:01Z               4      app-1/7",
            "1          0            0          0        0    halted     2026-02-15T13:00:00Z  log_corrupt  4",
            "2                       0          2             unclaimed",
        ]
    );
    let objects: Vec<Value> =
        ground.printed("list --output json").iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let topic = &ground.topic.name;
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

    let (code, lines) = ground.without_kafka().offsets("list");
    assert_eq!(code, 0, "{lines:#?}");
    let text = lines.join("\n");
    for words in ["can't ask Kafka at 127.0.0.1:1", "0          3            ?          ?        ?    claimed"] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
}

#[tokio::test]
async fn set_moves_to_each_kind_of_place_and_begins_the_totals_anew() {
    let ground = Ground::new(2).await;
    ground.send(0, 0..60).await;
    ground.send(1, 0..20).await;
    ground.topic.delete_records(0, 10).await;
    ground.row(0, 50, "checked_offset = 45, last_offset = 49, last_digest = sha256('x'), topic_id = 'same'").await;
    ground.row(1, 20, "letters_in_a_row = 3, ignored = 1").await;
    let both = "next_offset, counted_from, stored, ignored, checked_offset, last_offset, last_digest is null, letters_in_a_row, \
                topic_id, epoch";

    assert_eq!(
        ground.printed("set --partition 0 --to earliest"),
        ["partition  from  to  effect", "0          50    10  up to 40 records are read again"]
    );
    assert_eq!(ground.columns(both).await, ["10 10 0 0 10 - true 0 same 4", "20 0 20 1 - - true 3 - 4"]);
    assert_eq!(
        ground.printed("set --all --to latest"),
        [
            "partition  from  to  effect",
            "0          10    60  up to 50 records are skipped",
            "1          20    20  not moved",
        ]
    );
    assert_eq!(ground.columns(both).await, ["60 60 0 0 10 - true 0 same 4", "20 20 0 0 20 - true 0 - 4"]);
    // What is known of a record that lies before the position stays known.
    ground.execute("update consumer_offsets set last_offset = 15, last_digest = sha256('x')").await;
    ground.printed("set --partition 0 --to 16");
    ground.printed("set --partition 1 --to 15");
    assert_eq!(ground.columns(both).await, ["16 16 0 0 10 15 false 0 same 4", "15 15 0 0 15 - true 0 - 4"]);

    // By the time of the records: one a second, the first of partition 0 is of ten seconds past.
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
        ground.printed(&format!("set --all --to {time}"));
        assert_eq!(ground.columns("next_offset").await, expected, "{time}");
    }
}

#[tokio::test]
async fn a_dry_run_says_the_same_and_does_nothing() {
    let ground = Ground::new(2).await;
    ground.send(0, 0..10).await;
    ground.row(0, 4, "halted_at = now(), halt_reason = 'too_many_dead_letters'").await;
    ground.refused("set --all --to latest --dry-run", 0, &["dry run: nothing was changed"]).await;
    let would = ground.printed("set --all --to latest --dry-run");
    let (code, did) = ground.offsets("set --all --to latest");
    assert_eq!(code, 0, "{did:#?}");
    assert!(did.starts_with(&would), "{did:#?} after {would:#?}");
    let remarks = [
        "partition 0 stays halted (too_many_dead_letters): `booking-history offsets resume` resumes it".to_owned(),
        "partition 1 is not moved: it has no row, because no service has claimed it yet".to_owned(),
    ];
    assert_eq!(did[would.len()..], remarks);
    assert_eq!(ground.columns("next_offset, halt_reason").await, ["10 too_many_dead_letters"]);
}

#[tokio::test]
async fn set_refuses_what_the_log_or_the_table_does_not_have() {
    let ground = Ground::new(2).await;
    ground.refused("set --all --to earliest", 2, &["no partition has a row", "KAFKA_GROUP_ID"]).await;
    ground.refused("set --partition 0 --to earliest", 2, &["partition 0 has no row"]).await;
    ground.send(0, 0..30).await;
    ground.send(1, 0..20).await;
    ground.topic.delete_records(0, 10).await;
    ground.row(0, 15, "").await;
    ground.row(1, 15, "").await;
    ground.refused("set --partition 0 --to 9", 2, &["9 is outside", "begins at 10 and ends at 30"]).await;
    ground.refused("set --partition 0 --to 31", 2, &["31 is outside", "begins at 10 and ends at 30"]).await;
    ground.refused("set --all --to 25 --dry-run", 2, &["partition 1", "begins at 0 and ends at 20"]).await;
    // Partition 0 could be moved there, and is not.
    ground.refused("set --all --to 25", 2, &["partition 1", "begins at 0 and ends at 20"]).await;
    ground.refused("set --partition 9 --to 0", 2, &["partition 9 has no row"]).await;
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
        ground.refused(wrong, 2, &["--help"]).await;
    }
    ground.row(9, 7, "").await;
    ground.refused("set --partition 9 --to 0", 69, &["Kafka does not list partition 9"]).await;
    ground.refused("set --all --to earliest", 69, &["Kafka does not list partition 9"]).await;

    // Without Kafka an offset is all that is known.
    let alone = ground.without_kafka();
    alone.refused("set --partition 0 --to earliest", 69, &["can't ask Kafka at 127.0.0.1:1"]).await;
    alone.refused("set --partition 0 --to 2026-02-15T14:00:00Z", 69, &["can't ask Kafka"]).await;
    let (code, lines) = alone.offsets("set --partition 0 --to 12");
    assert_eq!(code, 0, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("not compared with the topic log")), "{lines:#?}");
    assert_eq!(ground.columns("next_offset").await, ["12", "15", "7"]);
}

#[tokio::test]
async fn another_group_or_topic_is_not_touched() {
    let ground = Ground::new(1).await;
    ground.send(0, 0..10).await;
    ground.row(0, 5, "halted_at = now(), halt_reason = 'retention_gap'").await;
    ground.gap(0, 5, 6, "retention_gap").await;
    ground
        .execute(
            "insert into consumer_offsets (group_id, topic, partition, next_offset, counted_from, halted_at, halt_reason)
             select 'another', topic, 0, 5, 5, now(), halt_reason from consumer_offsets
             union all select group_id, 'another', 0, 5, 5, now(), halt_reason from consumer_offsets;
             insert into offset_gaps (group_id, topic, partition, from_offset, to_offset, reason)
             select 'another', topic, 0, 5, 6, reason from offset_gaps
             union all select group_id, 'another', 0, 5, 6, reason from offset_gaps",
        )
        .await;
    ground.printed("set --all --to 4");
    assert_eq!(ground.printed("resume --all --at 9").len(), 2);
    let left = "select concat_ws(' ', count(*), count(*) filter (where next_offset = 5 and halted_at is not null))
                from consumer_offsets where group_id = 'another' or topic = 'another'";
    assert_eq!(ground.lines(left).await, ["2 2"]);
    let open = "select concat_ws(' ', count(*), count(*) filter (where to_offset = 6 and acknowledged_at is null))
                from offset_gaps where group_id = 'another' or topic = 'another'";
    assert_eq!(ground.lines(open).await, ["2 2"]);
    assert_eq!(ground.printed("list").len(), 2);
}

#[tokio::test]
async fn what_is_in_flight_ends_first() {
    let ground = Ground::new(1).await;
    ground.send(0, 0..10).await;
    ground.row(0, 5, "").await;
    let mut writer = PgConnection::connect(&ground.database).await.unwrap();
    let mut commit = writer.begin().await.unwrap();
    let step = "update consumer_offsets set next_offset = 8, stored = 8, last_offset = 7, last_digest = sha256('x')";
    sqlx::query(step).execute(&mut *commit).await.unwrap();
    let set = Service::command("offsets set --partition 0 --to 3", &ground.settings);
    let waits =
        "select count(*)::text from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    eventually(PATIENCE, |waiting: &Vec<String>| *waiting == ["1"], async || ground.lines(waits).await).await;
    commit.commit().await.unwrap();
    let (code, lines) = set.finished(PATIENCE);
    assert_eq!(code, 0, "{lines:#?}");
    assert_eq!(lines, ["partition  from  to  effect", "0          8     3   up to 5 records are read again"]);
    assert_eq!(ground.columns("next_offset, stored, last_offset").await, ["3 0 -"]);
}
