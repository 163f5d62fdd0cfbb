//! Where a partition starts that has no row yet. Pure.

use crate::model::record::{Partition, Position, TopicId};
use crate::model::topic_log::{CommittedOffset, PartitionExtent};

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

/// Where a partition without a row starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FirstPosition {
    /// The partition.
    pub partition: Partition,
    /// The first position: what lies below it is not counted.
    pub position: Position,
    /// The start policy is `fail`: the row is there to be seen, and halted.
    pub refused: bool,
}

/// The first positions of a topic's partitions, under both rules.
#[derive(Clone, Debug)]
pub(crate) struct FirstPositions {
    /// Which topic they belong to, if anybody could tell.
    pub topic_id: Option<TopicId>,
    /// If no partition of the topic has a row yet.
    pub when_topic_is_new: Vec<FirstPosition>,
    /// If some have: a partition seen later starts at its beginning, because it holds records from before it was seen.
    pub when_topic_is_known: Vec<FirstPosition>,
}

/// The first positions of a topic. A position that somebody else committed is taken over, so that a service that ran
/// before is continued without a gap. Our own mirror is not believed: if it is there and the rows are not, the database
/// lost them, and the log is read from its start.
pub(crate) fn first_positions(
    topic_id: Option<TopicId>,
    extents: &[PartitionExtent],
    policy: StartPolicy,
) -> FirstPositions {
    let at = |extent: &PartitionExtent, position: Position, refused| FirstPosition {
        partition: extent.partition,
        position,
        refused,
    };
    let when_topic_is_new = extents.iter().map(|extent| match (extent.committed, policy) {
        (Some(CommittedOffset::Foreign(position)), _) => at(extent, position, false),
        (Some(CommittedOffset::OurMirror), _) | (None, StartPolicy::Earliest) => at(extent, extent.start, false),
        (None, StartPolicy::Latest) => at(extent, extent.end, false),
        (None, StartPolicy::Fail) => at(extent, extent.start, true),
    });
    FirstPositions {
        topic_id,
        when_topic_is_new: when_topic_is_new.collect(),
        when_topic_is_known: extents.iter().map(|extent| at(extent, extent.start, false)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(committed: Option<CommittedOffset>, policy: StartPolicy, position: i64, refused: bool) {
        let extent = PartitionExtent { partition: Partition(3), start: Position(10), end: Position(90), committed };
        let firsts = first_positions(None, &[extent], policy);
        let first =
            |position, refused| FirstPosition { partition: Partition(3), position: Position(position), refused };
        assert_eq!(firsts.when_topic_is_new, [first(position, refused)]);
        assert_eq!(firsts.when_topic_is_known, [first(10, false)], "a partition seen later starts at its beginning");
    }

    #[test]
    fn a_first_position_is_taken_over_or_follows_the_policy_and_our_own_mirror_is_not_believed() {
        use StartPolicy::{Earliest, Fail, Latest};
        for policy in [Earliest, Latest, Fail] {
            check(Some(CommittedOffset::Foreign(Position(42))), policy, 42, false);
            check(Some(CommittedOffset::OurMirror), policy, 10, false);
        }
        check(None, Earliest, 10, false);
        check(None, Latest, 90, false);
        check(None, Fail, 10, true);
    }
}
