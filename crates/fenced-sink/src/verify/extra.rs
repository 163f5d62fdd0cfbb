//! Goes through all rows, for those that no record explains.

use sqlx::PgConnection;
use std::marker::PhantomData;
use std::time::Duration;

use crate::event::Event;
use crate::postgres::session::within;
use crate::verify::ids::Ids;
use crate::verify::{Finding, FindingKind};

/// Rows that are gone through at once.
const PAGE: i64 = 10_000;

/// All rows of the snapshot, page by page.
pub(super) struct Pages<E> {
    from: Option<i64>,
    limit: Duration,
    /// Rows so far.
    pub(super) rows: u64,
    of: PhantomData<fn() -> E>,
}

impl<E: Event> Pages<E> {
    pub(super) fn new(limit: Duration) -> Self {
        Self { from: Some(i64::MIN), limit, rows: 0, of: PhantomData }
    }

    /// What is not among `explained` of the next page. `None`: there are no more rows.
    pub(super) async fn next(
        &mut self,
        snapshot: &mut PgConnection,
        explained: &Ids,
    ) -> sqlx::Result<Option<Vec<Finding>>> {
        let Some(from) = self.from else { return Ok(None) };
        let page = within(self.limit, E::page(snapshot, from, PAGE)).await?;
        let Some((last, _)) = page.last() else { return Ok(None) };
        if *last < from {
            return Err(sqlx::Error::Protocol(format!("page told row {last} of those from {from} on")));
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
