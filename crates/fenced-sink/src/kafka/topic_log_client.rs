//! Questions about the log, asked through a client of their own that joins no group, so that they can neither hold up the
//! consumer thread nor be held up by it.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _, DefaultConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::metadata::{MetadataBroker, MetadataPartition, MetadataTopic};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionListElem};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::kafka::client::configuration;
use crate::kafka::error::{KafkaErrorKind, error_kind, is_damage};
use crate::kafka::ffi;
use crate::model::mirror::METADATA;
use crate::model::record::{Partition, Position, TopicId};
use crate::model::topic_log::{CommittedOffset, LogBounds, PartitionExtent, Probe};

/// How long one question may take, unless said otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// So many offsets are tried one by one for the end of what can't be read.
const ONE_BY_ONE: u32 = 32;

/// A topic's log, as the brokers describe it. All questions block, for a bounded time, and may be asked by any thread.
pub struct TopicLogClient {
    properties: BTreeMap<String, String>,
    topic: String,
    /// For one question.
    timeout: Duration,
    /// Open transactions do not end the log.
    uncommitted: bool,
    client: Mutex<Option<Arc<Client>>>,
}

type Client = BaseConsumer<DefaultConsumerContext>;

impl TopicLogClient {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(properties: &BTreeMap<String, String>, topic: &str) -> Self {
        let mut properties = properties.clone();
        properties.remove("group.instance.id"); // it is no member
        properties.remove("statistics.interval.ms");
        Self { properties, topic: topic.to_owned(), timeout: TIMEOUT, uncommitted: false, client: Mutex::default() }
    }

    /// The same, for somebody who can't wait so long.
    pub(crate) fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The bounds of all partitions of the topic, and what the group has committed. A question that was not answered is
    /// an error, never "none".
    pub(crate) fn extents(&self) -> KafkaResult<Vec<PartitionExtent>> {
        let client = self.client()?;
        let bounds = self.bounds_through(&client, |_| true)?;
        let committed = client.committed_offsets(self.list(bounds.keys().copied()), self.timeout)?;
        let metadata = ffi::metadata(&committed);
        let extent = |(element, metadata): (TopicPartitionListElem<'_>, Vec<u8>)| {
            element.error()?;
            let partition = Partition(element.partition());
            let committed = match element.offset() {
                KafkaOffset::Offset(_) if metadata == METADATA.as_bytes() => Some(CommittedOffset::OurMirror),
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

    /// The bounds of all partitions of the topic.
    ///
    /// # Errors
    /// Kafka did not answer in time, or refused the question.
    pub fn bounds(&self) -> KafkaResult<BTreeMap<Partition, LogBounds>> {
        self.bounds_of(|_| true)
    }

    /// The same, without partitions that nobody leads: those keep no other from being known.
    pub(crate) fn bounds_of_led_partitions(&self) -> KafkaResult<BTreeMap<Partition, LogBounds>> {
        self.bounds_of(|partition| partition.leader() >= 0)
    }

    fn bounds_of(&self, asked: fn(&MetadataPartition) -> bool) -> KafkaResult<BTreeMap<Partition, LogBounds>> {
        let bounds = self.bounds_through(&*self.client()?, asked);
        // What a client knows of a cluster can be newer than the cluster, after a restore: the next one begins anew. A topic
        // that is not there is not known any better.
        if bounds.as_ref().is_err_and(|error| !matches!(error, KafkaError::MetadataFetch(_))) {
            drop(self.client.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        bounds
    }

    /// Where the log of each partition really ends that somebody leads: past the last record, also where a transaction is open.
    pub(crate) fn last_ends(&self) -> KafkaResult<BTreeMap<Partition, Position>> {
        let log = Self { uncommitted: true, ..Self::new(&self.properties, &self.topic).with_timeout(self.timeout) };
        Ok(log.bounds_of_led_partitions()?.into_iter().map(|(partition, bounds)| (partition, bounds.end)).collect())
    }

    /// Where the first record is that can be read, if what stands at `at` can't be: each try reads the partition alone.
    /// `None`: it can be read, or nothing came of it.
    pub(crate) fn readable_from(
        &self,
        partition: Partition,
        at: Position,
        end: Position,
    ) -> KafkaResult<Option<Position>> {
        if self.probe(partition, at)? != Probe::Unreadable {
            return Ok(None);
        }
        // A batch can be read as a whole or not at all, and nobody but its own bytes says where it ends. One by one first, so
        // that nothing between two damaged batches is passed; then in longer and longer steps, and back by halves.
        let (mut unreadable, mut readable, mut tries, mut stride) = (at.0, end.0, 0, 1);
        while readable.saturating_sub(unreadable) > 1 {
            let middle = unreadable.saturating_add(readable.saturating_sub(unreadable) / 2);
            let next =
                if stride == 1 { unreadable.saturating_add(1) } else { middle.min(unreadable.saturating_add(stride)) };
            tries += 1;
            if self.probe(partition, Position(next))? == Probe::Record {
                readable = next;
            } else {
                unreadable = next;
                stride = if tries < ONE_BY_ONE { 1 } else { stride.saturating_mul(2) };
            }
        }
        Ok(Some(Position(readable)))
    }

    /// Reads a partition alone, with a client of its own that knows nothing of before.
    pub(crate) fn probe(&self, partition: Partition, at: Position) -> KafkaResult<Probe> {
        let reader: Client = configuration(&self.properties).create()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition.0, KafkaOffset::Offset(at.0))?;
        reader.assign(&list)?;
        let began = Instant::now();
        while began.elapsed() < self.timeout {
            match reader.poll(self.timeout.saturating_sub(began.elapsed())) {
                Some(Ok(_)) => return Ok(Probe::Record),
                Some(Err(error)) if is_damage(&error) => return Ok(Probe::Unreadable),
                Some(Err(error)) if error_kind(&error) == KafkaErrorKind::OutOfRange => return Ok(Probe::OutOfRange),
                _ => {}
            }
        }
        Ok(Probe::Nothing)
    }

    /// Which topic it is that has the name now. `None`: nobody knows.
    pub fn topic_id(&self) -> Option<TopicId> {
        let client = self.client().ok()?;
        let metadata = client.fetch_metadata(Some(&self.topic), self.timeout).ok()?;
        // Whoever answered, if its number is known yet; else any.
        let broker = Some(metadata.orig_broker_id()).filter(|id| *id >= 0);
        let broker = broker.or_else(|| metadata.brokers().first().map(MetadataBroker::id))?;
        ffi::topic_id(&client, &self.topic, broker, self.timeout)
    }

    /// Where the first record stands whose timestamp is at or after `millis` since 1970, by Kafka's index of timestamps; the
    /// end of the log if there is none.
    ///
    /// # Errors
    /// Kafka did not answer in time, or refused the question.
    pub fn at_timestamp(&self, millis: i64) -> KafkaResult<BTreeMap<Partition, Position>> {
        let client = self.client()?;
        let bounds = self.bounds_through(&client, |_| true)?;
        // Negative ones have other meanings in the protocol, and no record can be older than 0.
        let mut found = self.offsets(&client, bounds.keys().copied(), KafkaOffset::Offset(millis.max(0)))?;
        for (partition, bounds) in bounds {
            found.entry(partition).or_insert(bounds.end);
        }
        Ok(found)
    }

    fn bounds_through(
        &self,
        client: &Client,
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

    /// One request to each leader (`ListOffsets`, where -2 is the start, -1 the end, and any other number a timestamp).
    /// Partitions for which there is no such offset are left out.
    fn offsets(
        &self,
        client: &Client,
        partitions: impl Iterator<Item = Partition>,
        of: KafkaOffset,
    ) -> KafkaResult<BTreeMap<Partition, Position>> {
        let mut list = self.list(partitions);
        list.set_all_offsets(of)?;
        let answer = client.offsets_for_times(list, self.timeout)?;
        // What the client has noticed meanwhile is nobody's business, and would be kept for ever.
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
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, partition.0);
        }
        list
    }

    /// Made at the first question, and kept.
    fn client(&self) -> KafkaResult<Arc<Client>> {
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
