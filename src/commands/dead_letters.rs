//! `dead-letters`: the records of one group and topic that could not be stored.
//!
//! These commands only read. SQL functions change letters: they are in the same database as the letters, and return a
//! result for each letter.

mod letter;
mod detail;

use chrono::{DateTime, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand, value_parser};
use fenced_sink::Reason;
use fenced_sink::admin::Time;
use sqlx::PgConnection;
use uuid::Uuid;

use super::output::{OutputFormat, json_lines, print, remark, table};
use super::timestamp::timestamp;
use super::{CommandError, database};
use crate::config::Settings;
use detail::LetterDetail;
use letter::{LetterFilter, LetterSummary};

pub(super) const EXAMPLES: &str = "\
Examples:
  booking-history dead-letters list --status parked      letters that need an operator
  booking-history dead-letters show 0198a1c4-…           one letter with its payload and attempts

To change letters, use SQL in psql. Each function returns one row per letter, with the result:
  select * from dead_letters_overview;                         the number of letters by reason
  select * from dead_letters_correct('ID', convert_to('{\"event_type\": …}', 'UTF8'));
  select * from dead_letters_requeue('{ID, ID}');              the service tries them again
  select * from dead_letters_discard('{ID}', 'why');
Many letters at once:
  select * from dead_letters_requeue(array(
      select id from dead_letters where status = 'parked' and reason = 'database_rejected'));";

const LIST_EXAMPLES: &str = "\
Examples:
  booking-history dead-letters list                      the newest letters of the group and topic
  booking-history dead-letters list --status parked      letters that need an operator
  booking-history dead-letters list --reason invalid_value --since 2026-02-15T14:00:00Z
  booking-history dead-letters list --output json | jq .detail";

const SHOW_EXAMPLES: &str = "\
Examples:
  booking-history dead-letters show 0198a1c4-0000-7000-8000-000000000001
  booking-history dead-letters show 0198a1c4-0000-7000-8000-000000000001 --output json | jq -r .value

Exit code 1: no letter has that id.";

const STATUSES: [&str; 4] = ["waiting", "parked", "resolved", "discarded"];

/// The arguments of `dead-letters`.
#[derive(Args)]
pub(super) struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(Subcommand)]
enum DeadLettersCommand {
    /// List letters without their payload, the newest first
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show one letter with its payload and each attempt to store it
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// The id of the letter, as `list` shows it
        id: Uuid,
        /// The format of the output
        #[arg(long, value_enum, default_value = "table")]
        output: OutputFormat,
    },
}

#[derive(Args)]
struct ListArgs {
    /// Only letters with this status
    #[arg(long, value_parser = PossibleValuesParser::new(STATUSES))]
    status: Option<String>,
    /// Only letters with this reason
    #[arg(long, value_parser = PossibleValuesParser::new(Reason::ALL.map(Reason::as_str)))]
    reason: Option<String>,
    /// Only letters of this partition
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Only letters that failed for the first time at this time or later, such as 2026-02-15T14:00:00Z
    #[arg(long, value_name = "TIMESTAMP", value_parser = timestamp)]
    since: Option<DateTime<Utc>>,
    /// The largest number of letters to list
    #[arg(long, value_name = "NUMBER", default_value = "100", value_parser = value_parser!(u32).range(1..).map(i64::from))]
    limit: i64,
    /// The format of the output
    #[arg(long, value_enum, default_value = "table")]
    output: OutputFormat,
}

pub(super) async fn run(args: &DeadLettersArgs, settings: &Settings) -> Result<(), CommandError> {
    match &args.command {
        DeadLettersCommand::List(args) => list(args, settings).await,
        DeadLettersCommand::Show { id, output } => show(*id, *output, settings).await,
    }
}

async fn list(args: &ListArgs, settings: &Settings) -> Result<(), CommandError> {
    let filter = LetterFilter {
        status: args.status.as_deref(),
        reason: args.reason.as_deref(),
        partition: args.partition,
        since: args.since,
        // Reads one more than is shown, to find out whether there are more.
        limit: args.limit + 1,
        ..LetterFilter::of(settings)
    };
    let mut session = database::open(settings).await?;
    let found = session.run(|connection| filter.summaries(connection)).await;
    let mut letters = found.map_err(|error| CommandError::database(&error, &settings.database))?;
    let more = usize::try_from(args.limit).is_ok_and(|limit| letters.len() > limit);
    if more {
        letters.pop();
    }
    match args.output {
        OutputFormat::Json => print(&json_lines(&letters)?)?,
        OutputFormat::Table if letters.is_empty() => {}
        OutputFormat::Table => print(&in_columns(&letters))?,
    }
    if letters.is_empty() {
        remark(&format!("no such dead letters of {}", group_and_topic(settings)));
    } else if more {
        remark(&format!("these are the newest {}; a larger --limit shows more", letters.len()));
    }
    Ok(())
}

fn in_columns(letters: &[LetterSummary]) -> String {
    let names =
        ["id", "partition", "offset", "reason", "field", "status", "attempts", "first_failed_at", "next_attempt_at"];
    let rows = letters.iter().map(|letter| {
        [
            letter.id.to_string(),
            letter.partition.to_string(),
            letter.offset.to_string(),
            letter.reason.clone(),
            letter.field.clone().unwrap_or_default(),
            letter.status.clone(),
            letter.attempts.to_string(),
            letter.first_failed_at.in_seconds(),
            letter.next_attempt_at.map(Time::in_seconds).unwrap_or_default(),
        ]
    });
    table(names, rows)
}

async fn show(id: Uuid, output: OutputFormat, settings: &Settings) -> Result<(), CommandError> {
    let explained = |error| CommandError::database(&error, &settings.database);
    let mut session = database::open(settings).await?;
    // One snapshot, so that the letter and its attempts agree.
    let begun = session.begin_with("begin isolation level repeatable read read only").await;
    let mut snapshot = begun.map_err(explained)?;
    let found = snapshot.run(|connection| find(connection, id, settings)).await;
    let Some(letter) = found.map_err(explained)? else {
        return Err(CommandError::Finding(format!("there is no dead letter {id} of {}", group_and_topic(settings))));
    };
    match output {
        OutputFormat::Json => print(&json_lines(&[letter])?),
        OutputFormat::Table => print(&letter.to_string()),
    }
}

async fn find(connection: &mut PgConnection, id: Uuid, settings: &Settings) -> sqlx::Result<Option<LetterDetail>> {
    let filter = LetterFilter { id: Some(id), ..LetterFilter::of(settings) };
    match filter.summaries(connection).await?.pop() {
        Some(summary) => LetterDetail::read(connection, summary).await.map(Some),
        None => Ok(None),
    }
}

fn group_and_topic(settings: &Settings) -> String {
    format!("group {} and topic {}", settings.kafka_group_id, settings.kafka_topic)
}
