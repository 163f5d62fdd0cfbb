//! The options of a run.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::model::start::StartPolicy;
use crate::model::topic_log::GapPolicy;
use crate::observe::health::Health;
use crate::postgres::dead_letters::RetrySchedule;
use crate::postgres::servers::DatabaseServers;

/// The options of a run. It has no `Debug`: the properties can hold secrets.
#[derive(Clone)]
pub struct Options {
    /// The servers of the database that contains the tables.
    pub database: DatabaseServers,
    /// Properties of librdkafka, at least `bootstrap.servers`. The engine sets those that the guarantee needs, and ignores
    /// other values for them. It chooses a `group.instance.id`, unless there is one. An empty one means none.
    pub properties: BTreeMap<String, String>,
    /// The name of the service. It is committed to Kafka as the metadata of each mirrored position, so that the service
    /// recognises its own mirror.
    pub service: String,
    /// The topic to read.
    pub topic: String,
    /// The consumer group whose positions the ledger holds.
    pub group_id: String,
    /// Where a partition without a stored or committed position starts.
    pub start: StartPolicy,
    /// What the engine does if retention has removed records that were not read.
    pub gaps: GapPolicy,
    /// The interval between two checks of the topic log.
    pub topic_check_interval: Duration,
    /// The number of database connections that commit.
    pub writers: usize,
    /// The maximum number of records in one transaction.
    pub batch_max_records: usize,
    /// The maximum number of bytes in one transaction. A larger record gets a transaction of its own.
    pub batch_max_bytes: usize,
    /// The maximum number of bytes that wait for the database.
    pub buffer_max_bytes: usize,
    /// The time limit of one statement, and of one connect.
    pub database_timeout: Duration,
    /// The first retry delay while the database is unreachable.
    pub retry_initial: Duration,
    /// The longest retry delay while the database is unreachable.
    pub retry_max: Duration,
    /// If a server refuses the user or a statement for longer than this, the run ends.
    pub startup_timeout: Duration,
    /// How long a stop waits for the transactions in flight and for leaving the group.
    pub shutdown_timeout: Duration,
    /// The delays between the retries of a dead letter.
    pub dead_letters: RetrySchedule,
    /// The number of dead letters in a row that halts a partition; `None` = never.
    pub breaker: Option<NonZeroU32>,
    /// If records wait this long without a commit, the watchdog reports a stall. One statement may take as long as
    /// `database_timeout`, so this should be longer.
    pub stalled_after: Duration,
    /// The maximum number of log lines about single records per second.
    pub log_records_per_second: u32,
    /// The run writes its state here. The caller can keep a clone and read it at any time.
    pub health: Health,
}

impl Options {
    /// The defaults of `booking-history`, for this database, these brokers (`bootstrap.servers`), topic and group.
    #[must_use]
    pub fn new(database: impl Into<DatabaseServers>, brokers: &str, topic: &str, group_id: &str) -> Self {
        Self {
            database: database.into(),
            properties: BTreeMap::from([("bootstrap.servers".to_owned(), brokers.to_owned())]),
            service: "fenced-sink".to_owned(),
            topic: topic.to_owned(),
            group_id: group_id.to_owned(),
            start: StartPolicy::Earliest,
            gaps: GapPolicy::Halt,
            topic_check_interval: Duration::from_secs(5),
            writers: 2,
            batch_max_records: 10_000,
            batch_max_bytes: 8 << 20,
            buffer_max_bytes: 32 << 20,
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
