//! The settings as text, exactly as clap finds them: names, defaults and the words of `--help`.

use clap::Args;

/// The default of `DATABASE_URL`, which also stands for "not given" beside `DATABASE_URL_FILE`.
pub(super) const DATABASE_URL: &str = "postgresql://postgres:postgres@localhost:5434/booking_history";

/// Every setting as it was given. There is no `Debug`: some hold passwords.
#[derive(Args, Clone)]
#[command(next_help_heading = "Settings (flags win over the environment, the environment over a .env file)")]
pub struct RawSettings {
    /// The database; postgresql+asyncpg:// is accepted, any +driver is dropped
    #[arg(long, env, value_name = "URL", default_value = DATABASE_URL)]
    pub database_url: String,
    /// Where Kafka is: host:port, several separated by commas
    #[arg(long, env, value_name = "SERVERS", default_value = "localhost:9092")]
    pub kafka_bootstrap_servers: String,
    /// The topic to read
    #[arg(long, env, value_name = "NAME", default_value = "booking-events")]
    pub kafka_topic: String,
    /// The consumer group; positions are kept per group
    #[arg(long, visible_alias = "group-id", env, value_name = "NAME", default_value = "booking-history-service")]
    pub kafka_group_id: String,
    /// DEBUG, INFO, WARNING, ERROR or CRITICAL, or tracing directives such as info,sqlx=debug
    #[arg(long, env, value_name = "LEVEL", default_value = "INFO")]
    pub log_level: String,
    /// text, or json for one object a line
    #[arg(long, env, value_name = "FORMAT", default_value = "text")]
    pub log_format: String,
    /// Cap on the lines about single records; 0 = none, only batches are logged
    #[arg(long, env, value_name = "NUMBER", default_value = "100")]
    pub log_records_per_second: String,
    /// Where a partition without any stored or committed position starts: earliest, latest or fail
    #[arg(long, env, value_name = "POSITION", default_value = "earliest")]
    pub kafka_start: String,
    /// What is done about records that Kafka removed before they were read: halt the partition, or skip (recorded as a gap)
    #[arg(long, env, value_name = "POLICY", default_value = "halt")]
    pub kafka_gap_policy: String,
    /// Any librdkafka property, key=value, one a line or separated by commas: TLS, SASL, group.protocol and more
    #[arg(long, env, value_name = "PROPERTIES")]
    pub kafka_properties: Option<String>,
    /// A file with more of them, for secrets
    #[arg(long, env, value_name = "FILE")]
    pub kafka_properties_file: Option<String>,
    /// Database connections that commit
    #[arg(long, env, value_name = "NUMBER", default_value = "2")]
    pub writers: String,
    /// A batch is what has arrived, up to this many records
    #[arg(long, env, value_name = "NUMBER", default_value = "10000")]
    pub batch_max_records: String,
    /// A batch is what has arrived, up to this size
    #[arg(long, env, value_name = "BYTES", default_value = "8MiB")]
    pub batch_max_bytes: String,
    /// Records queued in the process, all partitions together
    #[arg(long, env, value_name = "BYTES", default_value = "64MiB")]
    pub buffer_max_bytes: String,
    /// Limit for one statement or one connect
    #[arg(long, env, value_name = "TIME", default_value = "30s")]
    pub database_timeout: String,
    /// The first pause while the database is away; it doubles from there
    #[arg(long, env, value_name = "TIME", default_value = "100ms")]
    pub retry_initial: String,
    /// The longest pause while the database is away
    #[arg(long, env, value_name = "TIME", default_value = "30s")]
    pub retry_max: String,
    /// Tries of a dead letter that may heal by itself, the first failure included
    #[arg(long, env, value_name = "NUMBER", default_value = "5")]
    pub dead_letter_max_attempts: String,
    /// The first pause before a dead letter is tried again; it doubles from there
    #[arg(long, env, value_name = "TIME", default_value = "1s")]
    pub dead_letter_retry_initial: String,
    /// The longest pause before a dead letter is tried again
    #[arg(long, env, value_name = "TIME", default_value = "5m")]
    pub dead_letter_retry_max: String,
    /// Dead letters in a row that halt a partition; 0 = off
    #[arg(long, env, value_name = "NUMBER", default_value = "100")]
    pub breaker_consecutive: String,
    /// Where /livez, /readyz and /metrics are answered; empty = nowhere
    #[arg(long, env, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub http_addr: String,
    /// How long to wait for schema, privileges and authentication to be right before exit 69
    #[arg(long, env, value_name = "TIME", default_value = "60s")]
    pub startup_timeout: String,
    /// How long transactions in flight may take to end when the service is stopped
    #[arg(long, env, value_name = "TIME", default_value = "10s")]
    pub shutdown_timeout: String,
    /// How often it is checked whether the topic is still the same one
    #[arg(long, env, value_name = "TIME", default_value = "5s")]
    pub topic_check_interval: String,
    /// A file that holds the database's URL; excludes --database-url
    #[arg(long, env, value_name = "FILE")]
    pub database_url_file: Option<String>,
}
