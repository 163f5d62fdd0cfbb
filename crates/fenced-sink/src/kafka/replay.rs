//! Reads ranges of a topic log again, for `verify`, in a separate thread and with a separate client.
//!
//! The invariant: it delivers every record of the ranges that the topic log has, or it fails with a reason. It joins no
//! group and commits nothing, so a running service is not affected.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset as KafkaOffset;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

use crate::event::Event;
use crate::kafka::client::{ConsumerError, configuration, partition_list, refused, without_membership};
use crate::kafka::error::{KafkaErrorKind, KafkaNames, error_kind, hint, is_damage};
use crate::kafka::ffi;
use crate::kafka::last_error::{Client, LastError};
use crate::kafka::probe::Prober;
use crate::kafka::record_memory::RecordMemory;
use crate::kafka::topic_log_client::TopicLogClient;
use crate::model::batch::Entry;
use crate::model::record::{Offset, Partition, Position, Step};
use crate::model::topic_log::Probe;

/// The time that one poll waits for a record.
const POLL: Duration = Duration::from_millis(20);
/// The maximum number of records in one chunk.
const CHUNK: usize = 4096;
/// A chunk ends behind the record that reaches this number of bytes.
const CHUNK_BYTES: usize = 2 << 20;
/// The maximum number of chunks that wait for the receiver.
const QUEUED_CHUNKS: usize = 4;
/// The read fails if Kafka delivers nothing for this long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A message of the reading thread. The last one is `End` or `Failed`.
pub(crate) enum ReplayMessage<E> {
    /// The next records, and the number of offsets of all ranges that are passed so far.
    Chunk(Vec<Entry<E>>, u64),
    /// All ranges are read.
    End,
    /// The read failed before the end of the ranges.
    Failed(ReplayError),
}

/// Why the read failed.
#[derive(Debug)]
pub(crate) enum ReplayError {
    /// librdkafka refused the configuration.
    Client(ConsumerError),
    /// Kafka does not deliver the records.
    Unavailable(String),
    /// The records are damaged.
    Corrupt(String),
}

/// Starts a thread that reads the ranges. The thread ends after its last message, or when the receiver is dropped.
pub(crate) fn start<E: Event>(
    properties: &BTreeMap<String, String>,
    log: Arc<TopicLogClient>,
    topic: &str,
    ranges: &BTreeMap<Partition, Step>,
) -> Result<mpsc::Receiver<ReplayMessage<E>>, ReplayError> {
    let configuration = configuration(&without_membership(properties));
    let consumer: Client = configuration
        .create_with_context(LastError::default())
        .map_err(|error| ReplayError::Client(refused(&error)))?;
    let mut list = TopicPartitionList::new();
    for (partition, range) in ranges {
        let placed = list.add_partition_offset(topic, partition.0, KafkaOffset::Offset(range.from().0));
        placed.map_err(|error| ReplayError::Unavailable(error.to_string()))?;
    }
    consumer.assign(&list).map_err(|error| ReplayError::Unavailable(error.to_string()))?;
    let open = ranges.iter().map(|(partition, range)| (*partition, OpenRange { range: *range, reached: range.from() }));
    let mut replay = Replay {
        consumer,
        log,
        prober: Prober::new(properties, topic),
        topic: topic.to_owned(),
        names: KafkaNames::new(properties, topic),
        open: open.collect(),
        passed: 0,
        memory: RecordMemory::default(),
        moved_at: Instant::now(),
        failed: None,
    };
    let (sender, receiver) = mpsc::channel(QUEUED_CHUNKS);
    let started = std::thread::Builder::new().name("replay".to_owned()).spawn(move || replay.run(&sender));
    started.map_err(|error| ReplayError::Unavailable(format!("can't start the thread that reads: {error}")))?;
    Ok(receiver)
}

/// A range that is not completely read.
struct OpenRange {
    range: Step,
    /// All records of the range below this position are read.
    reached: Position,
}

struct Replay {
    consumer: Client,
    log: Arc<TopicLogClient>,
    /// Reads a batch that was not delivered, to know whether it is too large.
    prober: Prober,
    topic: String,
    names: KafkaNames,
    open: BTreeMap<Partition, OpenRange>,
    passed: u64,
    memory: RecordMemory,
    moved_at: Instant,
    /// The error that ends the read, until the records before it are sent.
    failed: Option<ReplayError>,
}

impl Replay {
    fn run<E: Event>(&mut self, sender: &mpsc::Sender<ReplayMessage<E>>) {
        let mut running = true;
        while running {
            let message = match self.read() {
                Ok(entries) if entries.is_empty() => ReplayMessage::End,
                Ok(entries) => ReplayMessage::Chunk(entries, self.passed),
                Err(error) => ReplayMessage::Failed(error),
            };
            let last = !matches!(message, ReplayMessage::Chunk(..));
            running = sender.blocking_send(message).is_ok() && !last;
            // The time that the receiver needed is not part of the time without a record from Kafka.
            self.moved_at = Instant::now();
        }
    }

    /// Reads the next records. Empty: all ranges are read.
    fn read<E: Event>(&mut self) -> Result<Vec<Entry<E>>, ReplayError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while !self.open.is_empty() && entries.len() < CHUNK && bytes < CHUNK_BYTES {
            let wait = if entries.is_empty() { POLL } else { Duration::ZERO };
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    let (partition, offset) = (Partition(message.partition()), Offset(message.offset()));
                    let wanted = self.open.get(&partition).is_some_and(|reading| reading.wants(offset));
                    let record = wanted.then(|| ffi::record(&message, &mut self.memory));
                    drop(message);
                    self.reached(partition, offset.next());
                    if let Some(record) = record {
                        bytes += record.size();
                        let parsed = E::parse(&record);
                        entries.push(Entry { record, parsed });
                    }
                }
                Some(Err(error)) => {
                    if let Err(error) = self.note_error(&error) {
                        // The records before the error are valid: send them first.
                        self.failed = Some(error);
                        break;
                    }
                }
                None if entries.is_empty() => self.check_positions()?,
                None => break,
            }
        }
        match self.failed.take_if(|_| entries.is_empty()) {
            Some(error) => Err(error),
            None => Ok(entries),
        }
    }

    /// Passes markers and aborted records at the end of a range, and fails after a timeout.
    ///
    /// The caller must have taken every delivered record. Otherwise a position of the client could pass a record.
    fn check_positions(&mut self) -> Result<(), ReplayError> {
        let positions = self.list(self.open.keys().copied());
        ffi::positions(&self.consumer, &positions);
        for element in positions.elements() {
            if let KafkaOffset::Offset(position) = element.offset() {
                self.reached(Partition(element.partition()), Position(position));
            }
        }
        if self.moved_at.elapsed() < TIMEOUT {
            return Ok(());
        }
        self.fail_if_too_large()?;
        let why = self.consumer.context().get();
        let why = why.map(|(kind, why)| format!(" ({why}; {})", hint(kind, &why, &self.names))).unwrap_or_default();
        Err(ReplayError::Unavailable(format!(
            "Kafka gave nothing for {} s{why}: {}",
            TIMEOUT.as_secs(),
            self.progress()
        )))
    }

    fn reached(&mut self, partition: Partition, position: Position) {
        let Some(reading) = self.open.get_mut(&partition) else { return };
        let position = position.min(reading.range.to());
        if position <= reading.reached {
            return;
        }
        self.passed = self.passed.saturating_add(position.0.abs_diff(reading.reached.0));
        reading.reached = position;
        self.moved_at = Instant::now();
        if position == reading.range.to() {
            self.open.remove(&partition);
            if let Err(error) = self.consumer.pause(&self.list([partition])) {
                // Harmless: `read` drops the records of a range that is not open.
                tracing::debug!(%error, "pause_failed");
            }
        }
    }

    /// Ignores an error from which librdkafka recovers: the client remembers it for the message of a timeout. Fails at
    /// any other error: a record may be missing.
    fn note_error(&mut self, error: &KafkaError) -> Result<(), ReplayError> {
        match error_kind(error) {
            KafkaErrorKind::Transient
            | KafkaErrorKind::AllBrokersDown
            | KafkaErrorKind::TopicMissing
            | KafkaErrorKind::Refused(_)
            | KafkaErrorKind::OtherAssignor => Ok(()),
            KafkaErrorKind::OutOfRange => Err(ReplayError::Unavailable(format!(
                "the topic log lost records while they were read, or never had them: {}",
                self.progress()
            ))),
            KafkaErrorKind::Unclassified if is_damage(error) => {
                self.fail_if_too_large()?;
                Err(ReplayError::Corrupt(format!(
                    "the topic log is damaged ({error}), at or after one of: {}",
                    self.progress()
                )))
            }
            KafkaErrorKind::Unclassified | KafkaErrorKind::InstanceIdTaken | KafkaErrorKind::Fatal => {
                Err(ReplayError::Unavailable(format!(
                    "a record may be missing after an error of the Kafka client ({error}): {}",
                    self.progress()
                )))
            }
        }
    }

    /// The error codes of librdkafka do not distinguish a batch that is too large from a damaged one.
    fn fail_if_too_large(&self) -> Result<(), ReplayError> {
        for (&partition, OpenRange { reached, .. }) in &self.open {
            match self.prober.probe(partition, *reached) {
                Probe::TooLarge => {
                    return Err(ReplayError::Unavailable(format!(
                        "partition {partition} has a batch at offset {reached} that does not fit into \
                         receive.message.max.bytes: raise it in KAFKA_PROPERTIES"
                    )));
                }
                // Each further question would wait as long.
                Probe::NoAnswer => break,
                _ => {}
            }
        }
        Ok(())
    }

    /// The progress of each open range, and the bounds of its partition log if Kafka answers.
    fn progress(&self) -> String {
        let bounds = self.log.bounds().unwrap_or_default();
        let line = |(partition, reading): (&Partition, &OpenRange)| {
            let log = bounds
                .get(partition)
                .map(|bounds| format!(", and its log now begins at {} and ends at {}", bounds.start, bounds.end));
            let OpenRange { range, reached } = reading;
            format!("partition {partition} is read up to {reached} of {}{}", range.to(), log.unwrap_or_default())
        };
        self.open.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    fn list(&self, partitions: impl IntoIterator<Item = Partition>) -> TopicPartitionList {
        partition_list(&self.topic, partitions)
    }
}

impl OpenRange {
    fn wants(&self, offset: Offset) -> bool {
        Position(offset.0) >= self.reached && offset.next() <= self.range.to()
    }
}
