//! Any mix of failures by partition, on a simulated clock. A simulated Kafka delivers records, and a simulated database
//! refuses operations of single partitions for a while. One writer does all tasks, one after the other: it is the case
//! in which a failure could delay others the most.

use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::model::batch::{Arrival, Entry};
use crate::model::error_class::{ErrorClass, RetryCause};
use crate::model::event::Parsed;
use crate::model::failure::Failure;
use crate::model::operation::DbOperation;
use crate::model::protocol::LedgerRow;
use crate::model::record::{Epoch, Offset, Position, Record, Timestamp, TimestampType};
use crate::model::stored_row::StoredRow;
use crate::model::topic_log::{KnownLog, LogBounds};

const PARTITIONS: i32 = 4;
/// Each partition gets a record at this interval.
const RECORD_INTERVAL: Duration = Duration::from_millis(500);
/// Records are produced for this time.
const END: Duration = Duration::from_mins(6);
/// After this time no operation fails any more.
const RECOVERED: Duration = Duration::from_mins(8);
/// The longest operation: a wait for a lock.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The database refuses this operation of one partition, at these times.
#[derive(Clone, Debug)]
struct Fault {
    partition: Partition,
    operation: DbOperation,
    class: ErrorClass,
    at: Range<Duration>,
}

/// What Kafka does with one partition, at this time.
#[derive(Clone, Copy, Debug)]
enum Change {
    Error,
    Lost,
}

#[derive(Debug)]
struct World {
    scheduler: Scheduler<()>,
    start: Instant,
    now: Instant,
    faults: Vec<Fault>,
    /// The row of each partition: position and epoch.
    rows: BTreeMap<Partition, (Position, Epoch)>,
    /// The generation and the next offset of each fetch.
    fetches: BTreeMap<Partition, (Generation, Position)>,
    /// The last time when a partition had committed everything, or could not have committed for a reason of its own.
    waits_since: BTreeMap<Partition, Instant>,
    /// The last change of each partition: an assignment begins without a failure.
    changed_at: BTreeMap<Partition, Duration>,
}

impl World {
    fn new(faults: Vec<Fault>) -> Self {
        let now = Instant::now();
        let limits = BatchLimits { records: 100, bytes: 1 << 20 };
        let delays = RetryDelays { initial: Duration::from_millis(100), max: RETRY_MAX, random: || 1.0 };
        let partitions = || (0..PARTITIONS).map(Partition);
        let mut scheduler = Scheduler::new(now, limits, Duration::from_secs(45), delays, 1);
        scheduler.kafka_reported(now, KafkaReport::Assigned(partitions().collect()));
        Self {
            scheduler,
            start: now,
            now,
            faults,
            rows: partitions().map(|partition| (partition, (Position(0), Epoch(0)))).collect(),
            fetches: BTreeMap::new(),
            waits_since: partitions().map(|partition| (partition, now)).collect(),
            changed_at: BTreeMap::new(),
        }
    }

    fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// The end of each partition log: producers add records until `END`.
    fn log_end(&self) -> Position {
        let records = self.elapsed().min(END).as_millis() / RECORD_INTERVAL.as_millis();
        Position(i64::try_from(records).unwrap())
    }

    fn fault(&self, partition: Partition, operation: DbOperation) -> Option<&Fault> {
        let elapsed = self.elapsed();
        self.faults
            .iter()
            .find(|fault| fault.partition == partition && fault.operation == operation && fault.at.contains(&elapsed))
    }

    /// The log check and the consumer thread: they follow the targets, and deliver what the topic log has.
    fn kafka(&mut self) {
        let end = self.log_end();
        let bounds = LogBounds { start: Position(0), end };
        let asked = self.scheduler.questions();
        let seen = LogObservation {
            complete: true,
            bounds: asked.iter().map(|asked| (asked.partition, bounds)).collect(),
            ..LogObservation::default()
        };
        self.scheduler.observed(self.now, &asked, &seen);

        let targets = self.scheduler.read_targets();
        self.fetches.retain(|partition, (generation, _)| {
            targets.iter().any(|target| target.partition == *partition && target.generation == *generation)
        });
        for target in targets {
            let (partition, generation) = (target.partition, target.generation);
            if !self.fetches.contains_key(&partition) && self.scheduler.started(self.now, partition, generation) {
                self.fetches.insert(partition, (generation, target.at));
            }
        }
        for (partition, (generation, next)) in &mut self.fetches {
            let records = (next.0..end.0).map(|offset| (*partition, *generation, arrival(*partition, offset)));
            self.scheduler.kafka_reported(self.now, KafkaReport::Arrived(records.collect()));
            *next = end.max(*next);
        }
    }

    /// The writer does its next task, or waits until the instant that the scheduler returns.
    fn writer(&mut self) {
        match self.scheduler.next_task(self.now, false) {
            Err(due) => {
                assert!(due <= self.now + ROW_READ_INTERVAL, "the rows are read each second");
                self.now = due.max(self.now + Duration::from_millis(1));
            }
            Ok(task) => self.task(task),
        }
    }

    fn task(&mut self, task: WriterTask<()>) {
        match task {
            WriterTask::Claim(partition, generation) => {
                let report = if let Err(failure) = self.operate(&[partition], DbOperation::Claim) {
                    WriterReport::ClaimFailed(partition, generation, failure)
                } else {
                    let row = self.rows.get_mut(&partition).unwrap();
                    row.1 = Epoch(row.1.0 + 1);
                    WriterReport::Claimed(partition, generation, Some(self.row(partition)))
                };
                self.scheduler.writer_reported(self.now, report);
            }
            WriterTask::ReadRows(rows) => {
                let partitions: Vec<Partition> = rows.iter().map(|(partition, _)| *partition).collect();
                let done = self.operate(&partitions, DbOperation::ReadRow);
                for (partition, token) in rows {
                    let report = match &done {
                        Err(failure) => WriterReport::RowNotRead(partition, token, failure.clone()),
                        Ok(()) => WriterReport::RowRead(partition, token, Some(self.row(partition))),
                    };
                    self.scheduler.writer_reported(self.now, report);
                }
            }
            WriterTask::Commit(batches) => self.commit(batches),
            WriterTask::RecordLogFault(_) | WriterTask::Stop => panic!("there is no cause for it"),
        }
    }

    fn commit(&mut self, batches: Vec<ClaimedBatch<()>>) {
        let partitions: Vec<Partition> = batches.iter().map(|claimed| claimed.batch.partition()).collect();
        let done = self.operate(&partitions, DbOperation::Commit);
        for claimed in batches {
            let (partition, step) = (claimed.batch.partition(), claimed.batch.step());
            let row = self.rows.get_mut(&partition).unwrap();
            assert_eq!((row.0, row.1), (step.from(), claimed.epoch), "the fence accepts each batch");
            let offsets: Vec<i64> = claimed.batch.entries().iter().map(|entry| entry.record.offset.0).collect();
            assert!(
                offsets.iter().copied().eq(step.from().0..step.to().0),
                "a delivered record is missing: {offsets:?}"
            );
            let report = if let Err(failure) = &done {
                let failure = Failure { step: Some(step), shared: partitions.len() > 1, ..failure.clone() };
                match failure.class {
                    ErrorClass::Retry(RetryCause::Connection) => WriterReport::CommitFailed(partition, failure),
                    _ => WriterReport::RolledBack(claimed, failure),
                }
            } else {
                row.0 = step.to();
                let position = CommittedPosition::confirmed(partition, step.to());
                WriterReport::Committed { position, bulk_failure: None, halted: false }
            };
            self.scheduler.writer_reported(self.now, report);
        }
    }

    /// An operation for these partitions. It fails if it fails for one of them, and then takes as long as a lock wait.
    fn operate(&mut self, partitions: &[Partition], operation: DbOperation) -> Result<(), Failure> {
        let fault = partitions.iter().find_map(|partition| self.fault(*partition, operation)).cloned();
        self.now += if fault.is_some() { LOCK_WAIT } else { Duration::from_millis(5) };
        let failure = |fault: Fault| Failure {
            operation,
            class: fault.class,
            sqlstate: None,
            error: String::new(),
            step: None,
            shared: false,
        };
        fault.map_or(Ok(()), |fault| Err(failure(fault)))
    }

    fn row(&self, partition: Partition) -> StoredRow {
        let (next, epoch) = self.rows[&partition];
        let known = KnownLog { topic_id: None, last: None, checked: next, epochs: None };
        StoredRow { row: LedgerRow { next, epoch, halted: false }, known, halt_reason: None }
    }

    fn change(&mut self, partition: Partition, change: Change) {
        self.waits_since.insert(partition, self.now);
        self.changed_at.insert(partition, self.elapsed());
        let reports = match change {
            Change::Error => vec![KafkaReport::UnclassifiedError(vec![partition])],
            Change::Lost => {
                vec![KafkaReport::Revoked(vec![partition]), KafkaReport::Assigned(vec![partition])]
            }
        };
        for report in reports {
            self.scheduler.kafka_reported(self.now, report);
        }
    }

    fn check(&mut self) {
        let end = self.log_end();
        let elapsed = self.elapsed();
        let held: BTreeMap<Partition, HeldPartition> =
            self.scheduler.held(self.now).into_iter().map(|held| (held.partition, held)).collect();
        for (partition, (next, _)) in &self.rows {
            // Its own failures, and the retry delay that follows them.
            let own = self.faults.iter().filter(|fault| fault.partition == *partition);
            // A row read has the rows of all partitions, so each of them waits for it.
            let shared = self.faults.iter().filter(|fault| fault.operation == DbOperation::ReadRow);
            let disturbed = own
                .chain(shared)
                .any(|fault| fault.at.start <= elapsed && elapsed < fault.at.end + RETRY_MAX + LOCK_WAIT * 2);
            let failure = held[partition].failure.as_ref();
            if *next >= Position(end.0 - 1) || disturbed {
                self.waits_since.insert(*partition, self.now);
            }
            let waited = self.now - self.waits_since[partition];
            let bound = LOCK_WAIT * 8 * u32::try_from(PARTITIONS).unwrap();
            assert!(waited <= bound, "partition {partition} waits for {waited:?} at {elapsed:?}: {failure:?}");

            // While a claim or a row read fails, no commit is tried.
            let before = |fault: &&Fault| {
                let concerns = fault.partition == *partition && fault.operation == DbOperation::Claim
                    || fault.operation == DbOperation::ReadRow;
                concerns && fault.at.start <= elapsed
            };
            let tried = self.faults.iter().filter(before).map(|fault| fault.at.end + RETRY_MAX + LOCK_WAIT * 2).max();
            let changed = self.changed_at.get(partition).copied();
            let lasts_a_minute = self.fault(*partition, DbOperation::Commit).is_some_and(|fault| {
                let since = [Some(fault.at.start), changed, tried].into_iter().flatten().max();
                elapsed.saturating_sub(since.unwrap_or_default()) >= Duration::from_mins(1)
            });
            if lasts_a_minute && elapsed < END {
                assert!(failure.is_some(), "the failure of partition {partition} is not visible at {elapsed:?}");
            }
        }
    }
}

fn arrival(partition: Partition, offset: i64) -> Arrival<()> {
    let record = Record {
        partition,
        offset: Offset(offset),
        timestamp: Timestamp { millis: 0, kind: TimestampType::CreateTime },
        key: None,
        value: None,
        headers: Vec::new(),
        leader_epoch: None,
    };
    Arrival::Record(Entry { record, parsed: Ok(Parsed::Event(())) })
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let operation = prop_oneof![
        6 => Just(DbOperation::Commit),
        2 => Just(DbOperation::Claim),
        1 => Just(DbOperation::ReadRow),
    ];
    let class = prop_oneof![
        Just(ErrorClass::Operator),
        Just(ErrorClass::Unknown),
        Just(ErrorClass::TooSlow),
        Just(ErrorClass::Retry(RetryCause::Contention)),
        Just(ErrorClass::Retry(RetryCause::Connection)),
    ];
    // One partition at least has no failure of its own.
    let fault = (1..PARTITIONS, operation, class, 0_u64..300, 1_u64..180);
    let fault = fault.prop_map(|(partition, operation, class, start, lasts)| Fault {
        partition: Partition(partition),
        operation,
        class,
        at: Duration::from_secs(start)..Duration::from_secs(start + lasts),
    });
    proptest::collection::vec(fault, 0..6)
}

fn changes() -> impl Strategy<Value = Vec<(u64, i32, Change)>> {
    let change = prop_oneof![Just(Change::Error), Just(Change::Lost)];
    proptest::collection::vec((0_u64..350, 0..PARTITIONS, change), 0..6)
}

/// Claims of three of the four partitions wait for locks.
#[test]
fn claims_that_wait_for_locks_do_not_keep_another_partition_waiting() {
    for healthy in [0, PARTITIONS - 1] {
        let locked = (0..PARTITIONS).filter(|partition| *partition != healthy).map(|partition| Fault {
            partition: Partition(partition),
            operation: DbOperation::Claim,
            class: ErrorClass::Retry(RetryCause::Contention),
            at: Duration::ZERO..END,
        });
        let mut world = World::new(locked.collect());
        while world.elapsed() < END {
            world.kafka();
            world.writer();
            world.check();
        }
    }
}

#[test]
fn one_of_several_writers_never_works_on_a_partition_that_failed() {
    let mut world = World::new(Vec::new());
    world.scheduler.writers = 2;
    let claims: Vec<_> = (0..PARTITIONS)
        .map(|_| {
            loop {
                if let Ok(WriterTask::Claim(partition, generation)) = world.scheduler.next_task(world.now, false) {
                    break (partition, generation);
                }
            }
        })
        .collect();
    let failure = Failure {
        operation: DbOperation::Claim,
        class: ErrorClass::Retry(RetryCause::Contention),
        sqlstate: None,
        error: String::new(),
        step: None,
        shared: false,
    };
    for (partition, generation) in claims {
        world.scheduler.writer_reported(world.now, WriterReport::ClaimFailed(partition, generation, failure.clone()));
    }
    world.now += Duration::from_secs(5);
    let mut next = || match world.scheduler.next_task(world.now, false) {
        Ok(WriterTask::ReadRows(_)) => world.scheduler.next_task(world.now, false).ok(),
        other => other.ok(),
    };
    assert!(matches!(next(), Some(WriterTask::Claim(..))), "the first writer tries again");
    assert!(next().is_none(), "the second one stays free");
}

/// The partitions and the numbers of records of the next transaction.
fn next_commit(world: &mut World) -> Vec<(i32, usize)> {
    loop {
        match world.scheduler.next_task(world.now, false) {
            Ok(WriterTask::Commit(batches)) => {
                let size = |claimed: &ClaimedBatch<()>| (claimed.batch.partition().0, claimed.batch.entries().len());
                return batches.iter().map(size).collect();
            }
            Ok(WriterTask::ReadRows(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// All partitions are read, and this number of records of each waits.
fn with_waiting(world: &mut World, records: [i64; 4]) {
    while world.fetches.len() < records.len() {
        world.kafka();
        if let Ok(task) = world.scheduler.next_task(world.now, false) {
            world.task(task);
        }
    }
    for (partition, (generation, next)) in &world.fetches {
        let count = records[usize::try_from(partition.0).unwrap()];
        let records = (next.0..next.0 + count).map(|offset| (*partition, *generation, arrival(*partition, offset)));
        world.scheduler.kafka_reported(world.now, KafkaReport::Arrived(records.collect()));
    }
}

#[test]
fn a_large_transaction_leaves_the_other_writers_their_share_of_the_partitions() {
    let mut world = World::new(Vec::new());
    world.scheduler.writers = 2;
    with_waiting(&mut world, [1, 2, 3, 0]);
    assert_eq!(next_commit(&mut world), [(0, 1), (1, 2), (2, 3)], "a small one has all records");
    let mut world = World::new(Vec::new());
    world.scheduler.writers = 2;
    with_waiting(&mut world, [20, 20, 20, 20]);
    assert_eq!(next_commit(&mut world), [(0, 20), (1, 20)]);
    assert_eq!(next_commit(&mut world), [(2, 20)], "of the two partitions that wait, one is left");
}

#[test]
fn a_full_buffer_has_room_for_the_partitions_below_their_share() {
    let mut world = World::new(Vec::new());
    with_waiting(&mut world, [0, 1, 50, 100]);
    let total = world.scheduler.buffered_bytes();
    assert_eq!(world.scheduler.without_room(total), []);
    assert_eq!(world.scheduler.without_room(total - 1), [Partition(2), Partition(3)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_failure_of_one_partition_is_visible_and_delays_no_other_and_drops_no_record(
        faults in faults(),
        mut changes in changes(),
    ) {
        let mut world = World::new(faults);
        changes.sort_by_key(|(seconds, ..)| *seconds);
        let mut changes = changes.into_iter().peekable();
        while world.elapsed() < RECOVERED + RETRY_MAX * 4 {
            while let Some((_, partition, change)) =
                changes.next_if(|(seconds, ..)| Duration::from_secs(*seconds) <= world.elapsed())
            {
                world.change(Partition(partition), change);
            }
            world.kafka();
            world.writer();
            world.check();
        }
        let end = world.log_end();
        for (partition, (next, _)) in &world.rows {
            prop_assert_eq!(*next, end, "partition {} is not read to its end", partition);
        }
        prop_assert!(world.scheduler.held(world.now).iter().all(|held| held.failure.is_none()));
    }
}
