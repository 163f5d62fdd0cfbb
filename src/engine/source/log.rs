//! Questions about the log, asked through a client of their own that joins no group, so that they can neither hold up the
//! consumer thread nor be held up by it.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _, DefaultConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionListElem};

use super::{configuration, raw};
use crate::engine::mirror::METADATA;
use crate::engine::record::{Partition, Position};

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of a partition before anything of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The partition.
    pub(crate) partition: Partition,
    /// The first record that is still there.
    pub(crate) start: Position,
    /// Past the last record that can be read.
    pub(crate) end: Position,
    /// What the group's committed offset says, if it has one.
    pub(crate) committed: Option<Mirrored>,
}

/// A committed offset of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mirrored {
    /// Somebody else's, as of the service that this one replaces.
    Foreign(Position),
    /// Our own mirror, which is never believed.
    Own,
}

/// A topic's log, as the brokers describe it. Each question has a client of its own, made with the consumer's
/// properties: one that is kept and never polled would collect events for ever.
pub(crate) struct Log {
    properties: BTreeMap<String, String>,
    topic: String,
}

impl Log {
    pub(crate) fn new(properties: &BTreeMap<String, String>, topic: &str) -> Self {
        let mut properties = properties.clone();
        properties.remove("group.instance.id"); // it is no member
        properties.remove("statistics.interval.ms");
        Self { properties, topic: topic.to_owned() }
    }

    /// Asks for all partitions of the topic. Blocks. A question that was not answered is an error, never "none".
    pub(crate) fn extents(&self) -> KafkaResult<Vec<Extent>> {
        let client: BaseConsumer<DefaultConsumerContext> = configuration(&self.properties).create()?;
        let metadata = client.fetch_metadata(Some(&self.topic), PATIENCE)?;
        if let Some(error) = metadata.topics().iter().find_map(MetadataTopic::error) {
            return Err(KafkaError::MetadataFetch(error.into()));
        }
        let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, partition.id());
        }
        let committed = client.committed_offsets(list, PATIENCE)?;
        let metadata = raw::metadata(&committed);
        let extent = |(element, metadata): (TopicPartitionListElem<'_>, Vec<u8>)| {
            element.error()?;
            let (start, end) = client.fetch_watermarks(&self.topic, element.partition(), PATIENCE)?;
            let committed = match element.offset() {
                KafkaOffset::Offset(_) if metadata == METADATA.as_bytes() => Some(Mirrored::Own),
                KafkaOffset::Offset(position) => Some(Mirrored::Foreign(Position(position))),
                _ => None,
            };
            Ok(Extent {
                partition: Partition(element.partition()),
                start: Position(start),
                end: Position(end),
                committed,
            })
        };
        committed.elements().into_iter().zip(metadata).map(extent).collect()
    }
}
