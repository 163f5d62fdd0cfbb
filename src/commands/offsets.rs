//! `offsets`: show the position of each partition, move it, and resume halted partitions.
//!
//! A command that changes rows asks Kafka first, and then does everything else in one transaction: it locks the rows,
//! reads them, and decides by their content at that moment. A running service reads its rows every second, so it
//! follows.

mod topic_log;
mod position;
mod list;
mod set;
pub(super) mod resume;

use clap::{Args, Subcommand, value_parser};
use fenced_sink::Partition;
use fenced_sink::admin::{Ledger, PartitionRow};

use super::CommandError;
use super::output::OutputFormat;
use crate::config::Settings;

pub(super) const EXAMPLES: &str = "\
Examples:
  booking-history offsets list                                       position, lag, owner and state
  booking-history offsets set --partition 3 --to 1200 --dry-run      show what a move would do
  booking-history offsets resume --partition 3                       resume a halted partition
  booking-history offsets resume --help                              more examples";

const LIST_EXAMPLES: &str = "\
Examples:
  booking-history offsets list
  booking-history offsets list --output json | jq 'select(.lag > 0)'    the partitions with records to read
  booking-history offsets list --kafka-group-id replay-1                another group";

const SET_EXAMPLES: &str = "\
Examples:
  booking-history offsets set --partition 3 --to 1200 --dry-run    show how many records would be read again
  booking-history offsets set --all --to earliest                  read everything again that Kafka still has
  booking-history offsets set --all --to 2026-02-15T14:00:00Z      from the first record of that time on

Exit code 2: the topic log has no such position, or a partition has no row yet. Nothing was changed.";

const RESUME_EXAMPLES: &str = "\
Examples:
  booking-history offsets resume --partition 3          resume a halted partition
  booking-history offsets resume --all --at earliest    resume at another position

The halts log_truncated, log_replaced and log_corrupt need --at. Without it, resume changes nothing and prints the --at to use.
After batch_too_large, first raise receive.message.max.bytes in KAFKA_PROPERTIES. Without that, the partition halts again.

Exit code 2: the topic log has no such position, a partition has no row yet, or a halt needs --at. Nothing was changed.";

/// The arguments of `offsets`.
#[derive(Args)]
pub(super) struct OffsetsArgs {
    #[command(subcommand)]
    command: OffsetsCommand,
}

impl OffsetsArgs {
    /// Whether the command needs a server that can write.
    pub(super) fn writes(&self) -> bool {
        !matches!(self.command, OffsetsCommand::List { .. })
    }
}

#[derive(Subcommand)]
enum OffsetsCommand {
    /// Show each partition: position, topic log, lag, owner, state and totals
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// The format of the output
        #[arg(long, value_enum, default_value = "table")]
        output: OutputFormat,
    },
    /// Move positions; a running service follows within two seconds
    #[command(after_help = SET_EXAMPLES)]
    Set(set::SetArgs),
    /// Resume halted partitions; a running service follows within two seconds
    #[command(after_help = RESUME_EXAMPLES)]
    Resume(resume::ResumeArgs),
}

/// The partitions to change. clap requires exactly one of the two.
#[derive(Args)]
struct PartitionChoice {
    /// One partition
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

impl PartitionChoice {
    /// `None`: all partitions.
    fn partition(&self) -> Option<Partition> {
        self.partition.map(Partition)
    }
}

pub(super) async fn run(args: &OffsetsArgs, settings: &Settings) -> Result<(), CommandError> {
    match &args.command {
        OffsetsCommand::List { output } => list::list(*output, settings).await,
        OffsetsCommand::Set(args) => set::set(args, settings).await,
        OffsetsCommand::Resume(args) => resume::resume(args, settings).await,
    }
}

/// The rows of the group and topic. The owner is empty: these commands claim no row.
pub(super) fn ledger(settings: &Settings) -> Ledger {
    Ledger::new(settings.kafka_group_id.clone(), settings.kafka_topic.clone(), String::new())
}

/// These commands create no row. The service creates it when it claims a partition for the first time, at the position
/// that `KAFKA_START` sets.
fn require_rows(rows: &[PartitionRow], partition: Option<Partition>) -> Result<(), CommandError> {
    match (rows, partition) {
        ([], Some(partition)) => Err(CommandError::Usage(format!(
            "partition {partition} has no row for this group and topic, because no service has claimed it yet; \
             `booking-history run` creates the rows, `booking-history offsets list` shows all partitions"
        ))),
        ([], None) => Err(CommandError::Usage(
            "no partition has a row for this group and topic, because no service has claimed one yet; check \
             KAFKA_GROUP_ID and KAFKA_TOPIC; `booking-history run` creates the rows"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}
