//! Mirrors committed positions to Kafka, for tools that show the lag of the group.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::kafka::group_consumer::GroupMember;
use crate::model::mirror::CommittedPosition;
use crate::model::record::{Partition, Position};

/// The last mirrored position of each partition.
#[derive(Debug, Default)]
pub(super) struct Mirror(Mutex<BTreeMap<Partition, Position>>);

impl Mirror {
    /// Commits new positions to Kafka.
    pub(super) fn commit(&self, member: &GroupMember<'_>, committed: Vec<CommittedPosition>) {
        let new: BTreeMap<Partition, Position> = committed.into_iter().map(CommittedPosition::into_parts).collect();
        member.commit(&new);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(new);
    }

    /// Commits the positions of these partitions again: an earlier commit may have been lost.
    pub(super) fn commit_again(&self, member: &GroupMember<'_>, partitions: &[Partition]) {
        let mut mirrored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        mirrored.retain(|partition, _| partitions.contains(partition));
        member.commit(&mirrored);
    }
}
