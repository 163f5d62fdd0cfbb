//! `offsets`: where each partition stands, moving it elsewhere, and letting a halted one go on.
//!
//! What changes rows does so in one transaction: it asks Kafka first, holds the rows, and only then decides, by what they
//! say at that moment. A running service follows: it looks at its rows once a second.

mod position;
mod rows;
mod list;
mod set;
mod resume;

use std::collections::BTreeMap;

use clap::{Args, Subcommand, value_parser};
use fenced_sink::admin::{TopicLogClient, TopicLogError, connect, within};
use fenced_sink::{LogBounds, Partition, Position, TopicId};
use sqlx::PgConnection;

use super::CommandError;
use super::output::Output;
use crate::config::{Settings, consumer_properties};

pub(super) const EXAMPLES: &str = "\
Examples:
  booking-history offsets list                            position, end of the log, lag, owner and state
  booking-history offsets list --output json              one object a line
  booking-history offsets set --partition 3 --to 1200 --dry-run
                                                          what would be read again, or left out
  booking-history offsets set --all --to 2026-02-15T14:00:00Z
                                                          from the first record of that time on
  booking-history offsets resume --partition 3            a halted partition goes on
  booking-history offsets resume --all --at earliest      elsewhere; a replaced or truncated log needs this

Exit code 2: the log has no such position, a partition has no row yet, or a halt needs --at; nothing was changed.";

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
    /// Moves positions; a running service follows within a second or two
    Set(set::SetArgs),
    /// Lets halted partitions go on; a running service follows within a second or two
    Resume(resume::ResumeArgs),
}

/// Which partitions. `None` is all.
#[derive(Args)]
struct Which {
    /// The partition
    #[arg(
        long,
        value_name = "NUMBER",
        required_unless_present = "all",
        conflicts_with = "all",
        value_parser = value_parser!(i32).range(0..)
    )]
    partition: Option<i32>,
    /// Every partition
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(args: &OffsetsArgs, settings: &Settings) -> Result<(), CommandError> {
    match &args.command {
        OffsetsCommand::List { output } => list::list(*output, settings).await,
        OffsetsCommand::Set(args) => set::set(args, settings).await,
        OffsetsCommand::Resume(args) => resume::resume(args, settings).await,
    }
}

/// What Kafka says about the log.
#[derive(Default)]
struct LogFacts {
    bounds: BTreeMap<Partition, LogBounds>,
    /// Where the first record stands that is not older than the time asked for.
    at_time: BTreeMap<Partition, Position>,
    topic_id: Option<TopicId>,
}

/// Asks Kafka, through a client of its own. The error is the text for whoever needs the answer.
async fn ask<T: Send + 'static>(
    settings: &Settings,
    question: impl FnOnce(&TopicLogClient) -> Result<T, TopicLogError> + Send + 'static,
) -> Result<T, String> {
    let log = TopicLogClient::new(&consumer_properties(settings).into_iter().collect(), &settings.kafka_topic);
    let asked = tokio::task::spawn_blocking(move || question(&log)).await;
    let answer = asked.map_err(|error| error.to_string()).and_then(|answer| answer.map_err(|error| error.to_string()));
    answer.map_err(|error| {
        format!(
            "can't ask Kafka at {} about {}: {error}; check that it runs and that KAFKA_BOOTSTRAP_SERVERS names it",
            settings.kafka_bootstrap_servers, settings.kafka_topic
        )
    })
}

async fn open(settings: &Settings) -> Result<PgConnection, CommandError> {
    let opened = connect(settings.database.options(), settings.database_timeout).await;
    opened.map_err(|error| CommandError::database(&error, &settings.database))
}

/// Work on the database, bounded, its error in words.
async fn asked_of_the_database<T>(
    settings: &Settings,
    work: impl Future<Output = sqlx::Result<T>>,
) -> Result<T, CommandError> {
    let done = within(settings.database_timeout, work).await;
    done.map_err(|error| CommandError::database(&error, &settings.database))
}
