//! The rows of a transaction: one outcome for each record.

use crate::event::Event;
use crate::model::batch::Entry;
use crate::model::event::Parsed;
use crate::model::outcome::{DeadLetterCause, RecordOutcome};
use crate::postgres::copy::copy_rows;
use crate::postgres::session::Transaction;
use crate::postgres::transaction::mode::WriteMode;
use crate::postgres::transaction::row_by_row;

/// Writes the rows in the order of their keys: two writers of the same keys wait for each other and never deadlock.
/// `None`: a bulk write failed because of a record.
pub(super) async fn store<E: Event>(
    transaction: &mut Transaction<'_>,
    entries: &[&Entry<E>],
    mode: WriteMode,
) -> sqlx::Result<Option<Vec<RecordOutcome>>> {
    let mut events: Vec<(&str, usize, &E)> = Vec::with_capacity(entries.len());
    let mut outcomes = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        outcomes.push(match &entry.parsed {
            Ok(Parsed::Event(event)) => {
                events.push((event.key(), index, event));
                RecordOutcome::Ignored // replaced below, after the answer of the database
            }
            Ok(Parsed::Ignored { .. }) => RecordOutcome::Ignored,
            Err(refusal) => RecordOutcome::DeadLettered(DeadLetterCause::from(refusal.clone())),
        });
    }
    events.sort_unstable_by_key(|(key, index, _)| (*key, *index));
    let (indexes, events): (Vec<usize>, Vec<&E>) = events.into_iter().map(|(_, index, event)| (index, event)).unzip();
    let written = match mode {
        _ if events.is_empty() => Vec::new(),
        WriteMode::Copy | WriteMode::Bulk => match insert_in_bulk(transaction, &events, mode).await? {
            Some(written) => written,
            None => return Ok(None),
        },
        WriteMode::RowByRow | WriteMode::Bisect => row_by_row::insert(transaction, &events, mode).await?,
    };
    for (index, outcome) in indexes.into_iter().zip(written) {
        if let Some(slot) = outcomes.get_mut(index) {
            *slot = outcome;
        }
    }
    Ok(Some(outcomes))
}

/// `None`: Postgres refused a record, or did not store each event.
async fn insert_in_bulk<E: Event>(
    transaction: &mut Transaction<'_>,
    events: &[&E],
    mode: WriteMode,
) -> sqlx::Result<Option<Vec<RecordOutcome>>> {
    let ids: sqlx::Result<Vec<Option<i64>>> = if let Some(into) = E::COPY.filter(|_| mode == WriteMode::Copy) {
        let limit = transaction.limit();
        let stored = transaction.run(|connection| copy_rows(connection, into, events, limit)).await;
        stored.map(|stored| (0..stored).map(|_| None).collect())
    } else {
        let ids = transaction.run(|connection| E::insert_all(connection, events)).await;
        ids.map(|ids| ids.into_iter().map(Some).collect())
    };
    match ids {
        Ok(ids) if ids.len() == events.len() => Ok(Some(ids.into_iter().map(RecordOutcome::Stored).collect())),
        Ok(_) => Ok(None),
        Err(error) if mode.may_blame_a_record(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
