//! The kinds of consumer errors: what each error means for the records. It also limits how often an error is logged.

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::model::record::Partition;

/// The meaning of a consumer error for the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KafkaErrorKind {
    /// librdkafka recovers from it. No record is in doubt.
    Transient,
    /// No broker is reachable. Later, the brokers can be restored ones, with another log under the same topic id.
    AllBrokersDown,
    /// The topic does not exist yet, or no longer.
    TopicMissing,
    /// The broker refuses the credentials or the permissions.
    Refused,
    /// A consumer with another assignor is in the group.
    OtherAssignor,
    /// The partition log does not have the position: retention deleted it, or the log was truncated or replaced.
    OutOfRange,
    /// A record may be missing behind the records before the error. The partition must start again there.
    Unclassified,
    /// This consumer never receives a record again.
    Fatal,
}

/// The kind of an error. An error that is not listed here is [`KafkaErrorKind::Unclassified`], never harmless: after a
/// batch with a wrong CRC, for example, librdkafka reports `BadMessage` and delivers the records behind it.
pub(crate) fn error_kind(error: &KafkaError) -> KafkaErrorKind {
    match error {
        KafkaError::MessageConsumptionFatal(_) => KafkaErrorKind::Fatal,
        KafkaError::MessageConsumption(code) | KafkaError::Global(code) => code_kind(*code),
        _ => KafkaErrorKind::Unclassified,
    }
}

/// Whether the error means damaged records, and not a problem of the broker or the network.
pub(crate) fn is_damage(error: &KafkaError) -> bool {
    let damage = [
        Code::BadMessage,
        Code::BadCompression,
        Code::InvalidMessage,
        Code::InvalidMessageSize,
        Code::InvalidRecord,
        Code::Underflow,
    ];
    error.rdkafka_error_code().is_some_and(|code| damage.contains(&code))
}

/// The kind of an error code.
pub(crate) fn code_kind(code: Code) -> KafkaErrorKind {
    match code {
        Code::BrokerTransportFailure
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::NetworkException
        | Code::WaitingForCoordinator
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::ReplicaNotAvailable
        | Code::BrokerNotAvailable
        | Code::OffsetNotAvailable
        | Code::FencedLeaderEpoch
        | Code::UnknownLeaderEpoch
        | Code::RebalanceInProgress
        | Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::FencedMemberEpoch
        | Code::StaleMemberEpoch
        | Code::AssignmentLost
        | Code::PollExceeded
        | Code::ThrottlingQuotaExceeded => KafkaErrorKind::Transient,
        Code::AllBrokersDown => KafkaErrorKind::AllBrokersDown,
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicId => {
            KafkaErrorKind::TopicMissing
        }
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SSL
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed => KafkaErrorKind::Refused,
        Code::InconsistentGroupProtocol => KafkaErrorKind::OtherAssignor,
        // With `auto.offset.reset=error` librdkafka reports a truncated log as `AutoOffsetReset`, too.
        Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => KafkaErrorKind::OutOfRange,
        Code::Fatal | Code::FencedInstanceId | Code::UnreleasedInstanceId => KafkaErrorKind::Fatal,
        _ => KafkaErrorKind::Unclassified,
    }
}

/// The minimum time between two log lines about the same kind of error of the same partition.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// Limits the warnings about consumer errors. An unreachable broker causes many errors in a second.
#[derive(Debug, Default)]
pub(crate) struct WarningLimiter(BTreeMap<(KafkaErrorKind, Option<Partition>), (Instant, u64)>);

impl WarningLimiter {
    /// Logs an error, unless its kind was logged a short time ago for the same partition. The line has the number of
    /// these errors so far.
    pub(crate) fn warn(&mut self, topic: &str, partition: Option<Partition>, kind: KafkaErrorKind, error: &str) {
        let now = Instant::now();
        let (last, times) = self.0.entry((kind, partition)).or_insert((now, 0));
        *times += 1;
        if *times == 1 || now.duration_since(*last) >= WARNING_INTERVAL {
            let (message, hint) = message_and_hint(kind);
            let partition = partition.map(|partition| partition.0);
            tracing::warn!(topic, partition, error, hint, times = *times, "{message}");
            *last = now;
        }
    }
}

/// The message of the log line, and a hint: the effect on the records, or what an operator must do.
fn message_and_hint(kind: KafkaErrorKind) -> (&'static str, &'static str) {
    match kind {
        KafkaErrorKind::Transient | KafkaErrorKind::AllBrokersDown => {
            ("kafka_unavailable", "nothing to do: the client retries")
        }
        KafkaErrorKind::TopicMissing => ("topic_missing", "the service waits for the topic; check KAFKA_TOPIC"),
        KafkaErrorKind::Refused => {
            ("kafka_refused", "check the user, the certificates, and the ACLs of topic and group")
        }
        KafkaErrorKind::OtherAssignor => {
            ("group_in_use", "a consumer with another assignor is in the group: stop it first")
        }
        KafkaErrorKind::OutOfRange => (
            "position_out_of_range",
            "the partition log does not have the next position: what was read is committed, then that log is checked",
        ),
        KafkaErrorKind::Unclassified => {
            ("unclassified_kafka_error", "no record is lost: reading starts again behind the records before the error")
        }
        KafkaErrorKind::Fatal => ("kafka_fatal", "the service ends"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: &KafkaError, expected: KafkaErrorKind) {
        assert_eq!(error_kind(error), expected, "{error}");
    }

    #[test]
    fn an_error_that_is_not_listed_is_unclassified() {
        check(&KafkaError::MessageConsumption(Code::BadMessage), KafkaErrorKind::Unclassified);
        check(&KafkaError::MessageConsumption(Code::BadCompression), KafkaErrorKind::Unclassified);
        check(&KafkaError::MessageConsumption(Code::Unknown), KafkaErrorKind::Unclassified);
        check(&KafkaError::Canceled, KafkaErrorKind::Unclassified);
        check(&KafkaError::MessageConsumption(Code::BrokerTransportFailure), KafkaErrorKind::Transient);
        check(&KafkaError::MessageConsumption(Code::AllBrokersDown), KafkaErrorKind::AllBrokersDown);
        check(&KafkaError::MessageConsumption(Code::UnknownTopicOrPartition), KafkaErrorKind::TopicMissing);
        check(&KafkaError::MessageConsumption(Code::AutoOffsetReset), KafkaErrorKind::OutOfRange);
        check(&KafkaError::MessageConsumption(Code::LogTruncation), KafkaErrorKind::OutOfRange);
        check(&KafkaError::MessageConsumption(Code::InconsistentGroupProtocol), KafkaErrorKind::OtherAssignor);
        check(&KafkaError::MessageConsumption(Code::SaslAuthenticationFailed), KafkaErrorKind::Refused);
        check(&KafkaError::MessageConsumptionFatal(Code::FencedInstanceId), KafkaErrorKind::Fatal);
        assert!(is_damage(&KafkaError::MessageConsumption(Code::BadMessage)));
        assert!(
            !is_damage(&KafkaError::MessageConsumption(Code::Unknown)),
            "an unclassified error does not mean damage"
        );
    }
}
