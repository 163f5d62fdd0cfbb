//! The records of a partition by what may have become of them, against the totals of the ledger. Pure.

use crate::model::outcome::Totals;
use crate::verify::judge::RecordClass;

/// Counts of what was judged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    rows: u64,
    ignored: u64,
    letters: u64,
    either: u64,
    unexplained: u64,
}

impl Tally {
    /// One more.
    pub(super) fn count(&mut self, class: RecordClass) {
        *match class {
            RecordClass::Row => &mut self.rows,
            RecordClass::Ignored => &mut self.ignored,
            RecordClass::Letter => &mut self.letters,
            RecordClass::RowOrLetter => &mut self.either,
            RecordClass::Unexplained => &mut self.unexplained,
        } += 1;
    }

    /// What does not add up, in words.
    ///
    /// The sum and the ignored are exact. A record with a row of its content and a letter may have been counted as either,
    /// and one that has lost both as anything but ignored. Whether a record was stored or was a duplicate can't be told
    /// afterwards: their sum follows from the rest.
    pub(super) fn differs(&self, totals: Totals) -> Option<String> {
        let Totals { stored, duplicates, ignored, dead_lettered } = totals;
        let sum = [stored, duplicates, ignored, dead_lettered].into_iter().fold(0, u64::saturating_add);
        let records = self.rows + self.ignored + self.letters + self.either + self.unexplained;
        let most = self.letters + self.either + self.unexplained;
        let mut wrong = Vec::new();
        if sum != records {
            wrong
                .push(format!("stored + duplicates + ignored + dead_lettered is {sum}, the log has {records} records"));
        }
        if ignored != self.ignored {
            wrong.push(format!("ignored is {ignored}, the log has {} such records", self.ignored));
        }
        if !(self.letters..=most).contains(&dead_lettered) {
            let letters = if self.letters == most { most.to_string() } else { format!("{} to {most}", self.letters) };
            wrong.push(format!("dead_lettered is {dead_lettered}, by the letters it is {letters}"));
        }
        (!wrong.is_empty()).then(|| wrong.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records as letters (row, ignored, letter, either, unexplained), and totals in the order of their columns.
    fn check(records: &str, [stored, duplicates, ignored, dead_lettered]: [u64; 4], expected: &[&str]) {
        let mut tally = Tally::default();
        for record in records.chars() {
            tally.count(match record {
                'r' => RecordClass::Row,
                'i' => RecordClass::Ignored,
                'l' => RecordClass::Letter,
                'e' => RecordClass::RowOrLetter,
                _ => RecordClass::Unexplained,
            });
        }
        let differs = tally.differs(Totals { stored, duplicates, ignored, dead_lettered }).unwrap_or_default();
        let found: Vec<&str> = differs.split("; ").filter_map(|part| part.split(' ').next()).collect();
        let found: Vec<&str> = found.into_iter().filter(|word| !word.is_empty()).collect();
        assert_eq!(found, expected, "{records} {differs}");
    }

    #[test]
    fn totals_add_up_to_the_records() {
        check("", [0, 0, 0, 0], &[]);
        check("rrril", [2, 1, 1, 1], &[]);
        check("rrril", [3, 1, 1, 1], &["stored"]);
        check("rrril", [2, 0, 1, 1], &["stored"]);
        check("rrril", [2, 1, 2, 1], &["stored", "ignored"]);
        check("rrril", [2, 1, 1, 0], &["stored", "dead_lettered"]);
        check("", [u64::MAX, u64::MAX, 0, 0], &["stored"]);
    }

    #[test]
    fn ignored_records_and_letters_are_told_apart_from_rows() {
        check("rrril", [2, 0, 2, 1], &["ignored"]);
        check("rrril", [2, 0, 1, 2], &["dead_lettered"]);
        check("rrril", [3, 1, 1, 0], &["dead_lettered"]);
        check("rrril", [2, 1, 0, 2], &["ignored", "dead_lettered"]);
    }

    #[test]
    fn a_record_with_a_row_and_a_letter_may_have_been_counted_as_either() {
        check("rlee", [1, 0, 0, 3], &[]);
        check("rlee", [3, 0, 0, 1], &[]);
        check("rlee", [0, 0, 0, 4], &["dead_lettered"]);
        check("rlee", [4, 0, 0, 0], &["dead_lettered"]);
        check("rlx", [2, 0, 0, 1], &[]);
        check("rlx", [1, 0, 0, 2], &[]);
    }
}
