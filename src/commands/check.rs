//! `check`: what `run` needs, one part after the other, each with what to do. It changes nothing.

mod report;
mod database;
mod kafka;
mod positions;

use std::time::Duration;

use clap::Args;

use super::CommandError;
use super::engine::{explain, options};
use super::output::OutputFormat;
use crate::config::{ConfigFault, ConfigFaults, Settings};
use positions::{POSITIONS, positions};
use report::{CheckLine, report, skipped};

pub(super) const EXAMPLES: &str = "\
Examples:
  booking-history check                       settings, database and Kafka: one line for each part
  booking-history check --output json         one JSON object per line
  docker compose --file docker/compose.yml run --rm check

Results: ok; warning: the service works; failed: the service can't work, or records can be lost; not_visible: the server \
does not show it; skipped: a part that it needs failed.
It changes nothing. It is safe while services run.

Exit code 1: a part failed.";

/// The longest wait for one answer.
const LIMIT: Duration = Duration::from_secs(10);

/// The settings as a whole.
const SETTINGS: &str = "settings";

/// The arguments of `check`.
#[derive(Args)]
pub(super) struct CheckArgs {
    /// The format of the output
    #[arg(long, value_enum, default_value = "table")]
    output: OutputFormat,
}

pub(super) async fn run(args: &CheckArgs, settings: Result<Settings, CommandError>) -> Result<(), CommandError> {
    let accepted = settings.and_then(|settings| {
        fenced_sink::check(&options(&settings)).map_err(|error| explain(error, &settings))?;
        Ok(settings)
    });
    let lines = match accepted {
        Ok(settings) => check(&settings).await,
        Err(CommandError::Config(faults)) => of_faults(&faults),
        Err(other) => return Err(other),
    };
    report(&lines, args.output)
}

async fn check(settings: &Settings) -> Vec<CheckLine> {
    let limit = settings.database_timeout.min(LIMIT);
    let mut lines = vec![CheckLine::ok(SETTINGS, "", "every setting is accepted")];
    let (database, kafka) = tokio::join!(database::check(settings, limit), kafka::check(settings, limit));
    let target = format!("{} in {}", settings.kafka_group_id, settings.kafka_topic);
    let stored = match (&database.rows, &kafka.topic_log) {
        (Ok(rows), Ok(facts)) => positions(&target, rows, facts),
        (Err(cause), _) | (_, Err(cause)) => skipped(POSITIONS, &target, cause),
    };
    lines.extend(database.lines);
    lines.extend(kafka.lines);
    lines.push(stored);
    lines
}

fn of_faults(faults: &ConfigFaults) -> Vec<CheckLine> {
    let line = |fault: &ConfigFault| {
        let given = match &fault.given {
            Some(given) => format!("given {given:?}"),
            None => "given a value that is not shown".to_owned(),
        };
        CheckLine::failed(SETTINGS, fault.setting, given).hint(format!("accepted: {}", fault.accepted))
    };
    faults.iter().map(line).collect()
}
