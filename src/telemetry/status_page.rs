//! `/`: a page for people, which shows `/status.json` every two seconds.
//!
//! Both only read, take no parameter and contain no secret. A request asks neither Kafka nor the database. While the page is
//! open, the run itself reads the open dead letters and gaps every few seconds. The page loads nothing from elsewhere, and its
//! script sets every text as text: a topic, a reason or an error cannot become HTML.

use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use fenced_sink::admin::owner;
use fenced_sink::{HaltReason, Health, OpenGap, OpenLetters, OpenWorkReading, PartitionHealth, Reason};
use serde::Serialize;

use super::readiness::readiness;

const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    // Pages of other origins cannot embed an answer.
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What the page shows of the settings.
#[derive(Clone, Debug)]
pub struct StatusPage {
    /// The consumer group.
    pub group: String,
    /// The topic.
    pub topic: String,
}

/// The routes of the page.
pub(super) fn routes(page: StatusPage, health: Health) -> Router {
    let file = |content_type: &'static str, text: &'static str| {
        get(async move || (HEADERS, [(header::CONTENT_TYPE, content_type)], text).into_response())
    };
    let status = async move || {
        health.watch();
        (HEADERS, Json(status(&page, &health)))
    };
    Router::new()
        .route("/", file("text/html; charset=utf-8", include_str!("status_page/index.html")))
        .route("/status.css", file("text/css; charset=utf-8", include_str!("status_page/style.css")))
        .route("/status.js", file("text/javascript; charset=utf-8", include_str!("status_page/script.js")))
        .route("/status.json", get(status))
}

/// The response of `/status.json`.
#[derive(Debug, Serialize)]
struct Status {
    version: &'static str,
    group: String,
    topic: String,
    instance: String,
    ready: bool,
    reasons: Vec<String>,
    records: RecordCounts,
    partitions: Vec<StatusPartition>,
    /// `None`: it has not been read yet.
    open_work: Option<StatusOpenWork>,
}

/// Since the process started.
#[derive(Debug, Serialize)]
struct RecordCounts {
    stored: u64,
    duplicate: u64,
    ignored: u64,
    dead_lettered: u64,
}

#[derive(Debug, Serialize)]
struct StatusPartition {
    partition: i32,
    state: &'static str,
    stalled: bool,
    next_offset: Option<i64>,
    log_end: Option<i64>,
    lag: Option<u64>,
    halt: Option<StatusHalt>,
}

#[derive(Debug, Serialize)]
struct StatusHalt {
    reason: String,
    meaning: &'static str,
    command: String,
}

#[derive(Debug, Serialize)]
struct StatusOpenWork {
    read_seconds_ago: u64,
    dead_letters: StatusList<StatusLetters>,
    gaps: StatusList<StatusGap>,
}

#[derive(Debug, Serialize)]
struct StatusList<T> {
    error: Option<String>,
    rows: Vec<T>,
}

#[derive(Debug, Serialize)]
struct StatusLetters {
    reason: String,
    parked: u64,
    waiting: u64,
    command: String,
}

#[derive(Debug, Serialize)]
struct StatusGap {
    partition: i32,
    reason: String,
    from: i64,
    to: i64,
    command: String,
}

fn status(page: &StatusPage, health: &Health) -> Status {
    let snapshot = health.snapshot();
    let records = health.counts().records;
    let partitions = snapshot.iter().flat_map(|snapshot| &snapshot.partitions).map(partition).collect();
    let readiness = readiness(snapshot);
    Status {
        version: env!("CARGO_PKG_VERSION"),
        group: page.group.clone(),
        topic: page.topic.clone(),
        instance: owner(),
        ready: readiness.ready,
        reasons: readiness.reasons,
        records: RecordCounts {
            stored: records.stored,
            duplicate: records.duplicates,
            ignored: records.ignored,
            dead_lettered: records.dead_lettered,
        },
        partitions,
        open_work: health.open_work().map(open_work),
    }
}

fn partition(health: &PartitionHealth) -> StatusPartition {
    let PartitionHealth { partition, status, stalled, position, log_end, lag, halt_reason, .. } = health;
    let halt = halt_reason.as_ref().map(|reason| StatusHalt {
        reason: reason.to_string(),
        meaning: meaning(reason),
        command: resume(partition.0),
    });
    // The answer about the end is some seconds old. A log that is read reaches the position.
    let end = if halt.is_none() { log_end.map(|end| end.max(position.unwrap_or(end))) } else { *log_end };
    StatusPartition {
        partition: partition.0,
        state: status.as_str(),
        stalled: *stalled,
        next_offset: position.map(|position| position.0),
        log_end: end.map(|end| end.0),
        lag: *lag,
        halt,
    }
}

fn open_work(OpenWorkReading { work, age }: OpenWorkReading) -> StatusOpenWork {
    StatusOpenWork {
        read_seconds_ago: age.as_secs(),
        dead_letters: list(work.letters, letters),
        gaps: list(work.gaps, gap),
    }
}

fn list<T, U>(read: Result<Vec<T>, String>, row: impl Fn(T) -> U) -> StatusList<U> {
    match read {
        Ok(found) => StatusList { error: None, rows: found.into_iter().map(row).collect() },
        Err(error) => StatusList { error: Some(error), rows: Vec::new() },
    }
}

fn letters(OpenLetters { reason, waiting, parked }: OpenLetters) -> StatusLetters {
    // The command accepts only the reasons that it knows. A newer version can have written another one.
    let known = Reason::ALL.into_iter().find(|known| known.as_str() == reason);
    let filter = known.map(|reason| format!(" --reason {}", reason.as_str())).unwrap_or_default();
    StatusLetters { reason, parked, waiting, command: format!("booking-history dead-letters list{filter}") }
}

fn gap(OpenGap { id, partition, from, to, reason, halted }: OpenGap) -> StatusGap {
    let command = if halted {
        resume(partition.0)
    } else {
        format!("update offset_gaps set acknowledged_at = now(), acknowledged_by = session_user where id = {id};")
    };
    StatusGap { partition: partition.0, reason: reason.to_string(), from: from.0, to: to.0, command }
}

/// The command that resumes a partition. If an operator must choose the position, it changes nothing and prints the positions.
fn resume(partition: i32) -> String {
    format!("booking-history offsets resume --partition {partition}")
}

fn meaning(reason: &HaltReason) -> &'static str {
    match reason {
        HaltReason::RetentionGap => {
            "Kafka deleted records before they were read. The command continues at the first record that exists."
        }
        HaltReason::LogTruncated => {
            "The partition log lost records that were handled. The command prints the positions to choose from."
        }
        HaltReason::LogReplaced => "The topic was created again. The command prints the positions to choose from.",
        HaltReason::LogCorrupt => "Kafka has damaged data. The command prints the positions to choose from.",
        HaltReason::BatchTooLarge => {
            "The next batch does not fit. Raise receive.message.max.bytes in KAFKA_PROPERTIES first, then use the command."
        }
        HaltReason::TooManyDeadLetters => {
            "Too many dead letters in a row. Find the cause in the dead letters and remove it first, then use the command."
        }
        HaltReason::NoStartPosition => {
            "KAFKA_START=fail, and there is no stored position. The command continues where the log began."
        }
        HaltReason::Other(_) => "An operator or another version of the service halted it. The command resumes it.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use fenced_sink::{OpenWork, Partition, PartitionStatus, Position};

    #[test]
    fn before_the_start_the_page_has_the_settings_and_the_reason() {
        let page = StatusPage { group: "history".to_owned(), topic: "<b>bookings</b>".to_owned() };
        let found = serde_json::to_value(status(&page, &Health::default())).unwrap();
        let expected = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "group": "history",
            "topic": "<b>bookings</b>",
            "instance": owner(),
            "ready": false,
            "reasons": ["waiting for the database schema and privileges"],
            "records": {"stored": 0, "duplicate": 0, "ignored": 0, "dead_lettered": 0},
            "partitions": [],
            "open_work": null,
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_halted_partition_has_the_command_that_resumes_it() {
        let halted = PartitionHealth {
            partition: Partition(3),
            status: PartitionStatus::Halted,
            halt_reason: Some(HaltReason::LogCorrupt),
            position: Some(Position(7)),
            log_end: Some(Position(9)),
            lag: Some(2),
            log_unanswered: false,
            records_wait: false,
            throttled: false,
            stalled: false,
            failure: None,
        };
        let found = serde_json::to_value(partition(&halted)).unwrap();
        let expected = serde_json::json!({
            "partition": 3, "state": "halted", "stalled": false, "next_offset": 7, "log_end": 9, "lag": 2,
            "halt": {
                "reason": "log_corrupt",
                "meaning": "Kafka has damaged data. The command prints the positions to choose from.",
                "command": "booking-history offsets resume --partition 3",
            },
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn open_work_has_commands_of_known_words_only() {
        let letters = |reason: &str| OpenLetters { reason: reason.to_owned(), waiting: 1, parked: 2 };
        let gap = |id, halted| {
            let (partition, from, to) = (Partition(4), Position(5), Position(6));
            OpenGap { id, partition, from, to, reason: HaltReason::RetentionGap, halted }
        };
        let work = OpenWork {
            letters: Ok(vec![letters("not_json"), letters("; rm -rf ~")]),
            gaps: Ok(vec![gap(8, true), gap(9, false)]),
        };
        let age = Duration::from_secs(3);
        let found = serde_json::to_value(open_work(OpenWorkReading { work, age })).unwrap();
        let resume = "booking-history offsets resume --partition 4";
        let update = "update offset_gaps set acknowledged_at = now(), acknowledged_by = session_user where id = 9;";
        let expected = serde_json::json!({
            "read_seconds_ago": 3,
            "dead_letters": {"error": null, "rows": [
                {"reason": "not_json", "parked": 2, "waiting": 1,
                 "command": "booking-history dead-letters list --reason not_json"},
                {"reason": "; rm -rf ~", "parked": 2, "waiting": 1, "command": "booking-history dead-letters list"},
            ]},
            "gaps": {"error": null, "rows": [
                {"partition": 4, "reason": "retention_gap", "from": 5, "to": 6, "command": resume},
                {"partition": 4, "reason": "retention_gap", "from": 5, "to": 6, "command": update},
            ]},
        });
        assert_eq!(found, expected);
    }
}
