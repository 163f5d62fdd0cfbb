use std::collections::{BTreeMap, BTreeSet};
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::mocking::MockCluster;

use super::{GroupConsumer, GroupMember, Rebalance, RebalanceListener};
use crate::model::record::Partition;

/// Far above the time that a rebalance takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// No client reads a partition of this number.
const NEVER_READ: Partition = Partition(99);

/// The assignment of a member that reads nothing.
#[derive(Default)]
struct Assignment(Mutex<BTreeSet<Partition>>);

impl RebalanceListener for Assignment {
    fn response_arrives(&self) {}

    fn throttled(&self, _: Duration) {}

    fn rebalanced(&self, member: &GroupMember<'_>, rebalance: Rebalance) {
        let mut assigned = self.0.lock().expect("no other holder panics");
        match rebalance {
            Rebalance::Assigned(partitions) => assigned.extend(partitions),
            Rebalance::Revoked { partitions, .. } => {
                assigned.retain(|partition| !partitions.contains(partition));
                member.release(&[NEVER_READ]);
            }
        }
    }
}

#[test]
fn a_revoke_is_acknowledged_although_a_stop_was_refused() {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("topic", 4, 1).expect("a topic");
    // A mock cluster ends a rebalance after the session timeout.
    let (servers, group, timeout) = (cluster.bootstrap_servers(), "group".to_owned(), "6000".to_owned());
    let properties = [("bootstrap.servers", servers), ("group.id", group), ("session.timeout.ms", timeout)];
    let mut properties = BTreeMap::from(properties.map(|(name, value)| (name.to_owned(), value)));
    properties.insert("heartbeat.interval.ms".to_owned(), "100".to_owned());
    let assignment = Arc::new(Assignment::default());
    let listener = Arc::<Assignment>::clone(&assignment);
    // If this test fails, the end of the consumer waits without a limit, too.
    let mut consumer =
        ManuallyDrop::new(GroupConsumer::new(&properties, "topic", "mirror", listener).expect("a consumer"));
    let poll_until_assigned = |consumer: &mut GroupConsumer, count| {
        let deadline = Instant::now() + PATIENCE;
        while assignment.0.lock().map_or(0, |assigned| assigned.len()) != count {
            assert!(Instant::now() < deadline, "{count} partitions are expected: {:?}", assignment.0);
            drop(consumer.poll(Duration::from_millis(10)));
        }
    };
    consumer.join().expect("a subscription");
    poll_until_assigned(&mut consumer, 4);
    consumer.polled.consumer().unsubscribe();
    poll_until_assigned(&mut consumer, 0);
    // While librdkafka waits for the acknowledgement of the revoke, it assigns nothing.
    consumer.join().expect("a subscription");
    poll_until_assigned(&mut consumer, 4);
    drop(ManuallyDrop::into_inner(consumer));
}
