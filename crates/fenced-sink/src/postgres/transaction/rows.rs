//! The rows of a transaction: one outcome for each record.

use crate::event::Event;
use crate::event::copy::CopyInto;
use crate::model::batch::Entry;
use crate::model::event::{InsertOutcome, Lookup, Parsed};
use crate::model::outcome::{DeadLetterCause, RecordOutcome};
use crate::postgres::copy::{RowOfKey, copy_rows, find_rows};
use crate::postgres::session::Transaction;
use crate::postgres::transaction::mode::WriteMode;
use crate::postgres::transaction::{WriteFailure, row_by_row};

/// Writes the rows in the order of their keys: two writers of the same keys wait for each other and never deadlock.
pub(super) async fn store<E: Event>(
    transaction: &mut Transaction<'_>,
    entries: &[&Entry<E>],
    mode: WriteMode,
) -> Result<Vec<RecordOutcome>, WriteFailure> {
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
        WriteMode::Copy | WriteMode::CopyMissing | WriteMode::Bulk => {
            insert_in_bulk(transaction, &events, mode).await?
        }
        WriteMode::RowByRow | WriteMode::Bisect => row_by_row::insert(transaction, &events, mode).await?,
    };
    for (index, outcome) in indexes.into_iter().zip(written) {
        if let Some(slot) = outcomes.get_mut(index) {
            *slot = outcome;
        }
    }
    Ok(outcomes)
}

async fn insert_in_bulk<E: Event>(
    transaction: &mut Transaction<'_>,
    events: &[&E],
    mode: WriteMode,
) -> Result<Vec<RecordOutcome>, WriteFailure> {
    let outcomes = match E::COPY.filter(|_| mode != WriteMode::Bulk) {
        Some(into) => copy(transaction, into, events, mode).await,
        None => transaction.run(|connection| E::insert_all(connection, events)).await.map(|ids| {
            let stored = ids.into_iter().map(|id| RecordOutcome::Stored(Some(id)));
            Some(stored.collect())
        }),
    };
    match outcomes {
        Ok(Some(outcomes)) if outcomes.len() == events.len() => Ok(outcomes),
        // The rows are not those of the events: a trigger changed them, or another session deleted one.
        Ok(_) => Err(WriteFailure::NeedsMode(WriteMode::RowByRow)),
        Err(error) => Err(mode.after(&error).map_or(WriteFailure::Database(error), WriteFailure::NeedsMode)),
    }
}

/// Copies the first event of each key that has no row, and compares the other events with the rows. The events are in the
/// order of their keys. `None`: the rows that were stored are not exactly those of the events.
///
/// If another transaction stores one of the keys after the look-up, `COPY` fails.
async fn copy<E: Event>(
    transaction: &mut Transaction<'_>,
    into: CopyInto<E>,
    events: &[&E],
    mode: WriteMode,
) -> sqlx::Result<Option<Vec<RecordOutcome>>> {
    let rows = if mode == WriteMode::CopyMissing {
        transaction.run(|connection| find_rows(connection, &into, events)).await?
    } else {
        vec![None; events.len()]
    };
    let (mut missing, mut compared) = (Vec::new(), Vec::new());
    let mut outcomes = Vec::with_capacity(events.len());
    let mut last = None;
    for (index, (event, row)) in events.iter().zip(rows).enumerate() {
        let is_first = last.replace(event.key()) != Some(event.key());
        outcomes.push(match row {
            None if is_first => {
                missing.push(*event);
                RecordOutcome::Stored(None)
            }
            Some(RowOfKey::Same) => RecordOutcome::Duplicate,
            None | Some(RowOfKey::Other) => {
                compared.push((index, *event));
                RecordOutcome::Duplicate // or a conflict: replaced below
            }
        });
    }
    if !missing.is_empty() {
        let limit = transaction.limit();
        let stored = transaction.run(|connection| copy_rows(connection, into, &missing, limit)).await?;
        if usize::try_from(stored).ok() != Some(missing.len()) {
            return Ok(None);
        }
    }
    if !compared.is_empty() {
        let (indexes, events): (Vec<usize>, Vec<&E>) = compared.into_iter().unzip();
        let found = transaction.run(|connection| E::find(connection, &events)).await?;
        if found.len() != events.len() || found.contains(&Lookup::Missing) {
            return Ok(None);
        }
        for (index, found) in indexes.into_iter().zip(found) {
            if let (Lookup::Different(_), Some(outcome)) = (found, outcomes.get_mut(index)) {
                *outcome = row_by_row::outcome(InsertOutcome::Conflict);
            }
        }
    }
    Ok(Some(outcomes))
}
