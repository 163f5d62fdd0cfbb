//! Reports a rebalance, a record and a position to the scheduler. The consumer thread and its callbacks share this
//! state; both run on the consumer thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::fetches::{Fetches, LastRecord};
use super::mirror::Mirror;
use crate::event::Event;
use crate::kafka::group_consumer::{GroupMember, Rebalance, RebalanceListener};
use crate::model::batch::{Arrival, Entry};
use crate::model::protocol::Generation;
use crate::model::record::{Partition, Position, Record};
use crate::model::standing::{Membership, SchedulerView as _};
use crate::pipeline::reports::KafkaReport;
use crate::pipeline::shared_scheduler::SharedScheduler;

/// Reports to the scheduler what Kafka assigns, revokes and delivers.
pub(super) struct Rebalancer<E> {
    pub(super) scheduler: Arc<SharedScheduler<E>>,
    pub(super) mirror: Mirror,
    topic: String,
    fetches: Mutex<Fetches>,
    /// The maximum time that a revocation waits for a commit in flight.
    commit_wait: Duration,
    /// Another consumer has replaced this one: its callbacks now change only its own client.
    superseded: AtomicBool,
}

impl<E: Event> Rebalancer<E> {
    pub(super) fn new(scheduler: Arc<SharedScheduler<E>>, topic: String, commit_wait: Duration) -> Self {
        let (mirror, fetches) = (Mirror::default(), Mutex::default());
        Self { scheduler, mirror, topic, fetches, commit_wait, superseded: AtomicBool::new(false) }
    }

    /// Another consumer replaces this one.
    pub(super) fn supersede(&self) {
        self.superseded.store(true, Ordering::Relaxed);
    }

    pub(super) fn fetches(&self) -> MutexGuard<'_, Fetches> {
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record was delivered. `None`: it is dropped, or it is only compared.
    pub(super) fn arrival(&self, record: Record) -> Option<(Partition, Generation, Arrival<E>)> {
        let mut fetches = self.fetches();
        let fetch = fetches.get_mut(record.partition)?;
        let (last_record, is_new) = fetch.delivered(&record);
        let (partition, generation) = (record.partition, fetch.generation());
        match last_record {
            LastRecord::NotAsked => {}
            LastRecord::Matches { at } => {
                self.scheduler.report(KafkaReport::LastRecordMatched(partition, generation, at));
            }
            LastRecord::Differs => {
                self.scheduler.report(KafkaReport::LastRecordDiffers(partition, generation, record.offset));
            }
        }
        is_new.then(|| {
            let parsed = E::parse(&record);
            (partition, generation, Arrival::Record(Entry { record, parsed }))
        })
    }

    /// The consumer has reached these positions.
    pub(super) fn reached(&self, positions: Vec<(Partition, Position)>) -> Vec<(Partition, Generation, Arrival<E>)> {
        let mut fetches = self.fetches();
        let mut arrivals = Vec::new();
        for (partition, position) in positions {
            let Some(fetch) = fetches.get_mut(partition) else { continue };
            let Some(last_record) = fetch.reach(position) else { continue };
            let generation = fetch.generation();
            if let LastRecord::Matches { at } = last_record {
                self.scheduler.report(KafkaReport::LastRecordMatched(partition, generation, at));
            }
            arrivals.push((partition, generation, Arrival::Reached(position)));
        }
        arrivals
    }

    /// This process is no longer a member of the group.
    pub(super) fn membership_lost(&self) {
        if self.scheduler.membership() == Membership::Member {
            self.scheduler.report(KafkaReport::MembershipLost);
            let hint = "another member may own the partitions by now; this process joins the group again";
            tracing::warn!(topic = self.topic, hint, "membership_lost");
        }
    }

    fn revoked(&self, member: &GroupMember<'_>, partitions: &[Partition], lost: bool) {
        if !self.superseded.load(Ordering::Relaxed) {
            self.scheduler.report(KafkaReport::Revoked(partitions.to_vec()));
            if lost {
                self.membership_lost();
            } else {
                self.scheduler.wait_for_commits(partitions, self.commit_wait);
                self.mirror.commit(member, self.scheduler.take_committed());
            }
        }
        let fetched = self.fetches().remove(partitions);
        member.release(&fetched);
        for partition in partitions {
            tracing::info!(topic = self.topic, partition = partition.0, lost, "partition_revoked");
        }
    }
}

impl<E: Event> RebalanceListener for Rebalancer<E> {
    fn rebalanced(&self, member: &GroupMember<'_>, rebalance: Rebalance) {
        match rebalance {
            Rebalance::Assigned(partitions) => {
                if !self.superseded.load(Ordering::Relaxed) {
                    self.scheduler.report(KafkaReport::Assigned(partitions));
                }
            }
            Rebalance::Revoked { partitions, lost } => self.revoked(member, &partitions, lost),
        }
    }

    fn response_arrives(&self) {
        self.scheduler.report(KafkaReport::ResponseArrives);
    }

    fn throttled(&self, time: Duration) {
        if self.scheduler.throttled(time) {
            let hint = "a quota of this user or client.id is exceeded: raise it, or expect a lag";
            tracing::warn!(topic = self.topic, millis = time.as_millis(), hint, "kafka_throttled");
        }
    }
}
