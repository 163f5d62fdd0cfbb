//! Everything that is said to Kafka: the consumer thread, its rebalances, and questions about the log.
//!
//! One thread owns the consumer and polls always, whatever the database does. It waits for the database in two cases, and
//! for a bounded time: for a commit in flight when Kafka takes a partition away, and for room when the buffer is full.

pub(crate) mod raw;
pub(crate) mod log;
mod rebalance;
mod faults;
pub(crate) mod consumer;

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

/// Kafka can't be used as things are; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A property that the client does not know, or whose value it refuses.
    #[error("kafka refuses the configuration: {0}")]
    Configuration(String),
    /// The broker fenced this member, or refuses it for good.
    #[error("kafka refuses this consumer for good: {0}")]
    Fatal(String),
}

fn configuration(properties: &BTreeMap<String, String>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.extend(properties.iter().map(|(name, value)| (name.clone(), value.clone())));
    config
}

fn refused(error: &KafkaError) -> SourceError {
    SourceError::Configuration(match error {
        KafkaError::ClientConfig(_, text, name, _) => format!("{name}: {text}"),
        other => other.to_string(),
    })
}
