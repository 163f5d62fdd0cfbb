//! The rows of a transaction: what Postgres makes of each event.

use sqlx::PgConnection;
use sqlx::postgres::PgDatabaseError;
use std::time::Duration;

use crate::event::Event;
use crate::model::batch::Entry;
use crate::model::error_class::ErrorClass;
use crate::model::event::{InsertOutcome, Parsed, Reason, Refusal};
use crate::model::outcome::{DeadLetterCause, RecordOutcome};
use crate::postgres::error::classify;
use crate::postgres::savepoint;
use crate::postgres::session::within;
use crate::postgres::transaction::{WriteFailure, WriteMode, needs_care};

/// Writes the rows, in order of their key, so that two writers of the same keys wait for each other and never deadlock.
pub(super) async fn store<E: Event>(
    transaction: &mut PgConnection,
    entries: &[&Entry<E>],
    way: WriteMode,
    limit: Duration,
) -> Result<Vec<RecordOutcome>, WriteFailure> {
    let mut events: Vec<(usize, &E)> = Vec::with_capacity(entries.len());
    let mut outcomes = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        outcomes.push(match &entry.parsed {
            Ok(Parsed::Event(event)) => {
                events.push((index, event));
                RecordOutcome::Ignored // until the database has answered, below
            }
            Ok(Parsed::Ignored { .. }) => RecordOutcome::Ignored,
            Err(refusal) => RecordOutcome::DeadLettered(DeadLetterCause::from(refusal.clone())),
        });
    }
    events.sort_by(|(_, one), (_, other)| one.key().cmp(other.key()));
    let (places, events): (Vec<usize>, Vec<&E>) = events.into_iter().unzip();
    let written = match way {
        _ if events.is_empty() => Vec::new(),
        WriteMode::Bulk => fast(transaction, &events, limit).await?,
        WriteMode::RowByRow | WriteMode::Bisect => careful(transaction, &events, way, limit).await?,
    };
    for (place, outcome) in places.into_iter().zip(written) {
        if let Some(slot) = outcomes.get_mut(place) {
            *slot = outcome;
        }
    }
    Ok(outcomes)
}

async fn fast<E: Event>(
    transaction: &mut PgConnection,
    events: &[&E],
    limit: Duration,
) -> Result<Vec<RecordOutcome>, WriteFailure> {
    match within(limit, E::insert_all(transaction, events)).await {
        Ok(ids) if ids.len() == events.len() => Ok(ids.into_iter().map(RecordOutcome::Stored).collect()),
        Ok(_) => Err(WriteFailure::NeedsCare),
        Err(error) if needs_care(&error) => Err(WriteFailure::NeedsCare),
        Err(error) => Err(WriteFailure::Database(error)),
    }
}

/// Finds the events that Postgres refuses by trying halves, each under a savepoint: `O(k log n)` statements for `k` of
/// `n`. The others are written.
async fn careful<E: Event>(
    transaction: &mut PgConnection,
    events: &[&E],
    way: WriteMode,
    limit: Duration,
) -> Result<Vec<RecordOutcome>, WriteFailure> {
    within(limit, savepoint::check_constraints_at_once(transaction)).await?;
    let mut outcomes = Vec::with_capacity(events.len());
    let (mut untried, mut unclassified) = (vec![events], None);
    while let Some(events) = untried.pop() {
        within(limit, savepoint::begin(transaction)).await?;
        match within(limit, E::insert_each(transaction, events)).await {
            Ok(fates) if fates.len() == events.len() => {
                within(limit, savepoint::keep(transaction)).await?;
                outcomes.extend(fates.into_iter().map(outcome));
            }
            Ok(fates) => {
                let text = format!("insert_each told {} fates of {} events", fates.len(), events.len());
                return Err(WriteFailure::Database(sqlx::Error::Protocol(text)));
            }
            Err(error) if blames_a_record(&error, way) => {
                within(limit, savepoint::take_back(transaction)).await?;
                if events.len() == 1 {
                    outcomes.push(RecordOutcome::DeadLettered(rejection(&error)));
                    unclassified = Some(error).filter(|error| classify(error) == ErrorClass::Unknown).or(unclassified);
                } else {
                    let (first, second) = events.split_at(events.len() / 2);
                    untried.extend([second, first]);
                }
            }
            Err(error) => return Err(WriteFailure::Database(error)),
        }
    }
    match unclassified {
        // It is not the records.
        Some(error) if outcomes.len() > 1 && outcomes.iter().all(is_unclassified) => Err(WriteFailure::Database(error)),
        _ => Ok(outcomes),
    }
}

fn blames_a_record(error: &sqlx::Error, way: WriteMode) -> bool {
    match classify(error) {
        ErrorClass::Record => true,
        ErrorClass::Unknown => way == WriteMode::Bisect,
        ErrorClass::Retry(_)
        | ErrorClass::TooSlow
        | ErrorClass::NewConnection
        | ErrorClass::Operator
        | ErrorClass::Corrupt => false,
    }
}

fn is_unclassified(outcome: &RecordOutcome) -> bool {
    matches!(outcome, RecordOutcome::DeadLettered(DeadLetterCause { reason: Reason::Unclassified, .. }))
}

pub(crate) fn outcome(fate: InsertOutcome) -> RecordOutcome {
    match fate {
        InsertOutcome::Stored(id) => RecordOutcome::Stored(id),
        InsertOutcome::Duplicate => RecordOutcome::Duplicate,
        InsertOutcome::Conflict => refused(
            Reason::ConflictingDuplicate,
            "a row with the same key and other content is stored; it was left as it is",
        ),
        InsertOutcome::Discarded => refused(
            Reason::DatabaseRejected,
            "the database took the row and stored nothing, as a trigger that returns null does",
        ),
    }
}

fn refused(reason: Reason, detail: &str) -> RecordOutcome {
    RecordOutcome::DeadLettered(DeadLetterCause::from(Refusal { reason, field: None, detail: detail.to_owned() }))
}

/// What Postgres said, without its message: that may quote the record.
pub(crate) fn rejection(error: &sqlx::Error) -> DeadLetterCause {
    let postgres = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    let reason = if classify(error) == ErrorClass::Record { Reason::DatabaseRejected } else { Reason::Unclassified };
    let constraint = postgres.and_then(PgDatabaseError::constraint).map(str::to_owned);
    let sqlstate = postgres.map(|error| error.code().to_owned());
    let names = [
        Some(format!("the database refused the row with SQLSTATE {}", sqlstate.as_deref().unwrap_or("unknown"))),
        constraint.as_ref().map(|name| format!("constraint {name}")),
        postgres.and_then(PgDatabaseError::column).map(|name| format!("column {name}")),
    ];
    let detail = names.into_iter().flatten().collect::<Vec<_>>().join(", ");
    DeadLetterCause { reason, field: None, detail, sqlstate, constraint }
}
