//! Whether the service is ready, and if not, why.

use std::time::Duration;

use fenced_sink::{HaltReason, HealthSnapshot, Membership, PartitionHealth, PartitionStatus, RedriveFailure};
use serde::Serialize;

/// A failure is a reason after this time. A retry ends most failures earlier.
const VISIBLE_AFTER: Duration = Duration::from_secs(5);

/// The response of `/readyz`. The service is ready if there is no reason against it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    pub(super) reasons: Vec<String>,
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
        let reasons = vec!["waiting for the database schema and privileges".to_owned()];
        return Readiness { ready: false, reasons, partitions: Vec::new() };
    };
    let mut reasons = Vec::new();
    if snapshot.stopping {
        reasons.push("the service is stopping".to_owned());
    }
    let why = snapshot.connect_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    match snapshot.disconnected_writers {
        0 => {}
        _ if !snapshot.database_works => {
            reasons.push(format!("the database cannot be used: no writer can connect{why}"));
        }
        writers => reasons.push(format!("{writers} of the writers cannot connect to the database{why}")),
    }
    match snapshot.membership {
        Membership::Awaited => reasons.push("waiting for Kafka to assign partitions".to_owned()),
        Membership::Member => {}
        Membership::Lost => reasons.push("not in the consumer group: rejoining".to_owned()),
    }
    let refusals = snapshot.kafka_refusals.iter().filter(|refusal| refusal.lasts >= VISIBLE_AFTER);
    reasons.extend(refusals.map(ToString::to_string));
    let topic = &snapshot.topic;
    let halted = snapshot.partitions.iter().filter(|one| one.status == PartitionStatus::Halted);
    reasons.extend(halted.map(|PartitionHealth { partition, halt_reason, .. }| {
        let why = halt_reason.as_ref().map_or("see consumer_offsets.halt_reason", HaltReason::as_str);
        format!("partition {partition} of {topic} is halted: {why}")
    }));
    let stalled = snapshot.partitions.iter().filter(|one| one.stalled);
    reasons.extend(stalled.map(|PartitionHealth { partition, status, throttled, .. }| {
        let why = match status {
            _ if *throttled => "Kafka throttles this client, because a quota is exceeded",
            PartitionStatus::Claiming | PartitionStatus::Starting | PartitionStatus::Recovering => {
                "it is not read: Kafka may not answer about its log, or the database about its row"
            }
            _ => "records wait and nothing is committed",
        };
        format!("partition {partition} of {topic} is stalled: {why}")
    }));
    let unanswered = snapshot.partitions.iter().filter(|one| one.log_unanswered);
    reasons.extend(unanswered.map(|PartitionHealth { partition, .. }| {
        format!("partition {partition} of {topic} is not read: its leader in Kafka does not answer")
    }));
    // Without a connection no operation succeeds. The reason above says this.
    if snapshot.database_works {
        reasons.extend(failures(&snapshot));
    }
    let line = |one: PartitionHealth| PartitionLine {
        topic: snapshot.topic.clone(),
        partition: one.partition.0,
        state: one.status.as_str(),
        halt_reason: one.halt_reason.map(|reason| reason.to_string()),
    };
    Readiness { ready: reasons.is_empty(), reasons, partitions: snapshot.partitions.into_iter().map(line).collect() }
}

/// The failures that have lasted long enough to be reasons.
fn failures(snapshot: &HealthSnapshot) -> Vec<String> {
    let topic = &snapshot.topic;
    let failing = snapshot.partitions.iter().filter_map(|one| Some((one.partition, one.failure.as_ref()?)));
    let lasting = failing.filter(|(_, failure)| failure.lasts >= VISIBLE_AFTER);
    let mut reasons: Vec<String> =
        lasting.map(|(partition, failure)| format!("partition {partition} of {topic}: {failure}")).collect();
    if let Some(RedriveFailure { error, times, lasts }) =
        snapshot.redrive_failure.as_ref().filter(|failure| failure.lasts >= VISIBLE_AFTER)
    {
        reasons.push(format!("dead letters are not redriven: failed {times} times in {} s: {error}", lasts.as_secs()));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use fenced_sink::admin::{ErrorClass, SqlState};
    use fenced_sink::{DbOperation, Failure, KafkaNeed, KafkaRefusal, Partition, PartitionFailure, Position, Step};

    fn running() -> HealthSnapshot {
        HealthSnapshot {
            topic: "bookings".to_owned(),
            membership: Membership::Member,
            kafka_refusals: Vec::new(),
            stopping: false,
            database_works: true,
            disconnected_writers: 0,
            connect_error: None,
            redrive_failure: None,
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
            log_end: None,
            lag: None,
            log_unanswered: false,
            records_wait: false,
            throttled: false,
            stalled: false,
            failure: None,
        }
    }

    fn check(snapshot: Option<HealthSnapshot>, reasons: &[&str]) {
        let found = readiness(snapshot);
        assert_eq!((found.ready, found.reasons), (reasons.is_empty(), reasons.iter().map(|&r| r.to_owned()).collect()));
    }

    #[test]
    fn each_problem_is_a_reason() {
        check(None, &["waiting for the database schema and privileges"]);
        check(Some(running()), &[]);
        check(Some(HealthSnapshot { partitions: Vec::new(), ..running() }), &[]);
        let waiting = "waiting for Kafka to assign partitions";
        check(
            Some(HealthSnapshot { membership: Membership::Awaited, partitions: Vec::new(), ..running() }),
            &[waiting],
        );
        let away = "the database cannot be used: no writer can connect";
        check(Some(HealthSnapshot { database_works: false, disconnected_writers: 2, ..running() }), &[away]);
        let some = "1 of the writers cannot connect to the database: SQLSTATE 53300: too many connections";
        let connect_error = Some("SQLSTATE 53300: too many connections".to_owned());
        check(Some(HealthSnapshot { disconnected_writers: 1, connect_error, ..running() }), &[some]);
        let lost = "not in the consumer group: rejoining";
        check(Some(HealthSnapshot { membership: Membership::Lost, partitions: Vec::new(), ..running() }), &[lost]);
        let (error, hint) = ("denied".to_owned(), "grant it".to_owned());
        let refusal = |seconds| {
            let (error, hint, lasts) = (error.clone(), hint.clone(), Duration::from_secs(seconds));
            vec![KafkaRefusal { need: KafkaNeed::ReadTopic, error, hint, lasts }]
        };
        check(Some(HealthSnapshot { kafka_refusals: refusal(4), ..running() }), &[]);
        let says = "Kafka refuses the topic for 5 s: denied; grant it";
        check(Some(HealthSnapshot { kafka_refusals: refusal(5), ..running() }), &[says]);
        check(Some(HealthSnapshot { stopping: true, ..running() }), &["the service is stopping"]);
        let stalled = |status| vec![PartitionHealth { stalled: true, ..partition(2, status, None) }];
        let says = "partition 2 of bookings is stalled: records wait and nothing is committed";
        check(Some(HealthSnapshot { partitions: stalled(PartitionStatus::Running), ..running() }), &[says]);
        let says = "partition 2 of bookings is stalled: it is not read: Kafka may not answer about its log, or the \
                    database about its row";
        check(Some(HealthSnapshot { partitions: stalled(PartitionStatus::Claiming), ..running() }), &[says]);
        let throttled =
            PartitionHealth { stalled: true, throttled: true, ..partition(2, PartitionStatus::Running, None) };
        let says = "partition 2 of bookings is stalled: Kafka throttles this client, because a quota is exceeded";
        check(Some(HealthSnapshot { partitions: vec![throttled], ..running() }), &[says]);
        let unanswered = PartitionHealth { log_unanswered: true, ..partition(2, PartitionStatus::Running, None) };
        let says = "partition 2 of bookings is not read: its leader in Kafka does not answer";
        check(Some(HealthSnapshot { partitions: vec![unanswered], ..running() }), &[says]);
        let halted = vec![
            partition(0, PartitionStatus::Fenced, None),
            partition(3, PartitionStatus::Halted, Some("too_many_dead_letters")),
            partition(4, PartitionStatus::Halted, None),
        ];
        check(
            Some(HealthSnapshot { database_works: false, disconnected_writers: 2, partitions: halted, ..running() }),
            &[
                away,
                "partition 3 of bookings is halted: too_many_dead_letters",
                "partition 4 of bookings is halted: see consumer_offsets.halt_reason",
            ],
        );
    }

    #[test]
    fn a_failure_is_a_reason_once_it_lasts() {
        let failure = |seconds| PartitionFailure {
            failure: Failure {
                operation: DbOperation::Commit,
                class: ErrorClass::Operator,
                sqlstate: SqlState::parse("42501"),
                error: "permission denied".to_owned(),
                step: Step::new(Position(5), Position(6)),
                shared: false,
            },
            lasts: Duration::from_secs(seconds),
            times: 7,
        };
        let failing = |seconds| {
            let failure = Some(failure(seconds));
            vec![PartitionHealth { failure, ..partition(3, PartitionStatus::Recovering, None) }]
        };
        check(Some(HealthSnapshot { partitions: failing(4), ..running() }), &[]);
        let says =
            "partition 3 of bookings: commit failed 7 times in 5 s, offsets 5 to 5, SQLSTATE 42501: permission denied";
        check(Some(HealthSnapshot { partitions: failing(5), ..running() }), &[says]);

        let redrive = |seconds| {
            Some(RedriveFailure { error: "denied".to_owned(), times: 2, lasts: Duration::from_secs(seconds) })
        };
        check(Some(HealthSnapshot { redrive_failure: redrive(4), ..running() }), &[]);
        let says = "dead letters are not redriven: failed 2 times in 9 s: denied";
        check(Some(HealthSnapshot { redrive_failure: redrive(9), ..running() }), &[says]);
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
