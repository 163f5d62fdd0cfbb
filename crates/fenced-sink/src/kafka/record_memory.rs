//! The memory of the records that a client delivers.
//!
//! Many records share one allocation: this costs less time than one allocation for each key, value and header. Only
//! records of one partition share it, because they are stored and dropped in their order. So each partition keeps at most two
//! allocations that its waiting records do not fill: the first and the newest one.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use crate::model::record::Partition;

/// The size of a shared allocation. A key, value or header of more than a quarter of it has its own allocation.
const ALLOCATION: usize = 16 << 10;

/// The memory of each partition.
#[derive(Debug, Default)]
pub(crate) struct RecordMemory(BTreeMap<Partition, PartitionMemory>);

/// The free part of the newest allocation that the records of a partition share.
#[derive(Debug, Default)]
pub(crate) struct PartitionMemory(BytesMut);

impl RecordMemory {
    /// The memory of a partition.
    pub(crate) fn of(&mut self, partition: Partition) -> &mut PartitionMemory {
        self.0.entry(partition).or_default()
    }
}

impl PartitionMemory {
    /// Copies the bytes.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > ALLOCATION / 4 {
            return Bytes::copy_from_slice(bytes);
        }
        if self.0.capacity() < bytes.len() {
            self.0 = BytesMut::with_capacity(ALLOCATION);
        }
        self.0.extend_from_slice(bytes);
        self.0.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_bytes_and_only_records_of_one_partition_share_memory() {
        let mut memory = RecordMemory::default();
        let mut copy = |partition, bytes: &[u8]| memory.of(Partition(partition)).copy(bytes);
        let long = vec![7; ALLOCATION];
        let (first, other, second) = (copy(0, b"first"), copy(1, b"other"), copy(0, b"second"));
        assert_eq!((&first[..], &other[..], &second[..]), (&b"first"[..], &b"other"[..], &b"second"[..]));
        assert_eq!(first.as_ptr_range().end, second.as_ptr());
        assert_ne!(first.as_ptr_range().end, other.as_ptr());
        assert_eq!(copy(0, &long), long);
        assert!(copy(0, b"").is_empty());
        let copies: Vec<Bytes> = (0..=255_u8).map(|byte| copy(0, &vec![byte; 1_000])).collect();
        assert!(copies.iter().zip(0..=255_u8).all(|(copy, byte)| copy[..] == vec![byte; 1_000]));
    }
}
