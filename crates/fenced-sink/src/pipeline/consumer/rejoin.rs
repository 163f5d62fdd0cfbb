//! Replaces the consumer. Old metadata can prevent a client from receiving records, without an error. After a restore,
//! for example, the leader epochs of the brokers are lower than those that the client knows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant};

use super::ConsumerThread;
use crate::event::Event;
use crate::kafka::client::ConsumerError;
use crate::model::record::Partition;
use crate::model::standing::SchedulerView as _;
use crate::pipeline::reports::KafkaReport;
use crate::pipeline::run::session_timeout;

/// After this time, the new consumer joins the group although the former one has not left. A static member also waits for
/// the session timeout.
const LEAVING: Duration = Duration::from_secs(10);

/// The former consumer. It leaves the group in a separate thread. While a broker is frozen, it cannot leave.
#[derive(Debug)]
pub(super) struct FormerConsumer {
    left: Receiver<()>,
    since: Instant,
    /// How long the new consumer waits. Its thread continues to follow the scheduler.
    ///
    /// Kafka permanently refuses one of two members with the same `group.instance.id`. So a static member joins only
    /// after the session of the former one can have ended. If Kafka still refuses it, the process ends with that error,
    /// and a restart is safe.
    limit: Duration,
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
        let waited = now.saturating_duration_since(self.since);
        if waited >= LEAVING && !self.warned {
            self.warned = true;
            let hint = if self.limit > LEAVING {
                "a static member joins again after the session timeout: check whether a broker is frozen"
            } else {
                "the group notices after the session timeout"
            };
            tracing::warn!(hint, "former_consumer_not_left");
        }
        waited >= self.limit
    }
}

impl<E: Event> ConsumerThread<E> {
    /// Leaves the group, and replaces the consumer by one that joins the group later.
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
        let limit = join_limit(&self.options.properties);
        self.former = Some(FormerConsumer { left, since: Instant::now(), limit, warned: false });
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

/// How long a new consumer with these properties waits for the former one.
fn join_limit(properties: &BTreeMap<String, String>) -> Duration {
    let is_static = properties.contains_key("group.instance.id");
    if is_static { session_timeout(properties).saturating_add(LEAVING) } else { LEAVING }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A former consumer and the end by which it reports that it has left.
    fn former(now: Instant, properties: &[(&str, &str)]) -> (mpsc::Sender<()>, FormerConsumer) {
        let properties = properties.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let (tell, left) = mpsc::channel();
        (tell, FormerConsumer { left, since: now, limit: join_limit(&properties), warned: false })
    }

    #[test]
    fn a_static_member_joins_after_the_former_consumer_has_left_or_its_session_has_ended() {
        let now = Instant::now();
        let properties = [("group.instance.id", "one"), ("session.timeout.ms", "60000")];
        let (tell, mut leaving) = former(now, &properties);
        assert!(!leaving.may_join(now));
        assert!(!leaving.may_join(now + LEAVING));
        assert!(!leaving.may_join(now + Duration::from_mins(1)));
        assert!(leaving.may_join(now + Duration::from_mins(1) + LEAVING), "the process never stays without a member");
        assert_eq!(tell.send(()), Ok(()));
        assert!(leaving.may_join(now));
    }

    #[test]
    fn another_member_joins_after_a_limited_time() {
        let now = Instant::now();
        let (tell, mut leaving) = former(now, &[]);
        assert!(!leaving.may_join(now));
        assert!(leaving.may_join(now + LEAVING));
        drop(tell);
        assert!(leaving.may_join(now), "there was no thread, so the consumer was dropped at once");
    }
}
