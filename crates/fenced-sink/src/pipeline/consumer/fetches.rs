//! What the consumer thread knows about the partitions that it reads. Pure.

use std::collections::BTreeMap;

use crate::model::protocol::Generation;
use crate::model::record::{Digest, Offset, Partition, Position, Record};
use crate::pipeline::reports::{FetchFailure, ReadTarget};

/// The partitions that are read.
#[derive(Debug, Default)]
pub(super) struct Fetches(BTreeMap<Partition, Fetch>);

/// A partition that is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetch {
    /// The tag of its records.
    generation: Generation,
    /// Everything below this position is reported.
    reached: Position,
    /// The last record that the row has. Reading starts one record back, with this record.
    last_record: Option<(Offset, Digest)>,
    /// The fetch failed. No later record is reported until reading starts again.
    failure: Option<FetchFailure>,
}

/// What a record, or a position, proves about the last record that the row has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastRecord {
    /// The question is already answered, or there was none.
    NotAsked,
    /// It is the same record, or it no longer exists.
    Matches {
        /// The position at which reading started.
        at: Position,
    },
    /// Its offset has another record now, or a record lies where there was none.
    Differs,
}

impl Fetches {
    pub(super) fn contains(&self, partition: Partition) -> bool {
        self.0.contains_key(&partition)
    }

    pub(super) fn partitions(&self) -> Vec<Partition> {
        self.0.keys().copied().collect()
    }

    pub(super) fn insert(&mut self, partition: Partition, fetch: Fetch) {
        self.0.insert(partition, fetch);
    }

    /// Removes the given partitions that are read, and returns them.
    pub(super) fn remove(&mut self, partitions: &[Partition]) -> Vec<Partition> {
        partitions.iter().copied().filter(|partition| self.0.remove(partition).is_some()).collect()
    }

    /// The fetch of a partition, unless it failed.
    pub(super) fn get_mut(&mut self, partition: Partition) -> Option<&mut Fetch> {
        self.0.get_mut(&partition).filter(|fetch| fetch.failure.is_none())
    }

    /// The partitions whose generation is no longer a target.
    pub(super) fn stale(&self, targets: &[ReadTarget]) -> Vec<Partition> {
        let wanted = |partition: Partition, fetch: &Fetch| {
            targets.iter().any(|target| target.partition == partition && target.generation == fetch.generation)
        };
        let stale = self.0.iter().filter(|(partition, fetch)| !wanted(**partition, fetch));
        stale.map(|(partition, _)| *partition).collect()
    }

    /// The fetch of a partition failed. Returns the position that it has reached. `None`: the partition is not read, or
    /// its fetch failed before.
    pub(super) fn failed(&mut self, partition: Partition, failure: FetchFailure) -> Option<Position> {
        let fetch = self.0.get_mut(&partition).filter(|fetch| fetch.failure.is_none())?;
        fetch.failure = Some(failure);
        Some(fetch.reached)
    }

    /// The failed fetches.
    pub(super) fn failures(&self) -> Vec<(Partition, Generation, FetchFailure)> {
        let failed = |(partition, fetch): (&Partition, &Fetch)| Some((*partition, fetch.generation, fetch.failure?));
        self.0.iter().filter_map(failed).collect()
    }
}

impl Fetch {
    pub(super) fn new(target: &ReadTarget) -> Self {
        let ReadTarget { generation, at, last_record, .. } = *target;
        Self { generation, reached: at, last_record, failure: None }
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// The position where reading starts, or that it has reached.
    pub(super) fn position(&self) -> Position {
        self.last_record.map_or(self.reached, |(offset, _)| Position(offset.0))
    }

    /// A record was delivered. Returns what it proves about the last record, and whether it is new.
    pub(super) fn delivered(&mut self, record: &Record) -> (LastRecord, bool) {
        let (at, is_new) = (self.reached, Position(record.offset.0) >= self.reached);
        let asked = self.last_record.filter(|(offset, _)| (*offset..).contains(&record.offset));
        // If no record arrives below the position, that proves nothing: it may be compacted or expired. But no other
        // record may be there.
        let last_record = match asked {
            None => LastRecord::NotAsked,
            Some((offset, digest)) if is_new || record.offset == offset && record.digest() == digest => {
                LastRecord::Matches { at }
            }
            Some(_) => LastRecord::Differs,
        };
        if asked.is_some() && !is_new {
            return (last_record, false);
        }
        if asked.is_some() {
            self.last_record = None;
        }
        self.reached = self.reached.max(record.offset.next());
        (last_record, true)
    }

    /// The consumer has reached this position, past markers and aborted data. `None`: the position is not new.
    pub(super) fn reach(&mut self, position: Position) -> Option<LastRecord> {
        (position > self.reached).then(|| {
            let at = std::mem::replace(&mut self.reached, position);
            self.last_record.take().map_or(LastRecord::NotAsked, |_| LastRecord::Matches { at })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::{Timestamp, TimestampType};

    fn record(offset: i64, value: &str) -> Record {
        Record {
            partition: Partition(0),
            offset: Offset(offset),
            timestamp: Timestamp { millis: 0, kind: TimestampType::CreateTime },
            key: None,
            value: Some(value.to_owned().into()),
            headers: Vec::new(),
            leader_epoch: None,
        }
    }

    /// A fetch that starts at 10, one record back at 7.
    fn one_back() -> Fetch {
        let last_record = Some((Offset(7), record(7, "last").digest()));
        let target = ReadTarget {
            partition: Partition(0),
            generation: Generation::default(),
            at: Position(10),
            last_record,
            leader_epoch: None,
        };
        Fetch::new(&target)
    }

    #[test]
    fn what_follows_a_failure_is_not_reported() {
        let (partition, mut fetches) = (Partition(0), Fetches::default());
        fetches.insert(partition, one_back());
        assert!(fetches.get_mut(partition).is_some());
        assert_eq!(fetches.failures(), []);
        assert_eq!(fetches.failed(Partition(1), FetchFailure::Unclassified), None, "it is not read");
        assert_eq!(fetches.failed(partition, FetchFailure::Unclassified), Some(Position(10)));
        assert_eq!(fetches.failed(partition, FetchFailure::OutOfRange), None, "it failed before");
        assert!(fetches.get_mut(partition).is_none());
        assert_eq!(fetches.failures(), [(partition, Generation::default(), FetchFailure::Unclassified)]);
        assert_eq!(fetches.remove(&[partition]), [partition]);
    }

    const MATCHES: LastRecord = LastRecord::Matches { at: Position(10) };

    #[test]
    fn the_first_record_says_whether_the_last_one_is_the_same() {
        let check = |offset, value, expected| {
            assert_eq!(one_back().delivered(&record(offset, value)), expected, "{offset} {value}");
        };
        assert_eq!(one_back().position(), Position(7));
        check(7, "last", (MATCHES, false));
        check(7, "other", (LastRecord::Differs, false));
        check(8, "last", (LastRecord::Differs, false));
        check(9, "last", (LastRecord::Differs, false));
        check(10, "new", (MATCHES, true));
        check(12, "new", (MATCHES, true));
    }

    #[test]
    fn the_last_record_is_compared_until_a_new_record_or_position_comes() {
        let mut fetch = one_back();
        assert_eq!(fetch.delivered(&record(7, "last")), (MATCHES, false));
        assert_eq!(fetch.delivered(&record(9, "other")), (LastRecord::Differs, false));
        assert_eq!(fetch.delivered(&record(10, "new")), (MATCHES, true));
        assert_eq!(fetch.delivered(&record(11, "new")), (LastRecord::NotAsked, true));
        assert_eq!((fetch.reach(Position(12)), fetch.position()), (None, Position(12)));
        assert_eq!((fetch.reach(Position(15)), fetch.position()), (Some(LastRecord::NotAsked), Position(15)));
        let mut fetch = one_back();
        assert_eq!(fetch.reach(Position(10)), None);
        assert_eq!((fetch.reach(Position(11)), fetch.position()), (Some(MATCHES), Position(11)));
    }
}
