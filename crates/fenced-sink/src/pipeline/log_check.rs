//! The log check task: asks Kafka about the topic log before a partition is read, repeatedly while it is read, and on
//! request (rule 3).
//!
//! It only asks and reports. [`crate::model::topic_log`] interprets the answers, and a writer records a fault.

use std::sync::Arc;
use std::time::Duration;

use crate::event::Event;
use crate::kafka::topic_log_client::TopicLogClient;
use crate::model::topic_log::{LogBounds, LogObservation};
use crate::observe::health::Health;
use crate::pipeline::error::EngineError;
use crate::pipeline::options::Options;
use crate::pipeline::reports::PartitionQuestion;
use crate::pipeline::shared_scheduler::SharedScheduler;

/// The limit of one question: partitions that start wait for the answer.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The limit of one round. Each question has its own limit, but dropping a client of a frozen broker has none.
const ROUND_TIMEOUT: Duration = Duration::from_mins(1);
/// The minimum pause between two rounds.
const PAUSE: Duration = Duration::from_millis(50);

/// The log check task.
pub(crate) struct LogCheckTask<E> {
    scheduler: Arc<SharedScheduler<E>>,
    topic_log: Arc<TopicLogClient>,
    health: Health,
    interval: Duration,
}

impl<E: Event> LogCheckTask<E> {
    /// Nothing is asked yet.
    pub(crate) fn new(options: &Options, scheduler: Arc<SharedScheduler<E>>) -> Self {
        let topic_log = TopicLogClient::new(&options.properties, &options.topic).with_timeout(TIMEOUT);
        let (health, interval) = (options.health.clone(), options.topic_check_interval);
        Self { scheduler, topic_log: Arc::new(topic_log), health, interval }
    }

    /// Runs until the scheduler stops. The consumer thread reports an unreachable Kafka.
    pub(crate) async fn run(self) -> Result<(), EngineError> {
        loop {
            tokio::select! {
                () = self.scheduler.until_stopping() => return Ok(()),
                () = self.scheduler.log_check_needed() => {}
                () = tokio::time::sleep(self.interval) => {}
            }
            // The answers are about all records that were committed before this instant.
            let questions = self.scheduler.questions();
            let seen = tokio::select! {
                () = self.scheduler.until_stopping() => return Ok(()),
                seen = self.ask(questions.clone()) => seen,
            };
            for (partition, bounds) in &seen.bounds {
                self.health.log_end(*partition, bounds.end, self.answer_lasts());
            }
            if self.scheduler.observed(&questions, &seen) {
                tracing::warn!(
                    hint = "the topic log holds records that the consumer does not receive: it leaves the group and joins \
                            again",
                    "fetch_stalled"
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// An answer counts for this time if no other follows.
    fn answer_lasts(&self) -> Duration {
        self.interval.saturating_mul(3).saturating_add(TIMEOUT.saturating_mul(4))
    }

    async fn ask(&self, questions: Vec<PartitionQuestion>) -> LogObservation {
        let topic_log = Arc::clone(&self.topic_log);
        let answer = tokio::task::spawn_blocking(move || observe(&topic_log, &questions));
        match tokio::time::timeout(ROUND_TIMEOUT, answer).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(_)) | Err(_) => LogObservation::default(),
        }
    }
}

/// Blocks. An observation has no entry for a question that was not answered.
fn observe(topic_log: &TopicLogClient, questions: &[PartitionQuestion]) -> LogObservation {
    let mut seen = LogObservation { topic_id: topic_log.topic_id(), ..LogObservation::default() };
    match topic_log.bounds_of_led_partitions() {
        Ok(bounds) => seen.bounds = bounds,
        Err(error) => tracing::debug!(%error, "log_not_seen"),
    }
    if questions.iter().any(|asked| asked.question.out_of_range) {
        seen.last_ends = topic_log.last_ends().unwrap_or_default();
    }
    let led = questions.iter().filter(|asked| seen.bounds.contains_key(&asked.partition));
    let last = |asked: &PartitionQuestion| Some((asked.partition, asked.question.last?.1));
    seen.epoch_ends = topic_log.epoch_ends(&led.filter_map(last).collect()).unwrap_or_default();
    for PartitionQuestion { partition, question, .. } in questions {
        let Some(LogBounds { end, .. }) = seen.bounds.get(partition).copied() else { continue };
        if question.unreadable
            && question.at < end // at the end there is nothing to read, so the probe would only wait
            && let Ok(Some(from)) = topic_log.readable_from(*partition, question.at, end)
        {
            seen.readable_from.insert(*partition, from);
        }
        // A log start past the position is left out: the consumer reports it, after the records that it has.
        let unexpected = question.at > end || question.idle && question.at < end;
        if unexpected && let Ok(probe) = topic_log.probe(*partition, question.at) {
            seen.probes.insert(*partition, probe);
        }
    }
    seen
}
