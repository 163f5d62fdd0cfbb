//! Topics and their records.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaErrorCode;

use crate::kafka::Kafka;
use crate::unique;
use crate::wait::{PATIENCE, eventually};
use crate::wire::{self, RawRecord};

/// A topic on a broker.
#[derive(Clone, Debug)]
pub struct Topic {
    pub name: String,
    broker: String,
}

/// A record to produce. A key or value that is not given is null; Kafka chooses a partition or timestamp that is not
/// given.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp: Option<i64>,
}

impl Outgoing {
    /// A record for this partition with this value.
    pub fn to(partition: i32, value: impl Into<Vec<u8>>) -> Self {
        Self { partition: Some(partition), value: Some(value.into()), ..Self::default() }
    }
}

impl Topic {
    /// Makes a topic with a new name.
    pub async fn create(kafka: &Kafka, partitions: i32) -> Self {
        Self::create_as(kafka, &unique("bookings"), partitions, &[]).await
    }

    /// Makes a topic of this name, with settings such as `retention.ms`.
    pub async fn create_as(kafka: &Kafka, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Self {
        let topic = Self { name: name.to_owned(), broker: kafka.address() };
        topic.create_again(partitions, settings).await;
        topic
    }

    /// Makes a topic with a new name and one partition for each of these lists of nodes, which have its replicas. The first
    /// node of a list is the leader. Clients of the topic know all of `brokers`.
    pub async fn replicated(brokers: &[&Kafka], replicas: &[&[i32]], settings: &[(&str, &str)]) -> Self {
        let addresses: Vec<String> = brokers.iter().map(|broker| broker.address()).collect();
        let topic = Self { name: unique("bookings"), broker: addresses.join(",") };
        topic.make(i32::try_from(replicas.len()).unwrap(), TopicReplication::Variable(replicas), settings).await;
        topic
    }

    /// Makes a topic with a new name and one partition on each of these nodes of a cluster, in their order.
    pub async fn placed(broker: &Kafka, nodes: &[i32]) -> Self {
        let topic = Self { name: unique("bookings"), broker: broker.address() };
        let replicas: Vec<&[i32]> = nodes.iter().map(std::slice::from_ref).collect();
        topic.make(i32::try_from(nodes.len()).unwrap(), TopicReplication::Variable(&replicas), &[]).await;
        topic
    }

    /// A topic of any broker, which is not made here.
    pub fn at(broker: String, name: &str) -> Self {
        Self { name: name.to_owned(), broker }
    }

    /// A topic that need not exist: [`Self::create_again`] makes it.
    pub fn named(kafka: &Kafka, name: &str) -> Self {
        Self { name: name.to_owned(), broker: kafka.address() }
    }

    /// Makes a topic of the same name, after [`Self::delete`]; it has another id.
    pub async fn create_again(&self, partitions: i32, settings: &[(&str, &str)]) {
        self.make(partitions, TopicReplication::Fixed(1), settings).await;
    }

    async fn make(&self, partitions: i32, replication: TopicReplication<'_>, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(&self.name, partitions, replication);
        for (name, value) in settings {
            new = new.set(name, value);
        }
        // A broker with ZooKeeper removes a topic some time after it no longer lists it.
        let create = async || self.admin().create_topics([&new], &options()).await.unwrap();
        let exists = [Err((self.name.clone(), RDKafkaErrorCode::TopicAlreadyExists))];
        let made = eventually(PATIENCE, |made| *made != exists, create).await;
        assert_eq!(made, [Ok(self.name.clone())]);
        let wanted = usize::try_from(partitions).unwrap();
        eventually(PATIENCE, |found| *found == wanted, async || self.partitions()).await;
    }

    /// Deletes it, and returns when the broker no longer lists it.
    pub async fn delete(&self) {
        let deleted = self.admin().delete_topics(&[&self.name], &options()).await.unwrap();
        assert_eq!(deleted, [Ok(self.name.clone())]);
        eventually(PATIENCE, |found| *found == 0, async || self.partitions()).await;
    }

    /// Adds partitions up to this number.
    pub async fn grow(&self, partitions: usize) {
        let grown = self.admin().create_partitions([&NewPartitions::new(&self.name, partitions)], &options()).await;
        assert_eq!(grown.unwrap(), [Ok(self.name.clone())]);
        eventually(PATIENCE, |found| *found == partitions, async || self.partitions()).await;
    }

    /// Changes settings such as `retention.ms`.
    pub async fn alter(&self, settings: &[(&str, &str)]) {
        let mut config = AlterConfig::new(ResourceSpecifier::Topic(&self.name));
        for (name, value) in settings {
            config = config.set(name, value);
        }
        for altered in self.admin().alter_configs([&config], &options()).await.unwrap() {
            altered.unwrap();
        }
    }

    /// Removes the records of a partition that are below an offset, as retention does.
    pub async fn delete_records(&self, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, Offset::Offset(before)).unwrap();
        let deleted = self.admin().delete_records(&list, &options()).await.unwrap();
        for element in deleted.elements() {
            element.error().unwrap();
        }
    }

    /// For `bootstrap.servers`.
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// Number of partitions by the broker's metadata; 0 if there is no such topic.
    pub fn partitions(&self) -> usize {
        let metadata = self.consumer("none").fetch_metadata(Some(&self.name), PATIENCE).unwrap();
        metadata.topics().iter().filter(|topic| topic.error().is_none()).map(|topic| topic.partitions().len()).sum()
    }

    /// The leader of partition 0, and the number of replicas that are in sync with it. No leader is -1.
    pub fn leader(&self) -> (i32, usize) {
        let metadata = self.consumer("none").fetch_metadata(Some(&self.name), PATIENCE).unwrap();
        let mut partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
        partitions.next().map_or((-1, 0), |partition| (partition.leader(), partition.isr().len()))
    }

    /// By partition the leader and the replicas, the preferred leader first. Empty while a replica of any topic, also of
    /// Kafka's own ones, is not in sync.
    pub fn placement(&self) -> BTreeMap<i32, (i32, Vec<i32>)> {
        let metadata = self.consumer("none").fetch_metadata(None, PATIENCE).unwrap();
        let all = || metadata.topics().iter().flat_map(MetadataTopic::partitions);
        if all().any(|partition| partition.isr().len() < partition.replicas().len()) {
            return BTreeMap::new();
        }
        let own = metadata.topics().iter().filter(|topic| topic.name() == self.name);
        let of_partition = own.flat_map(MetadataTopic::partitions);
        of_partition.map(|partition| (partition.id(), (partition.leader(), partition.replicas().to_vec()))).collect()
    }

    /// The end of each partition log: the offset that the next record gets. Transaction markers count.
    pub fn ends(&self) -> BTreeMap<i32, i64> {
        self.watermarks().into_iter().map(|(partition, (_, end))| (partition, end)).collect()
    }

    /// The first and the end offset by partition.
    pub fn watermarks(&self) -> BTreeMap<i32, (i64, i64)> {
        let consumer = self.consumer("none");
        let partitions = i32::try_from(self.partitions()).unwrap();
        let of = |partition| (partition, consumer.fetch_watermarks(&self.name, partition, PATIENCE).unwrap());
        (0..partitions).map(of).collect()
    }

    /// The offset of the first record that exists at or behind `from`.
    pub fn first_offset_from(&self, partition: i32, from: i64) -> i64 {
        let consumer = self.consumer("none");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, Offset::Offset(from)).unwrap();
        consumer.assign(&list).unwrap();
        loop {
            if let Some(record) = consumer.poll(PATIENCE) {
                return record.unwrap().offset();
            }
        }
    }

    /// The positions and the metadata that a group has committed to Kafka, by partition.
    pub fn committed(&self, group: &str) -> BTreeMap<i32, (i64, String)> {
        let mut list = TopicPartitionList::new();
        let partitions = i32::try_from(self.partitions()).unwrap();
        list.add_partition_range(&self.name, 0, partitions - 1);
        let committed = self.consumer(group).committed_offsets(list, PATIENCE).unwrap();
        let elements = committed.elements();
        let known = elements.iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), (offset, element.metadata().to_owned()))),
            _ => None,
        });
        known.collect()
    }

    /// A producer for this topic, with properties such as `transactional.id`.
    pub fn producer(&self, properties: &[(&str, &str)]) -> Producer<'_> {
        let mut config = self.config();
        config.set("linger.ms", "5").set("enable.idempotence", "true");
        for (name, value) in properties {
            config.set(*name, *value);
        }
        Producer { topic: self, inner: config.create().unwrap() }
    }

    /// A producer of transactions. Call [`Producer::begin`] first.
    pub fn transactional_producer(&self) -> Producer<'_> {
        let producer = self.producer(&[("transactional.id", &unique("transactions"))]);
        producer.inner.init_transactions(PATIENCE).unwrap();
        producer
    }

    /// Produces records of any bytes, and returns their offsets.
    pub fn send_raw<'r>(&self, partition: i32, records: impl IntoIterator<Item = &'r RawRecord>) -> Vec<i64> {
        let produce = |record| wire::produce(&self.broker, &self.name, partition, record);
        records.into_iter().map(produce).collect()
    }

    fn consumer(&self, group: &str) -> BaseConsumer {
        self.config().set("group.id", group).set("isolation.level", "read_uncommitted").create().unwrap()
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().unwrap()
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.broker).set("allow.auto.create.topics", "false");
        config
    }
}

/// Produces records into a topic.
pub struct Producer<'t> {
    topic: &'t Topic,
    inner: FutureProducer,
}

impl Producer<'_> {
    /// Produces all, in order, and returns their partitions and offsets when the broker has them.
    pub async fn send(&self, records: impl IntoIterator<Item: Borrow<Outgoing>>) -> Vec<(i32, i64)> {
        let mut deliveries = Vec::new();
        for record in records {
            deliveries.push(self.enqueue(record.borrow()).await);
        }
        let mut offsets = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let delivered = delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
            offsets.push((delivered.partition, delivered.offset));
        }
        offsets
    }

    /// Enqueues a record; the future completes when the broker has it.
    pub async fn enqueue(&self, record: &Outgoing) -> rdkafka::producer::DeliveryFuture {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: value.as_ref() });
        }
        let mut message = FutureRecord {
            topic: &self.topic.name,
            partition: record.partition,
            payload: record.value.as_ref(),
            key: record.key.as_ref(),
            timestamp: record.timestamp,
            headers: (!record.headers.is_empty()).then_some(headers),
        };
        loop {
            match self.inner.send_result(message) {
                Ok(delivery) => return delivery,
                Err((error, back)) => {
                    let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                    assert!(full, "{error}");
                    message = back;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }

    /// Begins a transaction.
    pub fn begin(&self) {
        self.inner.begin_transaction().unwrap();
    }

    /// Commits the transaction: a marker takes an offset in each partition that it wrote to.
    pub fn commit(&self) {
        self.inner.commit_transaction(PATIENCE).unwrap();
    }

    /// Aborts the transaction: as [`Self::commit`], but consumers never see its records.
    pub fn abort(&self) {
        self.inner.abort_transaction(PATIENCE).unwrap();
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}
