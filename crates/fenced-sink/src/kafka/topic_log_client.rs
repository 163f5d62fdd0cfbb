//! Questions about a topic and its partition logs: bounds, timestamps, topic id, single reads.
//!
//! A separate client asks them. It joins no group and commits nothing. It never delays the consumer thread, and the
//! consumer thread never delays it.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::{MetadataBroker, MetadataPartition, MetadataTopic};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionListElem};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::kafka::client::{configuration, partition_list, without_membership};
use crate::kafka::epoch_ends::epoch_ends;
use crate::kafka::ffi;
use crate::kafka::probe::probe;
use crate::model::leader_epochs::EpochEnd;
use crate::model::record::{LeaderEpoch, Partition, Position, TopicId};
use crate::model::topic_log::{CommittedOffset, LogBounds, PartitionExtent, Probe};
use crate::model::unreadable::first_readable;

/// The default limit for one question.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Kafka did not answer in time, or refused the question.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct TopicLogError(#[from] KafkaError);

/// Asks the brokers about one topic. Every method blocks for a bounded time. Any thread may call it.
pub struct TopicLogClient {
    properties: BTreeMap<String, String>,
    topic: String,
    /// The limit for one question.
    timeout: Duration,
    /// Whether the end of a log includes the records of open transactions.
    uncommitted: bool,
    client: Mutex<Option<Arc<BaseConsumer>>>,
}

impl TopicLogClient {
    /// A client for `topic`. It connects at the first question.
    #[must_use]
    pub fn new(properties: &BTreeMap<String, String>, topic: &str) -> Self {
        let properties = without_membership(properties);
        Self { properties, topic: topic.to_owned(), timeout: TIMEOUT, uncommitted: false, client: Mutex::default() }
    }

    /// The same client with another limit for one question.
    pub(crate) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The bounds of every partition, and the committed offset of the group. A question without an answer is an error:
    /// it never means that the group has no committed offset.
    ///
    /// An offset with the metadata `mirror` is this service's own mirror.
    pub(crate) fn extents(&self, mirror: &str) -> Result<Vec<PartitionExtent>, TopicLogError> {
        let client = self.client()?;
        let bounds = self.bounds_through(&client, |_| true)?;
        let committed = client.committed_offsets(self.list(bounds.keys().copied()), self.timeout)?;
        let metadata = ffi::metadata(&committed);
        let extent = |(element, metadata): (TopicPartitionListElem<'_>, Vec<u8>)| {
            element.error()?;
            let partition = Partition(element.partition());
            let committed = match element.offset() {
                KafkaOffset::Offset(_) if metadata == mirror.as_bytes() => Some(CommittedOffset::OurMirror),
                KafkaOffset::Offset(position) => Some(CommittedOffset::Foreign(Position(position))),
                _ => None,
            };
            Ok(bounds.get(&partition).map(|&LogBounds { start, end }| PartitionExtent {
                partition,
                start,
                end,
                committed,
            }))
        };
        committed.elements().into_iter().zip(metadata).filter_map(|pair| extent(pair).transpose()).collect()
    }

    /// The bounds of every partition log of the topic.
    ///
    /// # Errors
    /// Kafka did not answer in time, or refused the question.
    pub fn bounds(&self) -> Result<BTreeMap<Partition, LogBounds>, TopicLogError> {
        self.bounds_of(|_| true)
    }

    /// The bounds of every partition log that has a leader. One partition without a leader does not hide the others.
    pub(crate) fn bounds_of_led_partitions(&self) -> Result<BTreeMap<Partition, LogBounds>, TopicLogError> {
        self.bounds_of(|partition| partition.leader() >= 0)
    }

    fn bounds_of(
        &self,
        asked: fn(&MetadataPartition) -> bool,
    ) -> Result<BTreeMap<Partition, LogBounds>, TopicLogError> {
        let bounds = self.bounds_through(&*self.client()?, asked);
        // After a restore of the brokers, the metadata of this client can be newer than theirs, and then it refuses
        // their answers. So the next question uses a new client. After a missing topic it does not.
        if bounds.as_ref().is_err_and(|error| !matches!(error, KafkaError::MetadataFetch(_))) {
            drop(self.client.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        Ok(bounds?)
    }

    /// The end of every partition log that has a leader: the position behind its last record, open transactions
    /// included.
    pub(crate) fn last_ends(&self) -> Result<BTreeMap<Partition, Position>, TopicLogError> {
        let log = Self { uncommitted: true, ..Self::new(&self.properties, &self.topic).with_timeout(self.timeout) };
        Ok(log.bounds_of_led_partitions()?.into_iter().map(|(partition, bounds)| (partition, bounds.end)).collect())
    }

    /// The position of the first readable record, if the record at `at` is damaged. `None`: it is readable, or the
    /// probe received nothing.
    pub(crate) fn readable_from(
        &self,
        partition: Partition,
        at: Position,
        end: Position,
    ) -> Result<Option<Position>, TopicLogError> {
        if self.probe(partition, at)? != Probe::Unreadable {
            return Ok(None);
        }
        first_readable(at, end, |next| Ok(self.probe(partition, next)? == Probe::Record)).map(Some)
    }

    /// Reads one partition at one position with a new client.
    pub(crate) fn probe(&self, partition: Partition, at: Position) -> Result<Probe, TopicLogError> {
        Ok(probe(&self.properties, &self.topic, partition, at, self.timeout)?)
    }

    /// The end of one leader epoch for each partition, in the log of its leader. A partition whose leader does not answer
    /// has no entry.
    pub(crate) fn epoch_ends(
        &self,
        asked: &BTreeMap<Partition, LeaderEpoch>,
    ) -> Result<BTreeMap<Partition, EpochEnd>, TopicLogError> {
        Ok(epoch_ends(&self.properties, &self.topic, asked, self.timeout)?)
    }

    /// The id of the topic that has the name now. `None`: Kafka did not answer, or its topics have no ids.
    pub fn topic_id(&self) -> Option<TopicId> {
        let client = self.client().ok()?;
        let metadata = client.fetch_metadata(Some(&self.topic), self.timeout).ok()?;
        // The broker that answered, if its number is known; otherwise any broker.
        let broker = Some(metadata.orig_broker_id()).filter(|id| *id >= 0);
        let broker = broker.or_else(|| metadata.brokers().first().map(MetadataBroker::id))?;
        ffi::topic_id(&client, &self.topic, broker, self.timeout)
    }

    /// For each partition the position of the first record with a timestamp of `millis` since 1970 or later, by Kafka's
    /// index of timestamps. Without such a record it is the end of the partition log.
    ///
    /// # Errors
    /// Kafka did not answer in time, or refused the question.
    pub fn at_timestamp(&self, millis: i64) -> Result<BTreeMap<Partition, Position>, TopicLogError> {
        let client = self.client()?;
        let bounds = self.bounds_through(&client, |_| true)?;
        // The protocol gives negative numbers another meaning, and no record is older than 0.
        let mut found = self.offsets(&client, bounds.keys().copied(), KafkaOffset::Offset(millis.max(0)))?;
        for (partition, bounds) in bounds {
            found.entry(partition).or_insert(bounds.end);
        }
        Ok(found)
    }

    fn bounds_through(
        &self,
        client: &BaseConsumer,
        asked: fn(&MetadataPartition) -> bool,
    ) -> KafkaResult<BTreeMap<Partition, LogBounds>> {
        let metadata = client.fetch_metadata(Some(&self.topic), self.timeout)?;
        if let Some(error) = metadata.topics().iter().find_map(MetadataTopic::error) {
            return Err(KafkaError::MetadataFetch(error.into()));
        }
        let all = || metadata.topics().iter().flat_map(MetadataTopic::partitions);
        let partitions = || all().filter(|one| asked(one)).map(|one| Partition(one.id()));
        let starts = self.offsets(client, partitions(), KafkaOffset::Beginning)?;
        let mut ends = self.offsets(client, partitions(), KafkaOffset::End)?;
        let bounds = starts.into_iter().filter_map(|(partition, start)| {
            let end = ends.remove(&partition)?;
            Some((partition, LogBounds { start, end }))
        });
        Ok(bounds.collect())
    }

    /// Sends one `ListOffsets` request to each leader, where -2 means the start, -1 the end, and any other number a
    /// timestamp. A partition without such an offset is left out.
    fn offsets(
        &self,
        client: &BaseConsumer,
        partitions: impl Iterator<Item = Partition>,
        of: KafkaOffset,
    ) -> KafkaResult<BTreeMap<Partition, Position>> {
        let mut list = self.list(partitions);
        list.set_all_offsets(of)?;
        let answer = client.offsets_for_times(list, self.timeout)?;
        // Drain the queued events: librdkafka keeps them otherwise.
        while client.poll(Duration::ZERO).is_some() {}
        let mut found = BTreeMap::new();
        for element in answer.elements() {
            element.error()?;
            if let KafkaOffset::Offset(offset) = element.offset() {
                found.insert(Partition(element.partition()), Position(offset));
            }
        }
        Ok(found)
    }

    fn list(&self, partitions: impl Iterator<Item = Partition>) -> TopicPartitionList {
        partition_list(&self.topic, partitions)
    }

    /// Creates the client at the first question and stores it.
    fn client(&self) -> KafkaResult<Arc<BaseConsumer>> {
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let client = if let Some(client) = kept.take() {
            client
        } else {
            let mut config = configuration(&self.properties);
            if self.uncommitted {
                config.set("isolation.level", "read_uncommitted");
            }
            Arc::new(config.create()?)
        };
        Ok(Arc::clone(kept.insert(client)))
    }
}
