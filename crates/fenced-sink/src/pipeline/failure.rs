//! The writers that cannot connect, and the conversion of an error of sqlx to the failure of a partition.
//!
//! [`crate::model::failure`] has the failure record of one partition.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::model::batch::ClaimedBatch;
use crate::model::error_class::ErrorClass;
use crate::model::failure::{Failure, cause};
use crate::model::operation::DbOperation;
use crate::model::record::Partition;
use crate::postgres::error::{advice, classify, sqlstate_of};
use crate::postgres::privileges::missing_grants;
use crate::postgres::session::Session;

/// The failure of an operation without a batch: no record can be the cause. `text` comes from [`explained`].
pub(super) fn failure(operation: DbOperation, error: &sqlx::Error, text: String) -> Failure {
    let class = classify(error).without_a_record();
    Failure { operation, class, sqlstate: sqlstate_of(error), error: text, step: None, shared: false }
}

/// The failures after a failed commit, one for each batch.
pub(super) fn commit_failures<E>(
    batches: &[ClaimedBatch<E>],
    error: &sqlx::Error,
    text: &str,
) -> Vec<(Partition, Failure)> {
    let each = |claimed: &ClaimedBatch<E>| {
        let failure = Failure {
            class: classify(error),
            step: Some(claimed.batch.step()),
            shared: batches.len() > 1,
            ..failure(DbOperation::Commit, error, text.to_owned())
        };
        (claimed.batch.partition(), failure)
    };
    batches.iter().map(each).collect()
}

/// The text of an error in an operation without a record, with what an operator can do.
pub(crate) fn in_words(error: &sqlx::Error) -> String {
    cause(classify(error).without_a_record(), sqlstate_of(error), &with_advice(error))
}

/// The text of an error, with what an operator can do. If the user lacks a privilege, it asks the database which one.
pub(super) async fn explained<E: Event>(error: &sqlx::Error, session: Option<&mut Session>) -> String {
    let text = with_advice(error);
    let is_denied = sqlstate_of(error).is_some_and(|state| state.as_str() == "42501");
    let Some(session) = session.filter(|_| is_denied) else { return text };
    match session.run(|connection| missing_grants(connection, E::PRIVILEGES)).await {
        Ok(grants) if !grants.is_empty() => format!("{text}; {}", grants.join(" ")),
        _ => text,
    }
}

/// The text of an error, with what an operator can do.
fn with_advice(error: &sqlx::Error) -> String {
    match advice(error) {
        Some(advice) => format!("{error}; {advice}"),
        None => error.to_string(),
    }
}

/// The writers that cannot connect. Pure.
#[derive(Debug, Default)]
pub(crate) struct DisconnectedWriters(BTreeMap<usize, FailedConnect>);

/// The failures of one writer in a row.
#[derive(Debug)]
struct FailedConnect {
    /// Since when the database has refused each attempt.
    refused_since: Option<Instant>,
    /// The last cause.
    cause: String,
}

impl DisconnectedWriters {
    /// A writer is connected.
    pub(super) fn connected(&mut self, writer: usize) {
        self.0.remove(&writer);
    }

    /// A writer could not connect.
    pub(super) fn failed(&mut self, writer: usize, class: ErrorClass, cause: String, now: Instant) {
        let refused = (class == ErrorClass::Operator).then_some(now);
        let before = self.0.get(&writer).and_then(|before| before.refused_since);
        self.0.insert(writer, FailedConnect { refused_since: refused.and(before.or(refused)), cause });
    }

    /// The last cause of one of them. `None`: each can connect.
    pub(super) fn cause(&self) -> Option<String> {
        self.0.values().next().map(|failed| failed.cause.clone())
    }

    /// The number of writers that cannot connect.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// How long the database has refused the connections of all `writers`, each time that they tried.
    pub(super) fn refused_for(&self, writers: usize, now: Instant) -> Option<Duration> {
        let refused = || self.0.values().filter_map(|failed| failed.refused_since);
        let since = refused().max().filter(|_| refused().count() == writers)?;
        Some(now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error_class::RetryCause;

    #[test]
    fn connections_are_refused_while_every_writer_is_refused_each_time() {
        let (mut disconnected, start) = (DisconnectedWriters::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let refused_for = |disconnected: &DisconnectedWriters, seconds| {
            disconnected.refused_for(2, at(seconds)).map(|lasts| lasts.as_secs())
        };
        let failed = |disconnected: &mut DisconnectedWriters, writer, class, seconds| {
            disconnected.failed(writer, class, format!("at {seconds}"), at(seconds));
        };
        failed(&mut disconnected, 0, ErrorClass::Operator, 0);
        assert_eq!(refused_for(&disconnected, 5), None, "the other writer may be connected");
        failed(&mut disconnected, 1, ErrorClass::Operator, 2);
        assert_eq!((refused_for(&disconnected, 5), disconnected.count()), (Some(3), 2));
        failed(&mut disconnected, 0, ErrorClass::Operator, 6);
        assert_eq!(refused_for(&disconnected, 9), Some(7), "a series begins with its first refusal");
        failed(&mut disconnected, 0, ErrorClass::Retry(RetryCause::Connection), 10);
        assert_eq!(refused_for(&disconnected, 11), None, "an unreachable server refuses nothing");
        failed(&mut disconnected, 0, ErrorClass::Operator, 12);
        assert_eq!(refused_for(&disconnected, 13), Some(1));
        assert_eq!(disconnected.cause().as_deref(), Some("at 12"));
        disconnected.connected(1);
        assert_eq!((refused_for(&disconnected, 14), disconnected.count()), (None, 1));
        disconnected.connected(0);
        assert_eq!(disconnected.cause(), None);
    }
}
