//! The watchdog: reports a partition whose records wait while nothing is committed, or that is not read for too long.
//! The cause does not matter.
//!
//! It compares snapshots of the health once a second. It only changes the answer of `/readyz`, the metrics and the log.
//! It asks neither Kafka nor the database, so neither can delay it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::record::{Partition, Position};
use crate::model::standing::PartitionStatus;
use crate::observe::health::{Health, HealthSnapshot, PartitionHealth};
use crate::pipeline::error::EngineError;
use crate::pipeline::shared_scheduler::SharedScheduler;

/// The interval between two snapshots.
const INTERVAL: Duration = Duration::from_secs(1);
/// A stall ends when the partition runs and has had no waiting record for this time. It does not end at once: after a
/// failed commit the records are dropped and arrive again soon, which is no progress.
const QUIET: Duration = Duration::from_secs(10);

/// The watchdog: the partitions with waiting records, and the limit of their wait.
pub(crate) struct Watchdog {
    limit: Duration,
    watched: BTreeMap<Partition, WaitingRecords>,
}

/// A partition whose records wait.
#[derive(Debug)]
struct WaitingRecords {
    /// The position when the wait began, or as soon as the row was read. A commit changes it.
    at: Option<Position>,
    since: Instant,
    seen: Instant,
    status: PartitionStatus,
    throttled: bool,
    stalled: bool,
}

/// A stall that begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StallChange {
    partition: Partition,
    status: PartitionStatus,
    throttled: bool,
    begins: bool,
    waited: Duration,
}

impl Watchdog {
    /// Reports a stall after a wait of `limit`.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, watched: BTreeMap::new() }
    }

    /// Runs until the scheduler stops.
    pub(crate) async fn run<E>(
        mut self,
        health: Health,
        scheduler: Arc<SharedScheduler<E>>,
    ) -> Result<(), EngineError> {
        while !scheduler.is_stopping() {
            if let Some(snapshot) = health.snapshot() {
                let changes = self.compare(Instant::now(), &snapshot);
                health.stalled(self.stalled());
                for change in changes {
                    log(&snapshot.topic, change);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = scheduler.until_stopping() => {}
            }
        }
        Ok(())
    }

    /// The stalls that begin or end with this snapshot.
    fn compare(&mut self, now: Instant, snapshot: &HealthSnapshot) -> Vec<StallChange> {
        let held: BTreeMap<Partition, &PartitionHealth> =
            snapshot.partitions.iter().map(|health| (health.partition, health)).collect();
        let mut changes = Vec::new();
        self.watched.retain(|partition, watched| {
            let waits = held.get(partition).is_some_and(|health| watched.still_waits(health, now));
            if watched.stalled && !waits {
                changes.push(watched.change(*partition, false, now));
            }
            waits
        });
        for (partition, health) in held.into_iter().filter(|(_, health)| waits(health)) {
            let (status, throttled) = (health.status, health.throttled);
            let new = WaitingRecords { at: health.position, since: now, seen: now, status, throttled, stalled: false };
            let watched = self.watched.entry(partition).or_insert(new);
            watched.at = watched.at.or(health.position);
            (watched.seen, watched.status, watched.throttled) = (now, status, throttled);
        }
        for (partition, watched) in self.watched.iter_mut().filter(|(_, watched)| !watched.stalled) {
            if !snapshot.database_works {
                watched.since = now; // readiness already reports the database
            } else if watched.seen == now && now.saturating_duration_since(watched.since) >= self.limit {
                watched.stalled = true;
                changes.push(watched.change(*partition, true, now));
            }
        }
        changes
    }

    fn stalled(&self) -> BTreeSet<Partition> {
        self.watched.iter().filter(|(_, watched)| watched.stalled).map(|(partition, _)| *partition).collect()
    }
}

impl WaitingRecords {
    /// False if the position has moved, by a commit or by an operator, or if this process need not move it.
    fn still_waits(&self, health: &PartitionHealth, now: Instant) -> bool {
        let moved = self.at.zip(health.position).is_some_and(|(before, at)| before != at);
        let nothing = health.status == PartitionStatus::Running && !waits(health);
        let quiet = nothing && now.saturating_duration_since(self.seen) >= QUIET;
        !moved && !quiet && !matches!(health.status, PartitionStatus::Halted | PartitionStatus::Fenced)
    }

    fn change(&self, partition: Partition, begins: bool, now: Instant) -> StallChange {
        let waited = now.saturating_duration_since(self.since);
        StallChange { partition, status: self.status, throttled: self.throttled, begins, waited }
    }
}

/// Whether the partition waits: its records are in this process, or in the partition log if a stalled consumer does not
/// fetch them. A partition that is not read yet also waits, because it may have records.
fn waits(health: &PartitionHealth) -> bool {
    match health.status {
        PartitionStatus::Halted | PartitionStatus::Fenced => false,
        PartitionStatus::Claiming | PartitionStatus::Starting | PartitionStatus::Recovering => true,
        PartitionStatus::Running => health.records_wait || health.lag.is_some_and(|lag| lag > 0),
    }
}

fn log(topic: &str, change: StallChange) {
    let (partition, seconds) = (change.partition.0, change.waited.as_secs());
    if change.begins {
        let hint = match change.status {
            _ if change.throttled => {
                "Kafka throttles this client: raise the quota of its user or client.id (consumer_byte_rate, request_percentage)"
            }
            PartitionStatus::Claiming | PartitionStatus::Starting | PartitionStatus::Recovering => {
                "the partition is not read: Kafka may not answer about its log, or the database about its row; look for \
                 other warnings in this log"
            }
            _ => {
                "records wait and nothing is committed: look for locks in the database, and for other warnings in this log"
            }
        };
        tracing::warn!(topic, partition, seconds, state = change.status.as_str(), hint, "stalled");
    } else {
        tracing::info!(topic, partition, seconds, "stall_ended");
    }
}

#[cfg(test)]
mod tests;
