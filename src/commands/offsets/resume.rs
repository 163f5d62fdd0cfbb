//! `offsets resume`: lets halted partitions go on, all of those that are named or none.
//!
//! Everything is one transaction: the position, the end of the halt, and the gaps, which are from then on acknowledged.
//! The epoch rises, so that whoever still believes in an older position or an older log matches nothing.

mod store;

use clap::Args;
use fenced_sink::{Partition, Position};
use sqlx::Connection as _;

use self::store::{AcknowledgedGap, acknowledge, extend_gaps, lift};
use super::position::{TargetPosition, find, place_without_time};
use super::rows::{self, PartitionRow};
use super::set::must_be_there;
use super::{LogFacts, Which, ask, asked_of_the_database, open};
use crate::commands::CommandError;
use crate::commands::output::{print, remark, table};
use crate::config::Settings;

#[derive(Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    which: Which,
    /// Where to go on: earliest, latest or an offset; without it, at the first record that is not handled and still there
    #[arg(long, value_name = "POSITION", value_parser = place_without_time)]
    at: Option<TargetPosition>,
}

/// How a halted partition goes on.
#[derive(Debug, PartialEq, Eq)]
struct Resumption {
    partition: i32,
    reason: String,
    from: i64,
    at: i64,
    /// The log is another one than it was: what was known of it is forgotten. Not where it is damaged: whoever mends that by
    /// making the topic anew has a log whose records below the position were never read, and has to hear of it.
    forgets_log: bool,
    /// Where the log begins today that records are gone from: the gap on record grows up to there.
    gone_below: Option<i64>,
}

pub(super) async fn resume(args: &ResumeArgs, settings: &Settings) -> Result<(), CommandError> {
    // Before anything is held: Kafka may take its time. Whether its answer is needed is seen when it is used: a halt that
    // the log has no part in can be lifted while the broker is away.
    let log =
        ask(settings, |log| Ok(LogFacts { bounds: log.bounds()?, topic_id: log.topic_id(), ..LogFacts::default() }));
    let log = log.await;
    let mut connection = open(settings).await?;
    let mut transaction = asked_of_the_database(settings, connection.begin()).await?;
    asked_of_the_database(settings, rows::hold(&mut transaction, settings, args.which.partition)).await?;
    let rows = asked_of_the_database(settings, rows::read(&mut transaction, settings, args.which.partition)).await?;
    must_be_there(&rows, &args.which)?;
    let planned = plan(&rows, args.at, &log)?;
    let topic_id = log.as_ref().ok().and_then(|known| known.topic_id.as_ref());
    let gaps = asked_of_the_database(settings, async {
        extend_gaps(&mut transaction, settings, &planned).await?;
        lift(&mut transaction, settings, &planned, topic_id).await?;
        acknowledge(&mut transaction, settings, &planned).await
    });
    let gaps = gaps.await?;
    asked_of_the_database(settings, transaction.commit()).await?;
    if planned.is_empty() {
        remark("nothing done: no such partition is halted");
    } else if let (Err(why), Some(TargetPosition::Offset(_))) = (&log, args.at) {
        remark(&format!("not compared with the log: {why}"));
    }
    let names = ["partition", "was halted for", "at", "goes on at", "gaps acknowledged"];
    print(&table(names, planned.iter().map(|one| cells(one, &gaps))))
}

/// What is to be done, if all of it can be.
fn plan(
    rows: &[PartitionRow],
    at: Option<TargetPosition>,
    log: &Result<LogFacts, String>,
) -> Result<Vec<Resumption>, CommandError> {
    let halted = || rows.iter().filter_map(|row| Some((row, row.halt_reason.as_deref()?)));
    let undecided: Vec<String> = match at {
        None => halted().filter_map(|(row, reason)| undecided(row, reason)).collect(),
        Some(_) => Vec::new(),
    };
    if !undecided.is_empty() {
        return Err(CommandError::Usage(format!("nothing was resumed\n  {}", undecided.join("\n  "))));
    }
    halted().map(|(row, reason)| resumption(row, reason, at, log)).collect()
}

/// Why somebody has to choose where to go on, and what to type. `None`: there is one place where no record is lost.
fn undecided(row: &PartitionRow, reason: &str) -> Option<String> {
    let (partition, next) = (row.partition, row.next_offset);
    let resume = format!("`offsets resume --partition {partition} --at");
    let what = match reason {
        "log_truncated" => format!(
            "the log ends before {next}, where it would go on; {resume} latest` leaves it at what comes from now on, \
             {resume} earliest` reads all there is again and stores nothing twice"
        ),
        "log_replaced" => format!(
            "the topic holds another log than before; {resume} earliest` reads all of it, what was stored before comes \
             out as duplicates"
        ),
        "log_corrupt" => format!(
            "Kafka has damaged data at {next}; {resume} {next}` tries it again, {resume} {}` goes on with the first record \
             behind it that can be read",
            row.gap_to.filter(|to| *to > next).unwrap_or(next.saturating_add(1))
        ),
        _ => return None,
    };
    Some(format!("partition {partition} is halted, {reason}: {what}"))
}

fn resumption(
    row: &PartitionRow,
    reason: &str,
    at: Option<TargetPosition>,
    log: &Result<LogFacts, String>,
) -> Result<Resumption, CommandError> {
    let (partition, next) = (Partition(row.partition), Position(row.next_offset));
    let is_gap = reason == "retention_gap";
    let position = match at {
        Some(place) => find(place, partition, log)?,
        None if is_gap => find(TargetPosition::Earliest, partition, log)?.max(next),
        None => next,
    };
    let start = log.as_ref().ok().and_then(|known| known.bounds.get(&partition)).map(|bounds| bounds.start);
    Ok(Resumption {
        partition: row.partition,
        reason: reason.to_owned(),
        from: row.next_offset,
        at: position.0,
        forgets_log: ["log_truncated", "log_replaced"].contains(&reason),
        gone_below: start.filter(|_| is_gap).map(|start| start.0),
    })
}

fn cells(one: &Resumption, gaps: &[AcknowledgedGap]) -> [String; 5] {
    let gaps = gaps.iter().filter(|gap| gap.partition == one.partition);
    let gaps: Vec<String> =
        gaps.map(|gap| format!("[{}, {}) {}", gap.from_offset, gap.to_offset, gap.reason)).collect();
    [one.partition.to_string(), one.reason.clone(), one.from.to_string(), one.at.to_string(), gaps.join(", ")]
}

#[cfg(test)]
mod tests;
