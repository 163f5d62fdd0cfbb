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

/// After this time, the new consumer joins the group although the former one has not left. With `group.instance.id` it
/// does not.
const LEAVING: Duration = Duration::from_secs(10);

/// The former consumer. It leaves the group in a separate thread. While a broker is frozen, it cannot leave.
#[derive(Debug)]
pub(super) struct FormerConsumer {
    left: Receiver<()>,
    since: Instant,
    /// Kafka permanently refuses a second member with the same `group.instance.id`. So the new consumer waits without a
    /// limit, and its thread continues to follow the scheduler.
    is_static: bool,
    warned: bool,
}

impl FormerConsumer {
    /// Whether the new consumer may join the group.
    fn may_join(&mut self, now: Instant) -> bool {
        // The sender is dropped without a message only if the thread could not start. Then the consumer was dropped,
        // too, and has left the group.
        if self.left.try_recv() != Err(TryRecvError::Empty) {
            return true;
        }
        let late = now.saturating_duration_since(self.since) >= LEAVING;
        if late && !self.warned {
            self.warned = true;
            let hint = if self.is_static {
                "a static member joins again only after it has left: check whether a broker is frozen"
            } else {
                "the group notices after the session timeout"
            };
            tracing::warn!(hint, "former_consumer_not_left");
        }
        late && !self.is_static
    }
}

impl<E: Event> ConsumerThread<E> {
    /// Leaves the group, and replaces the consumer by one that joins the group later.
    pub(super) fn replace_consumer(&mut self) -> Result<(), ConsumerError> {
        let scheduler = Arc::clone(&self.rebalancer.scheduler);
        let held: Vec<Partition> = scheduler.held().into_iter().map(|held| held.partition).collect();
        let former = std::mem::replace(self, Self::new(self.options.clone(), Arc::clone(&scheduler))?);
        former.rebalancer.supersede();
        scheduler.report(KafkaReport::Revoked(held));
        let (tell, left) = mpsc::channel();
        let leaving = std::thread::Builder::new().name("former consumer".to_owned()).spawn(move || {
            former.leave();
            tell.send(())
        });
        drop(leaving); // without a thread, the former consumer was dropped here
        let is_static = self.options.properties.contains_key("group.instance.id");
        self.former = Some(FormerConsumer { left, since: Instant::now(), is_static, warned: false });
        Ok(())
    }

    /// Joins the group again as soon as the former consumer permits it.
    pub(super) fn join_after_former(&mut self) -> Result<(), ConsumerError> {
        if self.former.as_mut().is_some_and(|former| former.may_join(Instant::now())) {
            self.former = None;
            self.consumer.join()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A former consumer and the end by which it reports that it has left.
    fn former(now: Instant, is_static: bool) -> (mpsc::Sender<()>, FormerConsumer) {
        let (tell, left) = mpsc::channel();
        (tell, FormerConsumer { left, since: now, is_static, warned: false })
    }

    #[test]
    fn a_static_member_never_joins_before_the_former_consumer_has_left() {
        let now = Instant::now();
        let (tell, mut leaving) = former(now, true);
        assert!(!leaving.may_join(now));
        assert!(!leaving.may_join(now + LEAVING * 1_000));
        assert_eq!(tell.send(()), Ok(()));
        assert!(leaving.may_join(now));
    }

    #[test]
    fn another_member_joins_after_a_limited_time() {
        let now = Instant::now();
        let (tell, mut leaving) = former(now, false);
        assert!(!leaving.may_join(now));
        assert!(leaving.may_join(now + LEAVING));
        drop(tell);
        assert!(leaving.may_join(now), "there was no thread, so the consumer was dropped at once");
    }
}
