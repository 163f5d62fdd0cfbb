//! Two steps of a record's path without Kafka and `PostgreSQL`. The package `cost` runs them, to count their instructions.

use std::time::{Duration, Instant};

use crate::event::Event;
use crate::event::copy::CopyRows;
use crate::model::batch::{Arrival, BatchLimits, Entry, ParseOutcome};
use crate::model::mirror::CommittedPosition;
use crate::model::protocol::LedgerRow;
use crate::model::record::{Epoch, Partition, Position, Record};
use crate::model::stored_row::StoredRow;
use crate::model::topic_log::{KnownLog, LogBounds, LogObservation};
use crate::pipeline::reports::{KafkaReport, WriterReport, WriterTask};
use crate::pipeline::scheduler::Scheduler;
use crate::postgres::copy::PIECE;
use crate::postgres::retry::RetryDelays;

const PARTITION: Partition = Partition(0);
const START: Position = Position(0);
/// The number of records in a report of the consumer thread.
const CHUNK: usize = 512;

/// Passes the records of partition 0 through the scheduler: from the reports of the consumer thread, through the queue, into
/// the batches that a writer takes and commits. Returns the number of records that were committed.
#[must_use]
pub fn batch<E>(records: Vec<(Record, ParseOutcome<E>)>) -> usize {
    let now = Instant::now();
    let limits = BatchLimits { records: records.len(), bytes: usize::MAX };
    let delays = RetryDelays::new(Duration::ZERO, Duration::ZERO);
    let mut scheduler = Scheduler::new(now, limits, Duration::ZERO, delays, 1);
    scheduler.kafka_reported(now, KafkaReport::Assigned(vec![PARTITION]));

    let mut committed = 0_usize;
    let mut records = records.into_iter();
    loop {
        match scheduler.next_task(now, false) {
            Ok(WriterTask::Claim(partition, generation)) => {
                scheduler.writer_reported(now, WriterReport::Claimed(partition, generation, Some(row())));
                let bounds = [(PARTITION, LogBounds { start: START, end: Position(i64::MAX) })].into();
                let seen = LogObservation { bounds, complete: true, ..LogObservation::default() };
                scheduler.observed(now, &scheduler.questions(), &seen);
            }
            Ok(WriterTask::Commit(batches)) => {
                for claimed in batches {
                    committed = committed.saturating_add(claimed.batch.entries().len());
                    let position = CommittedPosition::confirmed(PARTITION, claimed.batch.step().to());
                    let report = WriterReport::Committed { position, bulk_failure: None, halted: false };
                    scheduler.writer_reported(now, report);
                }
            }
            Ok(_) => {}
            Err(_) => {
                let target = scheduler.read_targets().pop();
                let Some(generation) = target.map(|target| target.generation).filter(|_| records.len() > 0) else {
                    return committed;
                };
                scheduler.started(now, PARTITION, generation);
                while records.len() > 0 {
                    let chunk = records.by_ref().take(CHUNK);
                    let arrival = |(record, parsed)| Arrival::Record(Entry { record, parsed });
                    let arrivals = chunk.map(|record| (PARTITION, generation, arrival(record))).collect();
                    scheduler.kafka_reported(now, KafkaReport::Arrived(arrivals));
                }
            }
        }
    }
}

/// Encodes the rows of events as a binary `COPY` sends them. Returns the number of bytes.
///
/// # Errors
/// A value that can't be encoded.
pub fn encode<E: Event>(events: &[&E]) -> sqlx::Result<usize> {
    let Some(into) = E::COPY else { return Ok(0) };
    let mut rows = CopyRows::new();
    let mut bytes = 0_usize;
    for event in events {
        rows.add(*event, into.write)?;
        if rows.len() >= PIECE {
            bytes = bytes.saturating_add(rows.take().len());
        }
    }
    rows.end();
    Ok(bytes.saturating_add(rows.take().len()))
}

fn row() -> StoredRow {
    StoredRow {
        row: LedgerRow { next: START, epoch: Epoch(1), halted: false },
        known: KnownLog { topic_id: None, last: None, checked: START, epochs: None },
        halt_reason: None,
    }
}
