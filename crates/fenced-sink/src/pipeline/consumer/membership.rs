//! Asks the client whether it is a member of the group. Under some protocols librdkafka calls no callback for a member
//! without partitions, nor for a member that loses none.

use std::time::{Duration, Instant};

use super::ConsumerThread;
use crate::event::Event;
use crate::pipeline::reports::KafkaReport;

/// The interval at which the thread asks the client.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// After this time without an assignment, a member has no partition: brokers answer within a heartbeat or two.
const NO_ASSIGNMENT: Duration = Duration::from_secs(10);
/// After this time without a partition, the thread logs a warning.
const UNASSIGNED_WARNING: Duration = Duration::from_secs(30);

/// The last answer of the client.
#[derive(Debug)]
pub(super) struct MembershipCheck {
    asked_at: Instant,
    member: bool,
    since: Instant,
}

impl MembershipCheck {
    pub(super) fn new(now: Instant) -> Self {
        Self { asked_at: now, member: false, since: now }
    }

    /// Whether it is time to ask the client again.
    fn is_due(&self, now: Instant) -> bool {
        now.duration_since(self.asked_at) >= ASK_INTERVAL
    }

    /// The answer of the client. Returns whether it is a member, as soon as the answer has lasted long enough to count:
    /// between two memberships there may be a short time without one.
    fn answered(&mut self, now: Instant, member: bool) -> Option<bool> {
        let since = if member == self.member { self.since } else { now };
        *self = Self { asked_at: now, member, since };
        let needed = if member { NO_ASSIGNMENT } else { ASK_INTERVAL };
        (now.duration_since(since) >= needed).then_some(member)
    }
}

impl<E: Event> ConsumerThread<E> {
    /// Reports the membership, and logs a warning if no partition is assigned for long: an older broker does not answer
    /// a newer group protocol at all.
    pub(super) fn check_membership(&mut self) {
        let now = Instant::now();
        if self.membership.is_due(now) {
            match self.membership.answered(now, self.consumer.member().is_member()) {
                Some(true) => self.scheduler().report(KafkaReport::Joined),
                Some(false) => self.rebalancer.membership_lost(),
                None => {}
            }
        }
        if !self.scheduler().is_empty() {
            self.unassigned_since = now;
            self.refusals.reset();
        } else if now.duration_since(self.unassigned_since) > UNASSIGNED_WARNING {
            self.unassigned_since = now;
            tracing::warn!(
                topic = self.options.topic,
                hint = "Kafka may be unreachable, the topic may not exist, there may be more instances than partitions, \
                        or the broker may not know this group.protocol",
                "no_partition_assigned"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_once_it_has_lasted() {
        let start = Instant::now();
        let mut check = MembershipCheck::new(start);
        let mut answered = |seconds, member| check.answered(start + Duration::from_secs(seconds), member);
        assert_eq!(answered(1, true), None);
        assert_eq!(answered(10, true), None);
        assert_eq!(answered(11, true), Some(true));
        assert_eq!(answered(12, false), None, "a moment without a membership does not count");
        assert_eq!(answered(13, false), Some(false));
        assert_eq!(answered(14, true), None);
    }
}
