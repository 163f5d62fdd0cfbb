//! The loop: consumer thread, writers and mirror joined, and their end.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::assignment::Assignment;
use super::backoff::Backoff;
use super::batch::Limits;
use super::claim::StartPolicy;
use super::dead_letter::Schedule;
use super::event::Event;
use super::gap::GapPolicy;
use super::health::Health;
use super::ledger::Ledger;
use super::log_watch::LogWatch;
use super::redrive::Redrive;
pub use super::source::SourceError;
use super::source::SourceOptions;
use super::source::consumer::Source;
use super::source::log::Log;
use super::transaction::Rules;
use super::watchdog::Watchdog;
use super::writer::trouble::{Refused, Unclassified};
use super::writer::{Shared, Writer};
use crate::telemetry::LineBudget;

/// What a run needs to know. No `Debug`: the properties may hold secrets.
#[derive(Clone)]
pub struct Options {
    /// The database that keeps the tables.
    pub database: PgConnectOptions,
    /// Properties of librdkafka: `bootstrap.servers` at least. Those that the guarantee rests on are set by the engine,
    /// whatever is said here.
    pub properties: BTreeMap<String, String>,
    /// The topic that is read.
    pub topic: String,
    /// The consumer group whose positions are kept.
    pub group_id: String,
    /// Where a partition without any position starts.
    pub start: StartPolicy,
    /// What is done about records that retention has removed before they were read.
    pub gaps: GapPolicy,
    /// How often it is looked whether the log is still the one we know.
    pub topic_check_interval: Duration,
    /// Connections that commit.
    pub writers: usize,
    /// Records in one transaction, at most.
    pub batch_max_records: usize,
    /// Bytes in one transaction, at most, unless a single record has more.
    pub batch_max_bytes: usize,
    /// Bytes that wait for the database, at most.
    pub buffer_max_bytes: usize,
    /// For one statement, or one connect.
    pub database_timeout: Duration,
    /// The first wait while the database is away.
    pub retry_initial: Duration,
    /// The longest wait while the database is away.
    pub retry_max: Duration,
    /// How long a server may refuse who we are before that is final.
    pub startup_timeout: Duration,
    /// How long a stop waits for what is in flight, and for the group to be left.
    pub shutdown_timeout: Duration,
    /// When a dead letter that may heal is tried again.
    pub dead_letters: Schedule,
    /// Dead letters in a row that halt a partition; `None` = never.
    pub breaker: Option<NonZeroU32>,
    /// So long records may wait, and nothing be committed, before the watchdog says so. A statement may take as long as
    /// `database_timeout`.
    pub stalled_after: Duration,
    /// Per-record log lines in a second, at most.
    pub log_records_per_second: u32,
    /// Where the run tells how it is; whoever keeps a clone can ask.
    pub health: Health,
}

/// Why a run ended without having been asked to.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Kafka can't be used.
    #[error(transparent)]
    Kafka(#[from] SourceError),
    /// The database refuses who we are or what we ask, and has for long.
    #[error("the database can't be used: {0}; check its user, privileges and schema")]
    Database(#[source] sqlx::Error),
    /// The database says that its data is damaged.
    #[error("the database reports corrupted data: {0}; stop, look at its log, and restore")]
    Corrupt(#[source] sqlx::Error),
    /// A part of the process ended unasked.
    #[error("{0} ended unasked")]
    Ended(&'static str),
}

/// Whether Kafka's client takes the properties at all. No server is asked.
///
/// # Errors
/// [`SourceError::Configuration`], which no waiting will mend.
pub fn check(options: &Options) -> Result<(), EngineError> {
    Ok(super::source::check(&options.properties)?)
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
    let limits = Limits { records: options.batch_max_records, bytes: options.batch_max_bytes };
    let assignment = Arc::new(Assignment::new(limits, session_timeout(&options.properties)));
    options.health.began(&options.topic, Arc::<Assignment<E>>::clone(&assignment));
    let mut reader = Reader::start::<E>(&options, &assignment)?;
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
struct Reader {
    ended: oneshot::Receiver<Result<(), SourceError>>,
    leave: mpsc::Sender<()>,
    left: oneshot::Receiver<()>,
}

impl Reader {
    fn start<E: Event>(options: &Options, assignment: &Arc<Assignment<E>>) -> Result<Self, EngineError> {
        let source_options = SourceOptions {
            properties: options.properties.clone(),
            topic: options.topic.clone(),
            buffer_max_bytes: options.buffer_max_bytes,
            startup_timeout: options.startup_timeout,
        };
        let mut source = Source::<E>::new(source_options, Arc::clone(assignment))?;
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

fn writers<E: Event>(options: &Options, assignment: &Arc<Assignment<E>>) -> JoinSet<Result<(), EngineError>> {
    let shared = Arc::new(Shared {
        assignment: Arc::clone(assignment),
        ledger: Ledger::new(options.group_id.clone(), options.topic.clone(), owner()),
        log: Log::new(&options.properties, &options.topic),
        start: options.start,
        gaps: options.gaps,
        database: options.database.clone(),
        rules: Rules { limit: options.database_timeout, breaker: options.breaker, schedule: options.dead_letters },
        startup_timeout: options.startup_timeout,
        refused: Refused::default(),
        unclassified: Unclassified::default(),
        health: options.health.clone(),
        lines: Mutex::new(LineBudget::new(options.log_records_per_second)),
    });
    let backoff = || Backoff::new(options.retry_initial, options.retry_max);
    let mut tasks: JoinSet<_> =
        (0..options.writers).map(|_| Writer::new(Arc::clone(&shared), backoff()).run()).collect();
    tasks.spawn(LogWatch::new(options, Arc::clone(assignment)).run());
    tasks.spawn(Watchdog::new(options.stalled_after).run(options.health.clone(), Arc::clone(assignment)));
    tasks.spawn(Redrive::new(shared, backoff()).run());
    tasks
}

fn reading_ended(ended: Result<Result<(), SourceError>, oneshot::error::RecvError>) -> EngineError {
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
