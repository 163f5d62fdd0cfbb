//! What a run needs to know.

use sqlx::postgres::PgConnectOptions;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::model::start::StartPolicy;
use crate::model::topic_log::GapPolicy;
use crate::observe::health::Health;
use crate::postgres::dead_letters::RetrySchedule;

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
    pub dead_letters: RetrySchedule,
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

impl Options {
    /// The defaults of `booking-history`, for this database, these brokers (`bootstrap.servers`), topic and group.
    #[must_use]
    pub fn new(database: PgConnectOptions, brokers: &str, topic: &str, group_id: &str) -> Self {
        Self {
            database,
            properties: BTreeMap::from([("bootstrap.servers".to_owned(), brokers.to_owned())]),
            topic: topic.to_owned(),
            group_id: group_id.to_owned(),
            start: StartPolicy::Earliest,
            gaps: GapPolicy::Halt,
            topic_check_interval: Duration::from_secs(5),
            writers: 2,
            batch_max_records: 10_000,
            batch_max_bytes: 8 << 20,
            buffer_max_bytes: 64 << 20,
            database_timeout: Duration::from_secs(30),
            retry_initial: Duration::from_millis(100),
            retry_max: Duration::from_secs(30),
            startup_timeout: Duration::from_mins(1),
            shutdown_timeout: Duration::from_secs(10),
            dead_letters: RetrySchedule::default(),
            breaker: NonZeroU32::new(100),
            stalled_after: Duration::from_mins(1),
            log_records_per_second: 100,
            health: Health::default(),
        }
    }
}
