//! The seam: what a team brings to have its own events kept exactly once.
//!
//! The engine decides what is written when; an [`Event`] says how its bytes are read and how its rows are stored.

use sqlx::PgConnection;
use std::fmt::Debug;

use crate::model::event::{InsertOutcome, LogPoint, Lookup, Parsed, RecordRef, Refusal};
use crate::model::record::Record;

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
    ) -> impl Future<Output = sqlx::Result<Vec<InsertOutcome>>> + Send;

    /// What the table holds under the key of each event, in the order of `events`. The same key may occur more than once.
    ///
    /// # Errors
    /// Whatever Postgres answered.
    fn find(connection: &mut PgConnection, events: &[&Self]) -> impl Future<Output = sqlx::Result<Vec<Lookup>>> + Send;

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
    fn log(&self, moment: LogPoint, place: RecordRef<'_>);
}
