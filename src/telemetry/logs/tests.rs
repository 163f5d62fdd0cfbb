use std::{
    io,
    sync::{Arc, Mutex},
};

use chrono::TimeZone as _;
use proptest::prelude::*;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Written {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn logged(format: LogFormat, log: impl FnOnce()) -> String {
    let clock = || Utc.with_ymd_and_hms(2026, 2, 15, 14, 37, 35).unwrap() + chrono::Duration::microseconds(123_456);
    let written = Written::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_writer(written.clone())
        .event_format(LineFormat { format, clock })
        .finish();
    tracing::subscriber::with_default(subscriber, log);
    let bytes = written.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

/// The line without the number of the source line, which moves.
fn check(log: impl FnOnce(), expected: &str) {
    let line = logged(LogFormat::Text, log);
    let place = line.rfind(" [telemetry::logs::tests:").unwrap_or_else(|| panic!("no module in {line}"));
    assert_eq!(&line[..place], expected);
}

#[test]
fn a_line_has_the_format_of_the_old_service() {
    check(
        || tracing::info!(booking_id = "13", id = 1, offset = 7_i64, "booking_history_saved"),
        "2026-02-15T14:37:35.123456Z [info     ] booking_history_saved booking_id=13 id=1 offset=7",
    );
    check(|| tracing::warn!("commit_fenced"), "2026-02-15T14:37:35.123456Z [warning  ] commit_fenced");
    check(|| tracing::error!(fatal = true, "x"), "2026-02-15T14:37:35.123456Z [error    ] x fatal=true");
    check(|| tracing::debug!(seconds = 0.5, "x"), "2026-02-15T14:37:35.123456Z [debug    ] x seconds=0.5");
}

#[test]
fn a_value_with_spaces_or_quotes_is_quoted() {
    let check_value = |value: &str, expected: &str| {
        check(|| tracing::info!(value, "x"), &format!("2026-02-15T14:37:35.123456Z [info     ] x value={expected}"));
    };
    check_value("Köln-1", "Köln-1");
    check_value("", "\"\"");
    check_value("two words", "\"two words\"");
    check_value("say \"no\"", r#""say \"no\"""#);
    check_value("a=b", "\"a=b\"");
    check_value(r"back\slash", r#""back\\slash""#);
    check_value("line\nfeed\u{1b}[31m", r#""line\nfeed\u{1b}[31m""#);
    check_value("turned \u{202e}around", r#""turned \u{202e}around""#);
}

#[test]
fn an_error_has_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("commit failed")]
    struct CommitFailed(#[source] io::Error);
    let error = CommitFailed(io::Error::other("connection reset"));
    let error: &(dyn std::error::Error + 'static) = &error;
    check(
        || tracing::error!(error, "database_unavailable"),
        "2026-02-15T14:37:35.123456Z [error    ] database_unavailable error=\"commit failed: connection reset\"",
    );
}

#[test]
fn json_has_the_fields_flat() {
    let line = logged(LogFormat::Json, || tracing::info!(booking_id = "1\"3", id = 1, level = "a", "saved"));
    let object: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["timestamp"], "2026-02-15T14:37:35.123456Z");
    assert_eq!(object["level"], "info");
    assert_eq!(object["event"], "saved");
    assert_eq!(object["booking_id"], "1\"3");
    assert_eq!(object["id"], 1);
    assert_eq!(object["level_"], "a");
    assert_eq!(object["module"], "telemetry::logs::tests");
    assert!(object["line"].is_u64());
}

proptest! {
    #[test]
    fn an_event_is_always_one_line(event in any::<String>(), value in any::<String>()) {
        for format in [LogFormat::Text, LogFormat::Json] {
            let line = logged(format, || tracing::info!(value, "{event}"));
            prop_assert_eq!(line.lines().count(), 1);
            prop_assert!(line.ends_with('\n'));
        }
        let text = logged(LogFormat::Text, || tracing::info!(value, "{event}"));
        prop_assert!(!text.trim_end_matches('\n').contains(char::is_control), "{}", text);
        let json = logged(LogFormat::Json, || tracing::info!(value, "{event}"));
        let object: Value = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&object["value"], &Value::from(value));
        prop_assert_eq!(&object["event"], &Value::from(event));
    }
}
