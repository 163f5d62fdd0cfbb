//! Reads one partition at one position with a new client, to see what a client without any state receives there.
//!
//! It joins no group and commits nothing.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::Offset as KafkaOffset;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::kafka::client::configuration;
use crate::kafka::error::{KafkaErrorKind, error_kind, is_damage};
use crate::model::record::{Partition, Position};
use crate::model::topic_log::Probe;

/// Waits up to `limit` for the first record at or above `at`, or for an error that decides the result. Blocks.
pub(crate) fn probe(
    properties: &BTreeMap<String, String>,
    topic: &str,
    partition: Partition,
    at: Position,
    limit: Duration,
) -> KafkaResult<Probe> {
    let client: BaseConsumer = configuration(properties).create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition.0, KafkaOffset::Offset(at.0))?;
    client.assign(&list)?;
    let began = Instant::now();
    while began.elapsed() < limit {
        match client.poll(limit.saturating_sub(began.elapsed())) {
            Some(Ok(_)) => return Ok(Probe::Record),
            Some(Err(error)) if is_damage(&error) => return Ok(Probe::Unreadable),
            Some(Err(error)) if error_kind(&error) == KafkaErrorKind::OutOfRange => return Ok(Probe::OutOfRange),
            _ => {}
        }
    }
    Ok(Probe::Nothing)
}
