//! Goes through all rows, and finds those that no record explains.

use std::marker::PhantomData;

use crate::event::Event;
use crate::postgres::session::Transaction;
use crate::verify::report::{Finding, FindingKind};
use crate::verify::row_ids::RowIds;

/// The number of rows that one statement reads.
const PAGE: i64 = 10_000;

/// All rows of the snapshot, page by page.
pub(super) struct RowPages<E> {
    from: Option<i64>,
    /// The number of rows that were read.
    pub(super) rows: u64,
    event: PhantomData<fn() -> E>,
}

impl<E: Event> RowPages<E> {
    pub(super) fn new() -> Self {
        Self { from: Some(i64::MIN), rows: 0, event: PhantomData }
    }

    /// Reads the next page, and returns a finding for each of its rows that is not in `explained`. `None`: there are no
    /// more rows.
    pub(super) async fn next(
        &mut self,
        snapshot: &mut Transaction<'_>,
        explained: &RowIds,
    ) -> sqlx::Result<Option<Vec<Finding>>> {
        let Some(from) = self.from else { return Ok(None) };
        let page = snapshot.run(|connection| E::page(connection, from, PAGE)).await?;
        let Some((last, _)) = page.last() else { return Ok(None) };
        if *last < from {
            let text = format!("Event::page returned row {last} and was asked for rows from {from} on");
            return Err(sqlx::Error::Protocol(text));
        }
        self.from = last.checked_add(1);
        self.rows = self.rows.saturating_add(u64::try_from(page.len()).unwrap_or_default());
        Ok(Some(page.into_iter().filter(|(id, _)| !explained.contains(*id)).map(extra).collect()))
    }
}

fn extra((id, key): (i64, String)) -> Finding {
    let detail = format!("no record explains row {id}");
    Finding { kind: FindingKind::Extra, partition: None, offset: None, key: Some(key), detail }
}
