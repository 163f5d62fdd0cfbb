//! The watchdog: records wait, and nothing is committed. Whatever the reason is, it must not stay silent.
//!
//! It looks once a second and decides nothing but what `/readyz`, the metrics and the log say. It is a task of its own that
//! asks neither Kafka nor the database, so neither can hold it up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::record::{Partition, Position};
use crate::model::standing::PartitionStatus;
use crate::observe::health::{Health, HealthSnapshot, PartitionHealth};
use crate::pipeline::error::EngineError;
use crate::pipeline::shared_scheduler::SharedScheduler;

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// A partition that is read and of which nothing waits for so long has nothing to wait for. Not at once: after a failed
/// write its records are thrown away and come again within moments, and that is no progress.
const QUIET: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Watchdog {
    limit: Duration,
    watched: BTreeMap<Partition, WaitingRecords>,
}

/// A partition of which records wait.
#[derive(Debug)]
struct WaitingRecords {
    /// Where it stood when the wait began: a commit moves it.
    at: Option<Position>,
    since: Instant,
    seen: Instant,
    stalled: bool,
}

/// What is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StallChange {
    partition: Partition,
    begins: bool,
    waited: Duration,
}

impl Watchdog {
    /// Gives the alarm after a wait of `limit`.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, watched: BTreeMap::new() }
    }

    /// Until the process stops.
    pub(crate) async fn run<E>(
        mut self,
        health: Health,
        scheduler: Arc<SharedScheduler<E>>,
    ) -> Result<(), EngineError> {
        while !scheduler.is_stopping() {
            if let Some(snapshot) = health.snapshot() {
                let changes = self.look(Instant::now(), &snapshot);
                health.stalled(self.stalled());
                for change in changes {
                    tell(&snapshot.topic, change);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = scheduler.until_stopping() => {}
            }
        }
        Ok(())
    }

    /// What has changed since the last look.
    fn look(&mut self, now: Instant, snapshot: &HealthSnapshot) -> Vec<StallChange> {
        let held: BTreeMap<Partition, &PartitionHealth> =
            snapshot.partitions.iter().map(|standing| (standing.partition, standing)).collect();
        let mut changes = Vec::new();
        self.watched.retain(|partition, watched| {
            let waits = held.get(partition).is_some_and(|standing| watched.still_waits(standing, now));
            if watched.stalled && !waits {
                changes.push(watched.change(*partition, false, now));
            }
            waits
        });
        for (partition, standing) in held.into_iter().filter(|(_, standing)| wait(standing)) {
            let new = WaitingRecords { at: standing.position, since: now, seen: now, stalled: false };
            self.watched.entry(partition).or_insert(new).seen = now;
        }
        for (partition, watched) in self.watched.iter_mut().filter(|(_, watched)| !watched.stalled) {
            if !snapshot.database_works {
                watched.since = now; // that is said already, and nothing can be committed meanwhile
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
    /// False if it got on, by a commit or by an operator's hand, or if it is not for us to get it on.
    fn still_waits(&self, standing: &PartitionHealth, now: Instant) -> bool {
        let moved = self.at.zip(standing.position).is_some_and(|(before, at)| before != at);
        let nothing = standing.status == PartitionStatus::Running && !wait(standing);
        let quiet = nothing && now.saturating_duration_since(self.seen) >= QUIET;
        !moved && !quiet && !matches!(standing.status, PartitionStatus::Halted | PartitionStatus::Fenced)
    }

    fn change(&self, partition: Partition, begins: bool, now: Instant) -> StallChange {
        StallChange { partition, begins, waited: now.saturating_duration_since(self.since) }
    }
}

/// Records of it wait: here, or in the log, where they may never be fetched by a consumer that has got stuck.
fn wait(standing: &PartitionHealth) -> bool {
    let ours = !matches!(standing.status, PartitionStatus::Halted | PartitionStatus::Fenced);
    ours && (standing.records_wait || standing.lag.is_some_and(|lag| lag > 0))
}

fn tell(topic: &str, change: StallChange) {
    let (partition, seconds) = (change.partition.0, change.waited.as_secs());
    if change.begins {
        tracing::warn!(
            topic,
            partition,
            seconds,
            hint =
                "records wait and nothing is committed: look for locks in the database, and for what else the log says",
            "stalled"
        );
    } else {
        tracing::info!(topic, partition, seconds, "stall_ended");
    }
}

#[cfg(test)]
mod tests;
