//! The rows that a record explains: one bit for each id.

use std::collections::BTreeMap;

/// Ids of one chunk; a power of two.
const CHUNK: i64 = 4096;
const WORD: i64 = 64;

/// A set of ids, which mostly lie close together: chunks of bits, made where there are any.
#[derive(Debug, Default)]
pub(super) struct Ids(BTreeMap<i64, Box<[u64]>>);

impl Ids {
    /// Puts an id in.
    pub(super) fn insert(&mut self, id: i64) {
        let (chunk, word, bit) = place(id);
        let words = self.0.entry(chunk).or_insert_with(|| (0..CHUNK / WORD).map(|_| 0).collect());
        if let Some(word) = words.get_mut(word) {
            *word |= bit;
        }
    }

    /// Whether an id is in it.
    pub(super) fn contains(&self, id: i64) -> bool {
        let (chunk, word, bit) = place(id);
        self.0.get(&chunk).and_then(|words| words.get(word)).is_some_and(|word| word & bit != 0)
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.0.values().flatten().map(|word| u64::from(word.count_ones())).sum()
    }
}

fn place(id: i64) -> (i64, usize, u64) {
    let within = id.rem_euclid(CHUNK);
    (id.div_euclid(CHUNK), usize::try_from(within / WORD).unwrap_or_default(), 1 << (within % WORD))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    use super::*;

    fn check(inserted: &[i64], asked: &[i64]) {
        let mut ids = Ids::default();
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
    fn an_id_is_there_once_it_was_put_in_and_its_neighbours_are_not() {
        check(&[], &[0, 1, -1, i64::MIN, i64::MAX]);
        for id in [0, 1, 63, 64, 4095, 4096, -1, -64, -4096, -4097, i64::MIN, i64::MAX] {
            check(&[id, id], &[id.wrapping_add(1), id.wrapping_sub(1), id.wrapping_add(64), id.wrapping_add(4096)]);
        }
    }

    #[test]
    fn ids_in_a_row_take_a_bit_each() {
        let mut ids = Ids::default();
        for id in 1..=1_000_000 {
            ids.insert(id);
        }
        let bytes: usize = ids.0.values().map(|words| size_of_val(&**words)).sum();
        assert!(bytes < 1_000_000 / 8 + 2 * 4096 / 8, "{bytes}");
    }

    proptest! {
        #[test]
        fn it_is_a_set(inserted in prop::collection::vec(-10_000i64..10_000, 0..200), asked in prop::collection::vec(any::<i64>(), 0..50)) {
            check(&inserted, &asked);
        }
    }
}
