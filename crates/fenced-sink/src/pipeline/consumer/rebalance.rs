//! What Kafka gives and takes, as librdkafka calls it back on the consumer thread.
//!
//! The callback never touches the database. What is given is acknowledged without being read: reading starts when the
//! claim has answered. What is taken may have a commit in flight, and that is waited for, for a bounded time.

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset as KafkaOffset;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Statistics, TopicPartitionList};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::kafka::ffi;
use crate::model::mirror::{CommittedPosition, METADATA};
use crate::model::protocol::Generation;
use crate::model::record::{Digest, Offset, Partition, Position};
use crate::pipeline::shared_scheduler::SharedScheduler;

/// How often the client is asked whether it is a member.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// A member that has heard of no partitions for so long has none: brokers tell within a heartbeat or two.
const NOTHING_COMES: Duration = Duration::from_secs(10);

/// What the client said about its membership.
struct MembershipAnswer {
    at: Instant,
    member: bool,
    since: Instant,
}

/// A partition that is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchState {
    /// What its records are tagged with.
    pub(super) generation: Generation,
    /// Below this, everything was reported.
    pub(super) reached: Position,
    /// What the first record has to be, if it is that old: the one that the ledger remembers.
    pub(super) expects: Option<(Offset, Digest)>,
    /// The broker refused its position: nothing more will come.
    pub(super) out_of_range: bool,
}

impl FetchState {
    /// Where it began, or has got to.
    pub(super) fn at(&self) -> Position {
        self.expects.map_or(self.reached, |(offset, _)| Position(offset.0))
    }
}

/// What the consumer and its callbacks share; both run on the consumer thread.
pub(crate) struct Context<E> {
    pub(super) assignment: Arc<SharedScheduler<E>>,
    pub(super) topic: String,
    readers: Mutex<BTreeMap<Partition, FetchState>>,
    mirrored: Mutex<BTreeMap<Partition, Position>>,
    asked: Mutex<MembershipAnswer>,
    /// How long a revocation waits for a commit in flight.
    timeout: Duration,
    /// Another client has taken its place: what this one is told is nobody's business any more.
    retired: AtomicBool,
}

impl<E> Context<E> {
    pub(super) fn new(assignment: Arc<SharedScheduler<E>>, topic: String, timeout: Duration) -> Self {
        let now = Instant::now();
        let asked = Mutex::new(MembershipAnswer { at: now, member: false, since: now });
        Self {
            assignment,
            topic,
            readers: Mutex::default(),
            mirrored: Mutex::default(),
            asked,
            timeout,
            retired: AtomicBool::new(false),
        }
    }

    /// From here its callbacks change nothing but the client that calls them.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// The partitions that are being read.
    pub(super) fn readers(&self) -> MutexGuard<'_, BTreeMap<Partition, FetchState>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn list(&self, partitions: impl IntoIterator<Item = Partition>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, partition.0);
        }
        list
    }

    /// Ends the reading of partitions. The client takes a list as a whole or not at all; one that it would not have is
    /// no reason to go on reading the others.
    pub(super) fn unassign(&self, consumer: &BaseConsumer<Self>, partitions: &[Partition])
    where
        E: Send + Sync + 'static,
    {
        let Err(error) = consumer.incremental_unassign(&self.list(partitions.iter().copied())) else { return };
        tracing::warn!(%error, "unassign_failed");
        for partition in partitions {
            if let Err(error) = consumer.incremental_unassign(&self.list([*partition])) {
                tracing::warn!(partition = partition.0, %error, "unassign_failed");
            }
        }
    }

    /// Tells Kafka the positions that were committed.
    pub(super) fn mirror(&self, consumer: &BaseConsumer<Self>, committed: Vec<CommittedPosition>)
    where
        E: Send + Sync + 'static,
    {
        let new: BTreeMap<Partition, Position> = committed.into_iter().map(CommittedPosition::into_parts).collect();
        self.tell(consumer, &new);
        self.mirrored.lock().unwrap_or_else(PoisonError::into_inner).extend(new);
    }

    /// Tells Kafka again where the partitions that are read have got: what it was told may never have arrived.
    pub(super) fn mirror_again(&self, consumer: &BaseConsumer<Self>)
    where
        E: Send + Sync + 'static,
    {
        let mut mirrored = self.mirrored.lock().unwrap_or_else(PoisonError::into_inner);
        let readers = self.readers();
        mirrored.retain(|partition, _| readers.contains_key(partition));
        self.tell(consumer, &mirrored);
    }

    /// Asynchronous always: a synchronous commit blocks the thread for as long as the broker is away.
    fn tell(&self, consumer: &BaseConsumer<Self>, positions: &BTreeMap<Partition, Position>)
    where
        E: Send + Sync + 'static,
    {
        let mut list = TopicPartitionList::new();
        for (partition, position) in positions {
            let mut element = list.add_partition(&self.topic, partition.0);
            if element.set_offset(KafkaOffset::Offset(position.0)).is_ok() {
                element.set_metadata(METADATA);
            }
        }
        if list.count() > 0
            && let Err(error) = consumer.commit(&list, CommitMode::Async)
        {
            tracing::debug!(%error, "mirror_failed");
        }
    }

    /// One who is given nothing, or has nothing to lose, is not called back under every protocol. A loss that is said once
    /// does not count: between two memberships there may be a moment without one.
    pub(super) fn ask_membership(&self, consumer: &BaseConsumer<Self>)
    where
        E: Send + Sync + 'static,
    {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.duration_since(asked.at) < ASK_INTERVAL {
            return;
        }
        let member = ffi::is_member(consumer);
        let since = if member == asked.member { asked.since } else { now };
        *asked = MembershipAnswer { at: now, member, since };
        let lasts = now.duration_since(since);
        if member && lasts >= NOTHING_COMES {
            self.assignment.is_member();
        } else if !member && lasts >= ASK_INTERVAL {
            self.lost();
        }
    }

    fn lost(&self) {
        if self.assignment.membership_lost() {
            let hint = "its partitions may be somebody else's by now; it joins the group again by itself";
            tracing::warn!(topic = self.topic, hint, "membership_lost");
        }
    }

    fn revoked(&self, consumer: &BaseConsumer<Self>, partitions: &[Partition])
    where
        E: Send + Sync + 'static,
    {
        let lost = consumer.assignment_lost();
        if !self.retired.load(Ordering::Relaxed) {
            let timeout = if lost { Duration::ZERO } else { self.timeout };
            self.assignment.revoked(partitions, timeout);
            if lost {
                self.lost();
            } else {
                self.mirror(consumer, self.assignment.take_committed());
            }
        }
        let mut readers = self.readers();
        let reading: Vec<Partition> = partitions.iter().copied().filter(|p| readers.remove(p).is_some()).collect();
        drop(readers);
        self.unassign(consumer, &reading);
        for partition in partitions {
            tracing::info!(topic = self.topic, partition = partition.0, lost, "partition_revoked");
        }
    }
}

impl<E: Send + Sync + 'static> ClientContext for Context<E> {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka_client");
    }

    fn stats(&self, _: Statistics) {}
}

impl<E: Send + Sync + 'static> ConsumerContext for Context<E> {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<Partition> = list.elements().iter().map(|element| Partition(element.partition())).collect();
        if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if !self.retired.load(Ordering::Relaxed) {
                self.assignment.assigned(&partitions);
            }
            if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
                tracing::warn!(%error, "assign_failed");
            }
        } else {
            self.revoked(consumer, &partitions);
        }
    }
}
