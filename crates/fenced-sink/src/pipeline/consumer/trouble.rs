//! What the consumer thread does about what Kafka complains of, and about silence.

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::kafka::client::ConsumerError;
use crate::kafka::error::{KafkaErrorKind, error_kind};
use crate::model::record::Partition;
use crate::model::standing::SchedulerView as _;
use crate::pipeline::consumer::ConsumerThread;
use crate::pipeline::consumer::rebalance::FetchState;

/// Nothing assigned for so long is worth a warning.
const UNASSIGNED_WARNING: Duration = Duration::from_secs(30);
/// How long the question for the bounds of all logs may hold up the thread.
const WATERMARKS: Duration = Duration::from_secs(3);

/// How long a consumer that is replaced may take to leave the group.
const LEAVING: Duration = Duration::from_secs(10);

impl<E: Event> ConsumerThread<E> {
    /// Says so when Kafka gives us nothing for long: an older broker does not even answer a newer group protocol.
    pub(super) fn watch(&mut self) {
        self.consumer.context().ask_membership(&self.consumer);
        if !self.assignment().is_empty() {
            self.unassigned_since = Instant::now();
            self.refused = None;
        } else if self.unassigned_since.elapsed() > UNASSIGNED_WARNING {
            self.unassigned_since = Instant::now();
            tracing::warn!(
                topic = self.options.topic,
                hint = "kafka may not be reachable, the topic may not exist, there may be more instances than partitions, \
                        or the broker may not know this group.protocol",
                "no_partition_assigned"
            );
        }
    }

    pub(super) fn handle_error(&mut self, error: &KafkaError) -> Result<(), ConsumerError> {
        let (text, kind) = (error.to_string(), error_kind(error));
        self.complaints.warn(kind, &text);
        match kind {
            KafkaErrorKind::Transient | KafkaErrorKind::OtherAssignor => {}
            // What was read before is compared with what is there when it is back.
            KafkaErrorKind::AllBrokersDown => self.assignment().read_again(self.reading()),
            KafkaErrorKind::TopicMissing => self.assignment().look_at_the_log(),
            KafkaErrorKind::Refused => {
                if self.refused_for_long() && self.assignment().is_empty() {
                    return Err(ConsumerError::Fatal(text));
                }
            }
            KafkaErrorKind::OutOfRange => self.find_out_of_range(),
            KafkaErrorKind::Unclassified => self.assignment().restart(self.reading()),
            KafkaErrorKind::Fatal => {
                let reason = self.consumer.client().fatal_error().map_or(text, |(_, reason)| reason);
                return Err(ConsumerError::Fatal(reason));
            }
        }
        Ok(())
    }

    /// Whether refusals have come for longer than the start-up timeout, without a pause of half of it.
    fn refused_for_long(&mut self) -> bool {
        let (now, timeout) = (Instant::now(), self.options.startup_timeout);
        let goes_on = |(_, last): &(Instant, Instant)| now.duration_since(*last) <= timeout / 2;
        let (since, _) = self.refused.filter(goes_on).unwrap_or((now, now));
        self.refused = Some((since, now));
        now.duration_since(since) >= timeout
    }

    /// The error does not say whose position it is, and that partition is read no more. Of a log that does not answer in time
    /// the worst is assumed. If all positions are within their logs by now, nobody knows which it was.
    fn find_out_of_range(&self) {
        self.assignment().look_at_the_log();
        let reading = self.consumer.context().readers().clone();
        let began = Instant::now();
        let outside = |(partition, reader): &(Partition, FetchState)| {
            let left = WATERMARKS.saturating_sub(began.elapsed());
            let log = self.consumer.fetch_watermarks(&self.options.topic, partition.0, left);
            log.map_or(true, |(start, end)| !(start..=end).contains(&reader.at().0))
        };
        let found: Vec<Partition> = reading
            .into_iter()
            .filter(|(_, reader)| !reader.out_of_range)
            .filter(outside)
            .map(|(partition, _)| partition)
            .collect();
        if found.is_empty() {
            self.assignment().restart(self.reading());
        }
        let mut readers = self.consumer.context().readers();
        for partition in found {
            if let Some(reader) = readers.get_mut(&partition) {
                reader.out_of_range = true;
            }
        }
    }

    /// A refused position is nobody's business before all that was read up to it is committed: that much is not lost.
    pub(super) fn give_up_out_of_range(&self) {
        let readers = self.consumer.context().readers().clone();
        for (partition, reader) in readers.into_iter().filter(|(_, reader)| reader.out_of_range) {
            self.assignment().out_of_range(partition, reader.generation);
        }
    }

    /// With another client: what this one knows of the cluster keeps it from hearing of records, as after a restore, where
    /// it takes the brokers for outdated.
    pub(super) fn begin_anew(&mut self) -> Result<(), ConsumerError> {
        let assignment = Arc::clone(&self.consumer.context().assignment);
        let held: Vec<Partition> = assignment.held().into_iter().map(|held| held.partition).collect();
        let former = std::mem::replace(self, Self::new(self.options.clone(), Arc::clone(&assignment))?);
        former.consumer.context().retire();
        assignment.revoked(&held, Duration::ZERO);
        // It leaves first: two members of one `group.instance.id` are refused, for good. But a frozen broker may never let it.
        let (tell, told) = mpsc::channel();
        let leaving = std::thread::Builder::new().name("former consumer".to_owned()).spawn(move || {
            former.leave();
            tell.send(())
        });
        if leaving.is_err() || told.recv_timeout(LEAVING).is_err() {
            tracing::warn!(hint = "the group notices after the session timeout", "former_consumer_not_left");
        }
        self.join()
    }
}
