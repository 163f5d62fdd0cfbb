//! What an error of the consumer means for the records around it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

/// What is to be done about an error of the consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// The client deals with it by itself; no record is in doubt.
    Passing,
    /// Every broker is away. What comes back may be a restored one, with another log of the same id.
    Outage,
    /// The topic is not there (yet), or is not ours to read.
    NoTopic,
    /// A server refuses who we are, or what we may do.
    Refused,
    /// An older consumer with another assignor is in the group.
    OtherProtocol,
    /// The position of a partition is outside of its log.
    OutOfRange,
    /// What was delivered, or comes next, can't be trusted: every partition starts again where the ledger says.
    Distrust,
    /// Nothing will ever come again.
    Fatal,
}

/// One total rule: what is not known to be harmless is not trusted. After a batch that fails its CRC, librdkafka reports
/// `BadMessage` and delivers what follows it.
pub(super) fn fault(error: &KafkaError) -> Fault {
    match error {
        KafkaError::MessageConsumptionFatal(_) => Fault::Fatal,
        KafkaError::MessageConsumption(code) | KafkaError::Global(code) => fault_of_code(*code),
        _ => Fault::Distrust,
    }
}

/// Whether what the log holds is damaged, and not whoever serves it in trouble.
pub(super) fn is_damage(error: &KafkaError) -> bool {
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

fn fault_of_code(code: Code) -> Fault {
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
        | Code::ThrottlingQuotaExceeded => Fault::Passing,
        Code::AllBrokersDown => Fault::Outage,
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicId => {
            Fault::NoTopic
        }
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SSL
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed => Fault::Refused,
        Code::InconsistentGroupProtocol => Fault::OtherProtocol,
        Code::AutoOffsetReset | Code::OffsetOutOfRange => Fault::OutOfRange,
        Code::Fatal | Code::FencedInstanceId | Code::UnreleasedInstanceId => Fault::Fatal,
        _ => Fault::Distrust,
    }
}

/// How often one kind of trouble is logged.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// What is worth a warning, but not one each time: a broker that is away is met many times a second.
#[derive(Debug, Default)]
pub(super) struct Complaints(BTreeMap<Fault, (Instant, u64)>);

impl Complaints {
    /// Logs a kind of trouble at most once in a while, with the number of times that it was met so far.
    pub(super) fn complain(&mut self, fault: Fault, error: &str) {
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
fn words(fault: Fault) -> (&'static str, &'static str) {
    match fault {
        Fault::Passing | Fault::Outage => ("kafka_unavailable", "nothing to do: the client tries again"),
        Fault::NoTopic => ("topic_missing", "it is waited for; check KAFKA_TOPIC"),
        Fault::Refused => ("kafka_refused", "check user, certificates and access control of topic and group"),
        Fault::OtherProtocol => {
            ("group_in_use", "an older consumer with another assignor is in the group: stop it first")
        }
        Fault::OutOfRange => (
            "position_out_of_range",
            "a log does not have the position of its partition: what was read is committed, then the log is looked at",
        ),
        Fault::Distrust => ("kafka_distrusted", "nothing is lost: reading starts again where the ledger says"),
        Fault::Fatal => ("kafka_fatal", "the process ends"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: &KafkaError, expected: Fault) {
        assert_eq!(fault(error), expected, "{error}");
    }

    #[test]
    fn what_is_not_known_to_be_harmless_is_not_trusted() {
        check(&KafkaError::MessageConsumption(Code::BadMessage), Fault::Distrust);
        check(&KafkaError::MessageConsumption(Code::BadCompression), Fault::Distrust);
        check(&KafkaError::MessageConsumption(Code::Unknown), Fault::Distrust);
        check(&KafkaError::Canceled, Fault::Distrust);
        check(&KafkaError::MessageConsumption(Code::BrokerTransportFailure), Fault::Passing);
        check(&KafkaError::MessageConsumption(Code::AllBrokersDown), Fault::Outage);
        check(&KafkaError::MessageConsumption(Code::UnknownTopicOrPartition), Fault::NoTopic);
        check(&KafkaError::MessageConsumption(Code::AutoOffsetReset), Fault::OutOfRange);
        check(&KafkaError::MessageConsumption(Code::InconsistentGroupProtocol), Fault::OtherProtocol);
        check(&KafkaError::MessageConsumption(Code::SaslAuthenticationFailed), Fault::Refused);
        check(&KafkaError::MessageConsumptionFatal(Code::FencedInstanceId), Fault::Fatal);
        assert!(is_damage(&KafkaError::MessageConsumption(Code::BadMessage)));
        assert!(!is_damage(&KafkaError::MessageConsumption(Code::Unknown)), "it is distrusted, and blames no log");
    }
}
