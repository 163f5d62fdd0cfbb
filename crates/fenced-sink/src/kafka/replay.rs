//! Reads ranges of a log again, whole, beside whoever consumes it: a client of its own that joins no group and commits
//! nothing. Either all records of the ranges that the log has are handed over, or it says why not.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _, DefaultConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset as KafkaOffset;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

use crate::event::Event;
use crate::kafka::client::{ConsumerError, configuration, refused, without_membership};
use crate::kafka::error::{KafkaErrorKind, error_kind, is_damage};
use crate::kafka::ffi;
use crate::kafka::topic_log_client::TopicLogClient;
use crate::model::batch::Entry;
use crate::model::record::{Offset, Partition, Position, Step};

/// How long one poll waits for a record.
const POLL: Duration = Duration::from_millis(20);
/// So many records are handed over at once, at most.
const CHUNK: usize = 4096;
/// So many bytes are handed over at once, at most and one record.
const CHUNK_BYTES: usize = 2 << 20;
/// So many chunks wait for whoever compares.
const WAITING: usize = 4;
/// Kafka may give nothing for so long.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What the reading thread says. The last is `End` or `Failed`.
pub(crate) enum ReplayMessage<E> {
    /// The next records, and how many offsets of the ranges are passed.
    Chunk(Vec<Entry<E>>, u64),
    /// All is read.
    End,
    /// It can't go on; not all is read.
    Failed(ReplayError),
}

/// Why the ranges can't be read.
#[derive(Debug)]
pub(crate) enum ReplayError {
    /// The client can't be made.
    Client(ConsumerError),
    /// Kafka doesn't give the records.
    Unavailable(String),
    /// It gives something, and that is damaged.
    Corrupt(String),
}

/// Starts a thread that reads the ranges. It ends by itself, also when nobody listens any more.
pub(crate) fn start<E: Event>(
    properties: &BTreeMap<String, String>,
    log: Arc<TopicLogClient>,
    topic: &str,
    ranges: &BTreeMap<Partition, Step>,
) -> Result<mpsc::Receiver<ReplayMessage<E>>, ReplayError> {
    let configuration = configuration(&without_membership(properties));
    let consumer: BaseConsumer = configuration.create().map_err(|error| ReplayError::Client(refused(&error)))?;
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
        topic: topic.to_owned(),
        open: open.collect(),
        passed: 0,
        moved_at: Instant::now(),
        complaint: None,
        failed: None,
    };
    let (tell, told) = mpsc::channel(WAITING);
    let started = std::thread::Builder::new().name("replay".to_owned()).spawn(move || replay.run(&tell));
    started.map_err(|error| ReplayError::Unavailable(format!("no thread to read with: {error}")))?;
    Ok(told)
}

/// A range that is not read to its end.
struct OpenRange {
    range: Step,
    /// Below this, all is read.
    reached: Position,
}

struct Replay {
    consumer: BaseConsumer<DefaultConsumerContext>,
    log: Arc<TopicLogClient>,
    topic: String,
    open: BTreeMap<Partition, OpenRange>,
    passed: u64,
    moved_at: Instant,
    /// The last error that the client deals with by itself.
    complaint: Option<String>,
    /// Why it can't go on, once what came before that is handed over.
    failed: Option<ReplayError>,
}

impl Replay {
    fn run<E: Event>(&mut self, tell: &mpsc::Sender<ReplayMessage<E>>) {
        let mut goes_on = true;
        while goes_on {
            let said = match self.read() {
                Ok(entries) if entries.is_empty() => ReplayMessage::End,
                Ok(entries) => ReplayMessage::Chunk(entries, self.passed),
                Err(error) => ReplayMessage::Failed(error),
            };
            let last = !matches!(said, ReplayMessage::Chunk(..));
            goes_on = tell.blocking_send(said).is_ok() && !last;
            // Whoever compares may have been slow; that is no silence of Kafka's.
            self.moved_at = Instant::now();
        }
    }

    /// The next records. None: all ranges are read.
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
                    let record = wanted.then(|| ffi::record(&message));
                    drop(message);
                    self.reached(partition, offset.next());
                    if let Some(record) = record {
                        bytes += record.size();
                        let parsed = E::parse(&record);
                        entries.push(Entry { record, parsed });
                    }
                }
                Some(Err(error)) => {
                    if let Err(error) = self.judge(&error) {
                        // What came before it is good.
                        self.failed = Some(error);
                        break;
                    }
                }
                None if entries.is_empty() => self.look_where_it_is()?,
                None => break,
            }
        }
        match self.failed.take_if(|_| entries.is_empty()) {
            Some(error) => Err(error),
            None => Ok(entries),
        }
    }

    /// What lies past markers and aborted data. Only to be called when nothing delivered is left to take.
    fn look_where_it_is(&mut self) -> Result<(), ReplayError> {
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
        let why = self.complaint.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
        Err(ReplayError::Unavailable(format!(
            "Kafka gave nothing for {} s{why}: {}",
            TIMEOUT.as_secs(),
            self.where_it_is()
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
                // It goes on in vain: what is not open is not taken.
                tracing::debug!(%error, "pause_failed");
            }
        }
    }

    /// What the client does not deal with by itself ends the reading: a record may have been left out.
    fn judge(&mut self, error: &KafkaError) -> Result<(), ReplayError> {
        match error_kind(error) {
            KafkaErrorKind::Transient
            | KafkaErrorKind::AllBrokersDown
            | KafkaErrorKind::TopicMissing
            | KafkaErrorKind::Refused
            | KafkaErrorKind::OtherAssignor => {
                self.complaint = Some(error.to_string());
                Ok(())
            }
            KafkaErrorKind::OutOfRange => Err(ReplayError::Unavailable(format!(
                "the log lost records while they were read, or never had them: {}",
                self.where_it_is()
            ))),
            KafkaErrorKind::Unclassified if is_damage(error) => Err(ReplayError::Corrupt(format!(
                "the log is damaged ({error}), at or after one of: {}",
                self.where_it_is()
            ))),
            KafkaErrorKind::Unclassified | KafkaErrorKind::Fatal => Err(ReplayError::Unavailable(format!(
                "what Kafka gives can't be trusted ({error}): {}",
                self.where_it_is()
            ))),
        }
    }

    /// How far each open range is read, and what the log has of it now, if Kafka says so.
    fn where_it_is(&self) -> String {
        let bounds = self.log.bounds().unwrap_or_default();
        let place = |(partition, reading): (&Partition, &OpenRange)| {
            let log = bounds
                .get(partition)
                .map(|bounds| format!(", and its log now begins at {} and ends at {}", bounds.start, bounds.end));
            let OpenRange { range, reached } = reading;
            format!("partition {partition} is read up to {reached} of {}{}", range.to(), log.unwrap_or_default())
        };
        self.open.iter().map(place).collect::<Vec<_>>().join("; ")
    }

    fn list(&self, partitions: impl IntoIterator<Item = Partition>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, partition.0);
        }
        list
    }
}

impl OpenRange {
    fn wants(&self, offset: Offset) -> bool {
        Position(offset.0) >= self.reached && offset.next() <= self.range.to()
    }
}
