//! The loop: consumer thread, writers and mirror joined, and their end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::event::Event;
use crate::kafka::client::{ConsumerError, ConsumerOptions, check_client};
use crate::kafka::topic_log_client::TopicLogClient;
use crate::model::batch::BatchLimits;
use crate::pipeline::consumer::ConsumerThread;
use crate::pipeline::error::EngineError;
use crate::pipeline::failure::{RefusedSince, UnclassifiedErrors};
use crate::pipeline::line_budget::LineBudget;
use crate::pipeline::log_check::LogCheckTask;
use crate::pipeline::options::Options;
use crate::pipeline::redrive::Redrive;
use crate::pipeline::shared_scheduler::SharedScheduler;
use crate::pipeline::watchdog::Watchdog;
use crate::pipeline::writer::{Writer, WriterContext};
use crate::postgres::ledger::Ledger;
use crate::postgres::retry::Backoff;
use crate::postgres::transaction::WriteRules;

/// Whether Kafka's client takes the properties at all. No server is asked.
///
/// # Errors
/// [`ConsumerError::Configuration`], which no waiting will mend.
pub fn check(options: &Options) -> Result<(), EngineError> {
    Ok(check_client(&options.properties)?)
}

/// Keeps the events of a topic until `shutdown` says to stop.
///
/// Stopping takes five steps: reading stops, what is in flight is finished, the consumer leaves the group, connections
/// are closed, and the call returns. It is bounded by the shutdown timeout; what is not finished by then is safe, by the
/// guarantee, and read again.
///
/// # Errors
/// A server is of no use for good. What was committed stays; the group is left first.
pub async fn run<E: Event>(mut options: Options, shutdown: impl Future<Output = ()>) -> Result<(), EngineError> {
    options.properties.insert("group.id".to_owned(), options.group_id.clone());
    let limits = BatchLimits { records: options.batch_max_records, bytes: options.batch_max_bytes };
    let assignment = Arc::new(SharedScheduler::new(limits, session_timeout(&options.properties)));
    options.health.began(&options.topic, Arc::<SharedScheduler<E>>::clone(&assignment));
    let mut reader = ConsumerHandle::start::<E>(&options, &assignment)?;
    let mut writers = writers::<E>(&options, &assignment);

    let outcome = tokio::select! {
        () = shutdown => Ok(()),
        ended = &mut reader.ended => Err(reading_ended(ended)),
        Some(ended) = writers.join_next() => Err(writing_ended(ended)),
    };

    tracing::info!("shutdown_started");
    let began = Instant::now();
    assignment.stop();
    let finish = async { while writers.join_next().await.is_some() {} };
    if tokio::time::timeout(options.shutdown_timeout, finish).await.is_err() {
        tracing::warn!(hint = "a transaction is in flight: its records are read again if it fails", "shutdown_timeout");
    }
    reader.leave(options.shutdown_timeout.saturating_sub(began.elapsed())).await;
    tracing::info!("shutdown_complete");
    outcome
}

/// The consumer thread, from outside.
struct ConsumerHandle {
    ended: oneshot::Receiver<Result<(), ConsumerError>>,
    leave: mpsc::Sender<()>,
    left: oneshot::Receiver<()>,
}

impl ConsumerHandle {
    fn start<E: Event>(options: &Options, assignment: &Arc<SharedScheduler<E>>) -> Result<Self, EngineError> {
        let source_options = ConsumerOptions {
            properties: options.properties.clone(),
            topic: options.topic.clone(),
            buffer_max_bytes: options.buffer_max_bytes,
            startup_timeout: options.startup_timeout,
        };
        let mut source = ConsumerThread::<E>::new(source_options, Arc::clone(assignment))?;
        let (tell_ended, ended) = oneshot::channel();
        let (leave, may_leave) = mpsc::channel();
        let (tell_left, left) = oneshot::channel();
        let thread = std::thread::Builder::new().name("consumer".to_owned()).spawn(move || {
            let told = tell_ended.send(source.run());
            // Whether asked to or because nobody is left to ask: the group is left, and then that is said.
            let asked = may_leave.recv();
            source.leave();
            let left = tell_left.send(());
            tracing::debug!(told = told.is_ok(), asked = asked.is_ok(), left = left.is_ok(), "consumer_thread_ended");
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
                hint = "kafka does not answer: the group notices after the session timeout",
                "shutdown_timeout"
            );
        }
    }
}

fn writers<E: Event>(options: &Options, assignment: &Arc<SharedScheduler<E>>) -> JoinSet<Result<(), EngineError>> {
    let shared = Arc::new(WriterContext {
        assignment: Arc::clone(assignment),
        ledger: Ledger::new(options.group_id.clone(), options.topic.clone(), owner()),
        log: TopicLogClient::new(&options.properties, &options.topic),
        start: options.start,
        gaps: options.gaps,
        database: options.database.clone(),
        database_timeout: options.database_timeout,
        rules: WriteRules { breaker: options.breaker, schedule: options.dead_letters },
        startup_timeout: options.startup_timeout,
        refused: RefusedSince::default(),
        unclassified: UnclassifiedErrors::default(),
        health: options.health.clone(),
        lines: Mutex::new(LineBudget::new(options.log_records_per_second)),
    });
    let backoff = || Backoff::new(options.retry_initial, options.retry_max);
    let mut tasks: JoinSet<_> =
        (0..options.writers).map(|_| Writer::new(Arc::clone(&shared), backoff()).run()).collect();
    tasks.spawn(LogCheckTask::new(options, Arc::clone(assignment)).run());
    tasks.spawn(Watchdog::new(options.stalled_after).run(options.health.clone(), Arc::clone(assignment)));
    tasks.spawn(Redrive::new(shared, backoff()).run());
    tasks
}

fn reading_ended(ended: Result<Result<(), ConsumerError>, oneshot::error::RecvError>) -> EngineError {
    match ended {
        Ok(Err(error)) => EngineError::Kafka(error),
        Ok(Ok(())) | Err(_) => EngineError::Ended("the consumer thread"),
    }
}

fn writing_ended(ended: Result<Result<(), EngineError>, tokio::task::JoinError>) -> EngineError {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => EngineError::Ended("a writer"),
    }
}

/// The longest wait of a fenced partition: after it Kafka has surely noticed whoever is gone.
fn session_timeout(properties: &BTreeMap<String, String>) -> Duration {
    let millis = properties.get("session.timeout.ms").and_then(|text| text.parse().ok());
    Duration::from_millis(millis.unwrap_or(45_000))
}

/// Says who claimed a row, for people: the host and the process.
fn owner() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}/{}", host.trim(), std::process::id())
}
