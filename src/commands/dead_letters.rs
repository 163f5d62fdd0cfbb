//! `dead-letters`: the records of one group and topic that could not become a row. Reads only: letters are changed by
//! SQL, which is there wherever the letters are, and says what it did.

mod letter;
mod whole;

use chrono::{DateTime, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand, value_parser};
use fenced_sink::Reason;
use fenced_sink::admin::{connect, within};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::output::{Output, json_lines, print, remark, table};
use super::time::Time;
use super::{CommandError, SchemaState, schema_state};
use crate::config::Settings;
use letter::{Filter, Summary};
use whole::LetterDetail;

pub(super) const EXAMPLES: &str = "\
Examples:
  booking-history dead-letters list                            the newest letters of the group and topic
  booking-history dead-letters list --status parked            those that need a person
  booking-history dead-letters list --reason invalid_value --since 2026-02-15T14:00:00Z
  booking-history dead-letters list --output json | jq .detail
  booking-history dead-letters show 0198a1c4-…                 one whole: payload, headers, each try

What changes letters is SQL, in psql; each line says for every letter what was done:
  select * from dead_letters_overview;                         how many, by reason
  select * from dead_letters_correct('ID', convert_to('{\"event_type\": …}', 'UTF8'));
  select * from dead_letters_requeue('{ID, ID}');              a running service tries them within seconds
  select * from dead_letters_discard('{ID}', 'why');
Many at once:
  select * from dead_letters_requeue(array(
      select id from dead_letters where status = 'parked' and reason = 'database_rejected'));

Exit code 1: there is no letter of that id.";

const STATUSES: [&str; 4] = ["waiting", "parked", "resolved", "discarded"];

/// What `dead-letters` is asked to do.
#[derive(Args)]
pub(super) struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCommand,
}

#[derive(Subcommand)]
enum DeadLettersCommand {
    /// Lists letters, the newest first, without their payload
    List(ListArgs),
    /// Shows one letter whole, and each try to make it a row
    Show {
        /// The letter's id, as `list` shows it
        id: Uuid,
        /// How to print it
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
}

#[derive(Args)]
struct ListArgs {
    /// Only letters of this status
    #[arg(long, value_parser = PossibleValuesParser::new(STATUSES))]
    status: Option<String>,
    /// Only letters of this reason
    #[arg(long, value_parser = PossibleValuesParser::new(Reason::ALL.map(Reason::as_str)))]
    reason: Option<String>,
    /// Only letters of this partition
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Only letters that failed first at this time or later, such as 2026-02-15T14:00:00Z
    #[arg(long, value_name = "TIMESTAMP", value_parser = timestamp)]
    since: Option<DateTime<Utc>>,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value = "100", value_parser = value_parser!(u32).range(1..).map(i64::from))]
    limit: i64,
    /// How to print them
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// A time as an argument.
pub(super) fn timestamp(given: &str) -> Result<DateTime<Utc>, String> {
    let parsed = DateTime::parse_from_rfc3339(given);
    parsed.map(Into::into).map_err(|_| "a time with its offset is accepted, such as 2026-02-15T14:00:00Z".to_owned())
}

pub(super) async fn run(args: &DeadLettersArgs, settings: &Settings) -> Result<(), CommandError> {
    match &args.command {
        DeadLettersCommand::List(args) => list(args, settings).await,
        DeadLettersCommand::Show { id, output } => show(*id, *output, settings).await,
    }
}

async fn list(args: &ListArgs, settings: &Settings) -> Result<(), CommandError> {
    let filter = Filter {
        status: args.status.as_deref(),
        reason: args.reason.as_deref(),
        partition: args.partition,
        since: args.since,
        // One more, to know whether there is more.
        limit: args.limit + 1,
        ..Filter::of(settings)
    };
    let mut connection = open(settings).await?;
    let found = within(settings.database_timeout, filter.summaries(&mut connection)).await;
    let mut letters = found.map_err(|error| CommandError::database(&error, &settings.database))?;
    let more = usize::try_from(args.limit).is_ok_and(|limit| letters.len() > limit);
    if more {
        letters.pop();
    }
    match args.output {
        Output::Json => print(&json_lines(&letters)?)?,
        Output::Table if letters.is_empty() => {}
        Output::Table => print(&in_columns(&letters))?,
    }
    if letters.is_empty() {
        remark(&format!("no such dead letters of {}", owner(settings)));
    } else if more {
        remark(&format!("these are the newest {}; a larger --limit shows more", letters.len()));
    }
    Ok(())
}

fn in_columns(letters: &[Summary]) -> String {
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

async fn show(id: Uuid, output: Output, settings: &Settings) -> Result<(), CommandError> {
    let mut connection = open(settings).await?;
    let found = within(settings.database_timeout, find(&mut connection, id, settings)).await;
    let Some(letter) = found.map_err(|error| CommandError::database(&error, &settings.database))? else {
        return Err(CommandError::Finding(format!("there is no dead letter {id} of {}", owner(settings))));
    };
    match output {
        Output::Json => print(&json_lines(&[letter])?),
        Output::Table => print(&letter.to_string()),
    }
}

/// One letter and its tries as they were at one moment.
async fn find(connection: &mut PgConnection, id: Uuid, settings: &Settings) -> sqlx::Result<Option<LetterDetail>> {
    let mut transaction = connection.begin_with("begin isolation level repeatable read read only").await?;
    let filter = Filter { id: Some(id), ..Filter::of(settings) };
    match filter.summaries(&mut transaction).await?.pop() {
        Some(summary) => LetterDetail::read(&mut transaction, summary).await.map(Some),
        None => Ok(None),
    }
}

fn owner(settings: &Settings) -> String {
    format!("group {} and topic {}", settings.kafka_group_id, settings.kafka_topic)
}

/// A connection to a database whose tables are the ones that this program knows.
pub(super) async fn open(settings: &Settings) -> Result<PgConnection, CommandError> {
    let limit = settings.database_timeout;
    let opened = async {
        let mut connection = connect(settings.database.options(), limit).await?;
        let state = within(limit, schema_state(&mut connection)).await?;
        Ok((connection, state))
    };
    match opened.await.map_err(|error| CommandError::database(&error, &settings.database))? {
        (connection, SchemaState::Current) => Ok(connection),
        (_, state) => Err(CommandError::Unavailable(state.to_string())),
    }
}
