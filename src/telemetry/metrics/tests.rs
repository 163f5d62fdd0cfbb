use fenced_sink::{Membership, Partition, PartitionHealth, PartitionStatus, Totals};

use super::*;

fn written(scrape: Scrape) -> String {
    let mut registry = Registry::with_prefix("toys");
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).unwrap();
    text
}

fn partition(number: i32, status: PartitionStatus, lag: Option<u64>, stalled: bool) -> PartitionHealth {
    let partition = Partition(number);
    PartitionHealth {
        partition,
        status,
        halt_reason: None,
        position: None,
        log_end: None,
        lag,
        records_wait: false,
        log_unanswered: false,
        throttled: false,
        stalled,
        failure: None,
    }
}

fn running() -> HealthSnapshot {
    HealthSnapshot {
        topic: "a \"topic\"".to_owned(),
        membership: Membership::Member,
        kafka_refusals: Vec::new(),
        stopping: false,
        database_works: true,
        disconnected_writers: 0,
        connect_error: None,
        redrive_failure: None,
        buffered_bytes: 4_096,
        partitions: vec![
            partition(0, PartitionStatus::Running, Some(7), true),
            partition(1, PartitionStatus::Halted, Some(1), false),
            partition(2, PartitionStatus::Claiming, None, false),
        ],
    }
}

fn counts() -> Counts {
    let mut counts = Counts {
        records: Totals { stored: 5, duplicates: 4, ignored: 3, dead_lettered: 2 },
        commits_fenced: 6,
        dead_letters: [("parked".to_owned(), 2)].into(),
        ..Counts::default()
    };
    counts.batch_records.observe(3.0);
    counts.batch_records.observe(11.0);
    counts
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    for line in expected {
        assert!(text.lines().any(|found| found == *line), "{line} is missing in\n{text}");
    }
}

#[test]
fn each_number_has_its_name_and_labels() {
    let text = written(Scrape { snapshot: Some(running()), counts: counts() });
    check(
        &text,
        &[
            "# TYPE toys_records_total counter",
            r#"toys_records_total{outcome="stored"} 5"#,
            r#"toys_records_total{outcome="duplicate"} 4"#,
            r#"toys_records_total{outcome="ignored"} 3"#,
            r#"toys_records_total{outcome="dead_lettered"} 2"#,
            "toys_commits_fenced_total 6",
            r#"toys_retries_total{reason="connection"} 0"#,
            r#"toys_halts_total{reason="too_many_dead_letters"} 0"#,
            r#"toys_gap_records_total{reason="retention_gap"} 0"#,
            r#"toys_dead_letters{status="parked"} 2"#,
            "# TYPE toys_batch_records histogram",
            r#"toys_batch_records_bucket{le="2"} 0"#,
            r#"toys_batch_records_bucket{le="5"} 1"#,
            r#"toys_batch_records_bucket{le="20"} 2"#,
            r#"toys_batch_records_bucket{le="+Inf"} 2"#,
            "toys_batch_records_sum 14.0",
            "toys_batch_records_count 2",
            "# TYPE toys_partitions gauge",
            r#"toys_partitions{state="running"} 1"#,
            r#"toys_partitions{state="halted"} 1"#,
            r#"toys_partitions{state="claiming"} 1"#,
            r#"toys_partitions{state="fenced"} 0"#,
            r#"toys_lag_records{topic="a \"topic\"",partition="0"} 7"#,
            r#"toys_lag_records{topic="a \"topic\"",partition="1"} 1"#,
            "toys_stalled 1",
            "toys_failing 0",
            "toys_kafka_refusals 0",
            r#"toys_redrive_failures_total{reason="refused"} 0"#,
            "toys_buffered_bytes 4096",
            "toys_ready 0",
            &format!(r#"toys_build_info{{version="{}"}} 1"#, env!("CARGO_PKG_VERSION")),
        ],
    );
    assert!(!text.contains(r#"partition="2""#), "the lag of partition 2 is not known:\n{text}");
}

#[test]
fn ready_agrees_with_readyz() {
    let well = HealthSnapshot { partitions: Vec::new(), ..running() };
    check(&written(Scrape { snapshot: Some(well), counts: counts() }), &["toys_ready 1"]);
    check(&written(Scrape { snapshot: None, counts: counts() }), &["toys_ready 0", "toys_buffered_bytes 0"]);
}

#[test]
fn a_run_that_has_not_started_has_all_names() {
    let text = text(PREFIX, &Health::default());
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE booking_history_")).collect();
    let expected = [
        "build_info gauge",
        "ready gauge",
        "partitions gauge",
        "stalled gauge",
        "failing gauge",
        "kafka_refusals gauge",
        "lag_records gauge",
        "buffered_bytes gauge",
        "records_total counter",
        "batch_records histogram",
        "commit_seconds histogram",
        "end_to_end_seconds histogram",
        "commits_fenced_total counter",
        "retries_total counter",
        "redrive_failures_total counter",
        "halts_total counter",
        "gap_records_total counter",
        "dead_letters gauge",
        "log_lines_dropped_total counter",
    ];
    assert_eq!(names, expected);
    let helps = text.lines().filter(|line| line.starts_with("# HELP booking_history_")).count();
    assert_eq!(helps, expected.len());
}
