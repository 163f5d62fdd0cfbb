//! `offsets set`: moves positions.

use std::collections::BTreeMap;

use clap::Args;
use fenced_sink::admin::PartitionRow;
use fenced_sink::{HaltReason, Partition, Position};

use super::position::{TargetPosition, find, parse_target};
use super::topic_log::{LogFacts, ask};
use super::{PartitionChoice, ledger, require_rows};
use crate::commands::output::{print, print_report, remark, table};
use crate::commands::{CommandError, database};
use crate::config::Settings;

#[derive(Args)]
pub(super) struct SetArgs {
    #[command(flatten)]
    choice: PartitionChoice,
    /// The new position: earliest, latest, an offset, or the first record of a time such as 2026-02-15T14:00:00Z
    #[arg(long, value_name = "POSITION", value_parser = parse_target)]
    to: TargetPosition,
    /// Show what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// The move of one position.
struct PositionMove {
    partition: Partition,
    from: Position,
    to: Position,
    halt_reason: Option<HaltReason>,
}

pub(super) async fn set(args: &SetArgs, settings: &Settings) -> Result<(), CommandError> {
    let explained = |error| CommandError::database(&error, &settings.database);
    let (to, partition, ledger) = (args.to, args.choice.partition(), ledger(settings));
    let asked = ask(settings, move |client| {
        let bounds = client.bounds()?;
        let at_time = match to {
            TargetPosition::Time(millis) => client.at_timestamp(millis)?,
            _ => BTreeMap::new(),
        };
        Ok(LogFacts { bounds, at_time, ..LogFacts::default() })
    });
    let log = asked.await;
    let mut session = database::connect(settings).await?;
    let mut transaction = session.begin().await.map_err(explained)?;
    if !args.dry_run {
        transaction.run(|connection| ledger.lock_rows(connection, partition)).await.map_err(explained)?;
    }
    let read = transaction.run(|connection| ledger.partition_rows(connection, partition)).await;
    let rows = read.map_err(explained)?;
    require_rows(&rows, partition)?;
    let moves = rows.iter().map(|row| plan(row, to, &log)).collect::<Result<Vec<PositionMove>, CommandError>>()?;
    if !args.dry_run {
        let positions: Vec<_> = moves.iter().map(|one| (one.partition, one.to)).collect();
        transaction.run(|connection| ledger.set_positions(connection, &positions)).await.map_err(explained)?;
        transaction.commit().await.map_err(explained)?;
    }
    let report = table(["partition", "from", "to", "effect"], moves.iter().map(cells));
    let print = if args.dry_run { print } else { print_report };
    print(&report)?;
    print_remarks(args, &moves, &log);
    Ok(())
}

fn plan(row: &PartitionRow, to: TargetPosition, log: &Result<LogFacts, String>) -> Result<PositionMove, CommandError> {
    let to = find(to, row.partition, log)?;
    Ok(PositionMove { partition: row.partition, from: row.next, to, halt_reason: row.halt_reason.clone() })
}

fn cells(one: &PositionMove) -> [String; 4] {
    // "Up to", because transaction markers and compacted records take offsets too.
    let effect = match one.to.0.saturating_sub(one.from.0) {
        0 => "not moved".to_owned(),
        less @ ..0 => format!("up to {} records are read again", less.saturating_neg()),
        more => format!("up to {more} records are skipped"),
    };
    [one.partition.to_string(), one.from.to_string(), one.to.to_string(), effect]
}

fn print_remarks(args: &SetArgs, moves: &[PositionMove], log: &Result<LogFacts, String>) {
    for (one, reason) in moves.iter().filter_map(|one| Some((one, one.halt_reason.as_ref()?))) {
        let partition = one.partition;
        remark(&format!("partition {partition} stays halted ({reason}): `booking-history offsets resume` resumes it"));
    }
    match log {
        Err(why) => remark(&format!("not compared with the topic log: {why}")),
        Ok(facts) if args.choice.all => {
            let has_no_row = |partition: &&Partition| moves.iter().all(|one| one.partition != **partition);
            for partition in facts.bounds.keys().filter(has_no_row) {
                remark(&format!(
                    "partition {partition} is not moved: it has no row, because no service has claimed it yet"
                ));
            }
        }
        Ok(_) => {}
    }
    if args.dry_run {
        remark("dry run: nothing was changed");
    }
}
