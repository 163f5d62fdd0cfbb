//! Tells when a topic is read as far as its log went at the start: for a run that shall end by itself.
//!
//! The ledger is asked, and not what this process has read: of several instances each ends when the whole topic is done.
//! It only watches; the engine that it watches is the same as ever.

use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::kafka::topic_log_client::TopicLogClient;
use crate::model::record::Partition;
use crate::model::standing::{Membership, PartitionStatus};
use crate::model::stored_row::StoredRow;
use crate::model::topic_log::LogBounds;
use crate::observe::health::Health;
use crate::pipeline::options::Options;
use crate::postgres::ledger::Ledger;
use crate::postgres::session::{connect, within};

/// How often is looked.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is left to read is of partitions that are halted: each one, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HaltedPartitions(pub BTreeMap<Partition, String>);

/// Returns when every partition of the topic has got to where its log ended at the first answer of Kafka, which is waited
/// for. `options` are those of the run, which has to go on meanwhile.
///
/// # Errors
/// [`HaltedPartitions`]: some are halted, and all others have got there.
pub async fn until_end(options: &Options) -> Result<(), HaltedPartitions> {
    let watch = EndWatcher {
        log: Arc::new(TopicLogClient::new(&options.properties, &options.topic)),
        ledger: Ledger::new(options.group_id.clone(), options.topic.clone(), String::new()),
        database: options.database.clone(),
        limit: options.database_timeout,
        health: options.health.clone(),
        connection: None,
    };
    watch.run().await
}

struct EndWatcher {
    log: Arc<TopicLogClient>,
    ledger: Ledger,
    database: PgConnectOptions,
    limit: Duration,
    health: Health,
    connection: Option<PgConnection>,
}

impl EndWatcher {
    async fn run(mut self) -> Result<(), HaltedPartitions> {
        let ends = loop {
            match self.bounds().await {
                Some(bounds) if !bounds.is_empty() => break bounds,
                _ => tokio::time::sleep(LOOK_INTERVAL).await,
            }
        };
        for (partition, LogBounds { end, .. }) in &ends {
            tracing::info!(topic = self.ledger.topic(), %partition, %end, "end_seen");
        }
        loop {
            if let Some(rows) = self.rows(&ends).await {
                match progress(&ends, &rows) {
                    ReadProgress::HaltedPartitions(why) => return Err(HaltedPartitions(why)),
                    ReadProgress::Done if self.is_settled() && self.is_in_the_log(&rows).await => {
                        tracing::info!(topic = self.ledger.topic(), "end_reached");
                        return Ok(());
                    }
                    ReadProgress::Done | ReadProgress::Reading => {}
                }
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Each partition of this process is past the checks that come before reading: a ledger that was at the end before
    /// the run began says nothing about the log of today.
    fn is_settled(&self) -> bool {
        let settled = |status| matches!(status, PartitionStatus::Running | PartitionStatus::Halted);
        self.health.snapshot().is_some_and(|snapshot| {
            snapshot.membership == Membership::Member
                && snapshot.partitions.iter().all(|standing| settled(standing.status))
        })
    }

    /// A position that the log doesn't have (any more) is a fault that the engine is about to find.
    async fn is_in_the_log(&self, rows: &Rows) -> bool {
        let Some(bounds) = self.bounds().await else { return false };
        rows.iter().all(|(partition, StoredRow { row, .. })| {
            bounds.get(partition).is_some_and(|bounds| bounds.start <= row.next && row.next <= bounds.end)
        })
    }

    /// `None`: Kafka did not answer, or there is no such topic yet. The consumer says so, too.
    async fn bounds(&self) -> Option<BTreeMap<Partition, LogBounds>> {
        let log = Arc::clone(&self.log);
        match tokio::task::spawn_blocking(move || log.bounds()).await {
            Ok(Ok(bounds)) => Some(bounds),
            Ok(Err(error)) => {
                tracing::debug!(%error, "bounds_unknown");
                None
            }
            Err(_) => None,
        }
    }

    /// `None`: the database did not answer. The writers say so, too.
    async fn rows(&mut self, ends: &BTreeMap<Partition, LogBounds>) -> Option<Rows> {
        let partitions: Vec<Partition> = ends.keys().copied().collect();
        let looked = async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => connect(&self.database, self.limit).await?,
            };
            let rows = within(self.limit, self.ledger.read_rows(&mut connection, &partitions)).await?;
            self.connection = Some(connection);
            Ok::<_, sqlx::Error>(rows)
        };
        looked.await.inspect_err(|error| tracing::debug!(%error, "rows_unknown")).ok()
    }
}

type Rows = BTreeMap<Partition, StoredRow>;

#[derive(Debug, PartialEq, Eq)]
enum ReadProgress {
    /// There is something left to read, and somebody may read it.
    Reading,
    /// Every partition has got to its end.
    Done,
    /// Every partition has, or is halted.
    HaltedPartitions(BTreeMap<Partition, String>),
}

/// A halted partition is stuck wherever it stands: a log that was truncated ends before its position.
fn progress(ends: &BTreeMap<Partition, LogBounds>, rows: &Rows) -> ReadProgress {
    let mut stuck = BTreeMap::new();
    for (partition, bounds) in ends {
        match rows.get(partition) {
            Some(found) if found.row.halted => {
                stuck.insert(*partition, found.halt_reason.as_ref().map(ToString::to_string).unwrap_or_default());
            }
            Some(found) if found.row.next >= bounds.end => {}
            _ => return ReadProgress::Reading,
        }
    }
    if stuck.is_empty() { ReadProgress::Done } else { ReadProgress::HaltedPartitions(stuck) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::halt::HaltReason;
    use crate::model::protocol::LedgerRow;
    use crate::model::record::{Epoch, Position};
    use crate::model::topic_log::KnownLog;

    /// Partitions whose logs end at 10: where each stands, or why it is halted; `None` has no row.
    fn check(standings: &[Option<Result<i64, &str>>], expected: &ReadProgress) {
        let partitions = || (0..).map(Partition).zip(standings);
        let bounds = LogBounds { start: Position(0), end: Position(10) };
        let ends = partitions().map(|(partition, _)| (partition, bounds)).collect();
        let rows = partitions().filter_map(|(partition, standing)| {
            let standing = (*standing)?;
            let (next, halted) = (Position(standing.unwrap_or(12)), standing.is_err());
            let row = LedgerRow { next, epoch: Epoch(1), halted };
            let known = KnownLog { topic_id: None, last: None, checked: next };
            Some((partition, StoredRow { row, known, halt_reason: standing.err().map(HaltReason::parse) }))
        });
        assert_eq!(&progress(&ends, &rows.collect()), expected, "{standings:?}");
    }

    #[test]
    fn it_is_done_when_every_partition_is() {
        check(&[Some(Ok(10)), Some(Ok(11))], &ReadProgress::Done);
        check(&[Some(Ok(10)), Some(Ok(9))], &ReadProgress::Reading);
        check(&[Some(Ok(10)), None], &ReadProgress::Reading);
    }

    #[test]
    fn it_is_stuck_when_what_is_left_is_halted() {
        let stuck =
            |partition, why: &str| ReadProgress::HaltedPartitions([(Partition(partition), why.to_owned())].into());
        check(&[Some(Ok(10)), Some(Err("log_truncated"))], &stuck(1, "log_truncated"));
        check(&[Some(Err("log_corrupt")), Some(Ok(9))], &ReadProgress::Reading);
        check(&[Some(Err("log_corrupt")), None], &ReadProgress::Reading);
    }
}
