//! `run`: the main job, until a signal says to stop.

use std::time::{Duration, Instant};

use clap::Args;
use fenced_sink::admin::{Backoff, ErrorClass, classify, connect, within};
use fenced_sink::{ConsumerError, EngineError, HaltedPartitions, Health, Options, RetrySchedule, until_end};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::{CommandError, SchemaState, schema_state};
use crate::booking::Booking;
use crate::config::{ConfigFault, ConfigFaults, Settings, consumer_properties};
use crate::telemetry;
use ::fenced_sink;

pub(super) const EXAMPLES: &str = "\
Examples:
  booking-history run                                      with the settings of the environment and of .env
  booking-history run --kafka-topic bookings --writers 4   flags win over both
  booking-history run --http-addr 0.0.0.0:8080             /livez, /readyz and /metrics for other machines too
  booking-history run --until-end --group-id replay-1      all that is there now, once more; give it other tables, too

A first SIGINT or SIGTERM stops in order: no more reading, what is in flight is finished, the group is left, exit 0.
A second one ends at once, which is safe.";

/// How `run` ends.
#[derive(Args)]
pub(super) struct RunArgs {
    /// Stops when every partition has got to where its log ended at the start: exit 0, or 69 if one is halted
    #[arg(long)]
    until_end: bool,
}

pub(super) async fn run(args: &RunArgs, settings: &Settings) -> Result<(), CommandError> {
    let mut stop =
        stop_signal().map_err(|error| CommandError::Internal(format!("can't listen to signals: {error}")))?;
    let options = options(settings);
    fenced_sink::check(&options).map_err(|error| explain(error, settings))?;
    if let Some(address) = settings.http_addr {
        let busy = |error| {
            CommandError::Unavailable(format!(
                "can't listen on HTTP_ADDR={address}: {error}; stop what uses the address, or give another one, or an \
                 empty one to do without"
            ))
        };
        telemetry::health::serve(address, options.health.clone(), telemetry::metrics::PREFIX).await.map_err(busy)?;
    }
    tokio::select! {
        ready = schema_is_ready(settings) => ready?,
        _ = &mut stop => return Ok(()),
    }
    let watched = options.clone();
    let mut reached = Ok(());
    let stopped = async {
        tokio::select! {
            _ = stop => {}
            ended = until_end(&watched), if args.until_end => reached = ended,
        }
    };
    fenced_sink::run::<Booking>(options, stopped).await.map_err(|error| explain(error, settings))?;
    reached.map_err(|stuck| CommandError::Unavailable(halted(&stuck)))
}

fn halted(HaltedPartitions(partitions): &HaltedPartitions) -> String {
    let each: Vec<String> =
        partitions.iter().map(|(partition, reason)| format!("partition {partition} ({reason})")).collect();
    format!(
        "the end was not reached, these are halted: {}; the others have got there. `booking-history offsets list` shows \
         where, `offsets resume` lets them go on; then run this again",
        each.join(", ")
    )
}

/// What an error of the engine means to whoever runs the command.
pub(super) fn explain(error: EngineError, settings: &Settings) -> CommandError {
    match error {
        EngineError::Kafka(ConsumerError::Configuration(why)) => CommandError::Config(ConfigFaults::one(ConfigFault {
            setting: "KAFKA_PROPERTIES",
            given: None,
            accepted: format!("what Kafka's client takes; it says: {why}"),
        })),
        EngineError::Kafka(_) => CommandError::Unavailable(error.to_string()),
        EngineError::Database(error) => CommandError::database(&error, &settings.database),
        EngineError::Corrupt(_) | EngineError::Ended(_) => CommandError::Internal(error.to_string()),
    }
}

/// Waits for the database, for ever; and for the schema, for as long as a migration may take.
async fn schema_is_ready(settings: &Settings) -> Result<(), CommandError> {
    let began = Instant::now();
    let mut backoff = Backoff::new(settings.retry_initial, settings.retry_max);
    loop {
        let state = async {
            let mut connection = connect(settings.database.options(), settings.database_timeout).await?;
            within(settings.database_timeout, schema_state(&mut connection)).await
        };
        let over = began.elapsed() >= settings.startup_timeout;
        let wait = backoff.wait();
        match state.await {
            Ok(SchemaState::Current) => return Ok(()),
            Ok(state @ (SchemaState::Newer { .. } | SchemaState::Altered { .. })) => {
                return Err(CommandError::Unavailable(state.to_string()));
            }
            Ok(state) if over => return Err(CommandError::Unavailable(state.to_string())),
            Ok(state) => tracing::warn!(hint = %state, "schema_not_ready"),
            Err(error) => match classify(&error).without_a_record() {
                ErrorClass::Corrupt => return Err(CommandError::database(&error, &settings.database)),
                ErrorClass::Operator if over => return Err(CommandError::database(&error, &settings.database)),
                _ => tracing::warn!(%error, retry_in = %humantime::format_duration(wait), "database_unavailable"),
            },
        }
        tokio::time::sleep(wait).await;
    }
}

/// What the settings mean to the engine, for whatever event it keeps.
#[must_use]
pub fn options(settings: &Settings) -> Options {
    Options {
        database: settings.database.options().clone(),
        properties: consumer_properties(settings).into_iter().collect(),
        topic: settings.kafka_topic.clone(),
        group_id: settings.kafka_group_id.clone(),
        start: settings.kafka_start,
        gaps: settings.kafka_gap_policy,
        topic_check_interval: settings.topic_check_interval,
        writers: settings.writers.get(),
        batch_max_records: settings.batch_max_records.get(),
        batch_max_bytes: settings.batch_max_bytes.get(),
        buffer_max_bytes: settings.buffer_max_bytes.get(),
        database_timeout: settings.database_timeout,
        retry_initial: settings.retry_initial,
        retry_max: settings.retry_max,
        startup_timeout: settings.startup_timeout,
        shutdown_timeout: settings.shutdown_timeout,
        dead_letters: RetrySchedule {
            max_attempts: settings.dead_letter_max_attempts,
            initial: settings.dead_letter_retry_initial,
            max: settings.dead_letter_retry_max,
        },
        breaker: settings.breaker_consecutive,
        // One statement may take the time limit and still be in order. That nothing at all is committed for as long as two
        // of them may take, or for a minute where the limit is short, is not.
        stalled_after: settings.database_timeout.saturating_mul(2).max(Duration::from_mins(1)),
        log_records_per_second: settings.log_records_per_second,
        health: Health::default(),
    }
}

/// Resolves at the first SIGINT or SIGTERM; at the second the process ends, with 128 and the signal's number.
fn stop_signal() -> std::io::Result<oneshot::Receiver<()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        let first = either(&mut interrupt, &mut terminate).await;
        // Not among the fields of the line: those are not even looked at when nobody wants the line.
        let told = stop.send(()).is_ok();
        tracing::debug!(signal = first, told, "signal_received");
        let second = either(&mut interrupt, &mut terminate).await;
        std::process::exit(128 + second);
    });
    Ok(stopped)
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> i32 {
    tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
    }
}
