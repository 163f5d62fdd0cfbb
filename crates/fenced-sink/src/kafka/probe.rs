//! Reads one partition at one position, to see what a client receives there.
//!
//! It joins no group and commits nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset as KafkaOffset;
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::kafka::client::{configuration, without_membership};
use crate::kafka::error::{KafkaErrorKind, error_kind, is_damage};
use crate::kafka::last_error::Client;
use crate::kafka::reused_client::ReusedClient;
use crate::model::record::{Partition, Position};
use crate::model::topic_log::Probe;

/// The time limit of one read. It is long: on a slow connection, one batch takes several seconds.
const LIMIT: Duration = Duration::from_secs(10);
/// How long the events of a former read are drained.
const DRAIN: Duration = Duration::from_millis(10);

/// Properties that make a read small and its answer certain. A broker always sends the first batch completely.
const SMALL: [(&str, &str); 6] = [
    ("message.max.bytes", "1000"),
    ("fetch.max.bytes", "1000"),
    ("fetch.message.max.bytes", "1000"),
    ("queued.min.messages", "1"),
    ("enable.partition.eof", "true"),
    // librdkafka says only in these debug messages that a batch is too large.
    ("debug", "msg"),
];

/// Reads single records of one topic, one after the other.
pub(crate) struct Prober {
    topic: String,
    client: ReusedClient,
}

impl Prober {
    /// It connects at the first read.
    pub(crate) fn new(properties: &BTreeMap<String, String>, topic: &str) -> Self {
        Self { topic: topic.to_owned(), client: ReusedClient::new(probe_configuration(properties)) }
    }

    /// Waits for the first record at or above `at`, the end of the partition log, or an error that proves something.
    /// Blocks for a limited time. Only one thread at a time may call it.
    pub(crate) fn probe(&self, partition: Partition, at: Position) -> Probe {
        let probe = self.client.get().and_then(|client| self.read(&client, partition, at)).unwrap_or_else(|error| {
            tracing::debug!(partition = partition.0, %error, "probe_failed");
            Probe::NoAnswer
        });
        // librdkafka does not log the same error of a broker again for a while.
        if matches!(probe, Probe::NoAnswer | Probe::TooLarge) {
            self.client.replace();
        }
        probe
    }

    fn read(&self, client: &Client, partition: Partition, at: Position) -> KafkaResult<Probe> {
        // A message of a former read can arrive after it. Only those of this read say that its batch is too large.
        drain(client);
        client.context().clear();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition.0, KafkaOffset::Offset(at.0))?;
        client.assign(&list)?;
        let probe = wait(client, partition, at);
        client.unassign()?;
        drain(client);
        Ok(probe)
    }
}

/// Drops the queued events: librdkafka keeps them otherwise. A message of its log ends a poll without an event.
fn drain(client: &Client) {
    let began = Instant::now();
    while client.poll(DRAIN).is_some() || began.elapsed() < DRAIN {}
}

fn wait(client: &Client, partition: Partition, at: Position) -> Probe {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        match client.poll(LIMIT.saturating_sub(began.elapsed())) {
            Some(Ok(record)) if record.partition() == partition.0 && record.offset() >= at.0 => return Probe::Record,
            Some(Err(error)) => {
                if let Some(probe) = proved_by(&error, partition, client.context().has_too_large_batch()) {
                    return probe;
                }
            }
            _ => {}
        }
    }
    Probe::NoAnswer
}

/// What an error proves. `too_large`: librdkafka said that a batch is too large. Its error code is then that of damaged
/// data, or of a connection that it closed.
fn proved_by(error: &KafkaError, partition: Partition, too_large: bool) -> Option<Probe> {
    match (error, error_kind(error)) {
        (KafkaError::PartitionEOF(ended), _) => (*ended == partition.0).then_some(Probe::End),
        (_, KafkaErrorKind::OutOfRange) => Some(Probe::OutOfRange),
        (_, KafkaErrorKind::Transient | KafkaErrorKind::AllBrokersDown) => too_large.then_some(Probe::TooLarge),
        _ if is_damage(error) => Some(if too_large { Probe::TooLarge } else { Probe::Unreadable }),
        _ => None,
    }
}

fn probe_configuration(properties: &BTreeMap<String, String>) -> ClientConfig {
    let mut properties = without_membership(properties);
    properties.remove("max.partition.fetch.bytes"); // another name of `fetch.message.max.bytes`
    let mut config = configuration(&properties);
    for (name, value) in SMALL {
        config.set(name, value);
    }
    config.set_log_level(RDKafkaLogLevel::Debug);
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::types::RDKafkaErrorCode as Code;

    #[test]
    fn only_damage_or_a_lost_connection_proves_a_batch_that_is_too_large() {
        let check = |error: KafkaError, otherwise, too_large| {
            let proved = |flag| proved_by(&error, Partition(1), flag);
            assert_eq!((proved(false), proved(true)), (otherwise, too_large), "{error:?}");
        };
        let (large, code) = (Some(Probe::TooLarge), KafkaError::MessageConsumption);
        check(code(Code::BadCompression), Some(Probe::Unreadable), large);
        check(KafkaError::Global(Code::BadMessage), Some(Probe::Unreadable), large);
        check(KafkaError::Global(Code::BrokerTransportFailure), None, large);
        check(KafkaError::Global(Code::AllBrokersDown), None, large);
        check(KafkaError::PartitionEOF(1), Some(Probe::End), Some(Probe::End));
        check(KafkaError::PartitionEOF(0), None, None);
        check(code(Code::AutoOffsetReset), Some(Probe::OutOfRange), Some(Probe::OutOfRange));
        check(code(Code::TopicAuthorizationFailed), None, None);
        check(code(Code::UnknownTopicOrPartition), None, None);
    }
}
