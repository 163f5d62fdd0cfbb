//! `/livez` and `/readyz`: whether the process works, and whether it does what it is there for. And `/metrics`.
//!
//! It only reads, and knows no secret: reasons, topic, partitions and their states.

use std::io;
use std::net::SocketAddr;

use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::routing::get;
use axum::{Json, Router};
use fenced_sink::{HaltReason, Health, HealthSnapshot, Membership, PartitionHealth, PartitionStatus};
use serde::Serialize;
use tokio::net::TcpListener;

use super::metrics;

/// What `/readyz` answers.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    reasons: Vec<String>,
    partitions: Vec<PartitionLine>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct PartitionLine {
    topic: String,
    partition: i32,
    state: &'static str,
    halt_reason: Option<String>,
}

/// Answers at this address from now on, as long as the runtime runs. The names of the metrics begin with `prefix`.
///
/// # Errors
/// The address can't be had.
pub async fn serve(address: SocketAddr, health: Health, prefix: &'static str) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "http_listening");
    let scraped = async move |Shared(health): Shared<Health>| {
        ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(prefix, &health))
    };
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scraped))
        .with_state(health);
    tokio::spawn(async move {
        // It has no end but the runtime's.
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "http_ended");
        }
    });
    Ok(())
}

async fn readyz(Shared(health): Shared<Health>) -> (StatusCode, Json<Readiness>) {
    let readiness = readiness(health.snapshot());
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

pub(super) fn readiness(snapshot: Option<HealthSnapshot>) -> Readiness {
    let Some(snapshot) = snapshot else {
        let reasons = vec!["waiting for the database's schema".to_owned()];
        return Readiness { ready: false, reasons, partitions: Vec::new() };
    };
    let mut reasons = Vec::new();
    if snapshot.stopping {
        reasons.push("the service is stopping".to_owned());
    }
    if !snapshot.database_works {
        reasons.push("the database can't be used: the last work on it failed".to_owned());
    }
    match snapshot.membership {
        Membership::Awaited => reasons.push("waiting for Kafka's first assignment of partitions".to_owned()),
        Membership::Member => {}
        Membership::Lost => {
            reasons.push("no group: this member was given up, and has not joined again yet".to_owned());
        }
    }
    let halted = snapshot.partitions.iter().filter(|standing| standing.status == PartitionStatus::Halted);
    reasons.extend(halted.map(|PartitionHealth { partition, halt_reason, .. }| {
        let why = halt_reason.as_ref().map_or("see consumer_offsets.halt_reason", HaltReason::as_str);
        format!("partition {} of {} is halted: {why}", partition.0, snapshot.topic)
    }));
    let stalled = snapshot.partitions.iter().filter(|standing| standing.stalled);
    reasons.extend(stalled.map(|PartitionHealth { partition, .. }| {
        let topic = &snapshot.topic;
        format!("partition {} of {topic} is stalled: records wait, and nothing of it is committed", partition.0)
    }));
    let line = |standing: PartitionHealth| PartitionLine {
        topic: snapshot.topic.clone(),
        partition: standing.partition.0,
        state: standing.status.as_str(),
        halt_reason: standing.halt_reason.map(|reason| reason.to_string()),
    };
    Readiness { ready: reasons.is_empty(), reasons, partitions: snapshot.partitions.into_iter().map(line).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fenced_sink::Partition;

    fn running() -> HealthSnapshot {
        HealthSnapshot {
            topic: "bookings".to_owned(),
            membership: Membership::Member,
            stopping: false,
            database_works: true,
            buffered_bytes: 0,
            partitions: vec![standing(0, PartitionStatus::Running, None)],
        }
    }

    fn standing(partition: i32, status: PartitionStatus, halt_reason: Option<&str>) -> PartitionHealth {
        let (partition, halt_reason) = (Partition(partition), halt_reason.map(HaltReason::parse));
        PartitionHealth {
            partition,
            status,
            halt_reason,
            position: None,
            lag: None,
            records_wait: false,
            stalled: false,
        }
    }

    fn check(snapshot: Option<HealthSnapshot>, reasons: &[&str]) {
        let found = readiness(snapshot);
        assert_eq!((found.ready, found.reasons), (reasons.is_empty(), reasons.iter().map(|&r| r.to_owned()).collect()));
    }

    #[test]
    fn whatever_is_not_well_is_a_reason() {
        check(None, &["waiting for the database's schema"]);
        check(Some(running()), &[]);
        check(Some(HealthSnapshot { partitions: Vec::new(), ..running() }), &[]);
        let waiting = "waiting for Kafka's first assignment of partitions";
        check(
            Some(HealthSnapshot { membership: Membership::Awaited, partitions: Vec::new(), ..running() }),
            &[waiting],
        );
        let away = "the database can't be used: the last work on it failed";
        check(Some(HealthSnapshot { database_works: false, ..running() }), &[away]);
        let lost = "no group: this member was given up, and has not joined again yet";
        check(Some(HealthSnapshot { membership: Membership::Lost, partitions: Vec::new(), ..running() }), &[lost]);
        check(Some(HealthSnapshot { stopping: true, ..running() }), &["the service is stopping"]);
        let stalled = PartitionHealth { stalled: true, ..standing(2, PartitionStatus::Recovering, None) };
        let says = "partition 2 of bookings is stalled: records wait, and nothing of it is committed";
        check(Some(HealthSnapshot { partitions: vec![stalled], ..running() }), &[says]);
        let halted = vec![
            standing(0, PartitionStatus::Fenced, None),
            standing(3, PartitionStatus::Halted, Some("too_many_dead_letters")),
            standing(4, PartitionStatus::Halted, None),
        ];
        check(
            Some(HealthSnapshot { database_works: false, partitions: halted, ..running() }),
            &[
                away,
                "partition 3 of bookings is halted: too_many_dead_letters",
                "partition 4 of bookings is halted: see consumer_offsets.halt_reason",
            ],
        );
    }

    #[test]
    fn the_answer_is_json_with_each_partition() {
        let partitions = vec![
            standing(0, PartitionStatus::Running, None),
            standing(1, PartitionStatus::Halted, Some("log_replaced")),
        ];
        let text = serde_json::to_value(readiness(Some(HealthSnapshot { partitions, ..running() }))).unwrap();
        let expected = serde_json::json!({
            "ready": false,
            "reasons": ["partition 1 of bookings is halted: log_replaced"],
            "partitions": [
                {"topic": "bookings", "partition": 0, "state": "running", "halt_reason": null},
                {"topic": "bookings", "partition": 1, "state": "halted", "halt_reason": "log_replaced"},
            ],
        });
        assert_eq!(text, expected);
    }
}
