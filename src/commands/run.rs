//! `run`: the main job, until a signal stops it.

use std::time::{Duration, Instant};

use clap::Args;
use fenced_sink::admin::{
    Backoff, ErrorClass, advice, classify, connect_and_check, missing_grants, nearly_full_columns,
};
use fenced_sink::{Event as _, HaltedPartitions, until_end};
use tokio::sync::oneshot;

use super::engine::{explain, options};
use super::{CommandError, SchemaState, schema_state};
use crate::booking::Booking;
use crate::config::Settings;
use crate::telemetry;
use crate::telemetry::status_page::StatusPage;

pub(super) const EXAMPLES: &str = "\
Examples:
  booking-history run                                      settings from the environment and .env
  booking-history run --kafka-topic bookings --writers 4   flags override both
  booking-history run --http-addr 0.0.0.0:8080             other machines can use /metrics too
  booking-history run --until-end --group-id replay-1      read the topic again; use other tables

The first SIGINT or SIGTERM stops the service cleanly: it stops reading, ends the transactions in flight, leaves the \
consumer group and exits with 0. A second signal ends the process at once. That is safe: nothing is lost or stored twice.";

/// When `run` ends.
#[derive(Args)]
pub(super) struct RunArgs {
    /// Stop when each partition has reached the offset where its topic log ended at the start; exit 0, or 69 if a
    /// partition is halted
    #[arg(long)]
    until_end: bool,
}

/// Runs until `stop` is sent.
pub(super) async fn run(
    args: &RunArgs,
    settings: &Settings,
    mut stop: oneshot::Receiver<()>,
) -> Result<(), CommandError> {
    let options = options(settings);
    // Before the first request to a server, because no retry corrects a wrong property.
    fenced_sink::check(&options).map_err(|error| explain(error, settings))?;
    // Before the schema is ready, so that /readyz can report that the service waits for it.
    if let Some(address) = settings.http_addr {
        let in_use = |error| {
            CommandError::Unavailable(format!(
                "can't listen on HTTP_ADDR={address}: {error}; stop the program that uses the address, or set another \
                 one, or an empty one to have no HTTP"
            ))
        };
        let page = StatusPage { group: settings.kafka_group_id.clone(), topic: settings.kafka_topic.clone() };
        let served = telemetry::http::serve(address, options.health.clone(), telemetry::metrics::PREFIX, page);
        served.await.map_err(in_use)?;
    }
    tokio::select! {
        ready = wait_for_schema(settings) => ready?,
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
    reached.map_err(|halted| CommandError::Unavailable(end_not_reached(&halted)))
}

fn end_not_reached(HaltedPartitions(partitions): &HaltedPartitions) -> String {
    let each: Vec<String> =
        partitions.iter().map(|(partition, reason)| format!("partition {partition} ({reason})")).collect();
    format!(
        "the end was not reached, because partitions are halted: {}; all others reached it. `booking-history offsets \
         list` shows the positions, `booking-history offsets resume` resumes halted partitions; then run this command \
         again",
        each.join(", ")
    )
}

/// Whether the database has the schema and the privileges that a run needs.
enum DatabaseCheck {
    Ready,
    /// A migration or a grant may follow.
    NotYet(String),
    /// Waiting does not help.
    Never(CommandError),
}

async fn check_database(settings: &Settings) -> sqlx::Result<DatabaseCheck> {
    let database = &settings.database;
    let (mut session, problems) = connect_and_check(database.servers(), settings.database_timeout).await?;
    if let Some(problem) = problems.first() {
        return Ok(DatabaseCheck::Never(CommandError::server_problem(problem, database)));
    }
    let state = session.run(schema_state).await?;
    match state {
        SchemaState::Current => {}
        SchemaState::Newer { .. } | SchemaState::Altered { .. } => {
            return Ok(DatabaseCheck::Never(CommandError::Unavailable(state.to_string())));
        }
        SchemaState::Missing | SchemaState::Older { .. } => return Ok(DatabaseCheck::NotYet(state.to_string())),
    }
    let grants = session.run(|connection| missing_grants(connection, Booking::PRIVILEGES)).await?;
    if !grants.is_empty() {
        return Ok(DatabaseCheck::NotYet(format!(
            "can't use PostgreSQL at {database} (42501): the user lacks a privilege; grant the privilege: {}",
            grants.join(" ")
        )));
    }
    for column in session.run(|connection| nearly_full_columns(connection, Booking::PRIVILEGES)).await? {
        tracing::warn!(hint = %column, "id_column_nearly_full");
    }
    // The role may have only as many connections as there are writers.
    session.close().await?;
    Ok(DatabaseCheck::Ready)
}

/// Waits for the database without a limit, and for its schema and privileges up to `STARTUP_TIMEOUT`: a migration may be
/// running. The time in which the database is not reachable does not count.
async fn wait_for_schema(settings: &Settings) -> Result<(), CommandError> {
    let mut began = Instant::now();
    let mut backoff = Backoff::new(settings.retry_initial, settings.retry_max);
    loop {
        let compared = check_database(settings).await;
        let over = began.elapsed() >= settings.startup_timeout;
        let wait = backoff.wait();
        match compared {
            Ok(DatabaseCheck::Ready) => return Ok(()),
            Ok(DatabaseCheck::Never(why)) => return Err(why),
            Ok(DatabaseCheck::NotYet(why)) if over => return Err(CommandError::Unavailable(why)),
            Ok(DatabaseCheck::NotYet(why)) => tracing::warn!(hint = why, "schema_not_ready"),
            Err(error) => match classify(&error).without_a_record() {
                ErrorClass::Corrupt => return Err(CommandError::database(&error, &settings.database)),
                ErrorClass::Operator if over => return Err(CommandError::database(&error, &settings.database)),
                class => {
                    if class != ErrorClass::Operator {
                        began = Instant::now();
                    }
                    let (server, hint) = (settings.database.servers(), advice(&error));
                    tracing::warn!(%server, %error, hint, retry_in_ms = millis(wait), "database_unavailable");
                }
            },
        }
        tokio::time::sleep(wait).await;
    }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}
