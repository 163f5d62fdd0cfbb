//! The consumer thread: reads the partitions that the scheduler names, and reports the records.
//!
//! One thread owns the consumer and always polls, whatever the database does. It waits for the database in one case, for a
//! limited time: for a commit in flight when Kafka revokes a partition.

mod fetches;
mod mirror;
mod rebalance;
mod membership;
mod errors;
mod rejoin;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::errors::RepeatedFailures;
use self::fetches::Fetch;
use self::membership::{MembershipCheck, UnassignedTime};
use self::rebalance::Rebalancer;
use self::rejoin::FormerConsumer;
use crate::event::Event;
use crate::kafka::client::ConsumerError;
use crate::kafka::error::KafkaNames;
use crate::kafka::group_consumer::{GroupConsumer, KafkaEvent};
use crate::model::batch::Arrival;
use crate::model::protocol::Generation;
use crate::model::record::Partition;
use crate::pipeline::instance_id;
use crate::pipeline::reports::{KafkaReport, ReadTarget};
use crate::pipeline::shared_scheduler::SharedScheduler;

/// One poll waits this long. So it is the longest delay of a start or a stop.
const POLL: Duration = Duration::from_millis(40);
/// A partition without room for this time is paused.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
/// The interval at which the thread checks whether a partition without room may be read again.
const ROOM_INTERVAL: Duration = Duration::from_millis(5);
/// At most this many records are reported at once, and as many other events are handled in a row.
const CHUNK: usize = 512;
/// A report ends after the record that exceeds this many bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// The interval at which the positions past markers and aborted data are reported.
const REACHED_INTERVAL: Duration = Duration::from_millis(100);
/// The interval at which committed positions are mirrored to Kafka.
const MIRROR_INTERVAL: Duration = Duration::from_secs(3);
/// The interval at which all positions are mirrored again.
const MIRROR_AGAIN_INTERVAL: Duration = Duration::from_mins(1);
/// A revocation waits for a commit in flight this long at most.
const COMMIT_WAIT: Duration = Duration::from_secs(10);

/// The settings of the consumer thread.
#[derive(Clone)]
pub(crate) struct ConsumerOptions {
    /// All properties of librdkafka.
    pub(crate) properties: BTreeMap<String, String>,
    /// The topic.
    pub(crate) topic: String,
    /// The name of the service, which marks its mirror.
    pub(crate) service: String,
    /// The maximum number of bytes of waiting records. Above it, only a partition that has less than its share is read.
    pub(crate) buffer_max_bytes: usize,
    /// The engine has chosen the `group.instance.id`, and not the user. Then the process leaves the group when it stops:
    /// the next process may run on another host.
    pub(crate) chose_instance_id: bool,
}

/// The consumer thread: the consumer, and the partitions that it reads.
pub(crate) struct ConsumerThread<E: Event> {
    consumer: GroupConsumer,
    rebalancer: Arc<Rebalancer<E>>,
    options: ConsumerOptions,
    /// The partition that is polled first.
    first: Partition,
    /// Since when partitions have no room.
    full_since: BTreeMap<Partition, Instant>,
    paused: BTreeSet<Partition>,
    reached_at: Instant,
    mirror_at: Instant,
    mirror_again_at: Instant,
    unassigned: UnassignedTime,
    membership: MembershipCheck,
    /// The consumer that this one replaces, until this one joins the group.
    former: Option<FormerConsumer>,
    failures: RepeatedFailures,
    names: KafkaNames,
    /// When a consumer that the group refused is replaced.
    replace_at: Option<Instant>,
}

impl<E: Event> ConsumerThread<E> {
    /// The process is not a member of the group yet. Kafka need not be reachable.
    pub(crate) fn new(options: ConsumerOptions, scheduler: Arc<SharedScheduler<E>>) -> Result<Self, ConsumerError> {
        let poll_limit = options.properties.get("max.poll.interval.ms").and_then(|text| text.parse().ok());
        let commit_wait = Duration::from_millis(poll_limit.unwrap_or(300_000) / 4).min(COMMIT_WAIT);
        let rebalancer = Arc::new(Rebalancer::new(scheduler, options.topic.clone(), commit_wait));
        let listener = Arc::<Rebalancer<E>>::clone(&rebalancer);
        let names = KafkaNames::new(&options.properties, &options.topic);
        let now = Instant::now();
        Ok(Self {
            consumer: GroupConsumer::new(&options.properties, &options.topic, &options.service, listener)?,
            rebalancer,
            options,
            first: Partition(0),
            full_since: BTreeMap::new(),
            paused: BTreeSet::new(),
            reached_at: now,
            mirror_at: now,
            mirror_again_at: now,
            unassigned: UnassignedTime::new(now),
            membership: MembershipCheck::new(now),
            former: None,
            failures: RepeatedFailures::default(),
            names,
            replace_at: None,
        })
    }

    /// Reads until the scheduler stops, or until Kafka cannot be used.
    pub(crate) fn run(&mut self) -> Result<(), ConsumerError> {
        let ended = self.consumer.join().and_then(|()| self.read_until_stopped());
        if ended.is_ok() {
            self.report_reached();
        }
        self.scheduler().report(KafkaReport::ReadingEnded);
        ended
    }

    fn read_until_stopped(&mut self) -> Result<(), ConsumerError> {
        while !self.scheduler().is_stopping() {
            let rejoins = self.scheduler().take_rejoin() || self.replace_at.is_some_and(|at| at <= Instant::now());
            if rejoins && self.former.is_none() {
                self.replace_consumer()?;
            }
            self.join_after_former()?;
            self.follow_targets();
            self.read()?;
            self.mirror();
            self.check_membership();
        }
        Ok(())
    }

    /// Leaves the group, after the last commit has ended. A member with a `group.instance.id` of the user stays in the
    /// group, so that a restart causes no rebalance. The drop can block while a broker is frozen, so a caller must not wait
    /// for it without a limit.
    pub(crate) fn leave(mut self) {
        self.mirror_committed();
        let is_static = self.options.properties.contains_key(instance_id::PROPERTY);
        if is_static && self.options.chose_instance_id && self.consumer.member().is_member() {
            self.consumer.leave_as_static_member();
        }
        // Without an id, the consumer leaves the group when it ends.
        drop(self.consumer);
    }

    /// Stops each fetch that is no longer a target, and starts each new target.
    fn follow_targets(&mut self) {
        self.report_fetch_failures();
        let targets = self.scheduler().read_targets();
        let stale = self.rebalancer.fetches().stale(&targets);
        if !stale.is_empty() {
            self.consumer.member().stop(&stale);
            self.rebalancer.fetches().remove(&stale);
        }
        for target in targets {
            if !self.rebalancer.fetches().contains(target.partition)
                && self.consumer.member().is_at_rest(target.partition)
                && self.start(target)
            {
                self.rebalancer.fetches().insert(target.partition, Fetch::new(&target));
            }
        }
    }

    /// False: the target has changed.
    fn start(&mut self, target: ReadTarget) -> bool {
        let ReadTarget { partition, generation, at, leader_epoch, .. } = target;
        self.full_since.remove(&partition);
        self.paused.remove(&partition);
        if !self.scheduler().started(partition, generation) {
            return false;
        }
        match self.consumer.start(partition, Fetch::new(&target).position(), leader_epoch) {
            Ok(()) => {
                let topic = &self.options.topic;
                tracing::info!(topic, partition = partition.0, position = at.0, "partition_started");
            }
            Err(error) => {
                tracing::warn!(partition = partition.0, %error, "partition_start_failed");
                self.scheduler().report(KafkaReport::UnclassifiedError(vec![partition]));
            }
        }
        true
    }

    /// Reads and reports at most one chunk, and then handles what else has arrived. Without records, it waits.
    fn read(&mut self) -> Result<(), ConsumerError> {
        let without_room = self.scheduler().without_room(self.options.buffer_max_bytes);
        self.pause_full(&without_room);
        let complete = self.read_chunk(&without_room)?;
        if self.reached_at <= Instant::now() {
            self.report_reached();
        }
        let mut wait = match (complete, without_room.is_empty()) {
            (false, _) => Duration::ZERO,
            (true, false) => ROOM_INTERVAL,
            (true, true) => POLL,
        };
        for _ in 0..CHUNK {
            let Some(event) = self.consumer.poll(wait) else { break };
            let mut arrivals = Vec::new();
            self.handle(event, &mut arrivals)?;
            self.report_arrivals(arrivals);
            wait = Duration::ZERO;
        }
        Ok(())
    }

    /// Pauses each partition that has had no room for a while, and resumes it when it has room.
    ///
    /// A record that waits in librdkafka can keep a whole response in memory, with records of other partitions. A pause
    /// drops the records that wait. It does not happen at once, because librdkafka must fetch them again.
    fn pause_full(&mut self, without_room: &[Partition]) {
        if without_room.is_empty() && self.paused.is_empty() {
            self.full_since.clear();
            return;
        }
        let (now, fetched) = (Instant::now(), self.fetched());
        self.full_since.retain(|partition, _| without_room.contains(partition));
        for partition in without_room {
            self.full_since.entry(*partition).or_insert(now);
        }
        let is_full = |(partition, since): &(&Partition, &Instant)| {
            now.saturating_duration_since(**since) >= PAUSE_AFTER && fetched.contains(partition)
        };
        let full: BTreeSet<Partition> =
            self.full_since.iter().filter(is_full).map(|(partition, _)| *partition).collect();
        for (partitions, pause) in [(&full - &self.paused, true), (&self.paused - &full, false)] {
            if partitions.is_empty() {
                continue;
            }
            match self.consumer.member().pause(partitions.iter().copied(), pause) {
                Ok(()) if pause => self.paused.extend(partitions),
                Ok(()) => self.paused.retain(|partition| !partitions.contains(partition)),
                Err(error) => tracing::warn!(%error, "pause_failed"),
            }
        }
    }

    /// Reads a chunk of the partitions that have room, and reports it. The partitions take turns. True: all records that
    /// had arrived are reported.
    fn read_chunk(&mut self, without_room: &[Partition]) -> Result<bool, ConsumerError> {
        let (mut arrivals, mut bytes) = (Vec::new(), 0);
        let mut partitions = self.consumer.separated();
        let first = partitions.partition_point(|partition| *partition < self.first);
        partitions.rotate_left(first);
        for partition in partitions.into_iter().filter(|partition| !without_room.contains(partition)) {
            while let Some(event) = self.consumer.poll_partition(partition) {
                bytes += self.handle(event, &mut arrivals)?;
                if arrivals.len() >= CHUNK || bytes >= CHUNK_BYTES {
                    self.first = Partition(partition.0.saturating_add(1));
                    self.report_arrivals(arrivals);
                    return Ok(false);
                }
            }
        }
        self.report_arrivals(arrivals);
        Ok(true)
    }

    /// Adds a record to the arrivals, and returns its size. Handles an error.
    fn handle(
        &mut self,
        event: KafkaEvent,
        arrivals: &mut Vec<(Partition, Generation, Arrival<E>)>,
    ) -> Result<usize, ConsumerError> {
        match event {
            KafkaEvent::Record(record) => {
                let size = record.size();
                arrivals.extend(self.rebalancer.arrival(record));
                Ok(size)
            }
            KafkaEvent::Error(error) => {
                // The records before the error are good.
                self.report_arrivals(std::mem::take(arrivals));
                self.handle_error(error)?;
                Ok(0)
            }
        }
    }

    fn report_arrivals(&self, arrivals: Vec<(Partition, Generation, Arrival<E>)>) {
        if !arrivals.is_empty() {
            self.scheduler().report(KafkaReport::Arrived(arrivals));
        }
    }

    /// Reports the positions past trailing markers and aborted data. All delivered records must be reported before, so
    /// that the position follows the records.
    fn report_reached(&mut self) {
        self.reached_at = Instant::now() + REACHED_INTERVAL;
        let positions = self.consumer.member().positions(self.fetched());
        self.report_arrivals(self.rebalancer.reached(positions));
    }

    fn mirror(&mut self) {
        let now = Instant::now();
        if self.mirror_at <= now {
            self.mirror_at = now + MIRROR_INTERVAL;
            self.mirror_committed();
        }
        if self.mirror_again_at <= now {
            self.mirror_again_at = now + MIRROR_AGAIN_INTERVAL;
            self.rebalancer.mirror.commit_again(&self.consumer.member(), &self.fetched());
        }
    }

    fn mirror_committed(&self) {
        self.rebalancer.mirror.commit(&self.consumer.member(), self.scheduler().take_committed());
    }

    /// The partitions that are read.
    fn fetched(&self) -> Vec<Partition> {
        self.rebalancer.fetches().partitions()
    }

    fn scheduler(&self) -> &SharedScheduler<E> {
        &self.rebalancer.scheduler
    }
}
