//! A member of the consumer group: the calls to librdkafka that the consumer thread makes. The caller decides what they
//! mean for the records.
//!
//! The consumer thread makes every call. librdkafka calls the callback of a rebalance during a poll, on the same
//! thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::Offset as KafkaOffset;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Statistics, TopicPartitionList};

use crate::kafka::client::{ConsumerError, configuration, partition_list, refused};
use crate::kafka::error::{KafkaErrorKind, error_kind};
use crate::kafka::ffi;
use crate::model::record::{LeaderEpoch, Partition, Position, Record};

/// Everything that Kafka can report during a poll.
pub(crate) enum KafkaEvent {
    /// The next record of a partition that is read.
    Record(Record),
    /// An error, by kind and in words.
    Error(KafkaErrorKind, String),
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
    /// The implementation must stop a revoked partition that is read before it returns.
    fn rebalanced(&self, member: &GroupMember<'_>, rebalance: Rebalance);
}

/// A consumer that can join a group.
pub(crate) struct GroupConsumer {
    consumer: BaseConsumer<Context>,
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
}

impl GroupConsumer {
    /// Kafka need not be reachable yet.
    pub(crate) fn new(
        properties: &BTreeMap<String, String>,
        topic: &str,
        mirror: &str,
        listener: Arc<dyn RebalanceListener>,
    ) -> Result<Self, ConsumerError> {
        let context = Context { topic: topic.to_owned(), mirror: mirror.to_owned(), listener };
        let consumer = configuration(properties).create_with_context(context);
        Ok(Self { consumer: consumer.map_err(|error| refused(&error))? })
    }

    /// Joins the group.
    pub(crate) fn join(&self) -> Result<(), ConsumerError> {
        let topic = &self.consumer.context().topic;
        self.consumer.subscribe(&[topic]).map_err(|error| refused(&error))
    }

    /// Waits for the next event, `timeout` at most.
    pub(crate) fn poll(&self, timeout: Duration) -> Option<KafkaEvent> {
        Some(match self.consumer.poll(timeout)? {
            Ok(message) => KafkaEvent::Record(ffi::record(&message)),
            Err(error) => KafkaEvent::Error(error_kind(&error), error.to_string()),
        })
    }

    /// The error after which the client can never work again, if librdkafka reports one.
    pub(crate) fn fatal_reason(&self) -> Option<String> {
        self.consumer.client().fatal_error().map(|(_, reason)| reason)
    }

    pub(crate) fn member(&self) -> GroupMember<'_> {
        GroupMember { consumer: &self.consumer }
    }
}

impl GroupMember<'_> {
    /// Starts to read a partition at an absolute position. A seek would let records of another position through.
    ///
    /// `epoch` is the leader epoch of the record at the position. If the leader changes before that record is fetched,
    /// librdkafka compares the epoch with the log of the new leader.
    pub(crate) fn start(
        &self,
        partition: Partition,
        at: Position,
        epoch: Option<LeaderEpoch>,
        paused: bool,
    ) -> KafkaResult<()> {
        let mut list = self.list([partition]);
        list.set_partition_offset(&self.consumer.context().topic, partition.0, KafkaOffset::Offset(at.0))?;
        ffi::set_leader_epochs(&list, [epoch]);
        self.consumer.incremental_assign(&list)?;
        // librdkafka keeps the pause flag of a partition over a new assignment.
        if paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) }
    }

    /// Ends the reading of partitions. librdkafka accepts or refuses a whole list. After a refusal, each partition is
    /// stopped alone.
    pub(crate) fn stop(&self, partitions: &[Partition]) {
        let Err(error) = self.consumer.incremental_unassign(&self.list(partitions.iter().copied())) else { return };
        tracing::warn!(%error, "unassign_failed");
        for partition in partitions {
            if let Err(error) = self.consumer.incremental_unassign(&self.list([*partition])) {
                tracing::warn!(partition = partition.0, %error, "unassign_failed");
            }
        }
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

    /// The bounds of a partition log, from its leader.
    pub(crate) fn watermarks(&self, partition: Partition, timeout: Duration) -> KafkaResult<(Position, Position)> {
        let topic = &self.consumer.context().topic;
        let (start, end) = self.consumer.fetch_watermarks(topic, partition.0, timeout)?;
        Ok((Position(start), Position(end)))
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

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka_client");
    }

    fn stats(&self, _: Statistics) {}
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<Partition> = list.elements().iter().map(|element| Partition(element.partition())).collect();
        let member = GroupMember { consumer };
        if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.listener.rebalanced(&member, Rebalance::Assigned(partitions));
            if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
                tracing::warn!(%error, "assign_failed");
            }
        } else {
            let revoked = Rebalance::Revoked { partitions, lost: consumer.assignment_lost() };
            self.listener.rebalanced(&member, revoked);
        }
    }
}
