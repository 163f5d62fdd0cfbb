//! From the settings to the engine's options, and from the engine's errors to exit codes.

use std::time::Duration;

use fenced_sink::{ConsumerError, EngineError, Health, Options, RetrySchedule};

use super::CommandError;
use crate::config::{ConfigFault, ConfigFaults, Settings, consumer_properties};

/// The engine's options. They do not depend on the type of the event.
#[must_use]
pub fn options(settings: &Settings) -> Options {
    Options {
        database: settings.database.servers().clone(),
        properties: consumer_properties(settings).into_iter().collect(),
        service: "booking-history".to_owned(),
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
        // One slow statement is no stall, so the limit is above DATABASE_TIMEOUT.
        stalled_after: settings.database_timeout.saturating_mul(2).max(Duration::from_mins(1)),
        log_records_per_second: settings.log_records_per_second,
        health: Health::default(),
    }
}

/// The meaning of an engine error for the user of a command.
pub(super) fn explain(error: EngineError, settings: &Settings) -> CommandError {
    match error {
        EngineError::Kafka(ConsumerError::Configuration(why)) => CommandError::Config(ConfigFaults::one(ConfigFault {
            setting: "KAFKA_PROPERTIES",
            given: None,
            accepted: format!(
                "properties that librdkafka accepts; the error of librdkafka: {}",
                settings.kafka_properties.without_secrets(&why)
            ),
        })),
        EngineError::Kafka(_) => CommandError::Unavailable(error.to_string()),
        EngineError::Database(error) => CommandError::database(&error, &settings.database),
        EngineError::Corrupt(_) | EngineError::Ended(_) => CommandError::Internal(error.to_string()),
    }
}
