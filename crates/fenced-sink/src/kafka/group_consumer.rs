//! A member of the consumer group: the calls to librdkafka that the consumer thread makes. The caller decides what they
//! mean for the records.
//!
//! The consumer thread makes every call. A rebalance is reported during a poll, on the same thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::Offset as KafkaOffset;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Statistics, TopicPartitionList};

use crate::kafka::client::{ConsumerError, configuration, partition_list, refused};
use crate::kafka::error::{KafkaErrorKind, code_kind, kind_with_text, warn_of_message};
use crate::kafka::ffi::{self, PolledConsumer, PolledError, PolledEvent, PolledMessage};
use crate::kafka::last_error::{ClientMessage, without_thread};
use crate::kafka::response_watch::{BrokerStatistics, ResponseWatch};
use crate::model::kafka_refusal::KafkaNeed;
use crate::model::record::{LeaderEpoch, Partition, Position, Record};

/// The interval of librdkafka's statistics, in milliseconds. It must be several times shorter than the time after which
/// a fetch counts as stalled.
const STATISTICS: &str = "5000";
/// The longest wait until librdkafka has sent the request to leave the group. It needs longer only if it waits for a broker.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);
/// The duration of one poll in this wait.
const LEAVE_POLL: Duration = Duration::from_millis(10);

/// Everything that Kafka can report during a poll.
pub(crate) enum KafkaEvent {
    /// The next record of a partition that is read.
    Record(Record),
    /// An error.
    Error(ReportedError),
}

/// An error, of one partition or of the whole consumer.
pub(crate) struct ReportedError {
    /// The partition that the error concerns. `None`: it can concern every partition.
    pub(crate) partition: Option<Partition>,
    /// What the error means for the records.
    pub(crate) kind: KafkaErrorKind,
    /// The reason that librdkafka gives, and the name of its code.
    pub(crate) text: String,
}

/// A change of the assignment. It is reported during a poll, before that poll returns.
pub(crate) enum Rebalance {
    /// Kafka assigns these partitions. The consumer acknowledges them without reading them: a claim comes first.
    Assigned(Vec<Partition>),
    /// Kafka revokes these partitions.
    Revoked {
        /// The partitions.
        partitions: Vec<Partition>,
        /// The session has ended: another member may own them already.
        lost: bool,
    },
}

/// Reacts to a rebalance.
pub(crate) trait RebalanceListener: Send + Sync {
    /// The implementation must release the revoked partitions that are read before it returns.
    fn rebalanced(&self, member: &GroupMember<'_>, rebalance: Rebalance);

    /// A part of a response arrived in the last seconds, and the response is not complete yet.
    fn response_arrives(&self);

    /// Since the last statistics, Kafka has answered that it delays this client for this time, because of a quota.
    fn throttled(&self, time: Duration);
}

/// A consumer that can join a group.
pub(crate) struct GroupConsumer {
    polled: PolledConsumer<Context>,
}

/// What the consumer thread can do with the consumer, during a rebalance too.
pub(crate) struct GroupMember<'c> {
    consumer: &'c BaseConsumer<Context>,
}

struct Context {
    topic: String,
    /// The metadata of a mirrored position.
    mirror: String,
    listener: Arc<dyn RebalanceListener>,
    responses: Mutex<ResponseWatch>,
}

impl GroupConsumer {
    /// Kafka need not be reachable yet.
    pub(crate) fn new(
        properties: &BTreeMap<String, String>,
        topic: &str,
        mirror: &str,
        listener: Arc<dyn RebalanceListener>,
    ) -> Result<Self, ConsumerError> {
        let (topic, mirror) = (topic.to_owned(), mirror.to_owned());
        let context = Context { topic, mirror, listener, responses: Mutex::default() };
        let mut config = configuration(properties);
        let consumer = config.set("statistics.interval.ms", STATISTICS).create_with_context(context);
        let consumer = consumer.map_err(|error| refused(&error))?;
        let without_group = || ConsumerError::Configuration("group.id: a group is needed".to_owned());
        Ok(Self { polled: PolledConsumer::new(consumer).ok_or_else(without_group)? })
    }

    /// Joins the group.
    pub(crate) fn join(&self) -> Result<(), ConsumerError> {
        let consumer = self.polled.consumer();
        consumer.subscribe(&[&consumer.context().topic]).map_err(|error| refused(&error))
    }

    /// Leaves the group as a static member. When librdkafka ends such a member, it sends no request to leave, so Kafka would
    /// keep the member until its session ends. A record that arrives is not read.
    pub(crate) fn leave_as_static_member(&mut self) {
        let end = Instant::now() + LEAVE_LIMIT;
        self.polled.consumer().unsubscribe();
        // librdkafka deletes the member id when it sends the request. If the client ends before, it sends no request.
        while self.member().is_member() && Instant::now() < end {
            self.poll(LEAVE_POLL);
        }
    }

    /// Waits for the next event that is not one of a partition that is read, `timeout` at most. `None` can come earlier,
    /// for example when a record of a partition arrives.
    pub(crate) fn poll(&mut self, timeout: Duration) -> Option<KafkaEvent> {
        let polled = self.polled.poll(timeout)?;
        self.event(polled)
    }

    /// The next record or error of a partition that is read, if it has arrived.
    pub(crate) fn poll_partition(&mut self, partition: Partition) -> Option<KafkaEvent> {
        let polled = self.polled.poll_partition(partition)?;
        self.event(polled)
    }

    /// The partitions that were read at any time: records can arrive from them.
    pub(crate) fn separated(&self) -> Vec<Partition> {
        self.polled.separated().collect()
    }

    /// Starts to read a partition at an absolute position. Each partition has a queue of its own in librdkafka, which stops
    /// fetching for a partition only while the queue of this partition is full.
    ///
    /// `epoch` is the leader epoch of the record at the position. If the leader changes before that record is fetched,
    /// librdkafka compares the epoch with the log of the new leader.
    pub(crate) fn start(&mut self, partition: Partition, at: Position, epoch: Option<LeaderEpoch>) -> KafkaResult<()> {
        let topic = self.polled.consumer().context().topic.clone();
        if !self.polled.separate(&topic, partition) {
            return Err(KafkaError::Subscription(topic));
        }
        let mut list = partition_list(&topic, [partition]);
        // A seek would let records of another position through.
        list.set_partition_offset(&topic, partition.0, KafkaOffset::Offset(at.0))?;
        ffi::set_leader_epochs(&list, [epoch]);
        self.polled.consumer().incremental_assign(&list)?;
        // librdkafka keeps the pause flag of a partition over a new assignment.
        self.polled.consumer().resume(&list)
    }

    fn event(&self, polled: PolledEvent) -> Option<KafkaEvent> {
        match polled {
            PolledEvent::Record(record) => Some(KafkaEvent::Record(record)),
            PolledEvent::Error(PolledError { partition, code, fatal, reason }) => {
                let kind = if fatal { self.fatal_kind() } else { kind_with_text(code, &reason) };
                Some(KafkaEvent::Error(ReportedError { partition, kind, text: format!("{reason} ({code:?})") }))
            }
            PolledEvent::Rebalance { assigned, partitions } => {
                rebalanced(self.polled.consumer(), assigned, partitions);
                None
            }
            PolledEvent::Message(PolledMessage { level, facility, text }) => {
                let text = without_thread(&text);
                match ClientMessage::of(level, &facility, text) {
                    ClientMessage::Cause => {
                        let (kind, text) = (KafkaErrorKind::Transient, text.to_owned());
                        return Some(KafkaEvent::Error(ReportedError { partition: None, kind, text }));
                    }
                    ClientMessage::TooLarge | ClientMessage::Warning => warn_of_message(&facility, text),
                    ClientMessage::Other => tracing::debug!(facility, text, "kafka_client"),
                }
                None
            }
            PolledEvent::Statistics(json) => {
                match serde_json::from_str(&json) {
                    Ok(statistics) => self.polled.consumer().context().read_statistics(statistics),
                    Err(error) => tracing::debug!(%error, "statistics_not_read"),
                }
                None
            }
        }
    }

    /// The kind of the error after which the client can never work again.
    fn fatal_kind(&self) -> KafkaErrorKind {
        let fatal = self.polled.consumer().client().fatal_error();
        match fatal.map(|(code, _)| code_kind(code)) {
            Some(kind @ (KafkaErrorKind::Refused(KafkaNeed::JoinGroup) | KafkaErrorKind::InstanceIdTaken)) => kind,
            _ => KafkaErrorKind::Fatal,
        }
    }

    /// The error after which the client can never work again, if librdkafka reports one.
    pub(crate) fn fatal_reason(&self) -> Option<String> {
        self.polled.consumer().client().fatal_error().map(|(_, reason)| reason)
    }

    pub(crate) fn member(&self) -> GroupMember<'_> {
        GroupMember { consumer: self.polled.consumer() }
    }
}

impl GroupMember<'_> {
    /// Ends the reading of partitions.
    pub(crate) fn stop(&self, partitions: &[Partition]) {
        if let Err(read) = self.unassign(partitions)
            && !read.is_empty()
        {
            drop(self.unassign(&read));
        }
    }

    /// Ends the reading of partitions, and acknowledges the revoke during which it is called. librdkafka waits for a
    /// successful call without a limit. So after a refusal, the call is repeated with the partitions that librdkafka
    /// reads, even if there are none.
    pub(crate) fn release(&self, partitions: &[Partition]) {
        if let Err(read) = self.unassign(partitions) {
            drop(self.unassign(&read));
        }
    }

    /// librdkafka refuses a whole list if it does not read one of the partitions. The error has the partitions that it
    /// reads.
    fn unassign(&self, partitions: &[Partition]) -> Result<(), Vec<Partition>> {
        let Err(error) = self.consumer.incremental_unassign(&self.list(partitions.iter().copied())) else {
            return Ok(());
        };
        tracing::warn!(%error, "unassign_failed");
        let (topic, read) = (&self.consumer.context().topic, self.consumer.assignment().unwrap_or_default());
        let is_read = |partition: &Partition| read.find_partition(topic, partition.0).is_some();
        Err(partitions.iter().copied().filter(is_read).collect())
    }

    /// Pauses the fetch of partitions, or resumes it.
    pub(crate) fn pause(&self, partitions: impl IntoIterator<Item = Partition>, pause: bool) -> KafkaResult<()> {
        let list = self.list(partitions);
        if pause { self.consumer.pause(&list) } else { self.consumer.resume(&list) }
    }

    /// The position of each partition: past the last record, marker or aborted record that was delivered since reading
    /// started. A partition has no position before its start takes effect, and after its stop takes effect.
    pub(crate) fn positions(&self, partitions: impl IntoIterator<Item = Partition>) -> Vec<(Partition, Position)> {
        let list = self.list(partitions);
        ffi::positions(self.consumer, &list);
        let valid = list.elements().into_iter().filter_map(|element| match element.offset() {
            KafkaOffset::Offset(position) => Some((Partition(element.partition()), Position(position))),
            _ => None,
        });
        valid.collect()
    }

    /// Whether the position of a partition is invalid. librdkafka ends a stop in the background. Until then the former
    /// position is still valid, and a start could take it for a position that was reached after the start.
    pub(crate) fn is_at_rest(&self, partition: Partition) -> bool {
        let list = self.list([partition]);
        ffi::positions(self.consumer, &list);
        list.elements().iter().all(|element| element.offset() == KafkaOffset::Invalid)
    }

    /// Commits positions to Kafka, asynchronously: a synchronous commit blocks while the broker is unreachable.
    pub(crate) fn commit(&self, positions: &BTreeMap<Partition, Position>) {
        let mut list = TopicPartitionList::new();
        for (partition, position) in positions {
            let mut element = list.add_partition(&self.consumer.context().topic, partition.0);
            if element.set_offset(KafkaOffset::Offset(position.0)).is_ok() {
                element.set_metadata(&self.consumer.context().mirror);
            }
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, CommitMode::Async)
        {
            tracing::debug!(%error, "mirror_failed");
        }
    }

    /// Whether librdkafka regards this client as a member of the group.
    pub(crate) fn is_member(&self) -> bool {
        ffi::is_member(self.consumer)
    }

    fn list(&self, partitions: impl IntoIterator<Item = Partition>) -> TopicPartitionList {
        partition_list(&self.consumer.context().topic, partitions)
    }
}

impl Context {
    /// Reports whether a part of a large response has arrived, and whether Kafka throttles this client.
    fn read_statistics(&self, statistics: Statistics) {
        // The statistics have the throttle times of the last interval.
        let throttles = statistics.brokers.values().filter_map(|broker| broker.throttle.as_ref());
        let throttle = throttles.filter(|throttle| throttle.cnt > 0).map(|throttle| throttle.max).max();
        if let Some(millis) = throttle.and_then(|millis| u64::try_from(millis).ok()) {
            self.listener.throttled(Duration::from_millis(millis));
        }
        let at = Duration::from_micros(u64::try_from(statistics.ts).unwrap_or_default());
        let broker = |(name, broker): (String, rdkafka::statistics::Broker)| BrokerStatistics {
            name,
            complete: broker.rx,
            idle: u64::try_from(broker.rxidle).ok().map(Duration::from_micros),
        };
        let brokers = statistics.brokers.into_iter().map(broker).collect();
        if self.responses.lock().unwrap_or_else(PoisonError::into_inner).response_arrives(at, brokers) {
            self.listener.response_arrives();
        }
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka_client");
    }

    fn stats(&self, _: Statistics) {}
}

/// rust-rdkafka polls while the consumer leaves the group, and reports a rebalance here.
impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions = list.elements().iter().map(|element| Partition(element.partition())).collect();
        rebalanced(consumer, code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS, partitions);
    }
}

fn rebalanced(consumer: &BaseConsumer<Context>, assigned: bool, partitions: Vec<Partition>) {
    let (member, listener) = (GroupMember { consumer }, &consumer.context().listener);
    if assigned {
        listener.rebalanced(&member, Rebalance::Assigned(partitions));
        if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
            tracing::warn!(%error, "assign_failed");
        }
    } else {
        listener.rebalanced(&member, Rebalance::Revoked { partitions, lost: consumer.assignment_lost() });
    }
}

#[cfg(test)]
mod tests;
