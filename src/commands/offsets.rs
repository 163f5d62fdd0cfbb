//! `offsets`: where each partition stands, and letting a halted one go on.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use sqlx::PgConnection;

use super::CommandError;
use super::output::{Output, json_lines, print, remark, table};
use crate::config::{Settings, consumer_properties};
use crate::engine::ledger::{connect, within};
use crate::engine::source::log::{Extent, Log};

pub(super) const EXAMPLES: &str = "\
Examples:
  booking-history offsets list                            position, end of the log, lag, owner and state
  booking-history offsets list --output json              one object a line
  booking-history offsets resume --partition 3            go on with the first record that is not handled
  booking-history offsets resume --all
  booking-history offsets resume --partition 3 --at 1200  go on elsewhere; what lies between is not read";

/// What `offsets` is asked to do.
#[derive(Args)]
pub(super) struct OffsetsArgs {
    #[command(subcommand)]
    command: OffsetsCommand,
}

#[derive(Subcommand)]
enum OffsetsCommand {
    /// Shows each partition: position, log, lag, owner, state and totals
    List {
        /// table, or json for one object a line
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Lets halted partitions go on; a running service follows within a second or two
    Resume(ResumeArgs),
}

#[derive(Args)]
struct ResumeArgs {
    /// The partition
    #[arg(long, value_name = "NUMBER", required_unless_present = "all", conflicts_with = "all")]
    partition: Option<i32>,
    /// Every halted partition
    #[arg(long)]
    all: bool,
    /// Where to go on: earliest, latest or an offset; without it, where the partition stands
    #[arg(long, value_name = "POSITION", value_parser = at)]
    at: Option<At>,
}

#[derive(Clone, Copy, Debug)]
enum At {
    Earliest,
    Latest,
    Offset(i64),
}

fn at(text: &str) -> Result<At, String> {
    match text {
        "earliest" => Ok(At::Earliest),
        "latest" => Ok(At::Latest),
        offset => match offset.parse() {
            Ok(offset @ 0..) => Ok(At::Offset(offset)),
            _ => Err("it takes earliest, latest or an offset".to_owned()),
        },
    }
}

pub(super) async fn run(args: &OffsetsArgs, settings: &Settings) -> Result<(), CommandError> {
    let limit = settings.database_timeout;
    let failed = |error: sqlx::Error| CommandError::database(&error, &settings.database);
    let mut connection = connect(settings.database.options(), limit).await.map_err(failed)?;
    match &args.command {
        OffsetsCommand::List { output } => {
            let log = extents(settings).await;
            if let Err(error) = &log {
                tracing::warn!("the log is not shown: {error}");
            }
            let rows = within(limit, rows(&mut connection, settings)).await.map_err(failed)?;
            let log: BTreeMap<i32, Extent> =
                log.unwrap_or_default().into_iter().map(|extent| (extent.partition.0, extent)).collect();
            let lines: Vec<Line> = rows.into_iter().map(|row| line(row, &log)).collect();
            if lines.is_empty() {
                remark("no partition was ever claimed for this group and topic");
            }
            match output {
                Output::Json => print(&json_lines(&lines)?),
                Output::Table => print(&table(COLUMNS, lines.iter().map(cells))),
            }
        }
        OffsetsCommand::Resume(resume) => {
            // Asked for only if it is needed: a halt must be liftable while the broker is away.
            let log = match resume.at {
                Some(At::Earliest | At::Latest) => extents(settings).await?,
                _ => Vec::new(),
            };
            if matches!(resume.at, Some(At::Earliest | At::Latest)) {
                let rows = within(limit, rows(&mut connection, settings)).await.map_err(failed)?;
                must_be_in_the_log(&rows, resume, &log)?;
            }
            let done = within(limit, resume_halted(&mut connection, settings, resume, &log)).await.map_err(failed)?;
            if done.is_empty() {
                remark("nothing done: no such partition is halted");
            }
            let cells = |done: &Resumed| {
                [done.partition.to_string(), done.next_offset.to_string(), shown(done.halt_reason.as_deref())]
            };
            print(&table(["partition", "goes on at", "was halted for"], done.iter().map(cells)))
        }
    }
}

/// A partition that Kafka does not list has no start and no end to go on at.
fn must_be_in_the_log(rows: &[Row], resume: &ResumeArgs, log: &[Extent]) -> Result<(), CommandError> {
    let halted = |row: &&Row| row.halt_reason.is_some() && resume.partition.is_none_or(|one| one == row.partition);
    match rows.iter().filter(halted).find(|row| log.iter().all(|extent| extent.partition.0 != row.partition)) {
        None => Ok(()),
        Some(row) => Err(CommandError::Unavailable(format!(
            "Kafka has no partition {} of {}: nothing was resumed; give an offset, or leave it halted",
            row.partition, row.topic
        ))),
    }
}

async fn extents(settings: &Settings) -> Result<Vec<Extent>, CommandError> {
    let log = Log::new(&consumer_properties(settings).into_iter().collect(), &settings.kafka_topic);
    let asked = tokio::task::spawn_blocking(move || log.extents()).await;
    match asked {
        Ok(Ok(extents)) => Ok(extents),
        Ok(Err(error)) => Err(CommandError::Unavailable(format!(
            "can't ask Kafka at {}: {error}; check that it runs and that KAFKA_BOOTSTRAP_SERVERS names it",
            settings.kafka_bootstrap_servers
        ))),
        Err(error) => Err(CommandError::Internal(error.to_string())),
    }
}

#[expect(clippy::struct_field_names, reason = "the names of the columns")]
struct Row {
    topic: String,
    partition: i32,
    next_offset: i64,
    epoch: i64,
    owner: Option<String>,
    halt_reason: Option<String>,
    updated_at: DateTime<Utc>,
    letters_in_a_row: i32,
    counted_from: i64,
    stored: i64,
    duplicates: i64,
    ignored: i64,
    dead_lettered: i64,
}

/// The rows of the group and topic, by partition.
async fn rows(connection: &mut PgConnection, settings: &Settings) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        "select topic, partition, next_offset, epoch, owner, halt_reason, updated_at, letters_in_a_row, counted_from,
                stored, duplicates, ignored, dead_lettered
         from consumer_offsets where group_id = $1 and topic = $2 order by partition",
        settings.kafka_group_id,
        settings.kafka_topic
    )
    .fetch_all(connection)
    .await
}

/// A line of `offsets list`; the names are those of its JSON.
#[derive(Serialize)]
struct Line {
    topic: String,
    partition: i32,
    next_offset: i64,
    log_start: Option<i64>,
    log_end: Option<i64>,
    lag: Option<i64>,
    owner: Option<String>,
    epoch: i64,
    state: &'static str,
    halt_reason: Option<String>,
    updated_at: String,
    letters_in_a_row: i32,
    counted_from: i64,
    stored: i64,
    duplicates: i64,
    ignored: i64,
    dead_lettered: i64,
}

fn line(row: Row, log: &BTreeMap<i32, Extent>) -> Line {
    let extent = log.get(&row.partition);
    Line {
        log_start: extent.map(|extent| extent.start.0),
        log_end: extent.map(|extent| extent.end.0),
        lag: extent.map(|extent| extent.end.0.saturating_sub(row.next_offset).max(0)),
        state: match (&row.halt_reason, &row.owner) {
            (Some(_), _) => "halted",
            (None, Some(_)) => "claimed",
            (None, None) => "unclaimed",
        },
        topic: row.topic,
        partition: row.partition,
        next_offset: row.next_offset,
        owner: row.owner,
        epoch: row.epoch,
        halt_reason: row.halt_reason,
        updated_at: row.updated_at.to_rfc3339_opts(SecondsFormat::Secs, true),
        letters_in_a_row: row.letters_in_a_row,
        counted_from: row.counted_from,
        stored: row.stored,
        duplicates: row.duplicates,
        ignored: row.ignored,
        dead_lettered: row.dead_lettered,
    }
}

/// The columns for people: JSON has the totals as well.
const COLUMNS: [&str; 9] =
    ["partition", "next_offset", "log_start", "log_end", "lag", "state", "halt_reason", "epoch", "owner"];

fn cells(line: &Line) -> [String; 9] {
    let number = |number: Option<i64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    [
        line.partition.to_string(),
        line.next_offset.to_string(),
        number(line.log_start),
        number(line.log_end),
        number(line.lag),
        line.state.to_owned(),
        shown(line.halt_reason.as_deref()),
        line.epoch.to_string(),
        shown(line.owner.as_deref()),
    ]
}

fn shown(text: Option<&str>) -> String {
    text.unwrap_or_default().to_owned()
}

/// What was done to a partition.
struct Resumed {
    partition: i32,
    halt_reason: Option<String>,
    next_offset: i64,
}

/// Lifts halts in one statement: the count of letters and the totals begin anew, and the epoch rises, so that whoever
/// still believes in an older position matches nothing.
async fn resume_halted(
    connection: &mut PgConnection,
    settings: &Settings,
    resume: &ResumeArgs,
    log: &[Extent],
) -> sqlx::Result<Vec<Resumed>> {
    let partitions: Vec<i32> = log.iter().map(|extent| extent.partition.0).collect();
    let position = |extent: &Extent| if matches!(resume.at, Some(At::Latest)) { extent.end.0 } else { extent.start.0 };
    let positions: Vec<i64> = log.iter().map(position).collect();
    let offset = if let Some(At::Offset(offset)) = resume.at { Some(offset) } else { None };
    sqlx::query_as!(
        Resumed,
        r#"with halted as (
               select partition, halt_reason, coalesce($4, moved.position, next_offset) as next_offset
               from consumer_offsets
               left join unnest($5::integer[], $6::bigint[]) as moved (partition, position) using (partition)
               where group_id = $1 and topic = $2 and halted_at is not null and partition = coalesce($3, partition)
               for update of consumer_offsets
           )
           update consumer_offsets as held
           set halted_at = null, halt_reason = null, letters_in_a_row = 0, epoch = epoch + 1, updated_at = now(),
               next_offset = halted.next_offset, counted_from = halted.next_offset,
               last_offset = case when held.next_offset = halted.next_offset then last_offset end,
               last_digest = case when held.next_offset = halted.next_offset then last_digest end,
               stored = 0, duplicates = 0, ignored = 0, dead_lettered = 0
           from halted
           where held.group_id = $1 and held.topic = $2 and held.partition = halted.partition
           returning held.partition, halted.halt_reason, held.next_offset"#,
        settings.kafka_group_id,
        settings.kafka_topic,
        resume.partition,
        offset,
        &partitions,
        &positions
    )
    .fetch_all(connection)
    .await
}
