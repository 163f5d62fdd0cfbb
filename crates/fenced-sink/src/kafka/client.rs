//! The configuration of every Kafka client, and the errors that end a consumer.

use std::collections::BTreeMap;

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::kafka::last_error::{Client, LastError};
use crate::kafka::properties;
use crate::model::kafka_refusal::KafkaRefusal;
use crate::model::record::Partition;

/// Kafka can't be used. The text has the reason.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// librdkafka has no property of this name, or does not accept its value.
    #[error("kafka's client refuses the configuration: {0}")]
    Configuration(String),
    /// Kafka has refused the connection, the topic or the group since the start, for the start-up timeout.
    #[error("{0}")]
    Refused(KafkaRefusal),
    /// The broker fenced this group member, or refuses it permanently.
    #[error("kafka refuses this consumer permanently: {0}")]
    Fatal(String),
}

/// Whether librdkafka accepts the properties. It does not connect.
pub(crate) fn check_client(properties: &BTreeMap<String, String>) -> Result<(), ConsumerError> {
    let client: Result<Client, KafkaError> = configuration(properties).create_with_context(LastError::default());
    client.map(drop).map_err(|error| refused(&error))
}

/// The maximum size of a response, and of a batch of records that zstd decompresses. librdkafka's own default of 100 MB
/// refuses batches that a broker accepts: 10 kB of zstd can become 120 MB. A larger value could use up the memory of the
/// process before it can halt the partition.
const MAX_RECEIVED: (&str, &str) = ("receive.message.max.bytes", "536870912");

/// The configuration of a client: the given properties, of which the guaranteed ones are replaced.
pub(crate) fn configuration(properties: &BTreeMap<String, String>) -> ClientConfig {
    let mut all = properties.clone();
    properties::enforce(&mut all);
    let (name, value) = MAX_RECEIVED;
    all.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    let mut config: ClientConfig = all.into_iter().collect();
    // librdkafka reports the cause of some failed connections only in messages of this level.
    config.set_log_level(RDKafkaLogLevel::Info);
    config
}

/// The properties of a client that joins no group. It must not hold the name of the static group member, and it needs
/// no statistics.
pub(crate) fn without_membership(properties: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut properties = properties.clone();
    properties.remove("group.instance.id");
    properties.remove("statistics.interval.ms");
    properties
}

/// Why librdkafka created no client, with the name of the property.
pub(crate) fn refused(error: &KafkaError) -> ConsumerError {
    ConsumerError::Configuration(match error {
        KafkaError::ClientConfig(_, text, name, _) => format!("{name}: {text}"),
        other => other.to_string(),
    })
}

/// These partitions of a topic, without positions.
pub(crate) fn partition_list(topic: &str, partitions: impl IntoIterator<Item = Partition>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic, partition.0);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a library of C that `scripts/packages.sh` installs, librdkafka is built without some of them.
    #[test]
    fn librdkafka_has_each_codec_and_each_login_that_the_documentation_names() {
        let features = ClientConfig::new().create_native_config().unwrap().get("builtin.features").unwrap();
        let features: Vec<&str> = features.split(',').collect();
        for feature in
            ["gzip", "snappy", "lz4", "zstd", "ssl", "sasl_plain", "sasl_scram", "sasl_oauthbearer", "http", "oidc"]
        {
            assert!(features.contains(&feature), "no {feature} in {features:?}");
        }
    }
}
