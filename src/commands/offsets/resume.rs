//! `offsets resume`: resumes halted partitions, all that the user names or none.

use clap::Args;
use std::collections::BTreeMap;

use fenced_sink::admin::{AcknowledgedGap, HandledRecords, Ledger, LogNow, PartitionRow, Resumption, Session};
use fenced_sink::{HaltReason, Partition, Position};

use super::position::{TargetPosition, find, parse_target_without_time};
use super::topic_log::{LogFacts, ask};
use super::{PartitionChoice, ledger, require_rows};
use crate::commands::output::{print, print_report, remark, table};
use crate::commands::{CommandError, database};
use crate::config::Settings;

#[derive(Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    choice: PartitionChoice,
    /// Where to continue: earliest, latest or an offset; without it, at the first record that is not handled and still
    /// exists
    #[arg(long, value_name = "POSITION", value_parser = parse_target_without_time)]
    at: Option<TargetPosition>,
}

pub(super) async fn resume(args: &ResumeArgs, settings: &Settings) -> Result<(), CommandError> {
    let explained = |error| CommandError::database(&error, &settings.database);
    let (partition, ledger) = (args.choice.partition(), ledger(settings));
    // Before the rows are locked, because Kafka can be slow. An error is reported only if the answer is needed: some
    // halts can be resumed while no broker answers.
    let asked = ask(settings, |client| {
        // The id first: with an older id than the bounds, the service finds the new topic.
        let topic_id = client.topic_id();
        Ok(LogFacts { bounds: client.bounds()?, topic_id, ..LogFacts::default() })
    });
    let mut log = asked.await;
    let mut session = database::connect(settings).await?;
    if let (Ok(facts), None) = (&mut log, args.at) {
        facts.now = compare(settings, &ledger, &mut session, partition).await.map_err(explained)?;
    }
    let mut transaction = session.begin().await.map_err(explained)?;
    transaction.run(|connection| ledger.lock_rows(connection, partition)).await.map_err(explained)?;
    let read = transaction.run(|connection| ledger.partition_rows(connection, partition)).await;
    let rows = read.map_err(explained)?;
    require_rows(&rows, partition)?;
    let planned = plan(&rows, args.at, &log)?;
    let topic_id = log.as_ref().ok().and_then(|facts| facts.topic_id.as_ref());
    let resumed = transaction.run(|connection| ledger.resume(connection, &planned, topic_id)).await;
    let gaps = resumed.map_err(explained)?;
    transaction.commit().await.map_err(explained)?;
    if planned.is_empty() {
        remark("nothing done: no such partition is halted");
    } else if let (Err(why), Some(TargetPosition::Offset(_))) = (&log, args.at) {
        remark(&format!("not compared with the topic log: {why}"));
    }
    let names = ["partition", "halt_reason", "from", "to", "acknowledged_gaps"];
    let report = table(names, rows.iter().filter_map(|row| cells(row, &planned, &gaps)));
    if planned.is_empty() { print(&report) } else { print_report(&report) }
}

/// Compares the rows of truncated logs with Kafka once more: another leader without all records can have been elected
/// since the halt.
async fn compare(
    settings: &Settings,
    ledger: &Ledger,
    session: &mut Session,
    partition: Option<Partition>,
) -> sqlx::Result<BTreeMap<Partition, LogNow>> {
    let rows = session.run(|connection| ledger.partition_rows(connection, partition)).await?;
    let truncated = rows.iter().filter(|row| row.halt_reason == Some(HaltReason::LogTruncated));
    let truncated: Vec<Partition> = truncated.map(|row| row.partition).collect();
    if truncated.is_empty() {
        return Ok(BTreeMap::new());
    }
    let handled = session.run(|connection| HandledRecords::read(ledger, connection, &truncated)).await?;
    Ok(ask(settings, move |client| Ok(handled.compare(client))).await.unwrap_or_default())
}

/// How each halted partition continues, or why one of them can't.
fn plan(
    rows: &[PartitionRow],
    at: Option<TargetPosition>,
    log: &Result<LogFacts, String>,
) -> Result<Vec<Resumption>, CommandError> {
    let halted = || rows.iter().filter_map(|row| Some((row, row.halt_reason.as_ref()?)));
    let undecided: Vec<String> = match at {
        None => halted().filter_map(|(row, reason)| undecided(row, reason, log)).collect(),
        Some(_) => Vec::new(),
    };
    if !undecided.is_empty() {
        return Err(CommandError::Usage(format!("nothing was resumed\n  {}", undecided.join("\n  "))));
    }
    halted().map(|(row, reason)| resumption(row, reason, at, log)).collect()
}

/// Why the user must choose the position, with the arguments to type. `None`: only one position is right, so the user
/// does not choose. No record is missed from the first position in the text.
fn undecided(row: &PartitionRow, reason: &HaltReason, log: &Result<LogFacts, String>) -> Option<String> {
    let (partition, next) = (row.partition, row.next);
    let facts = log.as_ref().ok();
    let bounds = facts.and_then(|facts| facts.bounds.get(&partition));
    let now = facts.and_then(|facts| facts.now.get(&partition)).copied().unwrap_or(LogNow::NoAnswer);
    let resume = format!("`offsets resume --partition {partition} --at");
    let what = match reason {
        HaltReason::LogTruncated if now != LogNow::OtherTopic => {
            let log_start = bounds.map_or(Position(0), |bounds| bounds.start);
            let begin = match now {
                LogNow::HasBelow(position) => row.gap_start.map(|from| from.min(position)),
                LogNow::NoAnswer => row.gap_start,
                LogNow::Unproven | LogNow::OtherTopic => None,
            };
            let kept = begin.filter(|from| bounds.is_none_or(|log| (log.start..=log.end).contains(from)));
            let since =
                if now == LogNow::NoAnswer { " (at the time of the halt: Kafka does not answer now)" } else { "" };
            let from = kept.unwrap_or(log_start);
            let at = kept.map_or_else(|| "earliest".to_owned(), |from| from.to_string());
            let again = offsets(from, bounds.map_or(next, |bounds| next.min(bounds.end)));
            format!(
                "from offset {from} on{since}, the topic log no longer has the records that were read, and it can have \
                 others; {resume} {at}` continues there and reads {again} below the position {next} again, and records that \
                 are stored already become duplicates; {resume} latest` continues with new records, and never reads the \
                 records before these"
            )
        }
        HaltReason::LogTruncated | HaltReason::LogReplaced => {
            let all = bounds.map(|bounds| format!(", {}", offsets(bounds.start, bounds.end))).unwrap_or_default();
            format!(
                "the topic was created again, or its records were replaced; {resume} earliest` reads all its \
                 records{all}, and those that are stored already become duplicates"
            )
        }
        HaltReason::LogCorrupt => format!(
            "Kafka has damaged data at offset {next}; {resume} {next}` tries to read it again, {resume} {}` continues \
             with the first record after it that can be read",
            row.gap_end.map_or(next.0, |to| to.0).max(next.0.saturating_add(1))
        ),
        HaltReason::RetentionGap
        | HaltReason::BatchTooLarge
        | HaltReason::TooManyDeadLetters
        | HaltReason::NoStartPosition
        | HaltReason::Other(_) => return None,
    };
    Some(format!("partition {partition} is halted, {reason}: {what}"))
}

/// The number of offsets, as text.
fn offsets(from: Position, to: Position) -> String {
    match to.0.saturating_sub(from.0).max(0) {
        1 => "1 offset".to_owned(),
        number => format!("{number} offsets"),
    }
}

fn resumption(
    row: &PartitionRow,
    reason: &HaltReason,
    at: Option<TargetPosition>,
    log: &Result<LogFacts, String>,
) -> Result<Resumption, CommandError> {
    let partition = row.partition;
    let is_gap = *reason == HaltReason::RetentionGap;
    let to = match at {
        Some(at) => find(at, partition, log)?,
        None if is_gap => find(TargetPosition::Earliest, partition, log)?.max(row.next),
        None => row.next,
    };
    let log_start = log.as_ref().ok().and_then(|facts| facts.bounds.get(&partition)).map(|bounds| bounds.start);
    Ok(Resumption {
        partition,
        from: row.next,
        to,
        forgets_log: matches!(reason, HaltReason::LogTruncated | HaltReason::LogReplaced),
        takes_topic_id: match reason {
            HaltReason::LogReplaced => true,
            HaltReason::LogTruncated => at == Some(TargetPosition::Earliest),
            _ => false,
        },
        log_start: log_start.filter(|_| is_gap),
    })
}

/// `None`: the partition is not halted.
fn cells(row: &PartitionRow, planned: &[Resumption], gaps: &[AcknowledgedGap]) -> Option<[String; 5]> {
    let one = planned.iter().find(|one| one.partition == row.partition)?;
    let gaps = gaps.iter().filter(|gap| gap.partition == row.partition);
    let gaps: Vec<String> = gaps.map(|gap| format!("[{}, {}) {}", gap.from, gap.to, gap.reason)).collect();
    let reason = row.halt_reason.as_ref()?.to_string();
    Some([row.partition.to_string(), reason, one.from.to_string(), one.to.to_string(), gaps.join(", ")])
}

#[cfg(test)]
pub(in crate::commands) mod tests;
