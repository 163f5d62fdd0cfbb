//! `verify`: reads what was handled again and compares it with the tables. It changes nothing, and any number of services
//! may work meanwhile.

mod report;

use chrono::{DateTime, Utc};
use clap::{Args, value_parser};
use fenced_sink::verify::{Scope, VerifyError, verify};
use fenced_sink::{EngineError, Partition, Position};

use super::dead_letters::{open, timestamp};
use super::output::Output;
use super::{CommandError, options, run::explain};
use crate::booking::Booking;
use crate::config::Settings;
use report::{Printer, findings_in_words};

pub(super) const EXAMPLES: &str = "\
Examples:
  booking-history verify                            what was handled and is still in Kafka
  booking-history verify --partition 3 --from 1200 --to 1300
  booking-history verify --since 2026-02-15T00:00:00Z
  booking-history verify --from 0                   also what was handled before the totals began
  booking-history verify --output json              one finding a line, the last line has the sums

Each record has to be there, with the same content to the last digit and byte: as a row, or whole
as a dead letter. Totals have to add up. Findings:
  missing  a record has neither a row nor a dead letter
  altered  a row or a dead letter has other content than its record
  extra    a row that no record explains; looked for only if all of the log is still there and read
  total    totals that do not add up; compared only if all that they count is still there and read
What could not be checked is listed in the end, with the reason.

It changes nothing and is safe beside running services: it compares with one snapshot of the
database, which holds back vacuum while it runs, and reads Kafka outside of the group.

Exit code 1: something was found. 69 or 70: not all could be compared, and why.";

/// What `verify` is asked to do.
#[derive(Args)]
pub(super) struct VerifyArgs {
    /// Only this partition
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// From this offset on; without it, from where the totals begin
    #[arg(long, value_name = "OFFSET", value_parser = value_parser!(i64).range(0..), conflicts_with = "since")]
    from: Option<i64>,
    /// Up to this offset, which is left out itself; without it, up to the position in the database
    #[arg(long, value_name = "OFFSET", value_parser = value_parser!(i64).range(0..))]
    to: Option<i64>,
    /// From the first record of this time on, such as 2026-02-15T14:00:00Z
    #[arg(long, value_name = "TIMESTAMP", value_parser = timestamp)]
    since: Option<DateTime<Utc>>,
    /// How to print the findings
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) async fn run(args: &VerifyArgs, settings: &Settings) -> Result<(), CommandError> {
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from >= to
    {
        return Err(CommandError::Usage(format!("--to {to} has to lie behind --from {from}: nothing was compared")));
    }
    // Its own connection: it is only to tell early, and in words, that the tables are not there.
    drop(open(settings).await?);
    let scope = Scope {
        partition: args.partition.map(Partition),
        from: args.from.map(Position),
        to: args.to.map(Position),
        since: args.since.map(|since| since.timestamp_millis()),
    };
    let mut printer = Printer::new(args.output, &settings.kafka_topic);
    let verified = verify::<Booking>(&options(settings), &scope, &mut |told| printer.told(&told)).await;
    let findings = printer.findings();
    let report = verified.map_err(|error| not_all(explain_verify(error, settings), findings))?;
    printer.end(&report)?;
    if report.findings == 0 {
        Ok(())
    } else {
        Err(CommandError::Finding(format!(
            "the tables are not what the log says: {}",
            findings_in_words(report.findings)
        )))
    }
}

fn explain_verify(error: VerifyError, settings: &Settings) -> CommandError {
    match error {
        VerifyError::Kafka(error) => explain(EngineError::Kafka(error), settings),
        VerifyError::Log(why) => CommandError::Unavailable(why),
        VerifyError::Corrupt(why) => CommandError::Internal(why),
        VerifyError::Database(error) => CommandError::database(&error, &settings.database),
    }
}

/// Findings that were printed before it had to end count, and say nothing about the rest.
fn not_all(error: CommandError, findings: u64) -> CommandError {
    let words = |why: String| format!("{why}; not all was compared, {} before", findings_in_words(findings));
    match error {
        CommandError::Unavailable(why) if findings > 0 => CommandError::Unavailable(words(why)),
        CommandError::Internal(why) if findings > 0 => CommandError::Internal(words(why)),
        other => other,
    }
}
