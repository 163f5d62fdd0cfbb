//! Whether one broker answers this client.

use rdkafka::consumer::Consumer as _;
use rdkafka::metadata::MetadataBroker;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::kafka::client::{configuration, without_membership};
use crate::kafka::error::{KafkaErrorKind, KafkaNames, code_kind, hint};
use crate::kafka::reused_client::ReusedClient;
use crate::model::kafka_refusal::KafkaNeed;

/// The limit for the whole connection. A broker can answer a wrong password some seconds late.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long one request waits before the errors of the client are read.
const REQUEST: Duration = Duration::from_millis(500);

/// How long to wait for the next event that a client has queued.
const DRAIN: Duration = Duration::from_millis(10);

/// A step of a connection, after TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectionStep {
    /// The TLS handshake.
    Tls,
    /// The login by SASL.
    Login,
    /// The answer to the first request.
    Answer,
}

/// Why a broker did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}; {hint}")]
pub struct BrokerProblem {
    /// The step that failed.
    pub step: ConnectionStep,
    /// The error of the broker or of its client.
    pub error: String,
    /// What to do.
    pub hint: String,
}

/// Connects to one broker, and asks for the addresses that the brokers advertise. It blocks for 10 s at most.
///
/// # Errors
/// The broker did not answer in time, or refused the connection.
pub fn advertised_brokers(
    properties: &BTreeMap<String, String>,
    topic: &str,
    server: &str,
) -> Result<Vec<String>, BrokerProblem> {
    let mut config = configuration(&without_membership(properties));
    config.set("bootstrap.servers", server);
    let names = KafkaNames::new(properties, topic);
    let problem =
        |kind, error: String| BrokerProblem { step: failed_step(&error), hint: hint(kind, &error, &names), error };
    // It drops the client in a thread: that waits while a broker is frozen.
    let owner = ReusedClient::new(config);
    let client = owner.get().map_err(|error| problem(KafkaErrorKind::Unclassified, error.to_string()))?;
    let began = Instant::now();
    loop {
        // With a topic, because the answer without one lists all topics of the cluster.
        let answer = client.fetch_metadata(Some(topic), REQUEST);
        while client.poll(DRAIN).is_some() {}
        let error = match answer {
            Ok(metadata) => {
                let address = |broker: &MetadataBroker| match broker.host() {
                    host if host.contains(':') => format!("[{host}]:{}", broker.port()),
                    host => format!("{host}:{}", broker.port()),
                };
                return Ok(metadata.brokers().iter().map(address).collect());
            }
            Err(error) => error,
        };
        let last = client.context().get();
        let is_refused = matches!(last, Some((KafkaErrorKind::Refused(KafkaNeed::Connection), _)));
        if is_refused || began.elapsed() >= TIMEOUT {
            let code = error.rdkafka_error_code();
            // A frozen broker accepts the connection, so the client has no cause.
            let cause = last.filter(|(kind, _)| *kind != KafkaErrorKind::AllBrokersDown);
            let (kind, error) = cause.unwrap_or_else(|| {
                let kind = code.map_or(KafkaErrorKind::Unclassified, code_kind);
                (kind, format!("no answer within {} s", TIMEOUT.as_secs()))
            });
            return Err(problem(kind, error));
        }
    }
}

/// The step that an error of librdkafka is about. Its texts begin with the name of the broker, which has the protocol in
/// lower case.
fn failed_step(error: &str) -> ConnectionStep {
    let has = |part| error.contains(part);
    if has("SSL") || has("certificate") {
        ConnectionStep::Tls
    } else if has("SASL") {
        ConnectionStep::Login
    } else {
        ConnectionStep::Answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_step_that_failed() {
        let check = |error, expected| assert_eq!(failed_step(error), expected, "{error}");
        check("ssl://b:1/bootstrap: SSL handshake failed: certificate verify failed", ConnectionStep::Tls);
        check(
            "ssl://b:1/bootstrap: Disconnected: connecting to a PLAINTEXT broker listener? (after 3ms in state SSL_HANDSHAKE)",
            ConnectionStep::Tls,
        );
        check("sasl_ssl://b:1/bootstrap: SASL authentication error: Authentication failed", ConnectionStep::Login);
        check("sasl_ssl://b:1/bootstrap: Disconnected (after 3ms in state UP)", ConnectionStep::Answer);
    }
}
