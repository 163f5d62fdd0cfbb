//! The context of every client that is not the group consumer. It remembers what the error of a question does not say:
//! why the client could not use a broker, and that a batch is too large.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;

use crate::kafka::error::{KafkaErrorKind, connection_hint, error_kind, kind_with_text, warn_of_message};
use crate::model::kafka_refusal::KafkaNeed;

/// A client that is not the group consumer.
pub(crate) type Client = BaseConsumer<LastError>;

/// The last error of one client. All clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastError(Arc<Mutex<Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    error: Option<(KafkaErrorKind, String)>,
    too_large: bool,
}

impl LastError {
    /// The last error since the last answer.
    pub(crate) fn get(&self) -> Option<(KafkaErrorKind, String)> {
        self.lock().error.clone()
    }

    /// Whether a batch or a response did not fit into `receive.message.max.bytes` since the last answer. Only a client
    /// with `debug=msg` knows it.
    pub(crate) fn has_too_large_batch(&self) -> bool {
        self.lock().too_large
    }

    /// A broker answered: earlier errors explain nothing any more.
    pub(crate) fn clear(&self) {
        *self.lock() = Remembered::default();
    }

    /// Stores an error. An error without a cause that an operator can remove never replaces one with such a cause.
    fn set(&self, kind: KafkaErrorKind, text: &str) {
        // The client joins no group, but librdkafka still looks for the coordinator of the group that the properties name.
        if kind == KafkaErrorKind::Refused(KafkaNeed::JoinGroup) {
            return;
        }
        let last = &mut self.lock().error;
        let explains = |kind, text: &str| matches!(kind, KafkaErrorKind::Refused(_)) || connection_hint(text).is_some();
        if explains(kind, text) || !last.as_ref().is_some_and(|(kind, text)| explains(*kind, text)) {
            *last = Some((kind, text.to_owned()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for LastError {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka_client");
        let kind = error.rdkafka_error_code().map_or_else(|| error_kind(&error), |code| kind_with_text(code, reason));
        self.set(kind, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let level = match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                ERROR
            }
            RDKafkaLogLevel::Warning => WARNING,
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => INFO,
        };
        let text = without_thread(text);
        match ClientMessage::of(level, facility, text) {
            ClientMessage::Cause => self.set(KafkaErrorKind::Transient, text),
            ClientMessage::TooLarge => self.lock().too_large = true,
            ClientMessage::Warning => warn_of_message(facility, text),
            ClientMessage::Other => tracing::debug!(facility, text, "kafka_client"),
        }
    }
}

impl ConsumerContext for LastError {}

/// The text of a message without the name of the thread that wrote it.
pub(crate) fn without_thread(text: &str) -> &str {
    let named = text.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: "));
    named.map_or(text, |(_, rest)| rest)
}

/// The severity of a message, as syslog numbers it.
const ERROR: i32 = 3;
const WARNING: i32 = 4;
const INFO: i32 = 6;

/// What librdkafka logs about a batch or a response above `receive.message.max.bytes`.
const TOO_LARGE: [&str; 2] = ["output would exceed message.max.bytes", "increase receive.message.max.bytes"];

/// What a message of librdkafka is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientMessage {
    /// The cause of a failed connection that librdkafka reports in no other way.
    Cause,
    /// A batch or a response does not fit into `receive.message.max.bytes`. The error code is the one of damaged data.
    TooLarge,
    /// A warning about something else.
    Warning,
    /// No warning, or an error that librdkafka also reports to the error callback.
    Other,
}

impl ClientMessage {
    /// `level` is the severity, as syslog numbers it.
    pub(crate) fn of(level: i32, facility: &str, text: &str) -> Self {
        match (facility, level) {
            _ if TOO_LARGE.iter().any(|part| text.contains(part)) => Self::TooLarge,
            ("FAIL", WARNING) => Self::Cause,
            ("FAIL", INFO..) if connection_hint(text).is_some() => Self::Cause,
            // COMMITFAIL concerns the mirror, which no decision needs. librdkafka reports the others as errors, or they have
            // no cause.
            ("COMMITFAIL" | "FAIL" | "FATAL", _) => Self::Other,
            (_, ..=WARNING) => Self::Warning,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TLS: &str = "b:1/bootstrap: Disconnected: receive 0 after POLLIN (after 15ms in state APIVERSION_QUERY)";

    #[test]
    fn a_cause_is_kept_until_an_answer_or_another_cause() {
        let (last, kind) = (LastError::default(), KafkaErrorKind::Transient);
        let text = || last.get().map(|(_, text)| text);
        last.set(KafkaErrorKind::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(text().as_deref(), Some("1/1 brokers are down"));
        last.set(kind, TLS);
        last.set(KafkaErrorKind::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(text().as_deref(), Some(TLS));
        last.set(kind, "b:1/1: Failed to resolve 'b:1'");
        assert_eq!(text().as_deref(), Some("b:1/1: Failed to resolve 'b:1'"));
        last.clear();
        assert_eq!(text(), None);
        last.set(KafkaErrorKind::Refused(KafkaNeed::JoinGroup), "FindCoordinator response error");
        assert_eq!(text(), None, "the client joins no group");
    }

    #[test]
    fn a_message_has_no_name_of_a_thread() {
        assert_eq!(without_thread("[thrd:b:1/bootstrap]: b:1/bootstrap: gone"), "b:1/bootstrap: gone");
        assert_eq!(without_thread("b:1/bootstrap: gone"), "b:1/bootstrap: gone");
    }

    #[test]
    fn a_message_is_a_cause_a_warning_or_neither() {
        let check =
            |level, facility, text, expected| assert_eq!(ClientMessage::of(level, facility, text), expected, "{text}");
        check(INFO, "FAIL", TLS, ClientMessage::Cause);
        check(ERROR, "FAIL", TLS, ClientMessage::Other);
        check(INFO, "FAIL", "b:1/1: Disconnected", ClientMessage::Other);
        check(WARNING, "FAIL", "b:1/1: Disconnected", ClientMessage::Cause);
        check(WARNING, "SESSTMOUT", "session timed out", ClientMessage::Warning);
        check(WARNING, "COMMITFAIL", "Offset commit failed", ClientMessage::Other);
        let too_large =
            "Unable to decompress ZSTD (input buffer 9, output buffer 40): output would exceed message.max.bytes (9)";
        check(INFO, "ZSTD", too_large, ClientMessage::TooLarge);
        check(INFO, "GRPLEAVE", "leaving", ClientMessage::Other);
    }
}
