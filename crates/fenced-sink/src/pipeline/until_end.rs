//! Waits until a topic is read up to the ends that its partition logs had at the start, for a run that ends without a
//! signal.
//!
//! It reads the ledger, not the state of this process: of several instances, each ends when the whole topic is read. It
//! only observes; it does not change the run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::kafka::topic_log_client::TopicLogClient;
use crate::model::halt::HaltReason;
use crate::model::record::Partition;
use crate::model::standing::{Membership, PartitionStatus};
use crate::model::stored_row::StoredRow;
use crate::model::topic_log::LogBounds;
use crate::observe::health::Health;
use crate::pipeline::options::Options;
use crate::postgres::ledger::Ledger;
use crate::postgres::servers::DatabaseServers;
use crate::postgres::session::Session;

/// The interval at which the ledger is read.
const INTERVAL: Duration = Duration::from_secs(1);

/// When all partitions are at their ends, the run waits up to this time for the comparison of the last records. If
/// compaction removed a last record and no later one follows, it is never compared.
const COMPARISON_WAIT: Duration = Duration::from_secs(30);

/// The halted partitions, each with its reason. All other partitions have reached their ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaltedPartitions(pub BTreeMap<Partition, HaltReason>);

/// Returns when every partition of the topic has reached the end that its log had at Kafka's first answer. It waits for
/// that answer. `options` are the options of the run, which must continue.
///
/// # Errors
/// [`HaltedPartitions`]: some partitions are halted, and all others have reached their ends.
pub async fn until_end(options: &Options) -> Result<(), HaltedPartitions> {
    let watcher = EndWatcher {
        topic_log: Arc::new(TopicLogClient::new(&options.properties, &options.topic)),
        ledger: Ledger::new(options.group_id.clone(), options.topic.clone(), String::new()),
        database: options.database.clone(),
        limit: options.database_timeout,
        health: options.health.clone(),
        session: None,
    };
    watcher.run().await
}

struct EndWatcher {
    topic_log: Arc<TopicLogClient>,
    ledger: Ledger,
    database: DatabaseServers,
    limit: Duration,
    health: Health,
    session: Option<Session>,
}

impl EndWatcher {
    async fn run(mut self) -> Result<(), HaltedPartitions> {
        let ends = loop {
            match self.bounds().await {
                Some(bounds) if !bounds.is_empty() => break bounds,
                _ => tokio::time::sleep(INTERVAL).await,
            }
        };
        for (partition, LogBounds { end, .. }) in &ends {
            tracing::info!(topic = self.ledger.topic(), %partition, %end, "end_seen");
        }
        let mut settled_since = None;
        loop {
            if let Some(rows) = self.rows(&ends).await {
                match progress(&ends, &rows) {
                    ReadProgress::Halted(reasons) => return Err(HaltedPartitions(reasons)),
                    ReadProgress::Done if self.is_settled() && self.is_in_the_log(&rows).await => {
                        let settled_since = *settled_since.get_or_insert_with(Instant::now);
                        if self.health.last_records_are_compared() || settled_since.elapsed() >= COMPARISON_WAIT {
                            tracing::info!(topic = self.ledger.topic(), "end_reached");
                            return Ok(());
                        }
                    }
                    ReadProgress::Done | ReadProgress::Reading => settled_since = None,
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Whether each partition of this process has passed the log check before reading. If a row was at the end before
    /// the run began, that proves nothing about the current log.
    fn is_settled(&self) -> bool {
        let settled = |status| matches!(status, PartitionStatus::Running | PartitionStatus::Halted);
        self.health.snapshot().is_some_and(|snapshot| {
            snapshot.membership == Membership::Member
                && snapshot.partitions.iter().all(|partition| settled(partition.status))
        })
    }

    /// Whether the log has every position. If it does not, the log check will find a fault.
    async fn is_in_the_log(&self, rows: &Rows) -> bool {
        let Some(bounds) = self.bounds().await else { return false };
        rows.iter().all(|(partition, StoredRow { row, .. })| {
            bounds.get(partition).is_some_and(|bounds| bounds.start <= row.next && row.next <= bounds.end)
        })
    }

    /// `None`: Kafka did not answer, or the topic does not exist yet. The consumer thread reports both.
    async fn bounds(&self) -> Option<BTreeMap<Partition, LogBounds>> {
        let topic_log = Arc::clone(&self.topic_log);
        match tokio::task::spawn_blocking(move || topic_log.bounds()).await {
            Ok(Ok(bounds)) => Some(bounds),
            Ok(Err(error)) => {
                tracing::debug!(%error, "bounds_unknown");
                None
            }
            Err(_) => None,
        }
    }

    /// `None`: the database did not answer. The writers report it.
    async fn rows(&mut self, ends: &BTreeMap<Partition, LogBounds>) -> Option<Rows> {
        let partitions: Vec<Partition> = ends.keys().copied().collect();
        let read = async {
            let mut session = match self.session.take() {
                Some(session) => session,
                None => Session::connect(&self.database, self.limit).await?,
            };
            let rows = session.run(|c| self.ledger.read_rows(c, &partitions)).await?;
            self.session = Some(session);
            Ok::<_, sqlx::Error>(rows)
        };
        read.await.inspect_err(|error| tracing::debug!(%error, "rows_unknown")).ok()
    }
}

type Rows = BTreeMap<Partition, StoredRow>;

#[derive(Debug, PartialEq, Eq)]
enum ReadProgress {
    /// A partition that is not halted has not reached its end.
    Reading,
    /// Every partition has reached its end.
    Done,
    /// Every partition has reached its end or is halted, for this reason.
    Halted(BTreeMap<Partition, HaltReason>),
}

/// A halted partition counts as halted at any position: a log that was truncated ends before its position.
fn progress(ends: &BTreeMap<Partition, LogBounds>, rows: &Rows) -> ReadProgress {
    let mut halted = BTreeMap::new();
    for (partition, bounds) in ends {
        match rows.get(partition) {
            Some(StoredRow { halt_reason: Some(reason), .. }) => {
                halted.insert(*partition, reason.clone());
            }
            Some(found) if found.row.next >= bounds.end => {}
            _ => return ReadProgress::Reading,
        }
    }
    if halted.is_empty() { ReadProgress::Done } else { ReadProgress::Halted(halted) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::protocol::LedgerRow;
    use crate::model::record::{Epoch, Position};
    use crate::model::topic_log::KnownLog;

    /// Partitions whose logs end at 10: the position of each, or the reason of its halt; `None`: it has no row.
    fn check(standings: &[Option<Result<i64, &str>>], expected: &ReadProgress) {
        let partitions = || (0..).map(Partition).zip(standings);
        let bounds = LogBounds { start: Position(0), end: Position(10) };
        let ends = partitions().map(|(partition, _)| (partition, bounds)).collect();
        let rows = partitions().filter_map(|(partition, standing)| {
            let standing = (*standing)?;
            let (next, halted) = (Position(standing.unwrap_or(12)), standing.is_err());
            let row = LedgerRow { next, epoch: Epoch(1), halted };
            let known = KnownLog { topic_id: None, last: None, checked: next, epochs: None };
            Some((partition, StoredRow { row, known, halt_reason: standing.err().map(HaltReason::parse) }))
        });
        assert_eq!(&progress(&ends, &rows.collect()), expected, "{standings:?}");
    }

    #[test]
    fn a_topic_is_done_when_every_partition_has_reached_its_end() {
        check(&[Some(Ok(10)), Some(Ok(11))], &ReadProgress::Done);
        check(&[Some(Ok(10)), Some(Ok(9))], &ReadProgress::Reading);
        check(&[Some(Ok(10)), None], &ReadProgress::Reading);
    }

    #[test]
    fn a_topic_fails_when_all_unfinished_partitions_are_halted() {
        let stuck =
            |partition, why: &str| ReadProgress::Halted([(Partition(partition), HaltReason::parse(why))].into());
        check(&[Some(Ok(10)), Some(Err("log_truncated"))], &stuck(1, "log_truncated"));
        check(&[Some(Err("log_corrupt")), Some(Ok(9))], &ReadProgress::Reading);
        check(&[Some(Err("log_corrupt")), None], &ReadProgress::Reading);
    }
}
