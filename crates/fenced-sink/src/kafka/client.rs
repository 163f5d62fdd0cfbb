//! A client of Kafka: its configuration, and why it is refused.

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use std::collections::BTreeMap;

use crate::kafka::properties;

/// Kafka can't be used as things are; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// A property that the client does not know, or whose value it refuses.
    #[error("kafka refuses the configuration: {0}")]
    Configuration(String),
    /// The broker fenced this member, or refuses it for good.
    #[error("kafka refuses this consumer for good: {0}")]
    Fatal(String),
}

/// Whether Kafka's client takes the properties at all. No server is asked.
pub(crate) fn check_client(properties: &BTreeMap<String, String>) -> Result<(), ConsumerError> {
    let client: Result<BaseConsumer, KafkaError> = configuration(properties).create();
    client.map(drop).map_err(|error| refused(&error))
}

pub(crate) fn configuration(properties: &BTreeMap<String, String>) -> ClientConfig {
    let mut all = properties.clone();
    properties::enforce(&mut all);
    all.into_iter().collect()
}

pub(crate) fn refused(error: &KafkaError) -> ConsumerError {
    ConsumerError::Configuration(match error {
        KafkaError::ClientConfig(_, text, name, _) => format!("{name}: {text}"),
        other => other.to_string(),
    })
}
