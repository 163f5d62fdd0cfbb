//! The log doubt task: asks Kafka where the log of a partition diverges from the records that were read, before a fault
//! is recorded (rule 3).
//!
//! It only asks. [`crate::model::leader_epochs`] interprets the answers. A partition in doubt waits for its own
//! answers. It waits for other partitions only if more than four are in doubt at the same time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::event::Event;
use crate::kafka::topic_log_client::TopicLogClient;
use crate::model::leader_epochs::{Divergence, divergence, gap_in_doubt};
use crate::model::topic_log::Gap;
use crate::pipeline::error::EngineError;
use crate::pipeline::options::Options;
use crate::pipeline::reports::{LogDoubtReport, SettledDoubt};
use crate::pipeline::shared_scheduler::SharedScheduler;

/// The limit of one question.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of doubts that are settled at the same time.
const AT_ONCE: usize = 4;
/// The minimum time between two warnings.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);
/// The topic id is asked this many times: without it, the leader epochs prove nothing.
const TOPIC_ID_TRIES: usize = 3;

/// The log doubt task.
pub(crate) struct LogDoubtTask<E> {
    scheduler: Arc<SharedScheduler<E>>,
    topic_log: Arc<TopicLogClient>,
    topic: String,
    warn_at: Instant,
}

impl<E: Event> LogDoubtTask<E> {
    /// Nothing is asked yet.
    pub(crate) fn new(options: &Options, scheduler: Arc<SharedScheduler<E>>) -> Self {
        let topic_log = TopicLogClient::new(&options.properties, &options.topic).with_timeout(TIMEOUT);
        Self { scheduler, topic_log: Arc::new(topic_log), topic: options.topic.clone(), warn_at: Instant::now() }
    }

    /// Runs until the scheduler stops.
    pub(crate) async fn run(mut self) -> Result<(), EngineError> {
        let mut settling = JoinSet::new();
        loop {
            tokio::select! {
                () = self.scheduler.until_stopping() => return Ok(()),
                () = self.scheduler.log_doubt_possible() => {}
                Some(Ok(settled)) = settling.join_next() => {
                    self.warn(&settled);
                    self.scheduler.log_doubt_settled(settled);
                }
            }
            while settling.len() < AT_ONCE
                && let Some(report) = self.scheduler.take_log_doubt()
            {
                settling.spawn(settle(Arc::clone(&self.topic_log), report));
            }
        }
    }
}

impl<E> LogDoubtTask<E> {
    /// A doubt without a gap is checked again, and can last.
    fn warn(&mut self, settled: &SettledDoubt) {
        let now = Instant::now();
        if settled.gap.is_none() && self.warn_at <= now {
            self.warn_at = now + WARNING_INTERVAL;
            let (topic, partition, position) = (&self.topic, settled.partition.0, settled.at.0);
            let hint = "the log may be another one than the records that were read, and Kafka does not answer where the two \
                        diverge: the partition is not read, and the log is checked again";
            tracing::warn!(topic, partition, position, hint, "log_in_doubt");
        }
    }
}

async fn settle(topic_log: Arc<TopicLogClient>, report: LogDoubtReport) -> SettledDoubt {
    let LogDoubtReport { partition, generation, epoch, at, .. } = report;
    let gap = tokio::task::spawn_blocking(move || gap(&topic_log, &report)).await.ok().flatten();
    SettledDoubt { partition, generation, epoch, at, gap }
}

/// Blocks. `None`: there is no fault, or Kafka did not answer.
fn gap(topic_log: &TopicLogClient, report: &LogDoubtReport) -> Option<Gap> {
    let LogDoubtReport { partition, at, doubt, ref known, .. } = *report;
    let topic_id = (0..TOPIC_ID_TRIES).find_map(|_| topic_log.topic_id());
    if known.clone().is_replaced(topic_id.as_ref(), at) {
        return Some(known.gap_since_check(at));
    }
    let log_start = topic_log.known_bounds().get(&partition)?.start;
    if log_start > at {
        return None; // the log check finds a retention gap
    }
    // Epochs of another topic have the same numbers.
    let epochs = known.epochs.as_ref().filter(|_| topic_id.is_some() && topic_id == known.topic_id);
    let divergence = match epochs {
        None => Divergence::Unproven,
        Some(epochs) => divergence(epochs, at, |epoch| {
            let ends = topic_log.epoch_ends(&BTreeMap::from([(partition, epoch)])).ok()?;
            ends.get(&partition).copied()
        })?,
    };
    gap_in_doubt(doubt, divergence, epochs, at, log_start)
}
