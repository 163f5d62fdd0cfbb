//! The two tasks that ask Kafka about the topic log (rule 3). They only ask and report: the slot of a partition
//! interprets the answers, and a writer records a fault.
//!
//! [`LogCheckTask`] asks what Kafka permits, and asks for the id of the topic, the bounds of all partition logs, and the
//! ends of leader epochs: before a partition is read, repeatedly while it is read, and on request. [`ProbeTask`] reads
//! single records where only a read proves something. Each answer is reported separately. Each question has a time limit,
//! so one without an answer delays the others for a limited time only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::kafka::client::ConsumerError;
use crate::kafka::probe::Prober;
use crate::kafka::topic_log_client::TopicLogClient;
use crate::model::kafka_refusal::KafkaNeed;
use crate::model::leader_epochs::EpochEnd;
use crate::model::record::{LeaderEpoch, Partition};
use crate::model::standing::SchedulerView as _;
use crate::model::topic_log::{LogObservation, Probe};
use crate::observe::health::Health;
use crate::pipeline::error::EngineError;
use crate::pipeline::options::Options;
use crate::pipeline::reports::PartitionQuestion;
use crate::pipeline::shared_scheduler::SharedScheduler;

/// The limit of one question: partitions that start wait for the answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);
/// Partitions that are claimed within this time are asked about in one round.
const GATHER: Duration = Duration::from_millis(10);
/// The minimum pause between two rounds of questions, and between two probes.
const PAUSE: Duration = Duration::from_millis(50);

/// The longest interval of the rounds while Kafka refuses something.
const REFUSED_INTERVAL: Duration = Duration::from_secs(5);

/// The task that asks for topic id, bounds and leader epochs.
pub(crate) struct LogCheckTask<E> {
    scheduler: Arc<SharedScheduler<E>>,
    topic_log: Arc<TopicLogClient>,
    health: Health,
    interval: Duration,
    startup_timeout: Duration,
}

impl<E: Event> LogCheckTask<E> {
    /// Nothing is asked yet.
    pub(crate) fn new(options: &Options, scheduler: Arc<SharedScheduler<E>>, topic_log: Arc<TopicLogClient>) -> Self {
        let (health, interval) = (options.health.clone(), options.topic_check_interval);
        let startup_timeout = options.startup_timeout;
        Self { scheduler, topic_log, health, interval, startup_timeout }
    }

    /// Runs until the scheduler stops, or until Kafka has refused this process for the start-up timeout since its start.
    pub(crate) async fn run(self) -> Result<(), EngineError> {
        let scheduler = Arc::clone(&self.scheduler);
        let mut last_round = Instant::now();
        loop {
            tokio::select! {
                () = scheduler.until_stopping() => return Ok(()),
                () = scheduler.log_check_needed() => tokio::time::sleep(GATHER).await,
                () = tokio::time::sleep(self.wait()) => {}
            }
            let answered = tokio::select! {
                () = scheduler.until_stopping() => return Ok(()),
                answered = self.ask() => answered,
            };
            if !answered {
                scheduler.unanswered(last_round);
            }
            last_round = Instant::now();
            let refused = scheduler.refused_since_start();
            if let Some(refusal) = refused.filter(|refusal| refusal.lasts >= self.startup_timeout) {
                return Err(ConsumerError::Refused(refusal).into());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The time until the next round. It is short while Kafka refuses something. At the start, the next round comes when
    /// the start-up timeout ends.
    fn wait(&self) -> Duration {
        if self.scheduler.refusals().is_empty() {
            return self.interval;
        }
        let left =
            self.scheduler.refused_since_start().map(|refusal| self.startup_timeout.saturating_sub(refusal.lasts));
        self.interval.min(REFUSED_INTERVAL).min(left.unwrap_or(REFUSED_INTERVAL))
    }

    /// One round. Returns whether Kafka permitted or refused something.
    async fn ask(&self) -> bool {
        // The answers are about all records that were committed before this instant.
        let questions = self.scheduler.questions();
        let identity = async {
            let reconnect = self.scheduler.is_refused(KafkaNeed::Connection);
            let (topic_id, facts) = self.answer(move |topic_log| topic_log.check_access(reconnect)).await;
            let answered = !facts.is_empty();
            self.scheduler.learned(facts);
            self.scheduler.observed(&questions, &LogObservation { topic_id, ..LogObservation::default() });
            answered
        };
        let bounds = async {
            let bounds = self.answer(TopicLogClient::known_bounds).await;
            for (partition, bounds) in &bounds {
                self.health.log_end(*partition, bounds.end, self.answer_lasts());
            }
            bounds
        };
        // The bounds permit a partition to start. So the scheduler receives the topic id before them.
        let (answered, bounds) = tokio::join!(identity, bounds);
        let mut seen = LogObservation { bounds, complete: true, ..LogObservation::default() };
        let needs_more = |asked: &&PartitionQuestion| asked.question.out_of_range || asked.question.last.is_some();
        let (others, known): (Vec<_>, Vec<_>) = questions.iter().partition(needs_more);
        self.scheduler.observed(&known, &seen);
        if others.iter().any(|asked| asked.question.out_of_range) {
            seen.last_ends = self.answer(TopicLogClient::last_ends).await;
        }
        let led = others.iter().filter(|asked| seen.bounds.contains_key(&asked.partition));
        let epochs = led.filter_map(|asked| Some((asked.partition, asked.question.last?.1))).collect();
        seen.epoch_ends = self.epoch_ends(epochs).await;
        self.scheduler.observed(&others, &seen);
        answered
    }

    /// The ends of the leader epochs that arrived in time.
    async fn epoch_ends(&self, asked: BTreeMap<Partition, LeaderEpoch>) -> BTreeMap<Partition, EpochEnd> {
        let topic_log = Arc::clone(&self.topic_log);
        let ask = move || topic_log.epoch_ends(&asked).unwrap_or_default();
        tokio::task::spawn_blocking(ask).await.unwrap_or_default()
    }

    /// An answer counts for this time if no other follows.
    fn answer_lasts(&self) -> Duration {
        self.interval.saturating_mul(3).saturating_add(TIMEOUT.saturating_mul(4))
    }

    /// The answer to a question. It is empty if the question fails.
    async fn answer<T: Default + Send + 'static>(
        &self,
        question: impl FnOnce(&TopicLogClient) -> T + Send + 'static,
    ) -> T {
        let topic_log = Arc::clone(&self.topic_log);
        tokio::task::spawn_blocking(move || question(&topic_log)).await.unwrap_or_default()
    }
}

/// The task that reads single records.
///
/// It makes one read at a time, and each read has a time limit. So the reads use little of a slow connection, and need
/// one client. The partitions take turns, so a partition without an answer does not delay the others for long.
pub(crate) struct ProbeTask<E> {
    scheduler: Arc<SharedScheduler<E>>,
    prober: Arc<Prober>,
}

impl<E: Event> ProbeTask<E> {
    /// Nothing is read yet.
    pub(crate) fn new(options: &Options, scheduler: Arc<SharedScheduler<E>>) -> Self {
        Self { scheduler, prober: Arc::new(Prober::new(&options.properties, &options.topic)) }
    }

    /// Runs until the scheduler stops.
    pub(crate) async fn run(self) -> Result<(), EngineError> {
        loop {
            tokio::select! {
                () = self.scheduler.until_stopping() => return Ok(()),
                () = self.probe() => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn probe(&self) {
        let asked = self.scheduler.next_probe().await;
        let prober = Arc::clone(&self.prober);
        let read = tokio::task::spawn_blocking(move || prober.probe(asked.partition, asked.read));
        let probe = read.await.unwrap_or(Probe::NoAnswer);
        tracing::debug!(partition = asked.partition.0, position = asked.read.0, purpose = ?asked.purpose, ?probe, "probed");
        if self.scheduler.probed(&asked, probe) {
            tracing::warn!(
                hint = "the topic log holds records that the consumer does not receive: it leaves the group and joins \
                        again",
                "fetch_stalled"
            );
        }
    }
}
