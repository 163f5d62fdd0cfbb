//! The values that an [`Event`](crate::Event) returns: parsed, refused, inserted, found. Pure.

use crate::model::record::{Offset, Partition};

/// A record after parsing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<E> {
    /// A valid event. It is stored.
    Event(E),
    /// An event of a type that the team does not store. It is counted and passed.
    Ignored {
        /// The type that the record names.
        event_type: String,
    },
}

/// Why a record can't become a row. The whole record becomes a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of fault.
    pub reason: Reason,
    /// The path of the faulty field, such as `data.price`.
    pub field: Option<&'static str>,
    /// One sentence for an operator. It must not contain content of the record.
    pub detail: String,
}

/// The kind of fault of a dead letter, as `dead_letters.reason` holds it.
///
/// [`Event::parse`](crate::Event::parse) uses the first nine. The engine itself uses the last three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The record has a null value.
    Tombstone,
    /// The bytes are not JSON, or a string in them is not valid Unicode.
    NotJson,
    /// Valid JSON, but not an object.
    NotAnObject,
    /// A required field is missing.
    MissingField,
    /// A field has a JSON value of the wrong type.
    WrongType,
    /// A known field occurs more than once.
    DuplicateField,
    /// A value has the right type and is outside of the accepted range or format.
    InvalidValue,
    /// A value has more bytes than its column accepts.
    TooLong,
    /// A string contains NUL, which `PostgreSQL` can't store.
    NulCharacter,
    /// A row with the same key and different content exists.
    ConflictingDuplicate,
    /// The database refused this record.
    DatabaseRejected,
    /// The database refused this record with an error that the engine does not classify.
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

    /// The text in `dead_letters.reason`.
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

/// The outcome of one event in [`Event::insert_each`](crate::Event::insert_each).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertOutcome {
    /// The event has a new row with this id.
    Stored(i64),
    /// A row with the same key and the same content exists.
    Duplicate,
    /// A row with the same key and different content exists. It is unchanged.
    Conflict,
    /// The database accepted the statement and stored no row, for example because a trigger returned null.
    Discarded,
}

/// The row of the table with the key of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// There is no row.
    Missing,
    /// The row with this id has exactly the same content.
    Same(i64),
    /// The row with this id has different content.
    Different(i64),
}

/// The point of an event's path at which [`Event::log`](crate::Event::log) writes a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogPoint {
    /// The event is parsed and not written yet.
    Received,
    /// The transaction is committed. The row has this id.
    Stored(i64),
    /// The transaction is committed. The row existed before.
    Duplicate,
}

/// Which record a log line is about.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The record's partition.
    pub partition: Partition,
    /// The record's offset.
    pub offset: Offset,
}
