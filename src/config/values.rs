//! One small parser for each kind of value. Its error contains the accepted values.

use std::{
    fmt::Display,
    net::{Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use bytesize::ByteSize;
use fenced_sink::{GapPolicy, StartPolicy};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// The longest time-out that `PostgreSQL` accepts: an `i32` of milliseconds, cut to whole days.
const LONGEST: Duration = Duration::from_hours(24 * 24);

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// The format of the old Python service.
    Text,
    /// One JSON object per line.
    Json,
}

/// Valid tracing directives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The directives, for `EnvFilter`.
    #[must_use]
    pub fn directives(&self) -> &str {
        &self.0
    }
}

pub(super) fn start(given: &str) -> Result<StartPolicy, String> {
    match given.to_ascii_lowercase().as_str() {
        "earliest" => Ok(StartPolicy::Earliest),
        "latest" => Ok(StartPolicy::Latest),
        "fail" => Ok(StartPolicy::Fail),
        _ => Err("earliest, latest or fail".to_owned()),
    }
}

pub(super) fn gap_policy(given: &str) -> Result<GapPolicy, String> {
    match given.to_ascii_lowercase().as_str() {
        "halt" => Ok(GapPolicy::Halt),
        "skip" => Ok(GapPolicy::Skip),
        _ => Err("halt or skip".to_owned()),
    }
}

pub(super) fn log_format(given: &str) -> Result<LogFormat, String> {
    match given.to_ascii_lowercase().as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("text or json".to_owned()),
    }
}

/// A level alone is the level of this program. Libraries then log warnings only, because their debug lines contain
/// statements. Directives are passed on, but a word that is not a level is refused: tracing would read it as a module name.
pub(super) fn log_filter(given: &str) -> Result<LogFilter, String> {
    let accepted = || {
        "TRACE, DEBUG, INFO, WARNING, ERROR, CRITICAL or OFF, or tracing directives such as info,sqlx=debug".to_owned()
    };
    let level = match given.to_ascii_lowercase().as_str() {
        "warning" => Some("warn".to_owned()),
        "critical" | "fatal" => Some("error".to_owned()),
        level @ ("off" | "error" | "warn" | "info" | "debug" | "trace") => Some(level.to_owned()),
        _ => None,
    };
    let directives = match level.as_deref() {
        Some(level @ ("off" | "error" | "warn")) => level.to_owned(),
        Some(level) => format!("warn,booking_history={level},fenced_sink={level}"),
        None => with_engine(given),
    };
    let understood =
        directives.split(',').all(|directive| directive.contains('=') || directive.parse::<LevelFilter>().is_ok());
    if understood && !directives.is_empty() && EnvFilter::try_new(&directives).is_ok() {
        Ok(LogFilter(directives))
    } else {
        Err(accepted())
    }
}

/// A directive for this program is also one for its engine, unless the engine has its own.
///
/// tracing-subscriber 0.3.23 cuts text that begins with a space in the middle of a character, and panics: so each directive
/// is trimmed.
fn with_engine(given: &str) -> String {
    let mut directives: Vec<String> = given.split(',').map(|directive| directive.trim().to_owned()).collect();
    let own = directives.iter().find_map(|directive| directive.strip_prefix("booking_history=")).map(str::to_owned);
    if let Some(level) = own.filter(|_| !directives.iter().any(|directive| directive.starts_with("fenced_sink"))) {
        directives.push(format!("fenced_sink={level}"));
    }
    directives.join(",")
}

/// Separated by commas. A protocol before a server is accepted if it is the one of `security.protocol`: librdkafka ignores
/// a server with another one, and waits.
pub(super) fn servers(given: &str, security_protocol: &str) -> Result<String, String> {
    let servers: Vec<&str> = given.split(',').map(str::trim).collect();
    let address = |server: &&str| match server.split_once("://") {
        Some((protocol, address)) => protocol.eq_ignore_ascii_case(security_protocol) && is_server(address),
        None => is_server(server),
    };
    if servers.iter().all(address) {
        return Ok(servers.join(","));
    }
    let protocols = given.to_ascii_lowercase();
    let hint = match ["ssl", "tls", "https"].iter().any(|name| protocols.contains(&format!("{name}://"))) {
        true if protocols.contains("sasl") => "; for TLS and SASL, security.protocol=sasl_ssl in KAFKA_PROPERTIES",
        true => "; for TLS, security.protocol=ssl in KAFKA_PROPERTIES",
        false => "",
    };
    Err(format!("host:port, separated by commas, without protocol, user and path{hint}"))
}

/// `host` or `host:port`. An IPv6 address is in brackets.
fn is_server(server: &str) -> bool {
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (server, None),
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        // The zone of a link-local address follows the %.
        Some(address) => address.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')),
    };
    is_host && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Empty: none. Host names are refused, because a name server would decide which address is opened.
pub(super) fn address(given: &str) -> Result<Option<SocketAddr>, String> {
    match given {
        "" => Ok(None),
        _ => given.parse().map(Some).map_err(|_| {
            "an IP address with a port, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080, or empty for none"
                .to_owned()
        }),
    }
}

/// Kafka's rule for topic names. librdkafka reads a name that begins with `^` as a pattern, which this rule excludes.
pub(super) fn topic(given: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=249).contains(&given.len()) && given.chars().all(legal) && given != "." && given != ".." {
        Ok(given.to_owned())
    } else {
        Err("1 to 249 of the characters a-z A-Z 0-9 . _ -".to_owned())
    }
}

pub(super) fn name(given: &str) -> Result<String, String> {
    let is_bare = given.trim() == given && !given.starts_with(['"', '\'']);
    if (1..=255).contains(&given.len()) && is_bare && !given.contains(char::is_control) {
        Ok(given.to_owned())
    } else {
        Err("1 to 255 bytes without control characters, and without quotes or white space around them".to_owned())
    }
}

/// Whether a text may be shown, because it is the name of a variable and no secret.
pub(super) fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

pub(super) fn number<T>(range: RangeInclusive<T>) -> impl FnOnce(&str) -> Result<T, String>
where
    T: FromStr + PartialOrd + Display,
{
    move |given| {
        let number = given.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
    }
}

pub(super) fn count(most: usize) -> impl FnOnce(&str) -> Result<NonZeroUsize, String> {
    move |given| {
        let accepted = format!("a whole number from 1 to {most}");
        number(1..=most)(given).ok().and_then(NonZeroUsize::new).ok_or(accepted)
    }
}

pub(super) fn bytes(most: usize) -> impl FnOnce(&str) -> Result<NonZeroUsize, String> {
    move |given| {
        let size = given.parse::<ByteSize>().ok().and_then(|size| usize::try_from(size.as_u64()).ok());
        let size = size.filter(|size| *size <= most).and_then(NonZeroUsize::new);
        size.ok_or_else(|| format!("a size such as 8MiB, more than 0 and at most {}MiB", most >> 20))
    }
}

pub(super) fn time(given: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(given).ok().filter(|time| *time <= LONGEST);
    time.ok_or_else(|| "a time such as 100ms, 30s or 5m, at most 24days".to_owned())
}

/// At least one millisecond: `PostgreSQL` reads a shorter time as 0, which means no limit.
pub(super) fn some_time(given: &str) -> Result<Duration, String> {
    let time = time(given).ok().filter(|time| time.as_millis() > 0);
    time.ok_or_else(|| "a time such as 100ms, 30s or 5m, at least 1ms and at most 24days".to_owned())
}

/// `None`: the bound itself is not valid, which is reported for the setting of the bound.
pub(super) fn time_up_to(most: Option<Duration>) -> impl FnOnce(&str) -> Result<Duration, String> {
    move |given| match (some_time(given)?, most) {
        (time, Some(most)) if time > most => Err(format!("at most RETRY_MAX, {}", humantime::format_duration(most))),
        (time, _) => Ok(time),
    }
}
