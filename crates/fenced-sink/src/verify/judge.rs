//! What the tables say of one record, and whether that explains it. Pure.

use crate::model::event::{Lookup, Reason};
use crate::verify::FindingKind;

/// What the record's own bytes are, and what the table has under their key.
#[derive(Clone, Copy, Debug)]
pub(super) enum RecordSide {
    /// An event of another type.
    Ignored,
    /// It can't be a row.
    Refused(Reason),
    /// An event of ours.
    Event(Lookup),
}

/// What the dead letter of the record says.
#[derive(Clone, Copy, Debug)]
pub(super) struct LetterSide {
    /// This column is not as the record has it.
    pub(super) differs: Option<&'static str>,
    /// The row that was made of it.
    pub(super) row: RedrivenRow,
}

/// The row that was made of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RedrivenRow {
    /// None was.
    Not,
    /// One was, the letter says, and this is found under the key of the event that it holds now.
    Found(Lookup),
    /// One was, the letter says, and it holds no event.
    NoEvent,
}

/// What may have become of a record when it was handled, as far as the tables can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordClass {
    /// Stored, or a duplicate: a row is there, and no letter.
    Row,
    /// Ignored.
    Ignored,
    /// Dead-lettered: there is a letter, and no row of the record's own content.
    Letter,
    /// There are both: it was a letter first and a row later, or is a duplicate of a row that came later.
    RowOrLetter,
    /// There is neither. That is a finding.
    Unexplained,
}

/// The judgement on a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordCheck {
    /// What was counted.
    pub(super) class: RecordClass,
    /// The rows that it explains, also if they have other content than they should: its own, and the one that its letter
    /// was corrected to.
    pub(super) rows: [Option<i64>; 2],
    /// What is wrong.
    pub(super) findings: Vec<(FindingKind, String)>,
}

/// A letter explains its record whatever the table holds, since the same bytes may be a letter once and a row later. A
/// row that has other content than its record is explained by it only where no letter says why.
pub(super) fn judge(own: RecordSide, letter: Option<LetterSide>) -> RecordCheck {
    let Some(LetterSide { differs, row }) = letter else { return alone(own) };
    let mut findings = Vec::new();
    if let Some(column) = differs {
        findings.push((FindingKind::Altered, format!("the dead letter has another {column} than the record")));
    }
    match row {
        RedrivenRow::Not | RedrivenRow::Found(Lookup::Same(_)) => {}
        RedrivenRow::NoEvent => {
            findings
                .push((FindingKind::Missing, "the dead letter is resolved, and what it holds is no event".to_owned()));
        }
        RedrivenRow::Found(Lookup::Missing) => {
            findings.push((FindingKind::Missing, "the dead letter is resolved, and its row is not there".to_owned()));
        }
        RedrivenRow::Found(Lookup::Different(id)) => {
            let detail = format!("row {id} has other content than the dead letter that it was made of");
            findings.push((FindingKind::Altered, detail));
        }
    }
    // A row that is gone, or altered, may have been met when the record was read again.
    let was_a_row = !matches!(row, RedrivenRow::Not | RedrivenRow::Found(Lookup::Same(_)));
    let class = match own {
        RecordSide::Event(Lookup::Same(_)) => RecordClass::RowOrLetter,
        RecordSide::Event(_) if was_a_row => RecordClass::RowOrLetter,
        RecordSide::Ignored | RecordSide::Refused(_) | RecordSide::Event(_) => RecordClass::Letter,
    };
    let redriven = if let RedrivenRow::Found(Lookup::Same(id) | Lookup::Different(id)) = row { Some(id) } else { None };
    let own = if let RecordSide::Event(Lookup::Same(id)) = own { Some(id) } else { None };
    RecordCheck { class, rows: [redriven, own], findings }
}

/// There is no letter.
fn alone(own: RecordSide) -> RecordCheck {
    let (class, row, finding) = match own {
        RecordSide::Ignored => (RecordClass::Ignored, None, None),
        RecordSide::Event(Lookup::Same(id)) => (RecordClass::Row, Some(id), None),
        RecordSide::Event(Lookup::Missing) => (
            RecordClass::Unexplained,
            None,
            Some((FindingKind::Missing, "there is no row of it, and no dead letter".to_owned())),
        ),
        RecordSide::Event(Lookup::Different(id)) => {
            let detail = format!("row {id} has other content, and there is no dead letter of the record");
            (RecordClass::Unexplained, Some(id), Some((FindingKind::Altered, detail)))
        }
        RecordSide::Refused(reason) => {
            let detail = format!("it can't be a row ({}), and there is no dead letter of it", reason.as_str());
            (RecordClass::Unexplained, None, Some((FindingKind::Missing, detail)))
        }
    };
    RecordCheck { class, rows: [None, row], findings: finding.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SAME: RecordSide = RecordSide::Event(Lookup::Same(7));
    const OTHER: RecordSide = RecordSide::Event(Lookup::Different(7));
    const NONE: RecordSide = RecordSide::Event(Lookup::Missing);
    const REFUSED: RecordSide = RecordSide::Refused(Reason::NotJson);
    const OPEN: Option<LetterSide> = Some(LetterSide { differs: None, row: RedrivenRow::Not });

    fn resolved(found: Lookup) -> LetterSide {
        LetterSide { differs: None, row: RedrivenRow::Found(found) }
    }

    fn check(
        own: RecordSide,
        letter: impl Into<Option<LetterSide>>,
        class: RecordClass,
        rows: impl IntoIterator<Item = i64>,
        kinds: &[FindingKind],
    ) {
        let letter = letter.into();
        let judged = judge(own, letter);
        let found: Vec<FindingKind> = judged.findings.iter().map(|(kind, _)| *kind).collect();
        let explained: BTreeSet<i64> = judged.rows.into_iter().flatten().collect();
        let expected = (class, rows.into_iter().collect(), kinds);
        assert_eq!((judged.class, explained, found.as_slice()), expected, "{own:?} {letter:?} {judged:?}");
    }

    #[test]
    fn a_record_is_a_row_or_ignored_or_it_is_missed() {
        check(SAME, None, RecordClass::Row, Some(7), &[]);
        check(RecordSide::Ignored, None, RecordClass::Ignored, None, &[]);
        check(NONE, None, RecordClass::Unexplained, None, &[FindingKind::Missing]);
        check(REFUSED, None, RecordClass::Unexplained, None, &[FindingKind::Missing]);
        check(OTHER, None, RecordClass::Unexplained, Some(7), &[FindingKind::Altered]);
    }

    #[test]
    fn a_letter_explains_its_record_whatever_the_table_holds() {
        check(REFUSED, OPEN, RecordClass::Letter, None, &[]);
        check(NONE, OPEN, RecordClass::Letter, None, &[]);
        check(OTHER, OPEN, RecordClass::Letter, None, &[]);
        check(SAME, OPEN, RecordClass::RowOrLetter, Some(7), &[]);
        check(RecordSide::Ignored, OPEN, RecordClass::Letter, None, &[]);
    }

    #[test]
    fn a_letter_that_is_not_as_its_record_is_altered() {
        let differs = |row| Some(LetterSide { differs: Some("key"), row });
        check(SAME, differs(RedrivenRow::Not), RecordClass::RowOrLetter, Some(7), &[FindingKind::Altered]);
        for own in [OTHER, NONE, REFUSED, RecordSide::Ignored] {
            check(own, differs(RedrivenRow::Not), RecordClass::Letter, None, &[FindingKind::Altered]);
        }
        check(
            REFUSED,
            differs(RedrivenRow::Found(Lookup::Same(8))),
            RecordClass::Letter,
            Some(8),
            &[FindingKind::Altered],
        );
        let gone = differs(RedrivenRow::Found(Lookup::Missing));
        check(REFUSED, gone, RecordClass::Letter, None, &[FindingKind::Altered, FindingKind::Missing]);
    }

    #[test]
    fn a_letter_that_is_resolved_has_its_row() {
        check(REFUSED, resolved(Lookup::Same(8)), RecordClass::Letter, Some(8), &[]);
        check(OTHER, resolved(Lookup::Same(8)), RecordClass::Letter, Some(8), &[]);
        check(SAME, resolved(Lookup::Same(7)), RecordClass::RowOrLetter, Some(7), &[]);
        check(REFUSED, resolved(Lookup::Missing), RecordClass::Letter, None, &[FindingKind::Missing]);
        check(NONE, resolved(Lookup::Missing), RecordClass::RowOrLetter, None, &[FindingKind::Missing]);
        check(REFUSED, resolved(Lookup::Different(8)), RecordClass::Letter, Some(8), &[FindingKind::Altered]);
        check(OTHER, resolved(Lookup::Different(7)), RecordClass::RowOrLetter, Some(7), &[FindingKind::Altered]);
        // Corrected to another key, and read again when its own bytes could be a row.
        check(SAME, resolved(Lookup::Same(8)), RecordClass::RowOrLetter, [7, 8], &[]);
        check(SAME, resolved(Lookup::Different(8)), RecordClass::RowOrLetter, [7, 8], &[FindingKind::Altered]);
        let no_event = Some(LetterSide { differs: None, row: RedrivenRow::NoEvent });
        check(REFUSED, no_event, RecordClass::Letter, None, &[FindingKind::Missing]);
    }
}
