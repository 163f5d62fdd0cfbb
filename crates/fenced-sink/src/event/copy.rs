//! Rows in the binary format of `COPY` (`PostgreSQL` documentation, COPY, "Binary Format").

use std::error::Error;
use std::mem;

use sqlx::encode::IsNull;
use sqlx::postgres::PgArgumentBuffer;
use sqlx::{Encode, Postgres};

/// How an event writes its row with `COPY`.
#[derive(Clone, Copy, Debug)]
pub struct CopyInto<E> {
    /// The table.
    pub table: &'static str,
    /// The columns, each with its name and its type as `format_type` of `PostgreSQL` writes it, such as `bigint` or
    /// `timestamp with time zone`. `COPY` is used only if the table has these types. The first column has the unique key,
    /// as [`Event::key`](crate::Event::key) returns it.
    pub columns: &'static [(&'static str, &'static str)],
    /// Writes one value for each column, in their order.
    pub write: fn(&E, &mut CopyRow<'_>),
}

/// One row. Its values are written in the order of the columns.
#[derive(Debug)]
pub struct CopyRow<'r> {
    rows: &'r mut CopyRows,
}

/// The rows that are encoded and not sent yet.
#[derive(Debug)]
pub(crate) struct CopyRows {
    buffer: PgArgumentBuffer,
    columns: i16,
    error: Option<Box<dyn Error + Send + Sync>>,
}

impl CopyRow<'_> {
    /// Writes the next value. `None` is null. The type must be exactly the one of the column: `PostgreSQL` converts no
    /// binary value, so an `i32` is not valid for a `bigint` column.
    pub fn value<'v>(&mut self, value: impl Encode<'v, Postgres>) {
        let rows = &mut *self.rows;
        rows.columns = rows.columns.saturating_add(1);
        let start = rows.buffer.len();
        rows.put(&[0; 4]);
        let length = match value.encode(&mut rows.buffer) {
            Ok(IsNull::Yes) => Ok(-1),
            Ok(IsNull::No) => i32::try_from(rows.buffer.len().saturating_sub(start + 4)).map_err(Into::into),
            Err(error) => Err(error),
        };
        match length {
            Ok(length) => rows.set(start, length.to_be_bytes()),
            Err(error) => rows.error = Some(error),
        }
    }
}

impl CopyRows {
    /// The beginning of the data: the signature, no flags, and no header extension.
    pub(crate) fn new() -> Self {
        let mut rows = Self { buffer: PgArgumentBuffer::default(), columns: 0, error: None };
        rows.put(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
        rows
    }

    /// Adds the row of an event.
    ///
    /// # Errors
    /// A value that can't be encoded.
    pub(crate) fn add<E>(&mut self, event: &E, write: fn(&E, &mut CopyRow<'_>)) -> sqlx::Result<()> {
        let start = self.buffer.len();
        self.put(&[0; 2]);
        self.columns = 0;
        write(event, &mut CopyRow { rows: self });
        self.set(start, self.columns.to_be_bytes());
        self.error.take().map_or(Ok(()), |error| Err(sqlx::Error::Encode(error)))
    }

    /// Whether `COPY` would send exactly these values for the event. They are in the order of the columns, and `None` is null.
    ///
    /// # Errors
    /// A value that can't be encoded.
    pub(crate) fn sends<'v, E>(
        &mut self,
        event: &E,
        write: fn(&E, &mut CopyRow<'_>),
        values: impl Iterator<Item = Option<&'v [u8]>>,
    ) -> sqlx::Result<bool> {
        self.buffer.clear();
        self.add(event, write)?;
        let mut rest = self.buffer.get(2..).unwrap_or_default();
        for value in values {
            let length = value.map_or(Some(-1), |value| i32::try_from(value.len()).ok());
            let after = length.and_then(|length| rest.strip_prefix(length.to_be_bytes().as_slice()));
            let Some(after) = after.and_then(|after| after.strip_prefix(value.unwrap_or_default())) else {
                return Ok(false);
            };
            rest = after;
        }
        Ok(rest.is_empty())
    }

    /// Adds the end of the data.
    pub(crate) fn end(&mut self) {
        self.put(&(-1_i16).to_be_bytes());
    }

    /// The number of bytes that are not taken yet.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Takes the bytes.
    pub(crate) fn take(&mut self) -> PgArgumentBuffer {
        mem::take(&mut self.buffer)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn set<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        if let Some(place) = self.buffer.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_its_number_of_values_and_each_value_its_length() {
        let mut rows = CopyRows::new();
        assert_eq!(rows.take().as_slice(), b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
        rows.add(&"ab", |text, row| {
            row.value(*text);
            row.value(None::<&str>);
            row.value(7_i64);
        })
        .unwrap();
        rows.end();
        let row = b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\x08\0\0\0\0\0\0\0\x07";
        assert_eq!(rows.take().as_slice(), [row.as_slice(), b"\xff\xff"].concat());
        assert_eq!(rows.len(), 0);
    }

    #[test]
    fn values_are_compared_with_those_that_copy_sends() {
        let check = |values: &[Option<&[u8]>], expected| {
            let write = |text: &&str, row: &mut CopyRow<'_>| {
                row.value(*text);
                row.value(None::<&str>);
                row.value(7_i16);
            };
            let sent = CopyRows::new().sends(&"ab", write, values.iter().copied()).unwrap();
            assert_eq!(sent, expected, "{values:?}");
        };
        check(&[Some(b"ab"), None, Some(b"\0\x07")], true);
        check(&[Some(b"ab"), Some(b""), Some(b"\0\x07")], false);
        check(&[Some(b"ab"), None, Some(b"\0\x08")], false);
        check(&[Some(b"abc"), None, Some(b"\0\x07")], false);
        check(&[Some(b"a"), None, Some(b"\0\x07")], false);
        check(&[None, None, Some(b"\0\x07")], false);
        check(&[Some(b"ab"), None], false);
        check(&[Some(b"ab"), None, Some(b"\0\x07"), None], false);
    }
}
