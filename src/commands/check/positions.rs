//! The stored positions, compared with the partition logs. Pure.

use std::collections::BTreeMap;

use fenced_sink::admin::PartitionRow;
use fenced_sink::{LogBounds, Partition, Position, TopicId};

use super::report::{CheckLine, CheckResult};

/// The name of the part.
pub(super) const POSITIONS: &str = "positions";

/// The number of partitions that one line names.
const NAMED: usize = 5;

/// What Kafka answered about the topic log.
#[derive(Default)]
pub(super) struct TopicLogFacts {
    /// `None`: Kafka has no topic ids.
    pub(super) topic_id: Option<TopicId>,
    pub(super) bounds: BTreeMap<Partition, LogBounds>,
    /// The first records that Kafka keeps for more than a fifth of the retention. `None`: the retention has no limit, or it
    /// is not visible.
    pub(super) kept: Option<BTreeMap<Partition, Position>>,
}

/// A finding about one partition, the worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PositionFinding {
    Halted,
    Absent,
    Replaced,
    Lost,
    ExpiresSoon,
    AboveEnd,
}

impl PositionFinding {
    fn of(row: &PartitionRow, facts: &TopicLogFacts) -> Option<Self> {
        if row.halt_reason.is_some() {
            return Some(Self::Halted);
        }
        let Some(bounds) = facts.bounds.get(&row.partition) else { return Some(Self::Absent) };
        if row.topic_id.as_ref().zip(facts.topic_id.as_ref()).is_some_and(|(read, now)| read != now) {
            return Some(Self::Replaced);
        }
        let kept = facts.kept.as_ref().and_then(|kept| kept.get(&row.partition));
        match row.next {
            next if next < bounds.start => Some(Self::Lost),
            next if next > bounds.end => Some(Self::AboveEnd),
            next if next < bounds.end && kept.is_some_and(|kept| next < *kept) => Some(Self::ExpiresSoon),
            _ => None,
        }
    }

    const fn result(self) -> CheckResult {
        match self {
            Self::Halted | Self::Absent | Self::Replaced | Self::Lost => CheckResult::Failed,
            Self::ExpiresSoon | Self::AboveEnd => CheckResult::Warning,
        }
    }

    const fn detail(self) -> &'static str {
        match self {
            Self::Halted => "halted",
            Self::Absent => "Kafka has no such partition",
            Self::Replaced => "the topic was created again since its records were read",
            Self::Lost => "Kafka deleted records before they were read",
            Self::ExpiresSoon => "the oldest unread record is older than 80 % of the retention",
            Self::AboveEnd => "the position is above the end of the log",
        }
    }

    const fn hint(self) -> &'static str {
        match self {
            Self::Halted => {
                "`booking-history offsets list` shows the reason, `booking-history offsets resume` resumes the partition"
            }
            Self::Absent => "the topic may be another one: check KAFKA_TOPIC, and the brokers",
            Self::Replaced => {
                "the service halts the partition: `booking-history offsets resume --at OFFSET` lets it continue"
            }
            Self::Lost => {
                "the service records the gap and halts the partition, or continues with KAFKA_GAP_POLICY=skip; raise \
                 retention.ms of the topic"
            }
            Self::ExpiresSoon => {
                "start the service, or raise retention.ms of the topic before Kafka deletes the record"
            }
            Self::AboveEnd => {
                "the topic may be another one, or its log is shorter than before: the service compares them when it starts"
            }
        }
    }
}

/// The line of the stored positions of one group and topic.
pub(super) fn positions(target: &str, rows: &[PartitionRow], facts: &TopicLogFacts) -> CheckLine {
    let lag: i64 =
        rows.iter().filter_map(|row| Some((facts.bounds.get(&row.partition)?.end.0 - row.next.0).max(0))).sum();
    let age = if facts.kept.is_none() { "; their age is not compared with a retention" } else { "" };
    let unread =
        format!("{} of {} partitions have a position; {lag} records to read{age}", rows.len(), facts.bounds.len());
    let mut found: BTreeMap<PositionFinding, Vec<Partition>> = BTreeMap::new();
    for row in rows {
        if let Some(finding) = PositionFinding::of(row, facts) {
            found.entry(finding).or_default().push(row.partition);
        }
    }
    let Some((worst, _)) = found.first_key_value() else {
        let detail = if rows.is_empty() {
            "no service has stored a position yet; KAFKA_START sets the first ones".to_owned()
        } else {
            unread
        };
        return CheckLine::ok(POSITIONS, target, detail);
    };
    let details: Vec<String> =
        found.iter().map(|(finding, partitions)| format!("{} ({})", finding.detail(), named(partitions))).collect();
    let line = CheckLine::ok(POSITIONS, target, format!("{}; {unread}", details.join("; "))).hint(worst.hint());
    CheckLine { result: worst.result(), ..line }
}

fn named(partitions: &[Partition]) -> String {
    let word = if partitions.len() == 1 { "partition" } else { "partitions" };
    let numbers: Vec<String> = partitions.iter().take(NAMED).map(Partition::to_string).collect();
    let more = partitions.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{word} {}{more}", numbers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::offsets::resume::tests::row;

    /// The log of partition 0 from 10 to 20, in which records from 15 on are kept for long enough.
    fn check(row: PartitionRow, result: CheckResult, words: &str) {
        let bounds = [(Partition(0), LogBounds { start: Position(10), end: Position(20) })].into();
        let kept = Some([(Partition(0), Position(15))].into());
        let facts = TopicLogFacts { topic_id: Some(TopicId("now".to_owned())), bounds, kept };
        let line = positions("target", &[row], &facts);
        assert_eq!(line.result, result, "{}", line.detail);
        assert!(line.detail.contains(words), "{}", line.detail);
    }

    #[test]
    fn each_position_that_is_not_in_its_log_is_a_finding() {
        check(row(0, 15, None), CheckResult::Ok, "1 of 1 partitions have a position; 5 records to read");
        check(row(0, 20, None), CheckResult::Ok, "0 records to read");
        check(row(0, 15, Some("log_corrupt")), CheckResult::Failed, "halted (partition 0)");
        check(row(1, 15, None), CheckResult::Failed, "Kafka has no such partition (partition 1)");
        let topic_id = |id: &str| Some(TopicId(id.to_owned()));
        check(PartitionRow { topic_id: topic_id("now"), ..row(0, 15, None) }, CheckResult::Ok, "");
        check(PartitionRow { topic_id: topic_id("before"), ..row(0, 15, None) }, CheckResult::Failed, "created again");
        check(row(0, 9, None), CheckResult::Failed, "deleted records");
        check(row(0, 14, None), CheckResult::Warning, "80 % of the retention");
        check(row(0, 21, None), CheckResult::Warning, "above the end of the log");
    }
}
