//! The consumer thread: reads what the assignment wants read, and reports it.

mod rebalance;
mod trouble;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::Offset as KafkaOffset;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::kafka::client::{ConsumerError, ConsumerOptions, configuration, refused};
use crate::kafka::error::WarningLimiter;
use crate::kafka::ffi;
use crate::model::batch::{Arrival, Entry};
use crate::model::protocol::Generation;
use crate::model::record::{Partition, Position, Record};
use crate::pipeline::consumer::rebalance::{Context, FetchState};
use crate::pipeline::shared_scheduler::SharedScheduler;
use crate::pipeline::work::ReadTarget;

/// How long one poll waits for a record: the longest delay of a start, a pause or a stop.
const POLL: Duration = Duration::from_millis(20);
/// How long a full buffer is waited for before partitions are paused.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(2); // meanwhile
/// So many records are reported at once, at most.
const CHUNK: usize = 512;
/// So many bytes are reported at once, at most and one record.
const CHUNK_BYTES: usize = 1 << 20;
/// How often idle partitions are asked for the position past markers and aborted data.
const REACH_INTERVAL: Duration = Duration::from_millis(100);
/// How often committed positions are told to Kafka.
const MIRROR_INTERVAL: Duration = Duration::from_secs(3);
/// How often all of them are told again.
const MIRROR_AGAIN_INTERVAL: Duration = Duration::from_mins(1);

/// Reads the topic for one process.
pub(crate) struct ConsumerThread<E: Event> {
    pub(super) consumer: BaseConsumer<Context<E>>,
    pub(super) options: ConsumerOptions,
    pub(super) paused: bool,
    pub(super) full_since: Option<Instant>,
    pub(super) reach_at: Instant,
    pub(super) mirror_at: Instant,
    pub(super) mirror_again_at: Instant,
    pub(super) unassigned_since: Instant,
    /// The first and the last refusal of a series.
    pub(super) refused: Option<(Instant, Instant)>,
    pub(super) complaints: WarningLimiter,
}

impl<E: Event> ConsumerThread<E> {
    /// No member of the group yet; Kafka need not be there.
    pub(crate) fn new(options: ConsumerOptions, assignment: Arc<SharedScheduler<E>>) -> Result<Self, ConsumerError> {
        let poll_limit = options.properties.get("max.poll.interval.ms").and_then(|text| text.parse().ok());
        let quarter = Duration::from_millis(poll_limit.unwrap_or(300_000) / 4);
        let context = Context::new(assignment, options.topic.clone(), quarter.min(Duration::from_secs(10)));
        let consumer = configuration(&options.properties).create_with_context(context);
        let consumer: BaseConsumer<_> = consumer.map_err(|error| refused(&error))?;
        let now = Instant::now();
        Ok(Self {
            consumer,
            options,
            paused: false,
            full_since: None,
            reach_at: now,
            mirror_at: now,
            mirror_again_at: now,
            unassigned_since: now,
            refused: None,
            complaints: WarningLimiter::default(),
        })
    }

    pub(super) fn join(&self) -> Result<(), ConsumerError> {
        self.consumer.subscribe(&[&self.options.topic]).map_err(|error| refused(&error))
    }

    /// Until the assignment stops, or Kafka is of no more use.
    pub(crate) fn run(&mut self) -> Result<(), ConsumerError> {
        let ended = self.join().and_then(|()| self.read_until_stopped());
        if ended.is_ok() {
            self.reach();
        }
        self.assignment().reading_ended();
        ended
    }

    fn read_until_stopped(&mut self) -> Result<(), ConsumerError> {
        while !self.assignment().is_stopping() {
            if self.assignment().take_deaf() {
                self.begin_anew()?;
            }
            self.follow();
            if self.has_room() {
                self.read()?;
            } else {
                std::thread::sleep(LOOK_AGAIN);
            }
            self.mirror();
            self.watch();
        }
        Ok(())
    }

    /// Leaves the group, after the last commit has ended. Dropping the consumer is what leaves it; that can hang for as
    /// long as a broker is frozen, so nobody may wait for it without limit.
    pub(crate) fn leave(self) {
        let committed = self.assignment().take_committed();
        self.consumer.context().mirror(&self.consumer, committed);
        drop(self.consumer);
    }

    /// Makes the readers what the assignment wants: stops those of an older generation and starts those of a new one.
    /// Always by unassign and assign with an absolute position; a seek would let records of elsewhere through.
    fn follow(&mut self) {
        let context = self.consumer.context();
        self.give_up_out_of_range();
        let wanted = self.assignment().wanted();
        let keeps = |partition: &Partition, reader: &FetchState| {
            wanted.iter().any(|wanted| wanted.partition == *partition && wanted.generation == reader.generation)
        };
        let mut readers = context.readers();
        let stale: Vec<Partition> = readers.iter().filter(|(p, reader)| !keeps(p, reader)).map(|(p, _)| *p).collect();
        if !stale.is_empty() {
            context.unassign(&self.consumer, &stale);
            readers.retain(|partition, _| !stale.contains(partition));
        }
        for ReadTarget { partition, generation, at, last } in wanted {
            let reader = FetchState { generation, reached: at, expects: last, out_of_range: false };
            if !readers.contains_key(&partition) && self.is_at_rest(partition) && self.start(partition, &reader) {
                readers.insert(partition, reader);
            }
        }
    }

    /// An unassign ends in the background. Until it has, the old position stands, and `reach` would take it for one that
    /// was reached since the new start: everything in between would be lost.
    fn is_at_rest(&self, partition: Partition) -> bool {
        let list = self.consumer.context().list([partition]);
        ffi::positions(&self.consumer, &list);
        list.elements().iter().all(|element| element.offset() == KafkaOffset::Invalid)
    }

    fn start(&self, partition: Partition, reader: &FetchState) -> bool {
        if !self.assignment().started(partition, reader.generation) {
            return false;
        }
        let mut list = self.consumer.context().list([partition]);
        let placed = list.set_partition_offset(&self.options.topic, partition.0, KafkaOffset::Offset(reader.at().0));
        // The pause flag outlives an assignment, so a partition that starts is resumed, unless everything is paused.
        let started = placed
            .and_then(|()| self.consumer.incremental_assign(&list))
            .and_then(|()| if self.paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) });
        match started {
            Ok(()) => tracing::info!(
                topic = self.options.topic,
                partition = partition.0,
                position = reader.reached.0,
                "partition_started"
            ),
            Err(error) => {
                tracing::warn!(partition = partition.0, %error, "partition_start_failed");
                self.assignment().restart([partition]);
            }
        }
        true
    }

    /// Bounds the bytes that wait for the database. False: nothing may be read for a moment.
    ///
    /// A database that is merely slower than Kafka makes room within moments, and is waited for. One that stands still
    /// is not, since rebalances are told by reading: then everything pauses until half of the bound is free. Not at once,
    /// because a pause is dear: librdkafka throws away what it has fetched, and after a resume its broker thread may
    /// sleep on for up to a second.
    fn has_room(&mut self) -> bool {
        let buffered = self.assignment().buffered_bytes();
        if buffered <= self.options.buffer_max_bytes {
            self.full_since = None;
            if self.paused && buffered <= self.options.buffer_max_bytes / 2 {
                self.pause(false);
            }
            return true;
        }
        let full_since = *self.full_since.get_or_insert_with(Instant::now);
        let waited = full_since.elapsed() >= PAUSE_AFTER;
        if waited && !self.paused {
            self.pause(true);
        }
        waited || self.paused // also if it can't be paused: a member that does not poll loses its place
    }

    fn pause(&mut self, pause: bool) {
        let list = self.consumer.context().list(self.reading());
        let done = if pause { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        match done {
            Ok(()) => self.paused = pause,
            Err(error) => tracing::warn!(%error, "pause_failed"),
        }
    }

    /// Takes what has arrived, up to a chunk, and reports it.
    fn read(&mut self) -> Result<(), ConsumerError> {
        let mut arrivals = Vec::new();
        let (mut wait, mut bytes) = (POLL, 0);
        while arrivals.len() < CHUNK && bytes < CHUNK_BYTES {
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    let record = ffi::record(&message);
                    bytes += record.size();
                    arrivals.extend(self.arrival(record));
                }
                Some(Err(error)) => {
                    // What came before the error is good; what it means for the rest is decided first.
                    self.report(std::mem::take(&mut arrivals));
                    self.handle_error(&error)?;
                }
                None => {
                    self.report(std::mem::take(&mut arrivals));
                    if self.reach_at <= Instant::now() {
                        self.reach();
                    }
                    return Ok(());
                }
            }
            wait = Duration::ZERO;
        }
        self.report(arrivals);
        Ok(())
    }

    fn arrival(&self, record: Record) -> Option<(Partition, Generation, Arrival<E>)> {
        let mut readers = self.consumer.context().readers();
        let reader = readers.get_mut(&record.partition)?;
        // Reading began one record back: none there (compacted, expired) proves nothing, but none may come in between.
        if let Some((offset, digest)) = reader.expects.filter(|(offset, _)| (*offset..).contains(&record.offset)) {
            let is_new = Position(record.offset.0) >= reader.reached;
            if is_new || record.offset == offset && record.digest() == digest {
                self.assignment().last_record_matched(record.partition, reader.generation, reader.reached);
            } else {
                self.assignment().last_record_differs(record.partition, reader.generation, record.offset);
            }
            if !is_new {
                return None;
            }
            reader.expects = None;
        }
        reader.reached = reader.reached.max(record.offset.next());
        let parsed = E::parse(&record);
        Some((record.partition, reader.generation, Arrival::Record(Entry { record, parsed })))
    }

    fn report(&self, arrivals: Vec<(Partition, Generation, Arrival<E>)>) {
        if !arrivals.is_empty() {
            self.assignment().arrived(arrivals);
        }
    }

    /// Tells the positions past trailing markers and aborted data. Only to be called when nothing delivered is left to
    /// report, so that the position comes behind the records.
    fn reach(&mut self) {
        self.reach_at = Instant::now() + REACH_INTERVAL;
        let mut arrivals = Vec::new();
        let mut readers = self.consumer.context().readers();
        let positions = self.consumer.context().list(readers.keys().copied());
        ffi::positions(&self.consumer, &positions);
        for element in positions.elements() {
            let partition = Partition(element.partition());
            let (Some(reader), KafkaOffset::Offset(position)) = (readers.get_mut(&partition), element.offset()) else {
                continue;
            };
            if Position(position) > reader.reached {
                if reader.expects.take().is_some() {
                    self.assignment().last_record_matched(partition, reader.generation, reader.reached);
                }
                reader.reached = Position(position);
                arrivals.push((partition, reader.generation, Arrival::Reached(reader.reached)));
            }
        }
        drop(readers);
        self.report(arrivals);
    }

    fn mirror(&mut self) {
        let (now, context) = (Instant::now(), self.consumer.context());
        if self.mirror_at <= now {
            self.mirror_at = now + MIRROR_INTERVAL;
            context.mirror(&self.consumer, self.assignment().take_committed());
        }
        if self.mirror_again_at <= now {
            self.mirror_again_at = now + MIRROR_AGAIN_INTERVAL;
            context.mirror_again(&self.consumer);
        }
    }

    pub(super) fn reading(&self) -> Vec<Partition> {
        self.consumer.context().readers().keys().copied().collect()
    }

    pub(super) fn assignment(&self) -> &SharedScheduler<E> {
        &self.consumer.context().assignment
    }
}
