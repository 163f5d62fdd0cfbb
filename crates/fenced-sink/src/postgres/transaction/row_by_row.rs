//! Inserts events one by one where needed, and finds those that `PostgreSQL` refuses.

use sqlx::PgConnection;
use sqlx::postgres::PgDatabaseError;

use crate::event::Event;
use crate::model::error_class::ErrorClass;
use crate::model::event::{InsertOutcome, Reason, Refusal};
use crate::model::outcome::{DeadLetterCause, RecordOutcome};
use crate::postgres::error::classify;
use crate::postgres::id_columns::full_column;
use crate::postgres::savepoint;
use crate::postgres::session::Transaction;
use crate::postgres::transaction::mode::WriteMode;

/// Inserts the events and returns one outcome for each, in their order.
///
/// To find the events that Postgres refuses, it tries halves, each under a savepoint: `O(k log n)` statements for `k`
/// refused events of `n`. The other events are stored.
///
/// # Errors
/// An error of which none of the events is the cause. The transaction can't be committed.
pub(crate) async fn insert<E: Event>(
    transaction: &mut Transaction<'_>,
    events: &[&E],
    mode: WriteMode,
) -> sqlx::Result<Vec<RecordOutcome>> {
    transaction.run(savepoint::check_constraints_immediately).await?;
    let mut outcomes = Vec::with_capacity(events.len());
    let (mut untried, mut unclassified) = (vec![events], None);
    while let Some(events) = untried.pop() {
        transaction.run(savepoint::begin).await?;
        match transaction.run(|connection| insert_each(connection, events)).await {
            Ok(inserted) => {
                transaction.run(savepoint::release).await?;
                outcomes.extend(inserted.into_iter().map(outcome));
            }
            Err(error) if mode.may_blame_a_record(&error) => {
                transaction.run(savepoint::roll_back).await?;
                if events.len() == 1 {
                    let full = transaction.run(|connection| full_column(connection, &error, E::PRIVILEGES)).await?;
                    if let Some(column) = full {
                        return Err(sqlx::Error::Configuration(Box::new(column)));
                    }
                    outcomes.push(RecordOutcome::DeadLettered(rejection(&error)));
                    unclassified = Some(error).filter(|error| classify(error) == ErrorClass::Unknown).or(unclassified);
                } else {
                    let (first, second) = events.split_at(events.len() / 2);
                    untried.extend([second, first]);
                }
            }
            Err(error) => return Err(error),
        }
    }
    match unclassified {
        // Every event fails, so the events are not the cause.
        Some(error) if outcomes.len() > 1 && outcomes.iter().all(is_unclassified) => Err(error),
        _ => Ok(outcomes),
    }
}

/// Inserts the events. Inserts those without a row once more: another transaction may have deleted the row with the
/// same key between the insert, which found it, and the comparison.
async fn insert_each<E: Event>(connection: &mut PgConnection, events: &[&E]) -> sqlx::Result<Vec<InsertOutcome>> {
    let mut outcomes = insert_once(connection, events).await?;
    let without_row = |outcome: &InsertOutcome| *outcome == InsertOutcome::Discarded;
    let again = events.iter().zip(&outcomes).filter(|(_, outcome)| without_row(outcome));
    let again: Vec<&E> = again.map(|(event, _)| *event).collect();
    if !again.is_empty() {
        let inserted = insert_once(connection, &again).await?;
        for (outcome, inserted) in outcomes.iter_mut().filter(|outcome| without_row(outcome)).zip(inserted) {
            *outcome = inserted;
        }
    }
    Ok(outcomes)
}

async fn insert_once<E: Event>(connection: &mut PgConnection, events: &[&E]) -> sqlx::Result<Vec<InsertOutcome>> {
    let outcomes = E::insert_each(connection, events).await?;
    if outcomes.len() != events.len() {
        let text = format!("Event::insert_each returned {} outcomes for {} events", outcomes.len(), events.len());
        return Err(sqlx::Error::Protocol(text));
    }
    Ok(outcomes)
}

fn is_unclassified(outcome: &RecordOutcome) -> bool {
    matches!(outcome, RecordOutcome::DeadLettered(DeadLetterCause { reason: Reason::Unclassified, .. }))
}

/// The outcome of a record whose event has this outcome.
pub(super) fn outcome(inserted: InsertOutcome) -> RecordOutcome {
    match inserted {
        InsertOutcome::Stored(id) => RecordOutcome::Stored(Some(id)),
        InsertOutcome::Duplicate => RecordOutcome::Duplicate,
        InsertOutcome::Conflict => refused(
            Reason::ConflictingDuplicate,
            "a row with the same key and other content is stored; it was not changed",
        ),
        InsertOutcome::Discarded => refused(
            Reason::DatabaseRejected,
            "the database accepted the row and did not store it, for example because a trigger returned null",
        ),
    }
}

fn refused(reason: Reason, detail: &str) -> RecordOutcome {
    RecordOutcome::DeadLettered(DeadLetterCause::from(Refusal { reason, field: None, detail: detail.to_owned() }))
}

/// The answer of Postgres without its message, which may contain the record.
fn rejection(error: &sqlx::Error) -> DeadLetterCause {
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
