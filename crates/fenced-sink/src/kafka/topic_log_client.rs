//! Questions about a topic and its partition logs: bounds, timestamps, topic id.
//!
//! A separate client asks them. It joins no group and commits nothing. It never delays the consumer thread, and the
//! consumer thread never delays it.

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::{MetadataBroker, MetadataPartition, MetadataTopic};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionListElem};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::kafka::client::{configuration, partition_list, without_membership};
use crate::kafka::epoch_ends::epoch_ends;
use crate::kafka::ffi;
use crate::kafka::reused_client::ReusedClient;
use crate::model::leader_epochs::EpochEnd;
use crate::model::record::{LeaderEpoch, Partition, Position, TopicId};
use crate::model::topic_log::{CommittedOffset, LogBounds, PartitionExtent};

/// The default limit for one question.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Kafka did not answer in time, or refused the question.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct TopicLogError(#[from] KafkaError);

/// Asks the brokers about one topic. Every method blocks for a bounded time. Any thread may call it.
pub struct TopicLogClient {
    topic: String,
    /// The limit for one question.
    timeout: Duration,
    config: ClientConfig,
    client: ReusedClient,
    /// For this client the end of a partition log includes the records of open transactions.
    uncommitted: ReusedClient,
}

impl TopicLogClient {
    /// A client for `topic`. It connects at the first question.
    #[must_use]
    pub fn new(properties: &BTreeMap<String, String>, topic: &str) -> Self {
        let config = configuration(&without_membership(properties));
        let mut uncommitted = config.clone();
        uncommitted.set("isolation.level", "read_uncommitted");
        let (client, uncommitted) = (ReusedClient::new(config.clone()), ReusedClient::new(uncommitted));
        Self { topic: topic.to_owned(), timeout: TIMEOUT, config, client, uncommitted }
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
        let client = self.client.get()?;
        let bounds = all(self.bounds_through(&client, |_| true)?)?;
        let committed = client.committed_offsets(partition_list(&self.topic, bounds.keys().copied()), self.timeout)?;
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
        let bounds = self.client.get().and_then(|client| all(self.bounds_through(&client, |_| true)?));
        if bounds.as_ref().is_err_and(is_stale) {
            self.client.replace();
        }
        Ok(bounds?)
    }

    /// The bounds of every partition log whose leader answered. A partition without an answer does not hide the others.
    pub(crate) fn known_bounds(&self) -> BTreeMap<Partition, LogBounds> {
        self.known_bounds_through(&self.client)
    }

    /// The end of every partition log whose leader answered: the position behind its last record, open transactions
    /// included.
    pub(crate) fn last_ends(&self) -> BTreeMap<Partition, Position> {
        let bounds = self.known_bounds_through(&self.uncommitted);
        bounds.into_iter().map(|(partition, bounds)| (partition, bounds.end)).collect()
    }

    fn known_bounds_through(&self, client: &ReusedClient) -> BTreeMap<Partition, LogBounds> {
        let has_leader = |partition: &MetadataPartition| partition.leader() >= 0;
        let answers = client.get().and_then(|client| self.bounds_through(&client, has_leader));
        let errors = answers.iter().flat_map(BTreeMap::values).filter_map(|answer| answer.as_ref().err());
        if answers.as_ref().err().into_iter().chain(errors).any(is_stale) {
            client.replace();
        }
        match answers {
            Ok(answers) => {
                answers.into_iter().filter_map(|(partition, bounds)| Some((partition, bounds.ok()?))).collect()
            }
            Err(error) => {
                tracing::debug!(%error, "log_not_seen");
                BTreeMap::new()
            }
        }
    }

    /// The end of one leader epoch for each partition, in the log of its leader. A partition whose leader does not answer
    /// has no entry.
    pub(crate) fn epoch_ends(
        &self,
        asked: &BTreeMap<Partition, LeaderEpoch>,
    ) -> Result<BTreeMap<Partition, EpochEnd>, TopicLogError> {
        Ok(epoch_ends(&self.config, &self.topic, asked, self.timeout)?)
    }

    /// The id of the topic that has the name now. `None`: Kafka did not answer, or its topics have no ids.
    pub fn topic_id(&self) -> Option<TopicId> {
        let client = self.client.get().ok()?;
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
        let client = self.client.get()?;
        let bounds = all(self.bounds_through(&client, |_| true)?)?;
        // The protocol gives negative numbers another meaning, and no record is older than 0.
        let mut found = all(self.offsets(&client, bounds.keys().copied(), KafkaOffset::Offset(millis.max(0)))?)?;
        for (partition, bounds) in bounds {
            found.entry(partition).or_insert(bounds.end);
        }
        Ok(found)
    }

    fn bounds_through(
        &self,
        client: &BaseConsumer,
        asked: fn(&MetadataPartition) -> bool,
    ) -> KafkaResult<Answers<LogBounds>> {
        let metadata = client.fetch_metadata(Some(&self.topic), self.timeout)?;
        if let Some(error) = metadata.topics().iter().find_map(MetadataTopic::error) {
            return Err(KafkaError::MetadataFetch(error.into()));
        }
        let every = || metadata.topics().iter().flat_map(MetadataTopic::partitions);
        let partitions = || every().filter(|one| asked(one)).map(|one| Partition(one.id()));
        let starts = self.offsets(client, partitions(), KafkaOffset::Beginning)?;
        let mut ends = self.offsets(client, partitions(), KafkaOffset::End)?;
        let bounds = starts.into_iter().filter_map(|(partition, start)| {
            let end = ends.remove(&partition)?;
            Some((partition, start.and_then(|start| Ok(LogBounds { start, end: end? }))))
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
    ) -> KafkaResult<Answers<Position>> {
        let mut list = partition_list(&self.topic, partitions);
        list.set_all_offsets(of)?;
        let answer = client.offsets_for_times(list, self.timeout)?;
        // Drain the queued events: librdkafka keeps them otherwise.
        while client.poll(Duration::ZERO).is_some() {}
        let position = |element: TopicPartitionListElem<'_>| match (element.error(), element.offset()) {
            (Err(error), _) => Some((Partition(element.partition()), Err(error))),
            (Ok(()), KafkaOffset::Offset(offset)) => Some((Partition(element.partition()), Ok(Position(offset)))),
            (Ok(()), _) => None,
        };
        Ok(answer.elements().into_iter().filter_map(position).collect())
    }
}

/// The answer for each partition, or its error.
type Answers<T> = BTreeMap<Partition, KafkaResult<T>>;

/// The answers of all partitions, or the first error.
fn all<T>(answers: Answers<T>) -> KafkaResult<BTreeMap<Partition, T>> {
    answers.into_iter().map(|(partition, answer)| Ok((partition, answer?))).collect()
}

/// Whether old metadata of the client can be the reason. It is not the reason that a topic is missing.
fn is_stale(error: &KafkaError) -> bool {
    !matches!(error, KafkaError::MetadataFetch(_))
}
