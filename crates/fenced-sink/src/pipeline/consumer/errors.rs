//! What the consumer thread does about an error that Kafka reports.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::ConsumerThread;
use crate::event::Event;
use crate::kafka::client::ConsumerError;
use crate::kafka::error::{self, KafkaErrorKind};
use crate::kafka::group_consumer::ReportedError;
use crate::kafka::properties::has_newer_group_protocol;
use crate::model::kafka_refusal::{KafkaNeed, KafkaRefusal};
use crate::model::record::{Partition, Position};
use crate::model::standing::{Membership, SchedulerView as _};
use crate::pipeline::instance_id;
use crate::pipeline::reports::{FetchFailure, KafkaReport};

/// With `group.protocol=consumer`, a consumer that the group refuses never works again. So a new one tries after this
/// time.
const REPLACE_AFTER: Duration = Duration::from_secs(5);

/// A fetch that fails this many times at one position is logged with its position.
const REPEATED_TIMES: u32 = 3;

/// For each partition, the position of its last failed fetch, and the number of failures in a row at that position.
#[derive(Debug, Default)]
pub(super) struct RepeatedFailures(BTreeMap<Partition, (Position, u32)>);

impl RepeatedFailures {
    /// A fetch failed at this position. Returns the number of failures at each [`REPEATED_TIMES`]th one.
    fn failed(&mut self, partition: Partition, at: Position) -> Option<u32> {
        let before = self.0.get(&partition).filter(|(position, _)| *position == at).map_or(0, |(_, times)| *times);
        let times = before.saturating_add(1);
        self.0.insert(partition, (at, times));
        times.is_multiple_of(REPEATED_TIMES).then_some(times)
    }
}

impl<E: Event> ConsumerThread<E> {
    pub(super) fn handle_error(&mut self, error: ReportedError) -> Result<(), ConsumerError> {
        let ReportedError { partition, kind, text } = error;
        if kind != KafkaErrorKind::InstanceIdTaken {
            error::warn(&self.names, partition, kind, &text);
        }
        match (kind, partition) {
            (KafkaErrorKind::Transient | KafkaErrorKind::OtherAssignor, _) => {}
            (KafkaErrorKind::AllBrokersDown, _) => {
                self.scheduler().report(KafkaReport::AllBrokersDown(self.fetched()));
            }
            (KafkaErrorKind::TopicMissing, _) => self.scheduler().request_log_check(),
            (KafkaErrorKind::Refused(need), _) => {
                if self.consumer.fatal_reason().is_some() {
                    self.replace_at.get_or_insert(Instant::now() + REPLACE_AFTER);
                }
                self.refused(need, text);
            }
            (KafkaErrorKind::InstanceIdTaken, _) => self.instance_id_taken(&text),
            (KafkaErrorKind::OutOfRange, Some(partition)) => {
                self.rebalancer.fetches().failed(partition, FetchFailure::OutOfRange);
            }
            (KafkaErrorKind::Unclassified, Some(partition)) => self.fetch_failed(partition, &text),
            (KafkaErrorKind::OutOfRange | KafkaErrorKind::Unclassified, None) => {
                self.scheduler().report(KafkaReport::UnclassifiedError(self.fetched()));
            }
            (KafkaErrorKind::Fatal, _) => {
                return Err(ConsumerError::Fatal(self.consumer.fatal_reason().unwrap_or(text)));
            }
        }
        Ok(())
    }

    /// Another member has the `group.instance.id`. If the next consumer of this process had the id, too, Kafka would fence
    /// that member, and so on without end. So this process gives its id up.
    fn instance_id_taken(&mut self, text: &str) {
        self.replace_at.get_or_insert_with(Instant::now);
        if self.is_fenced_by_itself() {
            tracing::debug!(topic = self.options.topic, error = text, "late_commit_fenced");
        } else {
            error::warn(&self.names, None, KafkaErrorKind::InstanceIdTaken, text);
            self.options.properties.remove(instance_id::PROPERTY);
        }
    }

    /// If the membership ends while the broker is unreachable, a commit that waits for the broker is sent later without a
    /// member id. Kafka then fences it like a commit of another member.
    fn is_fenced_by_itself(&self) -> bool {
        self.scheduler().membership() == Membership::Lost && !has_newer_group_protocol(&self.options.properties)
    }

    /// librdkafka may report a refusal only once. The log check task, an assignment or a record ends it.
    fn refused(&self, need: KafkaNeed, error: String) {
        let is_new = !self.scheduler().is_refused(need);
        let hint = error::hint(KafkaErrorKind::Refused(need), &error, &self.names);
        self.scheduler().report(KafkaReport::Refused(KafkaRefusal { need, error, hint, lasts: Duration::ZERO }));
        if is_new {
            self.scheduler().request_log_check();
        }
    }

    /// The fetch of one partition failed. Only that partition is read again.
    fn fetch_failed(&mut self, partition: Partition, error: &str) {
        let failed = self.rebalancer.fetches().failed(partition, FetchFailure::Unclassified);
        if let Some(at) = failed
            && let Some(times) = self.failures.failed(partition, at)
        {
            let (topic, partition, position) = (&self.options.topic, partition.0, at.0);
            let hint = "the other partitions are read; check the broker, and the records at this position";
            tracing::warn!(topic, partition, position, times, error, hint, "fetch_failed_again");
        }
    }

    /// Reports each failed fetch until the report has an effect, which is after the commit of the earlier records.
    pub(super) fn report_fetch_failures(&self) {
        let failures = self.rebalancer.fetches().failures();
        for (partition, generation, failure) in failures {
            self.scheduler().report(KafkaReport::FetchFailed(partition, generation, failure));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_third_failure_of_a_partition_at_one_position_counts() {
        let mut failures = RepeatedFailures::default();
        let mut failed = |partition, at| failures.failed(Partition(partition), Position(at));
        assert_eq!([failed(0, 5), failed(0, 5), failed(1, 5), failed(0, 5)], [None, None, None, Some(3)]);
        assert_eq!([failed(0, 5), failed(0, 5), failed(0, 5)], [None, None, Some(6)]);
        assert_eq!([failed(0, 6), failed(0, 6), failed(0, 6)], [None, None, Some(3)], "another position");
    }
}
