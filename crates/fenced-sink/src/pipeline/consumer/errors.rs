//! What the consumer thread does about an error that Kafka reports.

use std::time::{Duration, Instant};

use super::ConsumerThread;
use crate::event::Event;
use crate::kafka::client::ConsumerError;
use crate::kafka::error::KafkaErrorKind;
use crate::model::record::Partition;
use crate::pipeline::reports::KafkaReport;

/// The thread may wait this long for the bounds of all logs.
const WATERMARKS: Duration = Duration::from_secs(3);

/// The first and the last refusal of a series.
#[derive(Debug, Default)]
pub(super) struct Refusals(Option<(Instant, Instant)>);

impl Refusals {
    /// A partition was assigned: no server refuses this client.
    pub(super) fn reset(&mut self) {
        self.0 = None;
    }

    /// A server refused this client. True: the refusals have lasted for `limit`, without a pause of half of `limit`.
    fn refused(&mut self, now: Instant, limit: Duration) -> bool {
        let continues = |(_, last): &(Instant, Instant)| now.duration_since(*last) <= limit / 2;
        let (since, _) = self.0.filter(continues).unwrap_or((now, now));
        self.0 = Some((since, now));
        now.duration_since(since) >= limit
    }
}

impl<E: Event> ConsumerThread<E> {
    pub(super) fn handle_error(&mut self, kind: KafkaErrorKind, text: String) -> Result<(), ConsumerError> {
        self.warnings.warn(kind, &text);
        match kind {
            KafkaErrorKind::Transient | KafkaErrorKind::OtherAssignor => {}
            KafkaErrorKind::AllBrokersDown => self.scheduler().report(KafkaReport::AllBrokersDown(self.fetched())),
            KafkaErrorKind::TopicMissing => self.scheduler().request_log_check(),
            KafkaErrorKind::Refused => {
                let for_long = self.refusals.refused(Instant::now(), self.options.startup_timeout);
                if for_long && self.scheduler().is_empty() {
                    return Err(ConsumerError::Fatal(text));
                }
            }
            KafkaErrorKind::OutOfRange => self.find_out_of_range(),
            KafkaErrorKind::Unclassified => {
                self.scheduler().report(KafkaReport::UnclassifiedError(self.fetched()));
            }
            KafkaErrorKind::Fatal => {
                return Err(ConsumerError::Fatal(self.consumer.fatal_reason().unwrap_or(text)));
            }
        }
        Ok(())
    }

    /// The error does not name its partition, and librdkafka no longer reads that partition. A log that does not answer
    /// in time counts as out of range. If all positions are in their logs now, the partition is unknown, and all
    /// partitions start again with a check of the log: a new leader may not have the records below the position.
    fn find_out_of_range(&self) {
        self.scheduler().request_log_check();
        let (began, member) = (Instant::now(), self.consumer.member());
        let in_range = self.rebalancer.fetches().in_range();
        let outside = |(partition, position): &(Partition, _)| {
            let bounds = member.watermarks(*partition, WATERMARKS.saturating_sub(began.elapsed()));
            bounds.map_or(true, |(start, end)| !(start..=end).contains(position))
        };
        let found: Vec<Partition> = in_range.into_iter().filter(outside).map(|(partition, _)| partition).collect();
        let refused = if found.is_empty() { self.fetched() } else { found };
        let mut fetches = self.rebalancer.fetches();
        for partition in refused {
            if let Some(fetch) = fetches.get_mut(partition) {
                fetch.refuse();
            }
        }
    }

    /// Reports each refused position until the report has an effect, which is after the commit of the earlier records.
    pub(super) fn report_out_of_range(&self) {
        let refused = self.rebalancer.fetches().out_of_range();
        for (partition, generation) in refused {
            self.scheduler().report(KafkaReport::OutOfRange(partition, generation));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_count_only_while_they_follow_each_other() {
        let (start, limit) = (Instant::now(), Duration::from_secs(10));
        let mut refusals = Refusals::default();
        let mut refused = |seconds| refusals.refused(start + Duration::from_secs(seconds), limit);
        assert!(!refused(0));
        assert!(!refused(5));
        assert!(refused(10), "without a pause of half of the limit");
        assert!(!refused(16), "a pause begins a new series");
        assert!(!refused(21));
        assert!(refused(26));
    }
}
