//! Whether the service is ready, and if not, why.

use fenced_sink::{HaltReason, HealthSnapshot, Membership, PartitionHealth, PartitionStatus};
use serde::Serialize;

/// The response of `/readyz`. The service is ready if there is no reason against it.
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

/// `None`: the run has not started.
pub(super) fn readiness(snapshot: Option<HealthSnapshot>) -> Readiness {
    let Some(snapshot) = snapshot else {
        let reasons = vec!["waiting for the database schema".to_owned()];
        return Readiness { ready: false, reasons, partitions: Vec::new() };
    };
    let mut reasons = Vec::new();
    if snapshot.stopping {
        reasons.push("the service is stopping".to_owned());
    }
    if !snapshot.database_works {
        reasons.push("the database cannot be used: the last operation on it failed".to_owned());
    }
    match snapshot.membership {
        Membership::Awaited => reasons.push("waiting for Kafka to assign partitions".to_owned()),
        Membership::Member => {}
        Membership::Lost => reasons.push("not in the consumer group: rejoining".to_owned()),
    }
    let topic = &snapshot.topic;
    let halted = snapshot.partitions.iter().filter(|one| one.status == PartitionStatus::Halted);
    reasons.extend(halted.map(|PartitionHealth { partition, halt_reason, .. }| {
        let why = halt_reason.as_ref().map_or("see consumer_offsets.halt_reason", HaltReason::as_str);
        format!("partition {partition} of {topic} is halted: {why}")
    }));
    let stalled = snapshot.partitions.iter().filter(|one| one.stalled);
    reasons.extend(stalled.map(|PartitionHealth { partition, .. }| {
        format!("partition {partition} of {topic} is stalled: records wait and nothing is committed")
    }));
    let line = |one: PartitionHealth| PartitionLine {
        topic: snapshot.topic.clone(),
        partition: one.partition.0,
        state: one.status.as_str(),
        halt_reason: one.halt_reason.map(|reason| reason.to_string()),
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
            partitions: vec![partition(0, PartitionStatus::Running, None)],
        }
    }

    fn partition(number: i32, status: PartitionStatus, halt_reason: Option<&str>) -> PartitionHealth {
        let (partition, halt_reason) = (Partition(number), halt_reason.map(HaltReason::parse));
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
    fn each_problem_is_a_reason() {
        check(None, &["waiting for the database schema"]);
        check(Some(running()), &[]);
        check(Some(HealthSnapshot { partitions: Vec::new(), ..running() }), &[]);
        let waiting = "waiting for Kafka to assign partitions";
        check(
            Some(HealthSnapshot { membership: Membership::Awaited, partitions: Vec::new(), ..running() }),
            &[waiting],
        );
        let away = "the database cannot be used: the last operation on it failed";
        check(Some(HealthSnapshot { database_works: false, ..running() }), &[away]);
        let lost = "not in the consumer group: rejoining";
        check(Some(HealthSnapshot { membership: Membership::Lost, partitions: Vec::new(), ..running() }), &[lost]);
        check(Some(HealthSnapshot { stopping: true, ..running() }), &["the service is stopping"]);
        let stalled = PartitionHealth { stalled: true, ..partition(2, PartitionStatus::Recovering, None) };
        let says = "partition 2 of bookings is stalled: records wait and nothing is committed";
        check(Some(HealthSnapshot { partitions: vec![stalled], ..running() }), &[says]);
        let halted = vec![
            partition(0, PartitionStatus::Fenced, None),
            partition(3, PartitionStatus::Halted, Some("too_many_dead_letters")),
            partition(4, PartitionStatus::Halted, None),
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
            partition(0, PartitionStatus::Running, None),
            partition(1, PartitionStatus::Halted, Some("log_replaced")),
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
