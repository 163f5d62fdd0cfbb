//! Log lines on standard error, as text or as JSON.
//!
//! Invariant: one event is one line, whatever its fields contain. The text has the form of the old Python service:
//! `2026-02-15T14:37:35.123456Z [info     ] booking_history_saved booking_id=13 offset=7 [booking:57]`.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use super::standard_error::LogWriter;
use crate::config::{LogFilter, LogFormat};

/// Starts logging. Events before this call are lost. A second call changes nothing.
pub fn init(filter: &LogFilter, format: LogFormat) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::builder().parse_lossy(filter.directives()))
        .with_writer(|| LogWriter)
        // They would be written to standard error directly.
        .log_internal_errors(false)
        .event_format(LineFormat { format, clock: Utc::now })
        .finish();
    if tracing::subscriber::set_global_default(log).is_err() {
        tracing::debug!("log_already_started");
    }
}

/// Writes an event as a line.
struct LineFormat {
    format: LogFormat,
    clock: fn() -> DateTime<Utc>,
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = EventFields::default();
        event.record(&mut fields);
        let time = (self.clock)().to_rfc3339_opts(SecondsFormat::Micros, true);
        match self.format {
            LogFormat::Text => write_text(&mut writer, &time, event.metadata(), &fields),
            LogFormat::Json => write_json(&mut writer, &time, event.metadata(), &fields),
        }
    }
}

/// The name of an event and its fields, in their order.
#[derive(Default)]
struct EventFields {
    event: String,
    others: Vec<(&'static str, Value)>,
}

impl EventFields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(event)) => self.event = event,
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for EventFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    /// With all its causes, because the outermost error often does not contain the reason.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            // Many errors already contain the text of their cause.
            let words = error.to_string();
            if !text.contains(&words) {
                text.push_str(": ");
                text.push_str(&words);
            }
            cause = error.source();
        }
        self.add(field, text.into());
    }
}

fn write_text(writer: &mut Writer<'_>, time: &str, metadata: &Metadata<'_>, fields: &EventFields) -> fmt::Result {
    write!(writer, "{time} [{:<9}] ", level_name(*metadata.level()))?;
    fields.event.chars().try_for_each(|c| write_visible(writer, c))?;
    for (name, value) in &fields.others {
        match value {
            Value::String(text) if needs_quotes(text) => {
                write!(writer, " {name}=\"")?;
                for c in text.chars() {
                    match c {
                        '"' | '\\' => write!(writer, "\\{c}")?,
                        c => write_visible(writer, c)?,
                    }
                }
                writer.write_char('"')?;
            }
            Value::String(text) => write!(writer, " {name}={text}")?,
            value => write!(writer, " {name}={value}")?,
        }
    }
    writeln!(writer, " [{}:{}]", module(metadata), metadata.line().unwrap_or(0))
}

fn write_json(writer: &mut Writer<'_>, time: &str, metadata: &Metadata<'_>, fields: &EventFields) -> fmt::Result {
    let level = level_name(*metadata.level());
    write!(writer, r#"{{"timestamp":"{time}","level":"{level}","event":{}"#, Value::from(fields.event.as_str()))?;
    for (name, value) in &fields.others {
        // A library may use one of our names for a field. A JSON reader would keep only one of two equal names.
        let taken = matches!(*name, "timestamp" | "level" | "event" | "module" | "line");
        write!(writer, ",{}:{value}", Value::from(format!("{name}{}", if taken { "_" } else { "" })))?;
    }
    let line = metadata.line().unwrap_or(0);
    writeln!(writer, r#","module":{},"line":{line}}}"#, Value::from(module(metadata)))
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn module<'a>(metadata: &Metadata<'a>) -> &'a str {
    let path = metadata.module_path().unwrap_or_else(|| metadata.target());
    path.strip_prefix("booking_history::").unwrap_or(path)
}

fn needs_quotes(text: &str) -> bool {
    text.is_empty() || text.chars().any(|c| c == ' ' || "\"'\\=[]".contains(c) || !is_visible(c))
}

fn write_visible(writer: &mut Writer<'_>, c: char) -> fmt::Result {
    if is_visible(c) { writer.write_char(c) } else { write!(writer, "{}", c.escape_debug()) }
}

/// False for a line break, and for each character that controls a terminal.
fn is_visible(c: char) -> bool {
    matches!(c, '"' | '\'' | '\\') || c.escape_debug().eq([c])
}

#[cfg(test)]
mod tests;
