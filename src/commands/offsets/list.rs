//! `offsets list`: position, lag, owner and state of each partition.

use std::collections::{BTreeMap, BTreeSet};

use fenced_sink::admin::{PartitionRow, Time, TopicLogClient};
use fenced_sink::{HaltReason, LogBounds, Partition};
use serde::Serialize;

use super::ledger;
use super::topic_log::ask;
use crate::commands::output::{OutputFormat, json_lines, print, remark, table};
use crate::commands::{CommandError, database};
use crate::config::Settings;

pub(super) async fn list(output: OutputFormat, settings: &Settings) -> Result<(), CommandError> {
    let explained = |error| CommandError::database(&error, &settings.database);
    // First, so that an error of the database is reported without waiting for Kafka.
    let mut session = database::connect(settings).await?;
    let log = ask(settings, TopicLogClient::bounds).await.unwrap_or_else(|why| {
        remark(&format!("the topic log is not shown: {why}"));
        BTreeMap::new()
    });
    let ledger = ledger(settings);
    let rows = session.run(|connection| ledger.partition_rows(connection, None)).await.map_err(explained)?;
    let lines = lines(&settings.kafka_topic, rows, &log);
    if lines.is_empty() {
        remark("no service has claimed a partition of this group and topic yet");
    }
    match output {
        OutputFormat::Json => print(&json_lines(&lines)?),
        OutputFormat::Table => print(&table(COLUMNS, lines.iter().map(cells))),
    }
}

/// A line of `offsets list`. The field names are those of its JSON. A partition without a row has only a topic log.
#[derive(Serialize)]
struct OffsetsLine {
    topic: String,
    partition: i32,
    next_offset: Option<i64>,
    log_start: Option<i64>,
    log_end: Option<i64>,
    lag: Option<i64>,
    owner: Option<String>,
    epoch: Option<i64>,
    state: &'static str,
    halt_reason: Option<String>,
    /// When it was halted, otherwise when the row last changed.
    since: Option<Time>,
    updated_at: Option<Time>,
    letters_in_a_row: Option<i32>,
    counted_from: Option<i64>,
    stored: Option<i64>,
    duplicates: Option<i64>,
    ignored: Option<i64>,
    dead_lettered: Option<i64>,
}

/// One line for each partition that has a row or a topic log.
fn lines(topic: &str, rows: Vec<PartitionRow>, log: &BTreeMap<Partition, LogBounds>) -> Vec<OffsetsLine> {
    let rows: BTreeMap<Partition, PartitionRow> = rows.into_iter().map(|row| (row.partition, row)).collect();
    let partitions: BTreeSet<Partition> = rows.keys().chain(log.keys()).copied().collect();
    partitions.into_iter().map(|partition| line(topic, partition, rows.get(&partition), log.get(&partition))).collect()
}

fn line(topic: &str, partition: Partition, row: Option<&PartitionRow>, bounds: Option<&LogBounds>) -> OffsetsLine {
    let number = |of: fn(&PartitionRow) -> i64| row.map(of);
    OffsetsLine {
        topic: topic.to_owned(),
        partition: partition.0,
        next_offset: number(|row| row.next.0),
        log_start: bounds.map(|bounds| bounds.start.0),
        log_end: bounds.map(|bounds| bounds.end.0),
        lag: row.zip(bounds).map(|(row, bounds)| bounds.end.0.saturating_sub(row.next.0).max(0)),
        owner: row.and_then(|row| row.owner.clone()),
        epoch: number(|row| row.epoch.0),
        state: match row {
            Some(PartitionRow { halt_reason: Some(_), .. }) => "halted",
            Some(PartitionRow { owner: Some(_), .. }) => "claimed",
            _ => "unclaimed",
        },
        halt_reason: row.and_then(|row| row.halt_reason.as_ref()).map(HaltReason::to_string),
        since: row.map(|row| row.halted_at.unwrap_or(row.updated_at)),
        updated_at: row.map(|row| row.updated_at),
        letters_in_a_row: row.map(|row| row.letters_in_a_row),
        counted_from: number(|row| row.counted_from.0),
        stored: number(|row| row.stored),
        duplicates: number(|row| row.duplicates),
        ignored: number(|row| row.ignored),
        dead_lettered: number(|row| row.dead_lettered),
    }
}

/// The columns for people. JSON also has the totals.
const COLUMNS: [&str; 10] =
    ["partition", "next_offset", "log_start", "log_end", "lag", "state", "since", "halt_reason", "epoch", "owner"];

fn cells(line: &OffsetsLine) -> [String; 10] {
    // A value that the row does not have is empty. A value that Kafka did not return is `?`.
    let stored = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
    let reported = |number: Option<i64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    [
        line.partition.to_string(),
        stored(line.next_offset),
        reported(line.log_start),
        reported(line.log_end),
        if line.next_offset.is_some() { reported(line.lag) } else { String::new() },
        line.state.to_owned(),
        line.since.map(Time::in_seconds).unwrap_or_default(),
        line.halt_reason.clone().unwrap_or_default(),
        stored(line.epoch),
        line.owner.clone().unwrap_or_default(),
    ]
}
