//! The ids of the rows that records explain.

use roaring::RoaringTreemap;

/// A set of row ids. Ids that follow each other take one bit each.
///
/// The crate's set holds `u64`. Each id is stored under its own bits, so a negative id is a member like any other.
#[derive(Debug, Default)]
pub(super) struct RowIds(RoaringTreemap);

impl RowIds {
    pub(super) fn insert(&mut self, id: i64) {
        self.0.insert(id.cast_unsigned());
    }

    pub(super) fn contains(&self, id: i64) -> bool {
        self.0.contains(id.cast_unsigned())
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    use super::*;

    fn check(inserted: &[i64], asked: &[i64]) {
        let mut ids = RowIds::default();
        for id in inserted {
            ids.insert(*id);
        }
        let expected: BTreeSet<i64> = inserted.iter().copied().collect();
        assert_eq!(ids.len(), u64::try_from(expected.len()).unwrap());
        for id in inserted.iter().chain(asked) {
            assert_eq!(ids.contains(*id), expected.contains(id), "{id} of {inserted:?}");
        }
    }

    #[test]
    fn an_inserted_id_is_a_member_and_its_neighbours_are_not() {
        check(&[], &[0, 1, -1, i64::MIN, i64::MAX]);
        for id in [0, 1, 65_535, 65_536, -1, -65_536, -65_537, i64::MIN, i64::MAX] {
            check(&[id, id], &[id.wrapping_add(1), id.wrapping_sub(1), id.wrapping_neg()]);
        }
    }

    proptest! {
        #[test]
        fn it_is_a_set(
            inserted in prop::collection::vec(prop_oneof![-10_000_i64..10_000, any::<i64>()], 0..200),
            asked in prop::collection::vec(prop_oneof![-10_000_i64..10_000, any::<i64>()], 0..50),
        ) {
            check(&inserted, &asked);
        }
    }
}
