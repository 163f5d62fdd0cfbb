//! `verify`: reads handled records again and compares them with the tables. It changes nothing, and any number of services
//! may run at the same time.

mod report;

use chrono::{DateTime, Utc};
use clap::{Args, value_parser};
use fenced_sink::verify::{Scope, VerifyError, verify};
use fenced_sink::{EngineError, Partition, Position};

use super::engine::{explain, options};
use super::output::OutputFormat;
use super::timestamp::timestamp;
use super::{CommandError, database};
use crate::booking::Booking;
use crate::config::Settings;
use report::{Printer, findings_in_words};

pub(super) const EXAMPLES: &str = "\
Examples:
  booking-history verify                            all handled records that Kafka still has
  booking-history verify --partition 3 --from 1200 --to 1300
  booking-history verify --since 2026-02-15T00:00:00Z
  booking-history verify --from 0                   also records from before the totals
  booking-history verify --output json              one finding per line; the last line has the sums

Exit code 1: there are findings. 69 or 70: the command could not compare everything; the error has the reason.";

/// What `--help` adds.
pub(super) const NOTES: &str = "\
Each record must be in the tables with the same content: as a row, or as a dead letter with the same bytes. The totals \
must add up. Findings:
  missing  a record has neither a row nor a dead letter
  altered  the content of a row or of a dead letter differs from its record
  extra    no record explains a row; needs the whole topic in Kafka, and a run that reads all of it
  total    the totals do not add up; needs all counted records in Kafka, and a run that reads them
At the end, the command lists what it could not check, and why.

It changes nothing. It compares with one snapshot of the database and reads Kafka outside the consumer group, so it is \
safe while services run. While it runs, vacuum cannot remove row versions that were replaced since its start.";

/// The arguments of `verify`.
#[derive(Args)]
pub(super) struct VerifyArgs {
    /// Only this partition
    #[arg(long, value_name = "NUMBER", value_parser = value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Start at this offset; without it, at the offset from which the totals count
    #[arg(long, value_name = "OFFSET", value_parser = value_parser!(i64).range(0..), conflicts_with = "since")]
    from: Option<i64>,
    /// Stop before this offset; without it, at the position in the database
    #[arg(long, value_name = "OFFSET", value_parser = value_parser!(i64).range(0..))]
    to: Option<i64>,
    /// Start with the first record at or after this time, such as 2026-02-15T14:00:00Z
    #[arg(long, value_name = "TIMESTAMP", value_parser = timestamp)]
    since: Option<DateTime<Utc>>,
    /// The format of the findings
    #[arg(long, value_enum, default_value = "table")]
    output: OutputFormat,
}

pub(super) async fn run(args: &VerifyArgs, settings: &Settings) -> Result<(), CommandError> {
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from >= to
    {
        return Err(CommandError::Usage(format!("--to {to} must be above --from {from}: nothing was compared")));
    }
    // Only to report early that the schema does not fit. The engine opens its own connection.
    drop(database::open(settings).await?);
    let scope = Scope {
        partition: args.partition.map(Partition),
        from: args.from.map(Position),
        to: args.to.map(Position),
        since: args.since.map(|since| since.timestamp_millis()),
    };
    let mut printer = Printer::new(args.output, &settings.kafka_topic);
    let verified = verify::<Booking>(&options(settings), &scope, &mut |progress| printer.show(&progress)).await;
    let findings = printer.findings();
    let report = verified.map_err(|error| incomplete(explain_verify(error, settings), findings))?;
    printer.end(&report)?;
    if report.findings == 0 {
        Ok(())
    } else {
        let findings = findings_in_words(report.findings);
        Err(CommandError::Finding(format!("the tables differ from the topic: {findings}")))
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

/// Adds that the findings before the error are valid, and that there may be more.
fn incomplete(error: CommandError, findings: u64) -> CommandError {
    let with_findings =
        |why: String| format!("{why}; not everything was compared, {} so far", findings_in_words(findings));
    match error {
        CommandError::Unavailable(why) if findings > 0 => CommandError::Unavailable(with_findings(why)),
        CommandError::Internal(why) if findings > 0 => CommandError::Internal(with_findings(why)),
        other => other,
    }
}
