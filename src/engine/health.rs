//! What can be asked about a running engine: where its partitions stand, and whether the database does what it is asked.
//!
//! Only told to, never asked, by those who write: nothing that they decide depends on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::partition::State;
use super::record::Partition;
use super::writer::trouble::Errand;

/// One for each run; its clones tell the same.
#[derive(Clone, Default)]
pub struct Health(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    topic: String,
    assignment: Option<Arc<dyn Standings>>,
    halt_reasons: BTreeMap<Partition, String>,
    /// What last failed, and until when that counts if nothing is heard of it again.
    trouble: Option<(Errand, Instant)>,
}

/// Where a run stands at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The topic that is read.
    pub topic: String,
    /// Kafka has said at least once which partitions are ours, even if that was none.
    pub ever_assigned: bool,
    /// The end has begun.
    pub stopping: bool,
    /// The last work on the database was done.
    pub database_works: bool,
    /// The partitions that are ours.
    pub partitions: Vec<Standing>,
}

/// Where a partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which one.
    pub partition: Partition,
    /// Its state.
    pub state: State,
    /// The row's reason, once it has been read; halted partitions only.
    pub halt_reason: Option<String>,
}

/// What the assignment can tell, whatever the event.
pub(crate) trait Standings: Send + Sync {
    /// Kafka has said which partitions are ours.
    fn ever_assigned(&self) -> bool;
    /// The end has begun.
    fn stopping(&self) -> bool;
    /// The partitions that are ours.
    fn states(&self) -> Vec<(Partition, State)>;
}

impl Health {
    /// `None` as long as the run has not begun.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let assignment = Arc::clone(self.lock().assignment.as_ref()?);
        let (ever_assigned, stopping, states) =
            (assignment.ever_assigned(), assignment.stopping(), assignment.states());
        let known = self.lock();
        let standing = |(partition, state)| {
            let halt_reason = known.halt_reasons.get(&partition).filter(|_| state == State::Halted).cloned();
            Standing { partition, state, halt_reason }
        };
        Some(Snapshot {
            topic: known.topic.clone(),
            ever_assigned,
            stopping,
            database_works: known.trouble.is_none(),
            partitions: states.into_iter().map(standing).collect(),
        })
    }

    /// The run begins.
    pub(crate) fn began(&self, topic: &str, assignment: Arc<dyn Standings>) {
        *self.lock() = Known { topic: topic.to_owned(), assignment: Some(assignment), ..Known::default() };
    }

    /// What a row says about a halt.
    pub(crate) fn halt_reason(&self, partition: Partition, reason: Option<String>) {
        let mut known = self.lock();
        match reason {
            Some(reason) => known.halt_reasons.insert(partition, reason),
            None => known.halt_reasons.remove(&partition),
        };
    }

    /// The database did not do what it was asked. That counts until it does as much, or for so long: a partition that was
    /// taken away in the middle leaves nobody who would try again.
    pub(crate) fn failed(&self, errand: Errand, lasts: Duration) {
        let mut known = self.lock();
        let now = Instant::now();
        let until = now.checked_add(lasts).unwrap_or(now);
        let (before, not_sooner) = known.trouble.unwrap_or((errand, until));
        known.trouble = Some((errand.max(before), until.max(not_sooner)));
    }

    /// The database did what it was asked.
    pub(crate) fn done(&self, errand: Errand) {
        self.lock().trouble.take_if(|(failed, until)| errand >= *failed || *until <= Instant::now());
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Standings for Nothing {
        fn ever_assigned(&self) -> bool {
            true
        }

        fn stopping(&self) -> bool {
            false
        }

        fn states(&self) -> Vec<(Partition, State)> {
            vec![(Partition(0), State::Halted), (Partition(1), State::Owned)]
        }
    }

    fn running() -> Health {
        let health = Health::default();
        assert_eq!(health.snapshot(), None);
        health.began("bookings", Arc::new(Nothing));
        health
    }

    #[test]
    fn trouble_lasts_until_as_much_is_done_or_nothing_is_heard_of_it_any_more() {
        let health = running();
        let works = || health.snapshot().unwrap().database_works;
        assert!(works());
        health.failed(Errand::Write, Duration::from_mins(1));
        health.failed(Errand::Look, Duration::ZERO);
        health.done(Errand::Look);
        assert!(!works(), "a look proves nothing about writes");
        health.done(Errand::Write);
        assert!(works());
        health.failed(Errand::Write, Duration::ZERO);
        assert!(!works());
        health.done(Errand::Look);
        assert!(works());
    }

    #[test]
    fn only_a_halted_partition_has_a_reason() {
        let health = running();
        let reasons = || {
            let partitions = health.snapshot().unwrap().partitions;
            partitions.into_iter().map(|standing| standing.halt_reason).collect::<Vec<_>>()
        };
        assert_eq!(reasons(), [None, None]);
        health.halt_reason(Partition(0), Some("log_corrupt".to_owned()));
        health.halt_reason(Partition(1), Some("log_corrupt".to_owned()));
        assert_eq!(reasons(), [Some("log_corrupt".to_owned()), None]);
        health.halt_reason(Partition(0), None);
        assert_eq!(reasons(), [None, None]);
    }
}
