//! Asks the client whether it is a member of the group. Under some protocols librdkafka calls no callback for a member
//! without partitions, nor for a member that loses none.

use std::time::{Duration, Instant};

use super::ConsumerThread;
use crate::event::Event;
use crate::model::kafka_refusal::KafkaNeed;
use crate::model::standing::{Membership, SchedulerView as _};
use crate::pipeline::reports::KafkaReport;

/// The interval at which the thread asks the client.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// After this time without an assignment, a member has no partition: brokers answer within a heartbeat or two.
const NO_ASSIGNMENT: Duration = Duration::from_secs(10);
/// After this time without a partition, the thread logs a warning.
const UNASSIGNED_WARNING: Duration = Duration::from_secs(30);

/// The hint of this warning if Kafka refuses nothing.
const UNKNOWN_REASON: &str = "this process is not a member of the group: Kafka may be unreachable, or the broker may not know \
                              this group.protocol; look for other warnings in this log";

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

/// How long this process has had no partition for one reason.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnassignedTime {
    since: Instant,
    /// What Kafka refuses during this time.
    refused: Option<KafkaNeed>,
}

impl UnassignedTime {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, refused: None }
    }

    /// `is_normal`: there are partitions, or this process is a spare member. Returns true when the other state has lasted
    /// long enough for a warning, and starts the time again.
    fn lasts(&mut self, now: Instant, is_normal: bool, refused: Option<KafkaNeed>) -> bool {
        let is_same = !is_normal && refused == self.refused;
        let lasts = is_same && now.duration_since(self.since) > UNASSIGNED_WARNING;
        if lasts || !is_same {
            *self = Self { since: now, refused };
        }
        lasts
    }
}

impl<E: Event> ConsumerThread<E> {
    /// Reports the membership, and logs a warning if no partition is assigned for long: an older broker does not answer
    /// a newer group protocol at all.
    pub(super) fn check_membership(&mut self) {
        let now = Instant::now();
        // librdkafka keeps the member epoch of a consumer that the group refused.
        if self.membership.is_due(now) && self.replace_at.is_none() {
            match self.membership.answered(now, self.consumer.member().is_member()) {
                Some(true) => self.scheduler().report(KafkaReport::Joined),
                Some(false) => self.rebalancer.membership_lost(),
                None => {}
            }
        }
        // A member without partitions is a spare one, unless Kafka refuses the topic.
        let refusal = self.scheduler().refusals().into_iter().next();
        let refused = refusal.as_ref().map(|refusal| refusal.need);
        let is_spare = refused.is_none() && self.scheduler().membership() == Membership::Member;
        let is_normal = is_spare || !self.scheduler().is_empty();
        if self.unassigned.lasts(now, is_normal, refused) {
            let hint = refusal.map_or_else(|| UNKNOWN_REASON.to_owned(), |refusal| refusal.to_string());
            tracing::warn!(topic = self.options.topic, hint, "no_partition_assigned");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_partition_is_a_warning_unless_it_is_normal_or_new() {
        let (start, group) = (Instant::now(), Some(KafkaNeed::JoinGroup));
        let mut unassigned = UnassignedTime::new(start);
        let mut lasts =
            |seconds, is_normal, refused| unassigned.lasts(start + Duration::from_secs(seconds), is_normal, refused);
        assert!(!lasts(30, false, None));
        assert!(lasts(31, false, None));
        assert!(!lasts(32, false, None), "once in this time");
        assert!(!lasts(70, false, group), "a new reason");
        assert!(lasts(101, false, group));
        assert!(!lasts(140, true, None), "a spare member");
        assert!(!lasts(141, false, None));
        assert!(lasts(171, false, None));
    }

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
