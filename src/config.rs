//! Environment and flags -> checked settings, or a list of all faults in them.
//!
//! Flags override the environment, and the environment overrides a `.env` file in the working directory. clap only
//! collects text. One pure function, [`Settings::from_raw`], checks all settings, so it can report all errors at once.
//! No error text and no `Debug` shows a password.

mod database;
mod dotenv;
mod faults;
mod properties;
mod raw;
mod values;

use std::{
    io,
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::Path,
    time::Duration,
};

use fenced_sink::{GapPolicy, StartPolicy};

pub use database::Database;
pub use dotenv::load_dotenv;
pub use faults::{ConfigFault, ConfigFaults};
pub use properties::{Properties, consumer_properties};
pub use raw::RawSettings;
pub(crate) use raw::{is_essential, is_used};
pub use values::{LogFilter, LogFormat};

/// All settings, checked. Each comment begins with the name in the environment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `DATABASE_URL`, or the content of `DATABASE_URL_FILE`.
    pub database: Database,
    /// `KAFKA_BOOTSTRAP_SERVERS`.
    pub kafka_bootstrap_servers: String,
    /// `KAFKA_TOPIC`: a valid name, never a pattern.
    pub kafka_topic: String,
    /// `KAFKA_GROUP_ID`.
    pub kafka_group_id: String,
    /// `LOG_LEVEL`.
    pub log_level: LogFilter,
    /// `LOG_FORMAT`.
    pub log_format: LogFormat,
    /// `LOG_RECORDS_PER_SECOND`; 0: no lines.
    pub log_records_per_second: u32,
    /// `KAFKA_START`.
    pub kafka_start: StartPolicy,
    /// `KAFKA_GAP_POLICY`.
    pub kafka_gap_policy: GapPolicy,
    /// `KAFKA_PROPERTIES` and `KAFKA_PROPERTIES_FILE`, without any property that breaks the guarantee.
    pub kafka_properties: Properties,
    /// `WRITERS`.
    pub writers: NonZeroUsize,
    /// `BATCH_MAX_RECORDS`.
    pub batch_max_records: NonZeroUsize,
    /// `BATCH_MAX_BYTES`.
    pub batch_max_bytes: NonZeroUsize,
    /// `BUFFER_MAX_BYTES`.
    pub buffer_max_bytes: NonZeroUsize,
    /// `DATABASE_TIMEOUT`: at least one millisecond, because 0 means "no limit" to `PostgreSQL`.
    pub database_timeout: Duration,
    /// `RETRY_INITIAL`: at most `retry_max`.
    pub retry_initial: Duration,
    /// `RETRY_MAX`.
    pub retry_max: Duration,
    /// `DEAD_LETTER_MAX_ATTEMPTS`, the first failure included.
    pub dead_letter_max_attempts: NonZeroU32,
    /// `DEAD_LETTER_RETRY_INITIAL`: at most `dead_letter_retry_max`.
    pub dead_letter_retry_initial: Duration,
    /// `DEAD_LETTER_RETRY_MAX`.
    pub dead_letter_retry_max: Duration,
    /// `BREAKER_CONSECUTIVE`; `None`: off.
    pub breaker_consecutive: Option<NonZeroU32>,
    /// `HTTP_ADDR`; `None`: off.
    pub http_addr: Option<SocketAddr>,
    /// `STARTUP_TIMEOUT`; 0: one attempt.
    pub startup_timeout: Duration,
    /// `SHUTDOWN_TIMEOUT`; 0: no wait.
    pub shutdown_timeout: Duration,
    /// `TOPIC_CHECK_INTERVAL`.
    pub topic_check_interval: Duration,
}

impl Settings {
    /// Checks the settings. `read_file` reads the files that some settings name.
    ///
    /// # Errors
    /// Every setting that cannot be used, not only the first.
    pub fn from_raw(raw: &RawSettings, read_file: impl Fn(&Path) -> io::Result<String>) -> Result<Self, ConfigFaults> {
        let mut faults = ConfigFaults::default();

        let database = database::choose(&mut faults, raw, &read_file);
        let mut of_properties = ConfigFaults::default();
        let properties = properties::choose(&mut of_properties, raw, &read_file);
        let protocol = properties.as_ref().and_then(|properties| properties.get("security.protocol"));
        let servers = values::servers(&raw.kafka_bootstrap_servers, protocol.unwrap_or("plaintext"));
        let servers = servers.map_err(|accepted| {
            // An address with a user can contain a password.
            let given = Some(raw.kafka_bootstrap_servers.clone()).filter(|given| !given.contains('@'));
            faults.add(ConfigFault { setting: "KAFKA_BOOTSTRAP_SERVERS", given, accepted });
        });
        let topic = faults.check("KAFKA_TOPIC", &raw.kafka_topic, values::topic);
        let group_id = faults.check("KAFKA_GROUP_ID", &raw.kafka_group_id, values::name);
        let log_level = faults.check("LOG_LEVEL", &raw.log_level, values::log_filter);
        let log_format = faults.check("LOG_FORMAT", &raw.log_format, values::log_format);
        let lines =
            faults.check("LOG_RECORDS_PER_SECOND", &raw.log_records_per_second, values::number(0..=1_000_000_u32));
        let start = faults.check("KAFKA_START", &raw.kafka_start, values::start);
        let gap_policy = faults.check("KAFKA_GAP_POLICY", &raw.kafka_gap_policy, values::gap_policy);
        // The faults are in the order of the settings in the documentation.
        faults.append(of_properties);
        let writers = faults.check("WRITERS", &raw.writers, values::count(100));
        let records = faults.check("BATCH_MAX_RECORDS", &raw.batch_max_records, values::count(1_000_000));
        // A message to PostgreSQL is limited to 1 GiB, and the last record of a batch may exceed this bound.
        let bytes = faults.check("BATCH_MAX_BYTES", &raw.batch_max_bytes, values::bytes(256 << 20));
        let buffer = faults.check("BUFFER_MAX_BYTES", &raw.buffer_max_bytes, values::bytes(64 << 30));
        let database_timeout = faults.check("DATABASE_TIMEOUT", &raw.database_timeout, values::some_time);
        let retry_max = faults.check("RETRY_MAX", &raw.retry_max, values::some_time);
        let retry_initial = faults.check("RETRY_INITIAL", &raw.retry_initial, values::time_up_to(retry_max));
        let attempts =
            faults.check("DEAD_LETTER_MAX_ATTEMPTS", &raw.dead_letter_max_attempts, values::number(1..=1_000_u32));
        let letter_max = faults.check("DEAD_LETTER_RETRY_MAX", &raw.dead_letter_retry_max, values::some_time);
        let letter_initial =
            faults.check("DEAD_LETTER_RETRY_INITIAL", &raw.dead_letter_retry_initial, values::time_up_to(letter_max));
        let breaker = faults.check("BREAKER_CONSECUTIVE", &raw.breaker_consecutive, values::number(0..=1_000_000_u32));
        let http_addr = faults.check("HTTP_ADDR", &raw.http_addr, values::address);
        let startup_timeout = faults.check("STARTUP_TIMEOUT", &raw.startup_timeout, values::time);
        let shutdown_timeout = faults.check("SHUTDOWN_TIMEOUT", &raw.shutdown_timeout, values::time);
        let topic_check = faults.check("TOPIC_CHECK_INTERVAL", &raw.topic_check_interval, values::some_time);

        let settings = || {
            Some(Self {
                database: database?,
                kafka_bootstrap_servers: servers.ok()?,
                kafka_topic: topic?,
                kafka_group_id: group_id?,
                log_level: log_level?,
                log_format: log_format?,
                log_records_per_second: lines?,
                kafka_start: start?,
                kafka_gap_policy: gap_policy?,
                kafka_properties: properties?,
                writers: writers?,
                batch_max_records: records?,
                batch_max_bytes: bytes?,
                buffer_max_bytes: buffer?,
                database_timeout: database_timeout?,
                retry_initial: retry_initial?,
                retry_max: retry_max?,
                dead_letter_max_attempts: NonZeroU32::new(attempts?)?,
                dead_letter_retry_initial: letter_initial?,
                dead_letter_retry_max: letter_max?,
                breaker_consecutive: NonZeroU32::new(breaker?),
                http_addr: http_addr?,
                startup_timeout: startup_timeout?,
                shutdown_timeout: shutdown_timeout?,
                topic_check_interval: topic_check?,
            })
        };
        settings().ok_or(faults)
    }

    /// The same settings, for a command that writes.
    ///
    /// # Errors
    /// The database URL asks for a server that cannot write.
    pub fn able_to_write(self) -> Result<Self, ConfigFaults> {
        let target = self.database.servers().wanted();
        if target.can_write() {
            return Ok(self);
        }
        Err(ConfigFaults::one(ConfigFault {
            setting: "DATABASE_URL",
            given: Some(format!("target_session_attrs={}", target.name())),
            accepted:
                "target_session_attrs=read-write, primary or any, because this command writes; the value can also be \
                       that of PGTARGETSESSIONATTRS"
                    .to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests;
