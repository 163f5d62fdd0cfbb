//! The seam: what a team brings to have its own events kept exactly once.
//!
//! The engine decides what is written when; an [`Event`] says how its bytes are read and how its rows are stored. The
//! built-in one is [`crate::booking`]; the tests have a second one, which proves that the engine names no booking.

use std::fmt::Debug;

use sqlx::PgConnection;

use super::record::{Offset, Partition, Record};

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
pub enum Fate {
    /// A new row, with its id.
    Stored(i64),
    /// A row with the same key and the same content was there.
    Duplicate,
    /// A row with the same key and other content was there; it is untouched.
    Conflict,
    /// Postgres accepted the statement and kept nothing, as a trigger that returns null does.
    Swallowed,
}

/// What the table holds under the key of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No row.
    Missing,
    /// The row with this id, with the same content to the last digit and byte.
    Same(i64),
    /// The row with this id, with other content.
    Other(i64),
}

/// A moment in the life of an event that is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It was parsed, and is about to be written.
    Received,
    /// Its transaction is committed and this is its row's id.
    Stored(i64),
    /// Its transaction is committed; the row was there before.
    Duplicate,
}

/// Where a record stands, for the log.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The record's partition.
    pub partition: Partition,
    /// The record's offset.
    pub offset: Offset,
}

/// A kind of event that is kept exactly once.
///
/// The two ways of writing run inside a transaction of the engine: they must not begin, commit or roll back, and
/// whatever a record causes must be written through the connection that they are given. An error of Postgres is judged by
/// its SQLSTATE; where that would blame a record for what is wrong with the table, answer `sqlx::Error::Configuration`.
///
/// The two ways of reading, [`Self::find`] and [`Self::page`], are for [`super::verify`] only. They run in a transaction
/// that may write nothing.
pub trait Event: Debug + Sized + Send + Sync + 'static {
    /// Reads a record. Pure: the same bytes always give the same answer.
    ///
    /// # Errors
    /// The record is ours but can't become a row, whatever the database says.
    fn parse(record: &Record) -> Result<Parsed<Self>, Refusal>;

    /// The unique key of the row. Rows of a transaction are written in its order, so that two never deadlock.
    fn key(&self) -> &str;

    /// The fast way: inserts all events by one statement and handles nothing; gives the new rows' ids in the order of
    /// `events`. A number of ids that differs from the number of events makes the engine roll back and take the
    /// careful way, and so does any refusal by Postgres.
    ///
    /// # Errors
    /// Whatever Postgres answered.
    fn insert_all(
        connection: &mut PgConnection,
        events: &[&Self],
    ) -> impl Future<Output = sqlx::Result<Vec<i64>>> + Send;

    /// The careful way: inserts what is not there and tells the fate of each event, in the order of `events`. The same
    /// key may occur more than once: the first is stored, the others are compared with it.
    ///
    /// # Errors
    /// Whatever Postgres answered; the engine then looks for the event that caused it by trying halves.
    fn insert_each(
        connection: &mut PgConnection,
        events: &[&Self],
    ) -> impl Future<Output = sqlx::Result<Vec<Fate>>> + Send;

    /// What the table holds under the key of each event, in the order of `events`. The same key may occur more than once.
    ///
    /// # Errors
    /// Whatever Postgres answered.
    fn find(connection: &mut PgConnection, events: &[&Self]) -> impl Future<Output = sqlx::Result<Vec<Found>>> + Send;

    /// Ids and keys of the rows whose id is `from` or above, in the order of their ids, and of no more than `limit` rows.
    ///
    /// # Errors
    /// Whatever Postgres answered.
    fn page(
        connection: &mut PgConnection,
        from: i64,
        limit: i64,
    ) -> impl Future<Output = sqlx::Result<Vec<(i64, String)>>> + Send;

    /// Writes the log line of a moment, in the words of the event's own field.
    fn log(&self, moment: Moment, place: Place<'_>);
}
