//! Replaces the consumer. Old metadata can prevent a client from receiving records, without an error. After a restore,
//! for example, the leader epochs of the brokers are lower than those that the client knows.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant};

use super::ConsumerThread;
use crate::event::Event;
use crate::kafka::client::ConsumerError;
use crate::model::record::Partition;
use crate::model::standing::SchedulerView as _;
use crate::pipeline::reports::KafkaReport;

/// After this time, the new consumer joins the group although the former one has not ended. With a `group.instance.id`
/// Kafka then fences the former one.
const LEAVING: Duration = Duration::from_secs(10);

/// The former consumer. It ends in a separate thread. While a broker is frozen, it cannot end.
#[derive(Debug)]
pub(super) struct FormerConsumer {
    left: Receiver<()>,
    since: Instant,
}

impl FormerConsumer {
    /// Whether the new consumer may join the group.
    fn may_join(&self, now: Instant) -> bool {
        // The sender is dropped without a message only if the thread could not start. Then the consumer was dropped,
        // too, and has ended.
        if self.left.try_recv() != Err(TryRecvError::Empty) {
            return true;
        }
        let is_late = now.saturating_duration_since(self.since) >= LEAVING;
        if is_late {
            tracing::warn!(hint = "the group removes it after the session timeout", "former_consumer_not_left");
        }
        is_late
    }
}

impl<E: Event> ConsumerThread<E> {
    /// Ends the consumer, and replaces it by one that joins the group later.
    pub(super) fn replace_consumer(&mut self) -> Result<(), ConsumerError> {
        let scheduler = Arc::clone(&self.rebalancer.scheduler);
        let held: Vec<Partition> = scheduler.held().into_iter().map(|held| held.partition).collect();
        let former = std::mem::replace(self, Self::new(self.options.clone(), Arc::clone(&scheduler))?);
        self.unassigned = former.unassigned;
        former.rebalancer.supersede();
        scheduler.report(KafkaReport::Revoked(held));
        let (tell, left) = mpsc::channel();
        let leaving = std::thread::Builder::new().name("former consumer".to_owned()).spawn(move || {
            former.leave();
            tell.send(())
        });
        drop(leaving); // without a thread, the former consumer was dropped here
        self.former = Some(FormerConsumer { left, since: Instant::now() });
        Ok(())
    }

    /// Joins the group again as soon as the former consumer permits it.
    pub(super) fn join_after_former(&mut self) -> Result<(), ConsumerError> {
        if self.former.as_ref().is_some_and(|former| former.may_join(Instant::now())) {
            self.former = None;
            self.consumer.join()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_consumer_joins_after_the_former_one_has_ended_or_after_a_limited_time() {
        let now = Instant::now();
        let (tell, left) = mpsc::channel();
        let former = FormerConsumer { left, since: now };
        assert!(!former.may_join(now));
        assert!(former.may_join(now + LEAVING), "the process never stays without a member");
        assert_eq!(tell.send(()), Ok(()));
        assert!(former.may_join(now));
        drop(tell);
        assert!(former.may_join(now), "there was no thread, so the consumer was dropped at once");
    }
}
