//! A run: starts the consumer thread, the writers and the other tasks, and stops them in a fixed order.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::event::Event;
use crate::kafka::client::{ConsumerError, check_client};
use crate::kafka::topic_log_client::TopicLogClient;
use crate::model::batch::BatchLimits;
use crate::pipeline::consumer::{ConsumerOptions, ConsumerThread};
use crate::pipeline::error::EngineError;
use crate::pipeline::instance_id::InstanceId;
use crate::pipeline::line_budget::LineBudget;
use crate::pipeline::log_check::{self, LogCheckTask, ProbeTask};
use crate::pipeline::log_doubt::LogDoubtTask;
use crate::pipeline::options::Options;
use crate::pipeline::redrive::Redrive;
use crate::pipeline::shared_scheduler::SharedScheduler;
use crate::pipeline::watchdog::Watchdog;
use crate::pipeline::writer::{Writer, WriterContext};
use crate::postgres::ledger::Ledger;
use crate::postgres::ledger::host::owner;
use crate::postgres::retry::{Backoff, RetryDelays};
use crate::postgres::transaction::WriteRules;

/// Checks that librdkafka accepts the properties. It contacts no server.
///
/// # Errors
/// [`ConsumerError::Configuration`]: a retry cannot help.
pub fn check(options: &Options) -> Result<(), EngineError> {
    Ok(check_client(&options.properties)?)
}

/// Reads the events of a topic and commits them, until `shutdown` completes.
///
/// It stops in this order: reading ends, the transactions in flight end, the consumer leaves the group, the connections
/// close, the call returns. The shutdown timeout limits this. Records whose transaction has not ended by then are read
/// again later.
///
/// # Errors
/// A server cannot be used. Committed records stay committed. The consumer leaves the group first.
pub async fn run<E: Event>(mut options: Options, shutdown: impl Future<Output = ()>) -> Result<(), EngineError> {
    options.properties.insert("group.id".to_owned(), options.group_id.clone());
    check(&options)?;
    let limits = BatchLimits { records: options.batch_max_records, bytes: options.batch_max_bytes };
    let delays = RetryDelays::new(options.retry_initial, options.retry_max);
    let scheduler =
        Arc::new(SharedScheduler::new(limits, session_timeout(&options.properties), delays, options.writers));
    options.health.began(&options.topic, Arc::<SharedScheduler<E>>::clone(&scheduler));
    let topic_log = TopicLogClient::new(&options.properties, &options.topic).with_timeout(log_check::TIMEOUT);
    let topic_log = Arc::new(topic_log);
    let mut consumer = ConsumerHandle::start::<E>(&options, &scheduler, &topic_log)?;
    let mut tasks = spawn_tasks::<E>(&options, &scheduler, topic_log);

    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        ended = &mut consumer.ended => Err(consumer_ended(ended)),
        Some(ended) = tasks.join_next() => Err(task_ended(ended)),
    };

    tracing::info!("shutdown_started");
    let began = Instant::now();
    scheduler.stop();
    let finish = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(options.shutdown_timeout, finish).await.is_err() {
        tracing::warn!(hint = "a transaction is in flight: its records are read again if it fails", "shutdown_timeout");
    }
    consumer.leave(options.shutdown_timeout.saturating_sub(began.elapsed())).await;
    tracing::info!("shutdown_complete");
    outcome
}

/// The consumer thread, for the task that starts and stops it.
struct ConsumerHandle {
    ended: oneshot::Receiver<Result<(), ConsumerError>>,
    leave: mpsc::Sender<()>,
    left: oneshot::Receiver<()>,
}

impl ConsumerHandle {
    fn start<E: Event>(
        options: &Options,
        scheduler: &Arc<SharedScheduler<E>>,
        topic_log: &Arc<TopicLogClient>,
    ) -> Result<Self, EngineError> {
        let mut options = ConsumerOptions {
            properties: options.properties.clone(),
            topic: options.topic.clone(),
            service: options.service.clone(),
            buffer_max_bytes: options.buffer_max_bytes,
            chose_instance_id: false,
        };
        let (scheduler, topic_log) = (Arc::clone(scheduler), Arc::clone(topic_log));
        let (tell_ended, ended) = oneshot::channel();
        let (leave, may_leave) = mpsc::channel();
        let (tell_left, left) = oneshot::channel();
        let thread = std::thread::Builder::new().name("consumer".to_owned()).spawn(move || {
            // The id is reserved until the consumer has left.
            let instance_id = choose_instance_id(&mut options, &topic_log);
            drop(topic_log);
            options.chose_instance_id = instance_id.is_some();
            let (ended, consumer) = match ConsumerThread::<E>::new(options, scheduler) {
                Ok(mut consumer) => (consumer.run(), Some(consumer)),
                Err(error) => (Err(error), None),
            };
            let told = tell_ended.send(ended);
            // The handle asks for this, or it was dropped: in both cases the consumer leaves the group.
            let asked = may_leave.recv();
            if let Some(consumer) = consumer {
                consumer.leave();
            }
            // Before the handle knows it: the last line of the process comes after this one.
            tracing::debug!(told = told.is_ok(), asked = asked.is_ok(), "consumer_thread_ended");
            tell_left.send(()).unwrap_or_default();
        });
        match thread {
            Ok(_) => Ok(Self { ended, leave, left }),
            Err(_) => Err(EngineError::Ended("the consumer thread")),
        }
    }

    async fn leave(self, limit: Duration) {
        let asked = self.leave.send(()).is_ok();
        if !asked || tokio::time::timeout(limit.max(Duration::from_secs(1)), self.left).await.is_err() {
            tracing::warn!(
                hint = "the consumer did not leave the group in time: the group removes it after the session timeout",
                "shutdown_timeout"
            );
        }
    }
}

/// Kafka has a short time to answer: without an id, only a restart after `kill -9` takes longer.
fn choose_instance_id(options: &mut ConsumerOptions, topic_log: &TopicLogClient) -> Option<InstanceId> {
    let ConsumerOptions { properties, topic, .. } = options;
    InstanceId::choose(properties, topic, || {
        topic_log.partition_count().inspect_err(|error| tracing::debug!(%error, "instance_id_not_chosen")).ok()
    })
}

/// The log check uses the connections with which the instance id was chosen.
fn spawn_tasks<E: Event>(
    options: &Options,
    scheduler: &Arc<SharedScheduler<E>>,
    topic_log: Arc<TopicLogClient>,
) -> JoinSet<Result<(), EngineError>> {
    let context = Arc::new(WriterContext {
        scheduler: Arc::clone(scheduler),
        ledger: Ledger::new(options.group_id.clone(), options.topic.clone(), owner()),
        topic_log: TopicLogClient::new(&options.properties, &options.topic),
        service: options.service.clone(),
        start: options.start,
        gaps: options.gaps,
        database: options.database.clone(),
        database_timeout: options.database_timeout,
        rules: WriteRules { breaker: options.breaker, schedule: options.dead_letters },
        startup_timeout: options.startup_timeout,
        writers: options.writers,
        connected: watch::Sender::new(0),
        disconnected: Mutex::default(),
        health: options.health.clone(),
        lines: Mutex::new(LineBudget::new(options.log_records_per_second)),
        copy_refused: AtomicBool::new(false),
    });
    let backoff = || Backoff::new(options.retry_initial, options.retry_max);
    let mut tasks: JoinSet<_> =
        (0..options.writers).map(|number| Writer::new(Arc::clone(&context), number, backoff()).run()).collect();
    tasks.spawn(LogCheckTask::new(options, Arc::clone(scheduler), topic_log).run());
    tasks.spawn(ProbeTask::new(options, Arc::clone(scheduler)).run());
    tasks.spawn(LogDoubtTask::new(options, Arc::clone(scheduler)).run());
    tasks.spawn(Watchdog::new(options.stalled_after).run(options.health.clone(), Arc::clone(scheduler)));
    tasks.spawn(Redrive::new(context, backoff()).run());
    tasks
}

fn consumer_ended(ended: Result<Result<(), ConsumerError>, oneshot::error::RecvError>) -> EngineError {
    match ended {
        Ok(Err(error)) => EngineError::Kafka(error),
        Ok(Ok(())) | Err(_) => EngineError::Ended("the consumer thread"),
    }
}

fn task_ended(ended: Result<Result<(), EngineError>, tokio::task::JoinError>) -> EngineError {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => EngineError::Ended("a writer"),
    }
}

/// After this time Kafka has removed a dead member. So it is the maximum wait before the next claim of a fenced partition.
fn session_timeout(properties: &BTreeMap<String, String>) -> Duration {
    let millis = properties.get("session.timeout.ms").and_then(|text| text.parse().ok());
    Duration::from_millis(millis.unwrap_or(45_000))
}
