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
pub(super) enum Letter {
    /// This column is not as the record has it.
    Differs(&'static str),
    /// It says nothing about a row.
    Unresolved,
    /// What it holds now has become a row, it says: and that is what is found. None: what it holds is no event.
    Resolved(Option<Found>),
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
    /// The row that it explains, also if it has other content than it should.
    pub(super) row: Option<i64>,
    /// What is wrong.
    pub(super) finding: Option<(Kind, String)>,
}

/// A letter explains its record whatever the table holds, since the same bytes may be a letter once and a row later. A
/// row that has other content than its record is explained by it only where no letter says why.
pub(super) fn judge(own: Own, letter: Option<Letter>) -> Judgement {
    let class = match (own, letter) {
        (Own::Ignored, None) => Class::Ignored,
        (Own::Event(Found::Same(_)), None) => Class::Row,
        (Own::Event(Found::Same(_)), Some(_)) => Class::RowOrLetter,
        (Own::Refused(_) | Own::Event(_), None) => Class::Unexplained,
        (Own::Ignored | Own::Refused(_) | Own::Event(_), Some(_)) => Class::Letter,
    };
    let finding = match letter {
        None => unexplained(own),
        Some(Letter::Unresolved) => None,
        Some(Letter::Differs(column)) => {
            Some((Kind::Altered, format!("the dead letter has another {column} than the record")))
        }
        Some(Letter::Resolved(None)) => {
            Some((Kind::Missing, "the dead letter is resolved, and what it holds is no event".to_owned()))
        }
        Some(Letter::Resolved(Some(Found::Missing))) => {
            Some((Kind::Missing, "the dead letter is resolved, and its row is not there".to_owned()))
        }
        Some(Letter::Resolved(Some(Found::Other(id)))) => {
            Some((Kind::Altered, format!("row {id} has other content than the dead letter that it was made of")))
        }
        Some(Letter::Resolved(Some(Found::Same(_)))) => None,
    };
    let row = match (own, letter) {
        (_, Some(Letter::Resolved(Some(Found::Same(id) | Found::Other(id)))))
        | (Own::Event(Found::Same(id)), _)
        | (Own::Event(Found::Other(id)), None) => Some(id),
        _ => None,
    };
    Judgement { class, row, finding }
}

fn unexplained(own: Own) -> Option<(Kind, String)> {
    match own {
        Own::Ignored | Own::Event(Found::Same(_)) => None,
        Own::Refused(reason) => {
            Some((Kind::Missing, format!("it can't be a row ({}), and there is no dead letter of it", reason.as_str())))
        }
        Own::Event(Found::Missing) => Some((Kind::Missing, "there is no row of it, and no dead letter".to_owned())),
        Own::Event(Found::Other(id)) => {
            Some((Kind::Altered, format!("row {id} has other content, and there is no dead letter of the record")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAME: Own = Own::Event(Found::Same(7));
    const OTHER: Own = Own::Event(Found::Other(7));
    const NONE: Own = Own::Event(Found::Missing);
    const REFUSED: Own = Own::Refused(Reason::NotJson);
    const OPEN: Option<Letter> = Some(Letter::Unresolved);

    fn resolved(found: Found) -> Option<Letter> {
        Some(Letter::Resolved(Some(found)))
    }

    fn check(own: Own, letter: Option<Letter>, class: Class, row: Option<i64>, kind: Option<Kind>) {
        let judged = judge(own, letter);
        let found = judged.finding.as_ref().map(|(kind, _)| *kind);
        assert_eq!((judged.class, judged.row, found), (class, row, kind), "{own:?} {letter:?} {judged:?}");
    }

    #[test]
    fn a_record_is_a_row_or_ignored_or_it_is_missed() {
        check(SAME, None, Class::Row, Some(7), None);
        check(Own::Ignored, None, Class::Ignored, None, None);
        check(NONE, None, Class::Unexplained, None, Some(Kind::Missing));
        check(REFUSED, None, Class::Unexplained, None, Some(Kind::Missing));
        check(OTHER, None, Class::Unexplained, Some(7), Some(Kind::Altered));
    }

    #[test]
    fn a_letter_explains_its_record_whatever_the_table_holds() {
        check(REFUSED, OPEN, Class::Letter, None, None);
        check(NONE, OPEN, Class::Letter, None, None);
        check(OTHER, OPEN, Class::Letter, None, None);
        check(SAME, OPEN, Class::RowOrLetter, Some(7), None);
        check(Own::Ignored, OPEN, Class::Letter, None, None);
    }

    #[test]
    fn a_letter_that_is_not_as_its_record_is_altered() {
        let differs = Some(Letter::Differs("key"));
        check(SAME, differs, Class::RowOrLetter, Some(7), Some(Kind::Altered));
        for own in [OTHER, NONE, REFUSED, Own::Ignored] {
            check(own, differs, Class::Letter, None, Some(Kind::Altered));
        }
    }

    #[test]
    fn a_letter_that_is_resolved_has_its_row() {
        check(REFUSED, resolved(Found::Same(8)), Class::Letter, Some(8), None);
        check(OTHER, resolved(Found::Same(8)), Class::Letter, Some(8), None);
        check(SAME, resolved(Found::Same(7)), Class::RowOrLetter, Some(7), None);
        check(REFUSED, resolved(Found::Missing), Class::Letter, None, Some(Kind::Missing));
        check(NONE, resolved(Found::Missing), Class::Letter, None, Some(Kind::Missing));
        check(REFUSED, resolved(Found::Other(8)), Class::Letter, Some(8), Some(Kind::Altered));
        check(REFUSED, Some(Letter::Resolved(None)), Class::Letter, None, Some(Kind::Missing));
    }
}
