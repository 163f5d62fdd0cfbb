//! The settings as clap collects them: names, defaults and the text of `--help`. Nothing is checked here.

use clap::Args;

/// The default of `DATABASE_URL`. If `DATABASE_URL_FILE` is set, this value means "not given".
pub(super) const DATABASE_URL: &str = "postgresql://postgres:postgres@localhost:5434/booking_history";

/// The groups of settings in `--help`.
const DATABASE: &str = "Database";
const KAFKA: &str = "Kafka";
const BATCHES: &str = "Batches";
const DEAD_LETTERS: &str = "Dead letters";
const LOGS: &str = "Logs";
const HTTP: &str = "HTTP";
const START: &str = "Start and stop";

/// The settings that `-h` shows. `--help` shows all.
const ESSENTIAL: [&str; 4] = ["database_url", "kafka_bootstrap_servers", "kafka_topic", "kafka_group_id"];

/// Whether `-h` shows this setting.
pub(crate) fn is_essential(setting: &str) -> bool {
    ESSENTIAL.contains(&setting)
}

/// Whether a command uses this setting. Each command accepts all settings, so that one set of flags and variables fits
/// all commands, but its help shows only those that it uses.
pub(crate) fn is_used(setting: &str, command: &str) -> bool {
    match setting {
        "log_level" | "log_format" => true,
        "http_addr" => matches!(command, "run" | "health"),
        "database_url" | "database_url_file" | "database_timeout" => {
            !matches!(command, "health" | "completions" | "man")
        }
        "kafka_topic" | "kafka_group_id" => !matches!(command, "migrate" | "health" | "completions" | "man"),
        "kafka_bootstrap_servers" | "kafka_properties" | "kafka_properties_file" => {
            matches!(command, "run" | "check" | "offsets" | "verify")
        }
        _ => command == "run",
    }
}

/// Every setting, as given. No `Debug`, because some contain passwords.
#[derive(Args, Clone)]
pub struct RawSettings {
    /// The database; a driver in the scheme, as in postgresql+asyncpg://, is ignored
    #[arg(long, help_heading = DATABASE, env, value_name = "URL", default_value = DATABASE_URL)]
    pub database_url: String,
    /// The brokers of Kafka: host:port, separated by commas
    #[arg(long, help_heading = KAFKA, env, value_name = "SERVERS", default_value = "localhost:9092")]
    pub kafka_bootstrap_servers: String,
    /// The topic to read
    #[arg(long, help_heading = KAFKA, env, value_name = "NAME", default_value = "booking-events")]
    pub kafka_topic: String,
    /// The consumer group; positions are stored per group
    #[arg(long, help_heading = KAFKA, visible_alias = "group-id", env, value_name = "NAME", default_value = "booking-history-service")]
    pub kafka_group_id: String,
    /// TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL or OFF, or tracing directives such as info,sqlx=debug
    #[arg(long, help_heading = LOGS, env, value_name = "LEVEL", default_value = "INFO")]
    pub log_level: String,
    /// text, or json for one object per line
    #[arg(long, help_heading = LOGS, env, value_name = "FORMAT", default_value = "text")]
    pub log_format: String,
    /// Maximum number of log lines about single records per second; 0 = none, only batches are logged
    #[arg(long, help_heading = LOGS, env, value_name = "NUMBER", default_value = "100")]
    pub log_records_per_second: String,
    /// Where a topic without a stored or committed position starts: earliest, latest or fail
    #[arg(long, help_heading = KAFKA, env, value_name = "POSITION", default_value = "earliest")]
    pub kafka_start: String,
    /// For records that Kafka deleted before they were read: halt the partition, or skip them; both are recorded as a gap
    #[arg(long, help_heading = KAFKA, env, value_name = "POLICY", default_value = "halt")]
    pub kafka_gap_policy: String,
    /// More librdkafka properties, as key=value, one per line or separated by commas: TLS, SASL, group.protocol
    #[arg(long, help_heading = KAFKA, env, value_name = "PROPERTIES")]
    pub kafka_properties: Option<String>,
    /// A file with more librdkafka properties, one per line, for secrets
    #[arg(long, help_heading = KAFKA, env, value_name = "FILE")]
    pub kafka_properties_file: Option<String>,
    /// The number of database connections that commit
    #[arg(long, help_heading = BATCHES, env, value_name = "NUMBER", default_value = "2")]
    pub writers: String,
    /// Maximum number of records in one transaction; a batch has the records that have arrived, up to this number
    #[arg(long, help_heading = BATCHES, env, value_name = "NUMBER", default_value = "10000")]
    pub batch_max_records: String,
    /// Maximum number of bytes in one transaction; a larger record is a batch of its own
    #[arg(long, help_heading = BATCHES, env, value_name = "BYTES", default_value = "8MiB")]
    pub batch_max_bytes: String,
    /// Bytes queued in the process, above which only partitions below their share of it are read
    #[arg(long, help_heading = BATCHES, env, value_name = "BYTES", default_value = "16MiB")]
    pub buffer_max_bytes: String,
    /// The time limit for one statement or one connect
    #[arg(long, help_heading = DATABASE, env, value_name = "TIME", default_value = "30s")]
    pub database_timeout: String,
    /// The first retry delay while the database fails; it doubles each time
    #[arg(long, help_heading = DATABASE, env, value_name = "TIME", default_value = "100ms")]
    pub retry_initial: String,
    /// The longest retry delay while the database fails
    #[arg(long, help_heading = DATABASE, env, value_name = "TIME", default_value = "30s")]
    pub retry_max: String,
    /// Attempts for a dead letter that may succeed later, the first failure included
    #[arg(long, help_heading = DEAD_LETTERS, env, value_name = "NUMBER", default_value = "5")]
    pub dead_letter_max_attempts: String,
    /// The first delay before the retry of a dead letter; it doubles each time
    #[arg(long, help_heading = DEAD_LETTERS, env, value_name = "TIME", default_value = "1s")]
    pub dead_letter_retry_initial: String,
    /// The longest delay before the retry of a dead letter
    #[arg(long, help_heading = DEAD_LETTERS, env, value_name = "TIME", default_value = "5m")]
    pub dead_letter_retry_max: String,
    /// Dead letters in a row that halt a partition; 0 = off
    #[arg(long, help_heading = DEAD_LETTERS, env, value_name = "NUMBER", default_value = "100")]
    pub breaker_consecutive: String,
    /// The address for the status page, /livez, /readyz and /metrics; empty = none
    #[arg(long, help_heading = HTTP, env, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub http_addr: String,
    /// How long schema, privileges, permissions in Kafka and authentication may be wrong at the start before exit 69
    #[arg(long, help_heading = START, env, value_name = "TIME", default_value = "60s")]
    pub startup_timeout: String,
    /// How long the service waits at shutdown for transactions in flight
    #[arg(long, help_heading = START, env, value_name = "TIME", default_value = "10s")]
    pub shutdown_timeout: String,
    /// The interval at which the service checks that the topic is still the same one
    #[arg(long, help_heading = KAFKA, env, value_name = "TIME", default_value = "5s")]
    pub topic_check_interval: String,
    /// A file that contains the database URL; do not set --database-url with it
    #[arg(long, help_heading = DATABASE, env, value_name = "FILE")]
    pub database_url_file: Option<String>,
}
