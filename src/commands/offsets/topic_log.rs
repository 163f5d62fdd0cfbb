//! The answers of Kafka about the topic log of each partition.

use std::collections::BTreeMap;

use fenced_sink::admin::{LogNow, TopicLogClient, TopicLogError};
use fenced_sink::{LogBounds, Partition, Position, TopicId};

use crate::config::{Settings, consumer_properties};

/// The answers that a command needs to choose positions.
#[derive(Default)]
pub(super) struct LogFacts {
    pub(super) bounds: BTreeMap<Partition, LogBounds>,
    /// The first record at or after the time that the user gave.
    pub(super) at_time: BTreeMap<Partition, Position>,
    pub(super) topic_id: Option<TopicId>,
    /// What the log has now of the handled records. A partition that was not compared has no entry.
    pub(super) now: BTreeMap<Partition, LogNow>,
}

/// Asks Kafka through a client that joins no group. The error is a text for the user.
pub(super) async fn ask<T: Send + 'static>(
    settings: &Settings,
    question: impl FnOnce(&TopicLogClient) -> Result<T, TopicLogError> + Send + 'static,
) -> Result<T, String> {
    let client = TopicLogClient::new(&consumer_properties(settings).into_iter().collect(), &settings.kafka_topic);
    // The client blocks its thread until Kafka answers.
    let asked = tokio::task::spawn_blocking(move || question(&client).map_err(|error| error.to_string())).await;
    asked.map_err(|error| error.to_string()).flatten().map_err(|error| {
        format!("can't ask Kafka at {} about topic {}: {error}", settings.kafka_bootstrap_servers, settings.kafka_topic)
    })
}
