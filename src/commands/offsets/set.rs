//! `offsets set`: moves positions.
//!
//! The epoch stays as it is. A commit in flight either ends before the row is held, or finds another `next_offset` and
//! matches nothing; the service then drops what it has read and goes on where the row says (rule 7 of the engine).
//! Where the position comes to be what the commit read from, the commit is right: it handles all records from there on.
//! A higher epoch would tell the service that somebody else took the partition over, and have it wait before it claims it.

use std::collections::BTreeMap;

use clap::Args;
use fenced_sink::Partition;
use sqlx::{Connection as _, PgConnection};

use super::position::{TargetPosition, find, place};
use super::rows::{self, PartitionRow};
use super::{LogFacts, Which, ask, asked_of_the_database, open};
use crate::commands::CommandError;
use crate::commands::output::{print, remark, table};
use crate::config::Settings;

#[derive(Args)]
pub(super) struct SetArgs {
    #[command(flatten)]
    which: Which,
    /// Where to: earliest, latest, an offset, or the first record of a time such as 2026-02-15T14:00:00Z
    #[arg(long, value_name = "POSITION", value_parser = place)]
    to: TargetPosition,
    /// Shows what would be done, and does nothing
    #[arg(long)]
    dry_run: bool,
}

/// What is done to a partition.
struct Move {
    partition: i32,
    from: i64,
    to: i64,
    halt_reason: Option<String>,
}

pub(super) async fn set(args: &SetArgs, settings: &Settings) -> Result<(), CommandError> {
    let to = args.to;
    let asked = ask(settings, move |log| {
        let bounds = log.bounds()?;
        let at_time = if let TargetPosition::Time(millis) = to { log.at_timestamp(millis)? } else { BTreeMap::new() };
        Ok(LogFacts { bounds, at_time, topic_id: None })
    });
    let log = asked.await;
    let mut connection = open(settings).await?;
    let mut transaction = asked_of_the_database(settings, connection.begin()).await?;
    if !args.dry_run {
        asked_of_the_database(settings, rows::hold(&mut transaction, settings, args.which.partition)).await?;
    }
    let rows = asked_of_the_database(settings, rows::read(&mut transaction, settings, args.which.partition)).await?;
    must_be_there(&rows, &args.which)?;
    let moves = rows.iter().map(|row| plan(row, to, &log)).collect::<Result<Vec<Move>, CommandError>>()?;
    if !args.dry_run {
        asked_of_the_database(settings, move_rows(&mut transaction, settings, &moves)).await?;
        asked_of_the_database(settings, transaction.commit()).await?;
    }
    print(&table(["partition", "from", "to", "so"], moves.iter().map(cells)))?;
    remarks(args, &moves, &log);
    Ok(())
}

fn plan(row: &PartitionRow, to: TargetPosition, log: &Result<LogFacts, String>) -> Result<Move, CommandError> {
    let to = find(to, Partition(row.partition), log)?.0;
    Ok(Move { partition: row.partition, from: row.next_offset, to, halt_reason: row.halt_reason.clone() })
}

/// A row is made by whoever claims the partition first, at the position that `KAFKA_START` says; never here.
pub(super) fn must_be_there(rows: &[PartitionRow], which: &Which) -> Result<(), CommandError> {
    match (rows, which.partition) {
        ([], Some(partition)) => Err(CommandError::Usage(format!(
            "partition {partition} has no row for this group and topic: no service has claimed it yet; `offsets list` shows \
             all, and `booking-history run` makes the rows"
        ))),
        ([], None) => Err(CommandError::Usage(
            "no partition has a row for this group and topic: no service has claimed any yet; check KAFKA_GROUP_ID and \
             KAFKA_TOPIC; `booking-history run` makes the rows"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

fn cells(one: &Move) -> [String; 4] {
    let so = match one.to.saturating_sub(one.from) {
        0 => "stays where it is".to_owned(),
        // Markers and compacted records take offsets, too: nobody knows how many records it is without reading them.
        less @ ..0 => format!("up to {} records are read again", less.saturating_neg()),
        more => format!("up to {more} records are left out"),
    };
    [one.partition.to_string(), one.from.to_string(), one.to.to_string(), so]
}

fn remarks(args: &SetArgs, moves: &[Move], log: &Result<LogFacts, String>) {
    for (one, reason) in moves.iter().filter_map(|one| Some((one, one.halt_reason.as_deref()?))) {
        remark(&format!("partition {} stays halted ({reason}): `offsets resume` lets it go on", one.partition));
    }
    match log {
        Err(why) => remark(&format!("not compared with the log: {why}")),
        Ok(known) if args.which.all => {
            let lacks_a_row = |partition: &&Partition| moves.iter().all(|one| one.partition != partition.0);
            for partition in known.bounds.keys().filter(lacks_a_row) {
                remark(&format!("partition {partition} is left out: no service has claimed it yet, so it has no row"));
            }
        }
        Ok(_) => {}
    }
    if args.dry_run {
        remark("dry run: nothing was changed");
    }
}

/// Moves the rows that are held. The totals begin anew, and so does the count of letters; what is known of the last
/// record stays known as long as that record lies before the position, and the topic's id is not touched: moving a
/// position says nothing about whose log it is.
async fn move_rows(transaction: &mut PgConnection, settings: &Settings, moves: &[Move]) -> sqlx::Result<()> {
    let partitions: Vec<i32> = moves.iter().map(|one| one.partition).collect();
    let positions: Vec<i64> = moves.iter().map(|one| one.to).collect();
    let updated = sqlx::query!(
        "update consumer_offsets as held
         set next_offset = moved.position, counted_from = moved.position,
             stored = 0, duplicates = 0, ignored = 0, dead_lettered = 0, letters_in_a_row = 0,
             last_offset = case when held.last_offset < moved.position then held.last_offset end,
             last_digest = case when held.last_offset < moved.position then held.last_digest end,
             checked_offset = least(held.checked_offset, moved.position), updated_at = now()
         from unnest($3::integer[], $4::bigint[]) as moved (partition, position)
         where held.group_id = $1 and held.topic = $2 and held.partition = moved.partition",
        settings.kafka_group_id,
        settings.kafka_topic,
        &partitions,
        &positions
    );
    updated.execute(transaction).await.map(drop)
}
