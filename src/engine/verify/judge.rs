//! What the tables say of one record, and whether that explains it. Pure.

use super::Kind;
use crate::engine::event::{Found, Reason};

/// What the record's own bytes are, and what the table has under their key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Own {
    /// An event of another type.
    Ignored,
    /// It can't be a row.
    Refused(Reason),
    /// An event of ours.
    Event(Found),
}

/// What the dead letter of the record says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Letter {
    /// This column is not as the record has it.
    pub(super) differs: Option<&'static str>,
    /// The row that was made of it.
    pub(super) row: Redriven,
}

/// The row that was made of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Redriven {
    /// None was.
    Not,
    /// One was, the letter says, and this is found under the key of the event that it holds now.
    Found(Found),
    /// One was, the letter says, and it holds no event.
    NoEvent,
}

/// What may have become of a record when it was handled, as far as the tables can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
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
pub(super) struct Judgement {
    /// What was counted.
    pub(super) class: Class,
    /// The rows that it explains, also if they have other content than they should: its own, and the one that its letter
    /// was corrected to.
    pub(super) rows: [Option<i64>; 2],
    /// What is wrong.
    pub(super) findings: Vec<(Kind, String)>,
}

/// A letter explains its record whatever the table holds, since the same bytes may be a letter once and a row later. A
/// row that has other content than its record is explained by it only where no letter says why.
pub(super) fn judge(own: Own, letter: Option<Letter>) -> Judgement {
    let Some(Letter { differs, row }) = letter else { return alone(own) };
    let mut findings = Vec::new();
    if let Some(column) = differs {
        findings.push((Kind::Altered, format!("the dead letter has another {column} than the record")));
    }
    match row {
        Redriven::Not | Redriven::Found(Found::Same(_)) => {}
        Redriven::NoEvent => {
            findings.push((Kind::Missing, "the dead letter is resolved, and what it holds is no event".to_owned()));
        }
        Redriven::Found(Found::Missing) => {
            findings.push((Kind::Missing, "the dead letter is resolved, and its row is not there".to_owned()));
        }
        Redriven::Found(Found::Other(id)) => {
            let detail = format!("row {id} has other content than the dead letter that it was made of");
            findings.push((Kind::Altered, detail));
        }
    }
    // A row that is gone, or altered, may have been met when the record was read again.
    let was_a_row = !matches!(row, Redriven::Not | Redriven::Found(Found::Same(_)));
    let class = match own {
        Own::Event(Found::Same(_)) => Class::RowOrLetter,
        Own::Event(_) if was_a_row => Class::RowOrLetter,
        Own::Ignored | Own::Refused(_) | Own::Event(_) => Class::Letter,
    };
    let redriven = if let Redriven::Found(Found::Same(id) | Found::Other(id)) = row { Some(id) } else { None };
    let own = if let Own::Event(Found::Same(id)) = own { Some(id) } else { None };
    Judgement { class, rows: [redriven, own], findings }
}

/// There is no letter.
fn alone(own: Own) -> Judgement {
    let (class, row, finding) = match own {
        Own::Ignored => (Class::Ignored, None, None),
        Own::Event(Found::Same(id)) => (Class::Row, Some(id), None),
        Own::Event(Found::Missing) => {
            (Class::Unexplained, None, Some((Kind::Missing, "there is no row of it, and no dead letter".to_owned())))
        }
        Own::Event(Found::Other(id)) => {
            let detail = format!("row {id} has other content, and there is no dead letter of the record");
            (Class::Unexplained, Some(id), Some((Kind::Altered, detail)))
        }
        Own::Refused(reason) => {
            let detail = format!("it can't be a row ({}), and there is no dead letter of it", reason.as_str());
            (Class::Unexplained, None, Some((Kind::Missing, detail)))
        }
    };
    Judgement { class, rows: [None, row], findings: finding.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SAME: Own = Own::Event(Found::Same(7));
    const OTHER: Own = Own::Event(Found::Other(7));
    const NONE: Own = Own::Event(Found::Missing);
    const REFUSED: Own = Own::Refused(Reason::NotJson);
    const OPEN: Option<Letter> = Some(Letter { differs: None, row: Redriven::Not });

    fn resolved(found: Found) -> Letter {
        Letter { differs: None, row: Redriven::Found(found) }
    }

    fn check(
        own: Own,
        letter: impl Into<Option<Letter>>,
        class: Class,
        rows: impl IntoIterator<Item = i64>,
        kinds: &[Kind],
    ) {
        let letter = letter.into();
        let judged = judge(own, letter);
        let found: Vec<Kind> = judged.findings.iter().map(|(kind, _)| *kind).collect();
        let explained: BTreeSet<i64> = judged.rows.into_iter().flatten().collect();
        let expected = (class, rows.into_iter().collect(), kinds);
        assert_eq!((judged.class, explained, found.as_slice()), expected, "{own:?} {letter:?} {judged:?}");
    }

    #[test]
    fn a_record_is_a_row_or_ignored_or_it_is_missed() {
        check(SAME, None, Class::Row, Some(7), &[]);
        check(Own::Ignored, None, Class::Ignored, None, &[]);
        check(NONE, None, Class::Unexplained, None, &[Kind::Missing]);
        check(REFUSED, None, Class::Unexplained, None, &[Kind::Missing]);
        check(OTHER, None, Class::Unexplained, Some(7), &[Kind::Altered]);
    }

    #[test]
    fn a_letter_explains_its_record_whatever_the_table_holds() {
        check(REFUSED, OPEN, Class::Letter, None, &[]);
        check(NONE, OPEN, Class::Letter, None, &[]);
        check(OTHER, OPEN, Class::Letter, None, &[]);
        check(SAME, OPEN, Class::RowOrLetter, Some(7), &[]);
        check(Own::Ignored, OPEN, Class::Letter, None, &[]);
    }

    #[test]
    fn a_letter_that_is_not_as_its_record_is_altered() {
        let differs = |row| Some(Letter { differs: Some("key"), row });
        check(SAME, differs(Redriven::Not), Class::RowOrLetter, Some(7), &[Kind::Altered]);
        for own in [OTHER, NONE, REFUSED, Own::Ignored] {
            check(own, differs(Redriven::Not), Class::Letter, None, &[Kind::Altered]);
        }
        check(REFUSED, differs(Redriven::Found(Found::Same(8))), Class::Letter, Some(8), &[Kind::Altered]);
        let gone = differs(Redriven::Found(Found::Missing));
        check(REFUSED, gone, Class::Letter, None, &[Kind::Altered, Kind::Missing]);
    }

    #[test]
    fn a_letter_that_is_resolved_has_its_row() {
        check(REFUSED, resolved(Found::Same(8)), Class::Letter, Some(8), &[]);
        check(OTHER, resolved(Found::Same(8)), Class::Letter, Some(8), &[]);
        check(SAME, resolved(Found::Same(7)), Class::RowOrLetter, Some(7), &[]);
        check(REFUSED, resolved(Found::Missing), Class::Letter, None, &[Kind::Missing]);
        check(NONE, resolved(Found::Missing), Class::RowOrLetter, None, &[Kind::Missing]);
        check(REFUSED, resolved(Found::Other(8)), Class::Letter, Some(8), &[Kind::Altered]);
        check(OTHER, resolved(Found::Other(7)), Class::RowOrLetter, Some(7), &[Kind::Altered]);
        // Corrected to another key, and read again when its own bytes could be a row.
        check(SAME, resolved(Found::Same(8)), Class::RowOrLetter, [7, 8], &[]);
        check(SAME, resolved(Found::Other(8)), Class::RowOrLetter, [7, 8], &[Kind::Altered]);
        let no_event = Some(Letter { differs: None, row: Redriven::NoEvent });
        check(REFUSED, no_event, Class::Letter, None, &[Kind::Missing]);
    }
}
