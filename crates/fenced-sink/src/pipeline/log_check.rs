//! Looks at the log: before a partition is read, again and again while it is, and when something is strange (rule 3).
//!
//! It only asks and reports. What the answers mean is told by [`crate::model::topic_log`]; a difference is noted by a writer.

use std::sync::Arc;
use std::time::Duration;

use crate::event::Event;
use crate::kafka::topic_log_client::TopicLogClient;
use crate::model::topic_log::{LogBounds, LogObservation};
use crate::observe::health::Health;
use crate::pipeline::error::EngineError;
use crate::pipeline::options::Options;
use crate::pipeline::shared_scheduler::SharedScheduler;
use crate::pipeline::work::PartitionQuestion;

/// How long one question may take: partitions that start wait for it.
const TIMEOUT: Duration = Duration::from_secs(3);
/// For all of them together: each is bounded, but not the end of a client whose broker is frozen.
const LIMIT: Duration = Duration::from_mins(1);
/// The pause between two questions, at least.
const PAUSE: Duration = Duration::from_millis(50);

/// See the module.
pub(crate) struct LogCheckTask<E> {
    assignment: Arc<SharedScheduler<E>>,
    log: Arc<TopicLogClient>,
    health: Health,
    interval: Duration,
}

impl<E: Event> LogCheckTask<E> {
    /// Nothing is asked yet.
    pub(crate) fn new(options: &Options, assignment: Arc<SharedScheduler<E>>) -> Self {
        let log = TopicLogClient::new(&options.properties, &options.topic).with_timeout(TIMEOUT);
        let (health, interval) = (options.health.clone(), options.topic_check_interval);
        Self { assignment, log: Arc::new(log), health, interval }
    }

    /// Until the process stops. Kafka being away is no fault of ours, and is said by the consumer.
    pub(crate) async fn run(self) -> Result<(), EngineError> {
        loop {
            tokio::select! {
                () = self.assignment.until_stopping() => return Ok(()),
                () = self.assignment.until_in_doubt() => {}
                () = tokio::time::sleep(self.interval) => {}
            }
            // What is asked after this instant speaks of all that was committed before.
            let questions = self.assignment.questions();
            let seen = tokio::select! {
                () = self.assignment.until_stopping() => return Ok(()),
                seen = self.ask(questions.clone()) => seen,
            };
            for (partition, bounds) in &seen.bounds {
                self.health.log_end(*partition, bounds.end, self.lasts());
            }
            if self.assignment.saw(&questions, &seen) {
                tracing::warn!(
                    hint = "records are there and none arrives: the consumer begins anew, as a member of the group too",
                    "consumer_deaf"
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// So long an answer stands when none follows.
    fn lasts(&self) -> Duration {
        self.interval.saturating_mul(3).saturating_add(TIMEOUT.saturating_mul(4))
    }

    async fn ask(&self, questions: Vec<PartitionQuestion>) -> LogObservation {
        let log = Arc::clone(&self.log);
        let answer = tokio::task::spawn_blocking(move || look(&log, &questions));
        match tokio::time::timeout(LIMIT, answer).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(_)) | Err(_) => LogObservation::default(),
        }
    }
}

/// Blocks. What was not answered is left out.
fn look(log: &TopicLogClient, questions: &[PartitionQuestion]) -> LogObservation {
    let mut seen = LogObservation { topic_id: log.topic_id(), ..LogObservation::default() };
    match log.bounds_of_led_partitions() {
        Ok(bounds) => seen.bounds = bounds,
        Err(error) => tracing::debug!(%error, "log_not_seen"),
    }
    if questions.iter().any(|question| question.doubt.out_of_range) {
        seen.last_ends = log.last_ends().unwrap_or_default();
    }
    for PartitionQuestion { partition, doubt, .. } in questions {
        let Some(LogBounds { end, .. }) = seen.bounds.get(partition).copied() else { continue };
        if doubt.unreadable
            && doubt.at < end // else the wait is for nothing, and all others wait, too
            && let Ok(Some(from)) = log.readable_from(*partition, doubt.at, end)
        {
            seen.readable_from.insert(*partition, from);
        }
        // Of a start that is past the position the consumer tells by itself, behind the records that it has in hand.
        let strange = doubt.at > end || doubt.silent && doubt.at < end;
        if strange && let Ok(tried) = log.probe(*partition, doubt.at) {
            seen.tried.insert(*partition, tried);
        }
    }
    seen
}
