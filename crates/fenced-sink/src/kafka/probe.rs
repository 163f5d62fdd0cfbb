//! Reads one partition at one position, to see what a client receives there.
//!
//! It joins no group and commits nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset as KafkaOffset;
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::kafka::client::{configuration, without_membership};
use crate::kafka::error::{KafkaErrorKind, error_kind, is_damage};
use crate::kafka::reused_client::ReusedClient;
use crate::model::record::{Partition, Position};
use crate::model::topic_log::Probe;

/// The time limit of one read. It is long: on a slow connection, one batch takes several seconds.
const LIMIT: Duration = Duration::from_secs(10);

/// Properties that make a read small and its answer certain. A broker always sends the first batch completely.
const SMALL: [(&str, &str); 6] = [
    ("message.max.bytes", "1000"),
    ("fetch.max.bytes", "1000"),
    ("fetch.message.max.bytes", "1000"),
    ("queued.min.messages", "1"),
    ("enable.partition.eof", "true"),
    // Only the messages of this topic say that a batch is too large.
    ("debug", "msg"),
];

/// What librdkafka logs about a batch or a response above `receive.message.max.bytes`. The error codes are those of damaged
/// data.
const TOO_LARGE: [&str; 2] = ["output would exceed message.max.bytes", "increase receive.message.max.bytes"];

/// Reads single records of one topic, one after the other.
pub(crate) struct Prober {
    topic: String,
    client: ReusedClient<SizeContext>,
}

/// Reads the log of librdkafka.
#[derive(Default)]
struct SizeContext {
    too_large: AtomicBool,
}

impl ClientContext for SizeContext {
    fn log(&self, _: RDKafkaLogLevel, _: &str, message: &str) {
        if TOO_LARGE.iter().any(|text| message.contains(text)) {
            self.too_large.store(true, Ordering::Release);
        }
    }
}

impl ConsumerContext for SizeContext {}

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
        // librdkafka logs the same error of a broker only once in a while.
        if matches!(probe, Probe::NoAnswer | Probe::TooLarge) {
            self.client.replace();
        }
        probe
    }

    fn read(&self, client: &BaseConsumer<SizeContext>, partition: Partition, at: Position) -> KafkaResult<Probe> {
        client.context().too_large.store(false, Ordering::Release);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition.0, KafkaOffset::Offset(at.0))?;
        client.assign(&list)?;
        let probe = wait(client, partition, at);
        client.unassign()?;
        // Drain the queued events: librdkafka keeps them otherwise.
        while client.poll(Duration::ZERO).is_some() {}
        Ok(probe)
    }
}

fn wait(client: &BaseConsumer<SizeContext>, partition: Partition, at: Position) -> Probe {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        match client.poll(LIMIT.saturating_sub(began.elapsed())) {
            Some(Ok(record)) if record.partition() == partition.0 && record.offset() >= at.0 => return Probe::Record,
            Some(Err(KafkaError::PartitionEOF(ended))) if ended == partition.0 => return Probe::End,
            Some(Err(_)) if client.context().too_large.load(Ordering::Acquire) => return Probe::TooLarge,
            Some(Err(error)) if is_damage(&error) => return Probe::Unreadable,
            Some(Err(error)) if error_kind(&error) == KafkaErrorKind::OutOfRange => return Probe::OutOfRange,
            _ => {}
        }
    }
    Probe::NoAnswer
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
