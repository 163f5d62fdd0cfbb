//! The positions to which a partition can be moved. Pure.

use chrono::DateTime;
use fenced_sink::{Partition, Position};

use super::topic_log::LogFacts;
use crate::commands::CommandError;

/// A position, as the user types it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetPosition {
    /// The start of the topic log.
    Earliest,
    /// The end of the topic log.
    Latest,
    /// This offset.
    Offset(i64),
    /// The first record at or after this time, in milliseconds since 1970.
    Time(i64),
}

/// `earliest`, `latest`, an offset or a timestamp.
pub(super) fn parse_target(text: &str) -> Result<TargetPosition, String> {
    match (text, text.parse(), DateTime::parse_from_rfc3339(text)) {
        ("earliest", ..) => Ok(TargetPosition::Earliest),
        ("latest", ..) => Ok(TargetPosition::Latest),
        (_, Ok(offset @ 0..), _) => Ok(TargetPosition::Offset(offset)),
        // Kafka's timestamps are whole milliseconds. A fraction is rounded up, so that no earlier record matches.
        (_, _, Ok(time)) => {
            let within = i64::from(time.timestamp_subsec_nanos() % 1_000_000 > 0);
            Ok(TargetPosition::Time(time.timestamp_millis().saturating_add(within)))
        }
        _ => {
            Err("it must be earliest, latest, an offset, or a time with an offset such as 2026-02-15T14:00:00Z"
                .to_owned())
        }
    }
}

/// `earliest`, `latest` or an offset.
pub(super) fn parse_target_without_time(text: &str) -> Result<TargetPosition, String> {
    match parse_target(text) {
        Ok(TargetPosition::Time(_)) | Err(_) => Err("it must be earliest, latest or an offset".to_owned()),
        target => target,
    }
}

/// The position of a target in the topic log of a partition, which must contain it. If Kafka did not answer, an offset
/// is accepted unchecked: if the topic log does not contain it, the service halts the partition and reports the reason.
pub(super) fn find(
    target: TargetPosition,
    partition: Partition,
    log: &Result<LogFacts, String>,
) -> Result<Position, CommandError> {
    let facts = match (log, target) {
        (Ok(facts), _) => facts,
        (Err(_), TargetPosition::Offset(offset)) => return Ok(Position(offset)),
        (Err(why), _) => return Err(CommandError::Unavailable(format!("{why}; nothing was changed"))),
    };
    let Some(bounds) = facts.bounds.get(&partition) else {
        return Err(CommandError::Unavailable(format!(
            "Kafka does not list partition {partition} of the topic; nothing was changed"
        )));
    };
    match target {
        TargetPosition::Earliest => Ok(bounds.start),
        TargetPosition::Latest => Ok(bounds.end),
        TargetPosition::Time(_) => Ok(facts.at_time.get(&partition).copied().unwrap_or(bounds.end)),
        TargetPosition::Offset(offset) if (bounds.start.0..=bounds.end.0).contains(&offset) => Ok(Position(offset)),
        TargetPosition::Offset(offset) => Err(CommandError::Usage(format!(
            "{offset} is outside the topic log of partition {partition}, which begins at {} and ends at {}; nothing was \
             changed",
            bounds.start, bounds.end
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fenced_sink::LogBounds;

    fn check(text: &str, expected: Option<TargetPosition>) {
        assert_eq!(parse_target(text).ok(), expected, "{text}");
    }

    #[test]
    fn a_target_is_a_word_an_offset_or_a_time() {
        check("earliest", Some(TargetPosition::Earliest));
        check("latest", Some(TargetPosition::Latest));
        check("0", Some(TargetPosition::Offset(0)));
        check("9223372036854775807", Some(TargetPosition::Offset(i64::MAX)));
        check("1970-01-01T00:00:01Z", Some(TargetPosition::Time(1_000)));
        check("1970-01-01T01:00:01.5+01:00", Some(TargetPosition::Time(1_500)));
        check("1970-01-01T00:00:01.000000001Z", Some(TargetPosition::Time(1_001)));
        check("1969-12-31T23:59:59.9995Z", Some(TargetPosition::Time(0)));
        for nonsense in ["", "-1", "9223372036854775808", "Earliest", "2026-02-15", "2026-02-15T14:00:00", "1.5", " 1"]
        {
            check(nonsense, None);
        }
        assert!(parse_target_without_time("1970-01-01T00:00:01Z").is_err());
        assert_eq!(parse_target_without_time("7"), Ok(TargetPosition::Offset(7)));
    }

    /// The exit code instead of the text.
    fn found(target: TargetPosition, log: &Result<LogFacts, String>) -> Result<i64, i32> {
        find(target, Partition(0), log).map(|position| position.0).map_err(|error| error.exit_code())
    }

    #[test]
    fn a_target_must_be_in_the_topic_log() {
        let bounds = [(Partition(0), LogBounds { start: Position(10), end: Position(20) })];
        let mut facts = LogFacts { bounds: bounds.into(), ..LogFacts::default() };
        facts.at_time.insert(Partition(0), Position(13));
        let log = Ok(facts);
        assert_eq!(found(TargetPosition::Earliest, &log), Ok(10));
        assert_eq!(found(TargetPosition::Latest, &log), Ok(20));
        assert_eq!(found(TargetPosition::Time(5), &log), Ok(13));
        assert_eq!(found(TargetPosition::Offset(10), &log), Ok(10));
        assert_eq!(found(TargetPosition::Offset(20), &log), Ok(20));
        assert_eq!(found(TargetPosition::Offset(9), &log), Err(2));
        assert_eq!(found(TargetPosition::Offset(21), &log), Err(2));
        assert_eq!(
            found(TargetPosition::Offset(0), &Ok(LogFacts::default())),
            Err(69),
            "a partition that Kafka does not list"
        );
    }

    #[test]
    fn without_an_answer_of_kafka_only_an_offset_is_a_target() {
        let log = Err("gone".to_owned());
        assert_eq!(found(TargetPosition::Offset(7), &log), Ok(7));
        for target in [TargetPosition::Earliest, TargetPosition::Latest, TargetPosition::Time(0)] {
            assert_eq!(found(target, &log), Err(69));
        }
    }
}
