//! Everything that is said to Kafka: the consumer thread, its rebalances, and questions about the log.
//!
//! One thread owns the consumer and polls always, whatever the database does. It waits for the database in two cases, and
//! for a bounded time: for a commit in flight when Kafka takes a partition away, and for room when the buffer is full.

pub(crate) mod guarantee;
pub(crate) mod raw;
pub(crate) mod log;
mod rebalance;
mod faults;
mod trouble;
pub(crate) mod consumer;
pub(crate) mod policy;
pub(crate) mod replay;

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
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

/// What the consumer thread needs to know.
#[derive(Clone)]
pub(crate) struct SourceOptions {
    /// The full set of librdkafka properties.
    pub(crate) properties: BTreeMap<String, String>,
    /// The topic.
    pub(crate) topic: String,
    /// Records waiting may occupy so much; past it, reading pauses until half of it is free.
    pub(crate) buffer_max_bytes: usize,
    /// How long a server may refuse who we are before that is final.
    pub(crate) startup_timeout: Duration,
}

/// Whether Kafka's client takes the properties at all. No server is asked.
pub(crate) fn check(properties: &BTreeMap<String, String>) -> Result<(), SourceError> {
    let client: Result<BaseConsumer, KafkaError> = configuration(properties).create();
    client.map(drop).map_err(|error| refused(&error))
}

fn configuration(properties: &BTreeMap<String, String>) -> ClientConfig {
    let mut properties = properties.clone();
    guarantee::enforce(&mut properties);
    properties.into_iter().collect()
}

fn refused(error: &KafkaError) -> SourceError {
    SourceError::Configuration(match error {
        KafkaError::ClientConfig(_, text, name, _) => format!("{name}: {text}"),
        other => other.to_string(),
    })
}
