//! The first position of a partition that has no row in `consumer_offsets` yet. Pure.

use crate::model::record::{Partition, Position, TopicId};
use crate::model::topic_log::{CommittedOffset, PartitionExtent};

/// The first position of a partition that has neither a row nor a committed offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartPolicy {
    /// The start of the partition log.
    Earliest,
    /// The end of the partition log.
    Latest,
    /// None: the partition is halted until an operator chooses a position.
    Fail,
}

/// The first position of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FirstPosition {
    /// The partition.
    pub partition: Partition,
    /// The position. Records below it are never read.
    pub position: Position,
    /// The policy is [`StartPolicy::Fail`]: the row is created halted.
    pub refused: bool,
}

/// The first positions of all partitions of a topic. The transaction that creates the rows chooses one of the two
/// lists.
#[derive(Clone, Debug)]
pub(crate) struct FirstPositions {
    /// The id of the topic. `None`: Kafka did not return it.
    pub topic_id: Option<TopicId>,
    /// For a topic of which no partition has a row.
    pub when_topic_is_new: Vec<FirstPosition>,
    /// For a topic of which a partition has a row. A partition that was added later starts at the start of its
    /// partition log, because it can have records from before the engine saw it.
    pub when_topic_is_known: Vec<FirstPosition>,
}

/// The first positions of a topic.
///
/// | committed offset of the group | first position of a new topic |
/// |---|---|
/// | of another service | that offset: the engine continues without a gap |
/// | of the mirror | the start of the partition log: the row existed, so the database has lost it and the rows of its records |
/// | none | the position of `policy` |
///
/// If a partition of the topic has a row already, every other partition starts at the start of its partition log.
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
        assert_eq!(
            firsts.when_topic_is_known,
            [first(10, false)],
            "a partition that was added later starts at the start of its log"
        );
    }

    #[test]
    fn a_first_position_is_a_foreign_committed_offset_or_follows_the_policy_and_never_the_mirror() {
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
