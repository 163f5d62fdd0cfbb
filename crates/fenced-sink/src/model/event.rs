//! What an event can be and what can happen to it. Pure; the trait is [`crate::Event`].

use crate::model::record::{Offset, Partition};

/// What the bytes of a record turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<E> {
    /// An event of ours, validated: it goes into the table.
    Event(E),
    /// An event of another type, by name: counted, not stored.
    Ignored {
        /// Its type as the record gives it.
        event_type: String,
    },
}

/// Why a record can't become a row; it goes whole into `dead_letters`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of fault it is.
    pub reason: Reason,
    /// The path of the field at fault, such as `data.price`.
    pub field: Option<&'static str>,
    /// One sentence for a person; never contains any of the record's content.
    pub detail: String,
}

/// The kinds of fault; [`Reason::as_str`] gives the words that `dead_letters.reason` holds and people query by.
///
/// An event refuses its record for one of the first nine; the last three are the engine's own findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The record has a null value.
    Tombstone,
    /// Its bytes are no JSON text, or hold a string that is no text.
    NotJson,
    /// JSON, but of another kind than an object.
    NotAnObject,
    /// A field that must be there is not.
    MissingField,
    /// A field holds JSON of another kind than it must.
    WrongType,
    /// A field that has a meaning is there more than once.
    DuplicateField,
    /// The right kind of value, but none that is accepted.
    InvalidValue,
    /// More bytes than the column takes.
    TooLong,
    /// A string holds the character that Postgres can't.
    NulCharacter,
    /// A row with the same key and other content is there already.
    ConflictingDuplicate,
    /// Postgres refused this very record.
    DatabaseRejected,
    /// Postgres refused this very record for a cause that nobody has classified.
    Unclassified,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Tombstone,
        Self::NotJson,
        Self::NotAnObject,
        Self::MissingField,
        Self::WrongType,
        Self::DuplicateField,
        Self::InvalidValue,
        Self::TooLong,
        Self::NulCharacter,
        Self::ConflictingDuplicate,
        Self::DatabaseRejected,
        Self::Unclassified,
    ];

    /// The word for it, as `dead_letters.reason` holds it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tombstone => "tombstone",
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::DuplicateField => "duplicate_field",
            Self::InvalidValue => "invalid_value",
            Self::TooLong => "too_long",
            Self::NulCharacter => "nul_character",
            Self::ConflictingDuplicate => "conflicting_duplicate",
            Self::DatabaseRejected => "database_rejected",
            Self::Unclassified => "unclassified",
        }
    }
}

/// What became of one event that was written with care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertOutcome {
    /// A new row, with its id.
    Stored(i64),
    /// A row with the same key and the same content was there.
    Duplicate,
    /// A row with the same key and other content was there; it is untouched.
    Conflict,
    /// Postgres accepted the statement and kept nothing, as a trigger that returns null does.
    Discarded,
}

/// What the table holds under the key of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// No row.
    Missing,
    /// The row with this id, with the same content to the last digit and byte.
    Same(i64),
    /// The row with this id, with other content.
    Different(i64),
}

/// A moment in the life of an event that is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogPoint {
    /// It was parsed, and is about to be written.
    Received,
    /// Its transaction is committed and this is its row's id.
    Stored(i64),
    /// Its transaction is committed; the row was there before.
    Duplicate,
}

/// Where a record stands, for the log.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The record's partition.
    pub partition: Partition,
    /// The record's offset.
    pub offset: Offset,
}
