//! What an error of the consumer means for the records around it.

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What is to be done about an error of the consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KafkaErrorKind {
    /// The client deals with it by itself; no record is in doubt.
    Transient,
    /// Every broker is away. What comes back may be a restored one, with another log of the same id.
    AllBrokersDown,
    /// The topic is not there (yet), or is not ours to read.
    TopicMissing,
    /// A server refuses who we are, or what we may do.
    Refused,
    /// An older consumer with another assignor is in the group.
    OtherAssignor,
    /// The position of a partition is outside of its log.
    OutOfRange,
    /// What was delivered, or comes next, can't be trusted: every partition starts again where the ledger says.
    Unclassified,
    /// Nothing will ever come again.
    Fatal,
}

/// One total rule: what is not known to be harmless is not trusted. After a batch that fails its CRC, librdkafka reports
/// `BadMessage` and delivers what follows it.
pub(crate) fn error_kind(error: &KafkaError) -> KafkaErrorKind {
    match error {
        KafkaError::MessageConsumptionFatal(_) => KafkaErrorKind::Fatal,
        KafkaError::MessageConsumption(code) | KafkaError::Global(code) => code_kind(*code),
        _ => KafkaErrorKind::Unclassified,
    }
}

/// Whether what the log holds is damaged, and not whoever serves it in trouble.
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

fn code_kind(code: Code) -> KafkaErrorKind {
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
        Code::AutoOffsetReset | Code::OffsetOutOfRange => KafkaErrorKind::OutOfRange,
        Code::Fatal | Code::FencedInstanceId | Code::UnreleasedInstanceId => KafkaErrorKind::Fatal,
        _ => KafkaErrorKind::Unclassified,
    }
}

/// How often one kind of trouble is logged.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// What is worth a warning, but not one each time: a broker that is away is met many times a second.
#[derive(Debug, Default)]
pub(crate) struct WarningLimiter(BTreeMap<KafkaErrorKind, (Instant, u64)>);

impl WarningLimiter {
    /// Logs a kind of trouble at most once in a while, with the number of times that it was met so far.
    pub(crate) fn warn(&mut self, fault: KafkaErrorKind, error: &str) {
        let now = Instant::now();
        let (last, times) = self.0.entry(fault).or_insert((now, 0));
        *times += 1;
        if *times == 1 || now.duration_since(*last) >= COMPLAINT_INTERVAL {
            let (word, hint) = words(fault);
            tracing::warn!(error, hint, times = *times, "{word}");
            *last = now;
        }
    }
}

/// The fixed word of the log, and what it means for the records or what to do.
fn words(fault: KafkaErrorKind) -> (&'static str, &'static str) {
    match fault {
        KafkaErrorKind::Transient | KafkaErrorKind::AllBrokersDown => {
            ("kafka_unavailable", "nothing to do: the client tries again")
        }
        KafkaErrorKind::TopicMissing => ("topic_missing", "it is waited for; check KAFKA_TOPIC"),
        KafkaErrorKind::Refused => ("kafka_refused", "check user, certificates and access control of topic and group"),
        KafkaErrorKind::OtherAssignor => {
            ("group_in_use", "an older consumer with another assignor is in the group: stop it first")
        }
        KafkaErrorKind::OutOfRange => (
            "position_out_of_range",
            "a log does not have the position of its partition: what was read is committed, then the log is looked at",
        ),
        KafkaErrorKind::Unclassified => {
            ("unclassified_kafka_error", "nothing is lost: reading starts again where the ledger says")
        }
        KafkaErrorKind::Fatal => ("kafka_fatal", "the process ends"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: &KafkaError, expected: KafkaErrorKind) {
        assert_eq!(error_kind(error), expected, "{error}");
    }

    #[test]
    fn what_is_not_known_to_be_harmless_is_not_trusted() {
        check(&KafkaError::MessageConsumption(Code::BadMessage), KafkaErrorKind::Unclassified);
        check(&KafkaError::MessageConsumption(Code::BadCompression), KafkaErrorKind::Unclassified);
        check(&KafkaError::MessageConsumption(Code::Unknown), KafkaErrorKind::Unclassified);
        check(&KafkaError::Canceled, KafkaErrorKind::Unclassified);
        check(&KafkaError::MessageConsumption(Code::BrokerTransportFailure), KafkaErrorKind::Transient);
        check(&KafkaError::MessageConsumption(Code::AllBrokersDown), KafkaErrorKind::AllBrokersDown);
        check(&KafkaError::MessageConsumption(Code::UnknownTopicOrPartition), KafkaErrorKind::TopicMissing);
        check(&KafkaError::MessageConsumption(Code::AutoOffsetReset), KafkaErrorKind::OutOfRange);
        check(&KafkaError::MessageConsumption(Code::InconsistentGroupProtocol), KafkaErrorKind::OtherAssignor);
        check(&KafkaError::MessageConsumption(Code::SaslAuthenticationFailed), KafkaErrorKind::Refused);
        check(&KafkaError::MessageConsumptionFatal(Code::FencedInstanceId), KafkaErrorKind::Fatal);
        assert!(is_damage(&KafkaError::MessageConsumption(Code::BadMessage)));
        assert!(!is_damage(&KafkaError::MessageConsumption(Code::Unknown)), "it is distrusted, and blames no log");
    }
}
