//! The kinds of errors of Kafka's clients: what each error means for the records, and what an operator must do. It also
//! limits how often an error is logged.

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::model::kafka_refusal::KafkaNeed;
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
    /// Kafka refuses the connection, the topic or the group.
    Refused(KafkaNeed),
    /// A consumer with another assignor is in the group.
    OtherAssignor,
    /// The partition log does not have the position: retention deleted it, or the log was truncated or replaced.
    OutOfRange,
    /// A record may be missing behind the records before the error. The partition must start again there.
    Unclassified,
    /// Another member has the `group.instance.id` of this consumer. This consumer never receives a record again.
    InstanceIdTaken,
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
        | Code::ClusterAuthorizationFailed => KafkaErrorKind::Refused(KafkaNeed::Connection),
        Code::TopicAuthorizationFailed => KafkaErrorKind::Refused(KafkaNeed::ReadTopic),
        Code::GroupAuthorizationFailed => KafkaErrorKind::Refused(KafkaNeed::JoinGroup),
        Code::InconsistentGroupProtocol => KafkaErrorKind::OtherAssignor,
        // With `auto.offset.reset=error` librdkafka reports a truncated log as `AutoOffsetReset`, too.
        Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => KafkaErrorKind::OutOfRange,
        Code::FencedInstanceId | Code::UnreleasedInstanceId => KafkaErrorKind::InstanceIdTaken,
        Code::Fatal => KafkaErrorKind::Fatal,
        _ => KafkaErrorKind::Unclassified,
    }
}

/// The kind of an error with its text. librdkafka has the code of a refused login also for a login without an answer, and
/// the code of a broken connection also for a client without a certificate.
pub(crate) fn kind_with_text(code: Code, text: &str) -> KafkaErrorKind {
    match code_kind(code) {
        KafkaErrorKind::Refused(KafkaNeed::Connection) if is_outage(text) => KafkaErrorKind::Transient,
        KafkaErrorKind::Transient if wants_client_certificate(text) => KafkaErrorKind::Refused(KafkaNeed::Connection),
        kind => kind,
    }
}

/// The minimum time between two log lines about the same kind of error of the same partition.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// If no broker is reachable, the log line has the last cause that librdkafka reported within this time. librdkafka
/// repeats an unchanged cause every 30 s.
const CAUSE_LASTS: Duration = Duration::from_mins(1);

/// The topic and the group of a client, for hints.
#[derive(Clone, Debug, Default)]
pub(crate) struct KafkaNames {
    pub(crate) topic: String,
    pub(crate) group: String,
}

impl KafkaNames {
    pub(crate) fn new(properties: &BTreeMap<String, String>, topic: &str) -> Self {
        Self { topic: topic.to_owned(), group: properties.get("group.id").cloned().unwrap_or_default() }
    }
}

/// One limiter for all clients of this process: they report the same errors.
static WARNINGS: Mutex<WarningLimiter> = Mutex::new(WarningLimiter::new());

/// Limits the warnings about errors of Kafka's clients. An unreachable broker causes many errors in a second, for each
/// client of the process.
#[derive(Debug)]
struct WarningLimiter {
    /// For each message, partition and hint: when it was logged last, and how many of these errors occurred.
    logged: BTreeMap<(String, Option<Partition>, String), (Instant, u64)>,
    cause: Option<(Instant, String)>,
}

/// Logs an error of a client, see [`WarningLimiter::warn`].
pub(crate) fn warn(names: &KafkaNames, partition: Option<Partition>, kind: KafkaErrorKind, error: &str) {
    WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).warn(names, partition, kind, error);
}

/// Logs a message of librdkafka that is no error of a request.
pub(crate) fn warn_of_message(facility: &str, text: &str) {
    let mut warnings = WARNINGS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(times) = warnings.permit(Instant::now(), ("kafka_client".to_owned(), None, facility.to_owned())) {
        tracing::warn!(facility, error = text, times, "kafka_client");
    }
}

impl WarningLimiter {
    const fn new() -> Self {
        Self { logged: BTreeMap::new(), cause: None }
    }

    /// Logs an error, unless its kind was logged a short time ago for the same partition, with the same hint. The line
    /// has the number of these errors so far.
    pub(crate) fn warn(&mut self, names: &KafkaNames, partition: Option<Partition>, kind: KafkaErrorKind, error: &str) {
        let now = Instant::now();
        let error = self.explained(now, kind, error);
        let hint = hint(kind, &error, names);
        let message = message(kind);
        if let Some(times) = self.permit(now, (message.to_owned(), partition, hint.clone())) {
            let (topic, partition) = (&names.topic, partition.map(|partition| partition.0));
            tracing::warn!(topic, partition, error, hint, times, "{message}");
        }
    }

    /// Whether a line may be logged now, and the number of lines of this kind so far.
    fn permit(&mut self, now: Instant, line: (String, Option<Partition>, String)) -> Option<u64> {
        let (last, times) = self.logged.entry(line).or_insert((now, 0));
        *times += 1;
        let permitted = *times == 1 || now.duration_since(*last) >= WARNING_INTERVAL;
        permitted.then(|| {
            *last = now;
            *times
        })
    }

    /// The text of an error. If librdkafka reports only that no broker is reachable, the last cause is added.
    fn explained(&mut self, now: Instant, kind: KafkaErrorKind, error: &str) -> String {
        if connection_hint(error).is_some() {
            self.cause = Some((now, error.to_owned()));
        }
        let cause = self.cause.as_ref().filter(|(at, _)| now.duration_since(*at) < CAUSE_LASTS);
        match (kind, cause) {
            (KafkaErrorKind::AllBrokersDown, Some((_, cause))) => format!("{error}: {cause}"),
            _ => error.to_owned(),
        }
    }
}

/// Codes of errors that a working connection can have.
const RECOVERS: [Code; 16] = [
    Code::NotLeaderForPartition,
    Code::LeaderNotAvailable,
    Code::ReplicaNotAvailable,
    Code::FencedLeaderEpoch,
    Code::UnknownLeaderEpoch,
    Code::OffsetNotAvailable,
    Code::RebalanceInProgress,
    Code::IllegalGeneration,
    Code::UnknownMemberId,
    Code::FencedMemberEpoch,
    Code::StaleMemberEpoch,
    Code::AssignmentLost,
    Code::PollExceeded,
    Code::CoordinatorLoadInProgress,
    Code::NotCoordinator,
    Code::ThrottlingQuotaExceeded,
];

/// The message of the log line.
fn message(kind: KafkaErrorKind) -> &'static str {
    match kind {
        KafkaErrorKind::Transient | KafkaErrorKind::AllBrokersDown => "kafka_unavailable",
        KafkaErrorKind::TopicMissing => "topic_missing",
        KafkaErrorKind::Refused(_) => "kafka_refused",
        KafkaErrorKind::OtherAssignor => "group_in_use",
        KafkaErrorKind::OutOfRange => "position_out_of_range",
        KafkaErrorKind::Unclassified => "unclassified_kafka_error",
        KafkaErrorKind::InstanceIdTaken => "instance_id_taken",
        KafkaErrorKind::Fatal => "kafka_fatal",
    }
}

/// What an operator must do about an error, or its effect on the records.
pub(crate) fn hint(kind: KafkaErrorKind, error: &str, KafkaNames { topic, group }: &KafkaNames) -> String {
    let text = match kind {
        KafkaErrorKind::Refused(KafkaNeed::ReadTopic) => {
            return format!("grant READ on the topic {topic} to the user of this service");
        }
        KafkaErrorKind::Refused(KafkaNeed::JoinGroup) => {
            return format!("grant READ on the group {group} to the user of this service");
        }
        KafkaErrorKind::TopicMissing | KafkaErrorKind::Refused(KafkaNeed::TopicExists) => {
            return format!("create the topic {topic}, or correct KAFKA_TOPIC; the service waits for it");
        }
        // Changes in the group and of leaders: the connection works.
        KafkaErrorKind::Transient if RECOVERS.iter().any(|code| error.ends_with(&format!("({code:?})"))) => {
            "the client recovers by itself"
        }
        KafkaErrorKind::Transient | KafkaErrorKind::AllBrokersDown => connection_hint(error)
            .unwrap_or("check that the brokers run and that KAFKA_BOOTSTRAP_SERVERS names them; the client retries"),
        KafkaErrorKind::Refused(KafkaNeed::Connection) => connection_hint(error)
            .unwrap_or("check sasl.username, sasl.password, sasl.mechanism and security.protocol in KAFKA_PROPERTIES"),
        KafkaErrorKind::OtherAssignor => "a consumer with another assignor is in the group: stop it first",
        KafkaErrorKind::OutOfRange => {
            "the partition log does not have the next position: what was read is committed, then that log is checked"
        }
        KafkaErrorKind::Unclassified => {
            "no record is lost: reading starts again after the records that were read before the error"
        }
        KafkaErrorKind::InstanceIdTaken => {
            "another process has this group.instance.id, or had it and was killed: this process continues without an id \
             until its next start; give each process a different id in KAFKA_PROPERTIES, or a different host name"
        }
        KafkaErrorKind::Fatal => "the service ends",
    };
    text.to_owned()
}

/// What to do about a failed connection. It looks for the words of the pinned version of librdkafka. `None`: the text
/// names no cause that an operator can remove.
pub(crate) fn connection_hint(error: &str) -> Option<&'static str> {
    let has = |part| error.contains(part);
    // librdkafka's name of a broker ends with `/bootstrap` if it is in KAFKA_BOOTSTRAP_SERVERS. Otherwise it ends with the
    // number of the broker.
    let is_advertised = !has("/bootstrap:");
    if has("OAUTHBEARER token: ") {
        Some(token_hint(error))
    } else if has("invalid_token") {
        Some(
            "the broker refuses the token: check sasl.oauthbearer.scope in KAFKA_PROPERTIES, and what the listener demands of \
             a token: issuer, audience, signature",
        )
    } else if has("certificate verify failed") {
        Some(
            "set ssl.ca.location in KAFKA_PROPERTIES to the CA of the broker, and check that the broker's certificate has \
             the host name by which the service connects, and has not expired; to see which check fails: `openssl s_client \
             -connect HOST:PORT -verify_hostname HOST -CAfile FILE`",
        )
    } else if wants_client_certificate(error) {
        Some(
            "the listener requires a certificate of the client that it trusts: set ssl.certificate.location and \
             ssl.key.location in KAFKA_PROPERTIES",
        )
    } else if has("connecting to a PLAINTEXT broker listener")
        || has("SSL connection closed by peer") && has("SSL_HANDSHAKE")
    {
        Some(
            "the listener may not use TLS: set security.protocol in KAFKA_PROPERTIES to plaintext or sasl_plaintext, or \
             use the port of a TLS listener",
        )
    } else if has("Disconnected") && has("in state APIVERSION_QUERY") {
        Some(
            "the broker ends the connection before the first answer: the listener may require TLS: set security.protocol in \
             KAFKA_PROPERTIES to ssl or sasl_ssl",
        )
    } else if is_disconnected_soon(error) && !has("sasl_") {
        Some(
            "the broker ends the new connection: the listener may require a user: set security.protocol in KAFKA_PROPERTIES \
             to sasl_ssl or sasl_plaintext",
        )
    } else if has("supported mechanisms") && has("not valid in current SASL state") {
        Some("the listener accepts no user: set security.protocol in KAFKA_PROPERTIES to ssl or plaintext")
    } else if has("supported mechanisms") {
        Some("set sasl.mechanism in KAFKA_PROPERTIES to one that the broker supports")
    } else if has("SASL authentication error") && !is_outage(error) {
        Some("check sasl.username, sasl.password and sasl.mechanism in KAFKA_PROPERTIES")
    } else if has("Failed to resolve") && is_advertised {
        Some(
            "the broker advertises a host name that this machine cannot resolve: correct advertised.listeners of the \
             broker, or the name service",
        )
    } else if has("Failed to resolve") {
        Some("this machine cannot resolve the host name: correct KAFKA_BOOTSTRAP_SERVERS, or the name service")
    } else if has("Connect to ") && is_advertised {
        Some(
            "check that this broker runs. If it does, the address that it advertises is wrong for this machine: correct \
             advertised.listeners of the broker",
        )
    } else if has("Connect to ") {
        Some("check that the broker runs and that KAFKA_BOOTSTRAP_SERVERS names it; the client retries")
    } else {
        None
    }
}

/// What to do if there is no token of the token endpoint. The error is one of libcurl, or the answer of the endpoint.
fn token_hint(error: &str) -> &'static str {
    if is_outage(error) {
        "the token endpoint does not answer: check sasl.oauthbearer.token.endpoint.url in KAFKA_PROPERTIES, and the network"
    } else if error.contains("certificate") {
        "the certificate of the token endpoint failed a check: set https.ca.location in KAFKA_PROPERTIES to its authority, and \
         use the host name of the certificate in sasl.oauthbearer.token.endpoint.url"
    } else {
        "the token endpoint gives no token: check sasl.oauthbearer.client.id, sasl.oauthbearer.client.secret, \
         sasl.oauthbearer.scope and sasl.oauthbearer.token.endpoint.url in KAFKA_PROPERTIES"
    }
}

/// Whether a broker refused the connection because of the certificate of the client (TLS alerts 42 and 116).
fn wants_client_certificate(error: &str) -> bool {
    error.contains("alert bad certificate") || error.contains("alert certificate required")
}

/// Whether a login, a TLS handshake or a request for a token failed only because no answer came.
fn is_outage(error: &str) -> bool {
    let outages = [
        "Local: Timed out",
        "Local: Broker transport failure",
        "handshake failed: Local: ",
        "SSL transport error",
        // Of libcurl, about the token endpoint.
        "Could not resolve host",
        "Could not connect to server",
        "timed out after",
    ];
    outages.iter().any(|text| error.contains(text))
}

/// Whether a broker ended a connection within two seconds after the client could use it, without a cause. A listener with
/// SASL does so if the client does not log in.
fn is_disconnected_soon(error: &str) -> bool {
    let age = error.split_once("Disconnected").and_then(|(_, rest)| rest.split_once("(after "));
    let age = age.and_then(|(_, rest)| rest.split_once("ms in state UP")).map(|(millis, _)| millis.parse::<u64>());
    age.is_some_and(|millis| millis.is_ok_and(|millis| millis < 2_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: &KafkaError, expected: KafkaErrorKind) {
        assert_eq!(error_kind(error), expected, "{error}");
    }

    #[test]
    fn each_cause_has_a_hint_that_says_what_to_change() {
        let names = KafkaNames { topic: "bookings".to_owned(), group: "history".to_owned() };
        let connection = KafkaErrorKind::Refused(KafkaNeed::Connection);
        let check = |kind, error, part| {
            let hint = hint(kind, error, &names);
            assert!(hint.contains(part), "{error}: {hint}");
            assert!(!hint.contains("nothing to do"), "{error}: {hint}");
        };
        check(
            KafkaErrorKind::Refused(KafkaNeed::ReadTopic),
            "Fetch from broker 1 failed",
            "READ on the topic bookings",
        );
        check(KafkaErrorKind::Refused(KafkaNeed::JoinGroup), "JoinGroup failed", "READ on the group history");
        check(KafkaErrorKind::TopicMissing, "Unknown topic", "create the topic bookings");
        check(connection, "sasl_ssl://b:1/bootstrap: SASL authentication error: Invalid username", "sasl.password");
        check(
            connection,
            "b:1/1: SASL SCRAM-SHA-256 mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported mechanisms: PLAIN",
            "set sasl.mechanism",
        );
        check(
            connection,
            "b:1/1: SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL state: broker's supported mechanisms: ",
            "security.protocol",
        );
        check(
            connection,
            "ssl://b:1/bootstrap: SSL handshake failed: certificate verify failed: broker certificate",
            "ssl.ca.location",
        );
        check(connection, "an unknown cause", "security.protocol");
        let transient = KafkaErrorKind::Transient;
        check(
            transient,
            "ssl://b:1/bootstrap: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?",
            "plaintext",
        );
        check(
            transient,
            "b:1/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 15ms in state APIVERSION_QUERY)",
            "ssl or sasl_ssl",
        );
        check(
            transient,
            "b:1/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 3ms in state UP)",
            "sasl_ssl or sasl_plaintext",
        );
        check(
            transient,
            "kafka.invalid:9/1: Failed to resolve 'kafka.invalid:9': Name or service not known",
            "advertised.listeners",
        );
        check(transient, "kafka.invalid:9/bootstrap: Failed to resolve 'kafka.invalid:9'", "KAFKA_BOOTSTRAP_SERVERS");
        check(
            transient,
            "127.0.0.1:1/1: Connect to ipv4#127.0.0.1:1 failed: Connection refused",
            "advertised.listeners",
        );
        check(
            transient,
            "127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused",
            "KAFKA_BOOTSTRAP_SERVERS",
        );
        check(KafkaErrorKind::AllBrokersDown, "1/1 brokers are down", "KAFKA_BOOTSTRAP_SERVERS");
        check(transient, "Broker: Not leader for partition (NotLeaderForPartition)", "recovers by itself");
        check(transient, "Broker: Throttling quota has been exceeded (ThrottlingQuotaExceeded)", "recovers by itself");
        check(
            transient,
            "ssl://b:1/1: Disconnected: SSL connection closed by peer (after 3ms in state SSL_HANDSHAKE)",
            "may not use TLS",
        );
        let alert =
            "ssl://b:1/1: sslv3 alert bad certificate: SSL alert number 42 (after 9ms in state APIVERSION_QUERY)";
        check(connection, alert, "ssl.certificate.location");
        assert_eq!(kind_with_text(Code::BrokerTransportFailure, alert), connection);
        let late =
            "b:1/1: SASL SCRAM-SHA-256 mechanism handshake failed: Local: Timed out: broker's supported mechanisms: ";
        assert_eq!(kind_with_text(Code::Authentication, late), transient);
        let unreachable = "ssl://b:1/1: SSL handshake failed: SSL transport error: No route to host";
        assert_eq!(kind_with_text(Code::SSL, unreachable), transient);
        assert_eq!(kind_with_text(Code::SaslAuthenticationFailed, "Authentication failed"), connection);
        check(
            connection,
            r#"acquire SASL OAUTHBEARER token: {"error":"invalid_client"}"#,
            "sasl.oauthbearer.client.secret",
        );
        check(connection, "acquire SASL OAUTHBEARER token: SSL certificate problem: self-signed", "https.ca.location");
        let absent =
            "acquire SASL OAUTHBEARER token: Failed to connect to idp port 1 after 1 ms: Could not connect to server";
        check(transient, absent, "does not answer");
        assert_eq!(kind_with_text(Code::Authentication, absent), transient);
        check(connection, r#"SASL authentication error: {"status":"invalid_token"}"#, "the broker refuses the token");
    }

    #[test]
    fn a_line_about_all_brokers_has_the_last_cause_while_it_is_new() {
        let (mut warnings, start) = (WarningLimiter::new(), Instant::now());
        let mut explained =
            |seconds, kind, error| warnings.explained(start + Duration::from_secs(seconds), kind, error);
        let (all, cause) = (KafkaErrorKind::AllBrokersDown, "b:1/1: Failed to resolve 'b:1'");
        assert_eq!(explained(0, all, "1/1 brokers are down"), "1/1 brokers are down");
        assert_eq!(explained(1, KafkaErrorKind::Transient, cause), cause);
        assert_eq!(explained(60, all, "1/1 brokers are down"), format!("1/1 brokers are down: {cause}"));
        assert_eq!(explained(61, all, "1/1 brokers are down"), "1/1 brokers are down");
    }

    #[test]
    fn a_line_is_logged_once_in_ten_seconds() {
        let (mut warnings, start) = (WarningLimiter::new(), Instant::now());
        let mut permit = |seconds, hint: &str| {
            warnings
                .permit(start + Duration::from_secs(seconds), ("kafka_unavailable".to_owned(), None, hint.to_owned()))
        };
        assert_eq!([permit(0, "one"), permit(9, "one"), permit(9, "other")], [Some(1), None, Some(1)]);
        assert_eq!([permit(10, "one"), permit(11, "one")], [Some(3), None]);
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
        check(
            &KafkaError::MessageConsumption(Code::SaslAuthenticationFailed),
            KafkaErrorKind::Refused(KafkaNeed::Connection),
        );
        check(&KafkaError::MessageConsumptionFatal(Code::FencedInstanceId), KafkaErrorKind::Fatal);
        assert!(is_damage(&KafkaError::MessageConsumption(Code::BadMessage)));
        assert!(
            !is_damage(&KafkaError::MessageConsumption(Code::Unknown)),
            "an unclassified error does not mean damage"
        );
    }
}
