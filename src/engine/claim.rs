//! Where a partition starts that has no row yet. Pure.

use super::ledger::{First, Firsts};
use super::record::{Position, TopicId};
use super::source::log::{Extent, Mirrored};

/// Where a partition without any stored or committed position starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartPolicy {
    /// At the first record there is.
    Earliest,
    /// Behind the last record there is.
    Latest,
    /// Nowhere: it is halted until an operator says where.
    Fail,
}

/// The first positions of a topic. A position that somebody else committed is taken over, so that a service that ran
/// before is continued without a gap. Our own mirror is not believed: if it is there and the rows are not, the database
/// lost them, and the log is read from its start.
pub(crate) fn firsts(topic_id: Option<TopicId>, extents: &[Extent], policy: StartPolicy) -> Firsts {
    let at = |extent: &Extent, position: Position, refused| First { partition: extent.partition, position, refused };
    let of_a_new_topic = extents.iter().map(|extent| match (extent.committed, policy) {
        (Some(Mirrored::Foreign(position)), _) => at(extent, position, false),
        (Some(Mirrored::Own), _) | (None, StartPolicy::Earliest) => at(extent, extent.start, false),
        (None, StartPolicy::Latest) => at(extent, extent.end, false),
        (None, StartPolicy::Fail) => at(extent, extent.start, true),
    });
    Firsts {
        topic_id,
        of_a_new_topic: of_a_new_topic.collect(),
        of_a_known_topic: extents.iter().map(|extent| at(extent, extent.start, false)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::record::Partition;

    fn check(committed: Option<Mirrored>, policy: StartPolicy, position: i64, refused: bool) {
        let extent = Extent { partition: Partition(3), start: Position(10), end: Position(90), committed };
        let firsts = firsts(None, &[extent], policy);
        let first = |position, refused| First { partition: Partition(3), position: Position(position), refused };
        assert_eq!(firsts.of_a_new_topic, [first(position, refused)]);
        assert_eq!(firsts.of_a_known_topic, [first(10, false)], "a partition seen later starts at its beginning");
    }

    #[test]
    fn a_first_position_is_taken_over_or_follows_the_policy_and_our_own_mirror_is_not_believed() {
        use StartPolicy::{Earliest, Fail, Latest};
        for policy in [Earliest, Latest, Fail] {
            check(Some(Mirrored::Foreign(Position(42))), policy, 42, false);
            check(Some(Mirrored::Own), policy, 10, false);
        }
        check(None, Earliest, 10, false);
        check(None, Latest, 90, false);
        check(None, Fail, 10, true);
    }
}
