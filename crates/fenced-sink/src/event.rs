//! The trait that a team implements for its own kind of event.
//!
//! The engine decides when it writes. An [`Event`] decides how a record is parsed and how its row is stored. An
//! implementation never begins or ends a transaction, and never uses Kafka.

pub(crate) mod copy;

use sqlx::PgConnection;
use std::fmt::Debug;

use self::copy::CopyInto;
use crate::model::event::{InsertOutcome, LogPoint, Lookup, Parsed, RecordRef, Refusal};
use crate::model::record::Record;

/// A kind of event that the engine stores exactly once.
///
/// # Writing
/// [`Self::insert_all`] and [`Self::insert_each`] run inside a transaction of the engine. They must not begin, commit
/// or roll back. They must write through the given connection only: what another connection writes is not part of the
/// transaction, so it is not stored exactly once.
///
/// The engine classifies a database error by its SQLSTATE. Some SQLSTATEs mean that the record is the cause. If such an
/// error comes from a fault of the table, return [`sqlx::Error::Configuration`] instead: then no record becomes a dead
/// letter. The engine retries for a limited time and ends.
///
/// # Reading
/// [`Self::find`] and [`Self::page`] must not write. For [`verify`](crate::verify) they run in a read-only transaction. The
/// engine also calls [`Self::find`] inside its own transaction, to compare the duplicates of a large batch with their rows.
pub trait Event: Debug + Sized + Send + Sync + 'static {
    /// How the row is written with a binary `COPY`, which costs `PostgreSQL` a third less than an insert. The engine uses it
    /// for a large batch whose events have no log lines, because `COPY` returns no ids. If it fails because a key exists,
    /// the engine rolls back, looks up the keys in this table, and copies only the events whose key has no row. While a
    /// partition has duplicates, it begins with the look-up. If the second `COPY` fails because of a record, or the first one
    /// for another reason that a record caused, the engine uses [`Self::insert_each`]. The role needs `select` on all the
    /// columns.
    ///
    /// `COPY` fires triggers and checks constraints. The engine does not use it for a table with rules for inserts, which
    /// `COPY` ignores, or with row-level security, which refuses it.
    const COPY: Option<CopyInto<Self>> = None;

    /// The tables that a run writes for this event, and the privileges that it needs for each, such as `("bookings",
    /// &["select", "insert"])`. If the database refuses a statement, the engine names those that the user lacks.
    /// In these tables only, the engine looks for an id column that is at its end when the database refuses a number with
    /// 22003: without it, the records become dead letters.
    const PRIVILEGES: &'static [(&'static str, &'static [&'static str])] = &[];

    /// Parses and validates a record. Pure: the same record always has the same result.
    ///
    /// # Errors
    /// The record can't become a row, whatever the database contains. It becomes a dead letter.
    fn parse(record: &Record) -> Result<Parsed<Self>, Refusal>;

    /// The unique key of the row. Every transaction writes its rows in the order of their keys, so two transactions
    /// never deadlock.
    fn key(&self) -> &str;

    /// Inserts all events with one statement, and returns the ids of the new rows in the order of `events`.
    ///
    /// The engine uses this for batches without `COPY`. It rolls back and changes to [`Self::insert_each`] if the database
    /// refuses a row, for example because its key exists, or if the number of ids differs from the number of events.
    ///
    /// # Errors
    /// The error of the database.
    fn insert_all(
        connection: &mut PgConnection,
        events: &[&Self],
    ) -> impl Future<Output = sqlx::Result<Vec<i64>>> + Send;

    /// Inserts the events whose key has no row yet, and returns the outcome of each event in the order of `events`.
    ///
    /// The same key can occur more than once. The first event is stored, and each later one is compared with it. The
    /// engine calls it once more for the events with [`InsertOutcome::Discarded`]: their row may have been deleted
    /// between two statements.
    ///
    /// # Errors
    /// The error of the database. If it blames a record, the engine rolls back to a savepoint and halves the events
    /// until it has found that record.
    fn insert_each(
        connection: &mut PgConnection,
        events: &[&Self],
    ) -> impl Future<Output = sqlx::Result<Vec<InsertOutcome>>> + Send;

    /// Looks up the row of each event by its key, in the order of `events`. The same key can occur more than once.
    ///
    /// # Errors
    /// The error of the database.
    fn find(connection: &mut PgConnection, events: &[&Self]) -> impl Future<Output = sqlx::Result<Vec<Lookup>>> + Send;

    /// Returns id and key of at most `limit` rows with an id of `from` or above, in the order of their ids.
    ///
    /// # Errors
    /// The error of the database.
    fn page(
        connection: &mut PgConnection,
        from: i64,
        limit: i64,
    ) -> impl Future<Output = sqlx::Result<Vec<(i64, String)>>> + Send;

    /// Writes a log line about this event.
    fn log(&self, point: LogPoint, record: RecordRef<'_>);
}
