//! Whether the tables explain one record. Pure.

use crate::model::event::{Lookup, Reason};
use crate::verify::report::FindingKind;

/// The content of the record's own bytes, and the row under the key of its event.
#[derive(Clone, Copy, Debug)]
pub(super) enum RecordLookup {
    /// An event of another type. It has no row.
    Ignored,
    /// Bytes that can't become a row, and why.
    Refused(Reason),
    /// An event, and its row.
    Event(Lookup),
}

/// What the dead letter of the record contains.
#[derive(Clone, Copy, Debug)]
pub(super) struct LetterLookup {
    /// The first column whose value differs from the record.
    pub(super) altered_column: Option<&'static str>,
    /// The row that was created from the letter.
    pub(super) row: RedrivenRow,
}

/// The row that was created from a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RedrivenRow {
    /// The letter is not resolved: no row was created from it.
    NotRedriven,
    /// The letter is resolved, and this is the row under the key of its current event.
    Redriven(Lookup),
    /// The letter is resolved, but its value is not an event.
    NoEvent,
}

/// How the service may have counted a record, as far as the tables show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PossibleOutcome {
    /// Stored or a duplicate: there is a row, and no letter.
    Row,
    /// Ignored.
    Ignored,
    /// Dead-lettered: there is a letter, and no row with the record's own content.
    Letter,
    /// There are both. The record was a letter first and a row later, or it is a duplicate of a row that came later.
    RowOrLetter,
    /// There is neither, which is a finding. Any outcome but ignored is possible.
    Unexplained,
}

/// The result of the check of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordCheck {
    /// How the record may have been counted.
    pub(super) outcome: PossibleOutcome,
    /// The rows that the record explains, even if their content is altered: the row created from its letter, and its
    /// own row.
    pub(super) rows: [Option<i64>; 2],
    /// What is wrong.
    pub(super) findings: Vec<(FindingKind, String)>,
}

/// Checks a record. A letter explains its record whatever the table contains, because the same bytes can be a letter
/// first and a row later. Without a letter, a row with other content than its record is a finding.
pub(super) fn check_record(own: RecordLookup, letter: Option<LetterLookup>) -> RecordCheck {
    let Some(LetterLookup { altered_column, row }) = letter else { return check_without_letter(own) };
    let mut findings = Vec::new();
    if let Some(column) = altered_column {
        findings.push((FindingKind::Altered, format!("the dead letter has another {column} than the record")));
    }
    match row {
        RedrivenRow::NotRedriven | RedrivenRow::Redriven(Lookup::Same(_)) => {}
        RedrivenRow::NoEvent => {
            findings.push((FindingKind::Missing, "the dead letter is resolved, but its value is no event".to_owned()));
        }
        RedrivenRow::Redriven(Lookup::Missing) => {
            findings.push((FindingKind::Missing, "the dead letter is resolved, but its row is missing".to_owned()));
        }
        RedrivenRow::Redriven(Lookup::Different(id)) => {
            let detail = format!("row {id} has other content than the dead letter that it was made from");
            findings.push((FindingKind::Altered, detail));
        }
    }
    // If the service read the record again, it may have used the row that is now missing or altered.
    let row_is_gone_or_altered = !matches!(row, RedrivenRow::NotRedriven | RedrivenRow::Redriven(Lookup::Same(_)));
    let outcome = match own {
        RecordLookup::Event(Lookup::Same(_)) => PossibleOutcome::RowOrLetter,
        RecordLookup::Event(_) if row_is_gone_or_altered => PossibleOutcome::RowOrLetter,
        RecordLookup::Ignored | RecordLookup::Refused(_) | RecordLookup::Event(_) => PossibleOutcome::Letter,
    };
    let redriven =
        if let RedrivenRow::Redriven(Lookup::Same(id) | Lookup::Different(id)) = row { Some(id) } else { None };
    let own = if let RecordLookup::Event(Lookup::Same(id)) = own { Some(id) } else { None };
    RecordCheck { outcome, rows: [redriven, own], findings }
}

fn check_without_letter(own: RecordLookup) -> RecordCheck {
    let (outcome, row, finding) = match own {
        RecordLookup::Ignored => (PossibleOutcome::Ignored, None, None),
        RecordLookup::Event(Lookup::Same(id)) => (PossibleOutcome::Row, Some(id), None),
        RecordLookup::Event(Lookup::Missing) => (
            PossibleOutcome::Unexplained,
            None,
            Some((FindingKind::Missing, "there is no row of it, and no dead letter".to_owned())),
        ),
        RecordLookup::Event(Lookup::Different(id)) => {
            let detail = format!("row {id} has other content, and there is no dead letter of the record");
            (PossibleOutcome::Unexplained, Some(id), Some((FindingKind::Altered, detail)))
        }
        RecordLookup::Refused(reason) => {
            let detail = format!("it can't become a row ({}), and there is no dead letter of it", reason.as_str());
            (PossibleOutcome::Unexplained, None, Some((FindingKind::Missing, detail)))
        }
    };
    RecordCheck { outcome, rows: [None, row], findings: finding.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SAME: RecordLookup = RecordLookup::Event(Lookup::Same(7));
    const OTHER: RecordLookup = RecordLookup::Event(Lookup::Different(7));
    const NONE: RecordLookup = RecordLookup::Event(Lookup::Missing);
    const REFUSED: RecordLookup = RecordLookup::Refused(Reason::NotJson);
    const OPEN: Option<LetterLookup> = Some(LetterLookup { altered_column: None, row: RedrivenRow::NotRedriven });

    fn resolved(found: Lookup) -> LetterLookup {
        LetterLookup { altered_column: None, row: RedrivenRow::Redriven(found) }
    }

    fn check(
        own: RecordLookup,
        letter: impl Into<Option<LetterLookup>>,
        outcome: PossibleOutcome,
        rows: impl IntoIterator<Item = i64>,
        kinds: &[FindingKind],
    ) {
        let letter = letter.into();
        let checked = check_record(own, letter);
        let found: Vec<FindingKind> = checked.findings.iter().map(|(kind, _)| *kind).collect();
        let explained: BTreeSet<i64> = checked.rows.into_iter().flatten().collect();
        let expected = (outcome, rows.into_iter().collect(), kinds);
        assert_eq!((checked.outcome, explained, found.as_slice()), expected, "{own:?} {letter:?} {checked:?}");
    }

    #[test]
    fn a_record_without_a_letter_is_a_row_or_ignored_or_a_finding() {
        check(SAME, None, PossibleOutcome::Row, Some(7), &[]);
        check(RecordLookup::Ignored, None, PossibleOutcome::Ignored, None, &[]);
        check(NONE, None, PossibleOutcome::Unexplained, None, &[FindingKind::Missing]);
        check(REFUSED, None, PossibleOutcome::Unexplained, None, &[FindingKind::Missing]);
        check(OTHER, None, PossibleOutcome::Unexplained, Some(7), &[FindingKind::Altered]);
    }

    #[test]
    fn a_letter_explains_its_record_whatever_the_table_holds() {
        check(REFUSED, OPEN, PossibleOutcome::Letter, None, &[]);
        check(NONE, OPEN, PossibleOutcome::Letter, None, &[]);
        check(OTHER, OPEN, PossibleOutcome::Letter, None, &[]);
        check(SAME, OPEN, PossibleOutcome::RowOrLetter, Some(7), &[]);
        check(RecordLookup::Ignored, OPEN, PossibleOutcome::Letter, None, &[]);
    }

    #[test]
    fn a_letter_with_another_value_than_its_record_is_altered() {
        let altered = |row| Some(LetterLookup { altered_column: Some("key"), row });
        check(SAME, altered(RedrivenRow::NotRedriven), PossibleOutcome::RowOrLetter, Some(7), &[FindingKind::Altered]);
        for own in [OTHER, NONE, REFUSED, RecordLookup::Ignored] {
            check(own, altered(RedrivenRow::NotRedriven), PossibleOutcome::Letter, None, &[FindingKind::Altered]);
        }
        check(
            REFUSED,
            altered(RedrivenRow::Redriven(Lookup::Same(8))),
            PossibleOutcome::Letter,
            Some(8),
            &[FindingKind::Altered],
        );
        let gone = altered(RedrivenRow::Redriven(Lookup::Missing));
        check(REFUSED, gone, PossibleOutcome::Letter, None, &[FindingKind::Altered, FindingKind::Missing]);
    }

    #[test]
    fn a_resolved_letter_has_a_row() {
        check(REFUSED, resolved(Lookup::Same(8)), PossibleOutcome::Letter, Some(8), &[]);
        check(OTHER, resolved(Lookup::Same(8)), PossibleOutcome::Letter, Some(8), &[]);
        check(SAME, resolved(Lookup::Same(7)), PossibleOutcome::RowOrLetter, Some(7), &[]);
        check(REFUSED, resolved(Lookup::Missing), PossibleOutcome::Letter, None, &[FindingKind::Missing]);
        check(NONE, resolved(Lookup::Missing), PossibleOutcome::RowOrLetter, None, &[FindingKind::Missing]);
        check(REFUSED, resolved(Lookup::Different(8)), PossibleOutcome::Letter, Some(8), &[FindingKind::Altered]);
        check(OTHER, resolved(Lookup::Different(7)), PossibleOutcome::RowOrLetter, Some(7), &[FindingKind::Altered]);
        // The letter was corrected to another key. Later the record was read again, and became a row itself.
        check(SAME, resolved(Lookup::Same(8)), PossibleOutcome::RowOrLetter, [7, 8], &[]);
        check(SAME, resolved(Lookup::Different(8)), PossibleOutcome::RowOrLetter, [7, 8], &[FindingKind::Altered]);
        let no_event = Some(LetterLookup { altered_column: None, row: RedrivenRow::NoEvent });
        check(REFUSED, no_event, PossibleOutcome::Letter, None, &[FindingKind::Missing]);
    }
}
