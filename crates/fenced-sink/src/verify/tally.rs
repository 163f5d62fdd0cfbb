//! Counts the records of a partition by their possible outcome, and compares the counts with the totals. Pure.

use crate::model::outcome::Totals;
use crate::verify::record_check::PossibleOutcome;

/// The number of records of a partition, by their possible outcome.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    rows: u64,
    ignored: u64,
    letters: u64,
    rows_or_letters: u64,
    unexplained: u64,
}

impl Tally {
    /// Counts one record.
    pub(super) fn count(&mut self, outcome: PossibleOutcome) {
        *match outcome {
            PossibleOutcome::Row => &mut self.rows,
            PossibleOutcome::Ignored => &mut self.ignored,
            PossibleOutcome::Letter => &mut self.letters,
            PossibleOutcome::RowOrLetter => &mut self.rows_or_letters,
            PossibleOutcome::Unexplained => &mut self.unexplained,
        } += 1;
    }

    /// The differences between the totals and the records, in words.
    ///
    /// The sum and the ignored records are known exactly. A record with a row and a letter may have been counted as either.
    /// A record without both may have been counted as anything but ignored. The tables do not show whether a record was
    /// stored or was a duplicate, but `stored + duplicates` follows from the other numbers.
    pub(super) fn difference(&self, totals: Totals) -> Option<String> {
        let Totals { stored, duplicates, ignored, dead_lettered } = totals;
        let sum = [stored, duplicates, ignored, dead_lettered].into_iter().fold(0, u64::saturating_add);
        let records = self.rows + self.ignored + self.letters + self.rows_or_letters + self.unexplained;
        let most = self.letters + self.rows_or_letters + self.unexplained;
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
            wrong.push(format!("dead_lettered is {dead_lettered}, by the table dead_letters it must be {letters}"));
        }
        (!wrong.is_empty()).then(|| wrong.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records as letters (row, ignored, letter, either of the two, unexplained), and totals in the order of their columns.
    fn check(records: &str, [stored, duplicates, ignored, dead_lettered]: [u64; 4], expected: &[&str]) {
        let mut tally = Tally::default();
        for record in records.chars() {
            tally.count(match record {
                'r' => PossibleOutcome::Row,
                'i' => PossibleOutcome::Ignored,
                'l' => PossibleOutcome::Letter,
                'e' => PossibleOutcome::RowOrLetter,
                _ => PossibleOutcome::Unexplained,
            });
        }
        let difference = tally.difference(Totals { stored, duplicates, ignored, dead_lettered }).unwrap_or_default();
        let found: Vec<&str> = difference.split("; ").filter_map(|part| part.split(' ').next()).collect();
        let found: Vec<&str> = found.into_iter().filter(|word| !word.is_empty()).collect();
        assert_eq!(found, expected, "{records} {difference}");
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
    fn ignored_records_and_letters_do_not_count_as_rows() {
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
