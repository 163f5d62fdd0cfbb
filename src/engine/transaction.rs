//! One transaction: fence, rows, dead letters, positions, commit. Everything that the records of its batches cause is in
//! it, or none of it.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::postgres::PgDatabaseError;
use sqlx::{Connection as _, PgConnection};

use super::assignment::Assigned;
use super::batch::Entry;
use super::dead_letter::{self, Cause, DeadLetter};
use super::event::{Event, Fate, Parsed, Reason, Refusal};
use super::ledger::{self, Advance, Claimed, Ledger, Totals, within};
use super::verdict::{Verdict, verdict};

/// How the rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// One statement that handles nothing. It must take every row, or the transaction is done again with care.
    Fast,
    /// Row by row where needed. Only this way judges records.
    Careful,
}

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A new row, with its id.
    Stored(i64),
    /// The row was there.
    Duplicate,
    /// Not an event of ours.
    Ignored,
    /// It is in `dead_letters`.
    DeadLettered(Cause),
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Handled {
    /// The fence was missed: the partition is somebody else's, or somewhere else.
    Fenced,
    /// Committed; one outcome for each entry, in order.
    Committed(Vec<Outcome>),
}

/// Why a transaction was not committed, or may not have been.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was rolled back; what it wrote has to be written with care.
    NeedsCare,
    /// The database failed, and nobody knows what it did.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// Writes the batches, and tells what became of each, in their order.
pub(crate) async fn write<E: Event>(
    connection: &mut PgConnection,
    ledger: &Ledger,
    work: &[Assigned<E>],
    way: Way,
    limit: Duration,
) -> Result<Vec<Handled>, Failure> {
    let mut transaction = within(limit, connection.begin()).await?;
    let steps: Vec<Claimed> = work.iter().map(Assigned::claimed).collect();
    let held = within(limit, ledger.fence(&mut transaction, &steps)).await?;
    let held: BTreeSet<_> = held.into_iter().collect();
    let ours: Vec<&Assigned<E>> = work.iter().filter(|one| held.contains(&one.batch.partition())).collect();
    let mut outcomes = Vec::new();
    if !ours.is_empty() {
        let entries: Vec<&Entry<E>> = ours.iter().flat_map(|one| one.batch.entries()).collect();
        outcomes = store(&mut transaction, &entries, way, limit).await?;
        let letters: Vec<DeadLetter<'_>> = entries.iter().zip(&outcomes).filter_map(letter).collect();
        within(limit, dead_letter::insert(&mut transaction, ledger, &letters)).await?;
        let mut rest = outcomes.as_slice();
        let advances: Vec<Advance> = ours
            .iter()
            .map(|one| {
                let (these, others) = rest.split_at_checked(one.batch.entries().len()).unwrap_or((rest, &[]));
                rest = others;
                Advance {
                    partition: one.batch.partition(),
                    to: one.batch.step().to(),
                    last: one.batch.last(),
                    totals: totals(these),
                }
            })
            .collect();
        within(limit, ledger.advance(&mut transaction, &advances)).await?;
    }
    match within(limit, transaction.commit()).await {
        // A deferred constraint speaks at the commit. The answer arrived, so it is rolled back for sure.
        Err(error) if way == Way::Fast && needs_care(&error) => return Err(Failure::NeedsCare),
        answer => answer?,
    }
    let mut outcomes = outcomes.into_iter();
    let handled = work.iter().map(|one| {
        if held.contains(&one.batch.partition()) {
            Handled::Committed(outcomes.by_ref().take(one.batch.entries().len()).collect())
        } else {
            Handled::Fenced
        }
    });
    Ok(handled.collect())
}

/// Writes the rows, in order of their key, so that two writers of the same keys wait for each other and never deadlock.
async fn store<E: Event>(
    transaction: &mut PgConnection,
    entries: &[&Entry<E>],
    way: Way,
    limit: Duration,
) -> Result<Vec<Outcome>, Failure> {
    let mut events: Vec<(usize, &E)> = Vec::with_capacity(entries.len());
    let mut outcomes = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        outcomes.push(match &entry.intake {
            Ok(Parsed::Event(event)) => {
                events.push((index, event));
                Outcome::Ignored // until the database has answered, below
            }
            Ok(Parsed::Ignored { .. }) => Outcome::Ignored,
            Err(refusal) => Outcome::DeadLettered(Cause::from(refusal.clone())),
        });
    }
    events.sort_by(|(_, one), (_, other)| one.key().cmp(other.key()));
    let (places, events): (Vec<usize>, Vec<&E>) = events.into_iter().unzip();
    let written = match way {
        _ if events.is_empty() => Vec::new(),
        Way::Fast => fast(transaction, &events, limit).await?,
        Way::Careful => careful(transaction, &events, limit).await?,
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
) -> Result<Vec<Outcome>, Failure> {
    match within(limit, E::insert_all(transaction, events)).await {
        Ok(ids) if ids.len() == events.len() => Ok(ids.into_iter().map(Outcome::Stored).collect()),
        Ok(_) => Err(Failure::NeedsCare),
        Err(error) if needs_care(&error) => Err(Failure::NeedsCare),
        Err(error) => Err(Failure::Database(error)),
    }
}

/// Finds the events that Postgres refuses by trying halves, each under a savepoint: `O(k log n)` statements for `k` of
/// `n`. The others are written.
async fn careful<E: Event>(
    transaction: &mut PgConnection,
    events: &[&E],
    limit: Duration,
) -> Result<Vec<Outcome>, Failure> {
    within(limit, ledger::check_constraints_at_once(transaction)).await?;
    let mut outcomes = Vec::with_capacity(events.len());
    let mut untried = vec![events];
    while let Some(events) = untried.pop() {
        let mut savepoint = within(limit, transaction.begin()).await?;
        match within(limit, E::insert_each(&mut savepoint, events)).await {
            Ok(fates) if fates.len() == events.len() => {
                within(limit, savepoint.commit()).await?;
                outcomes.extend(fates.into_iter().map(outcome));
            }
            Ok(fates) => {
                let text = format!("insert_each told {} fates of {} events", fates.len(), events.len());
                return Err(Failure::Database(sqlx::Error::Protocol(text)));
            }
            Err(error) if verdict(&error) == Verdict::Record => {
                within(limit, savepoint.rollback()).await?;
                if events.len() == 1 {
                    outcomes.push(Outcome::DeadLettered(rejection(&error)));
                } else {
                    let (first, second) = events.split_at(events.len() / 2);
                    untried.extend([second, first]);
                }
            }
            Err(error) => return Err(Failure::Database(error)),
        }
    }
    Ok(outcomes)
}

/// The fast way judges nothing: whatever may be a record's fault is left to the careful one.
fn needs_care(error: &sqlx::Error) -> bool {
    matches!(verdict(error), Verdict::Record | Verdict::Unknown)
}

fn outcome(fate: Fate) -> Outcome {
    match fate {
        Fate::Stored(id) => Outcome::Stored(id),
        Fate::Duplicate => Outcome::Duplicate,
        Fate::Conflict => refused(
            Reason::ConflictingDuplicate,
            "a row with the same key and other content is stored; it was left as it is",
        ),
        Fate::Swallowed => refused(
            Reason::DatabaseRejected,
            "the database took the row and stored nothing, as a trigger that returns null does",
        ),
    }
}

fn refused(reason: Reason, detail: &str) -> Outcome {
    Outcome::DeadLettered(Cause::from(Refusal { reason, field: None, detail: detail.to_owned() }))
}

/// What Postgres said, without its message: that may quote the record.
fn rejection(error: &sqlx::Error) -> Cause {
    let postgres = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    let constraint = postgres.and_then(PgDatabaseError::constraint).map(str::to_owned);
    let sqlstate = postgres.map(|error| error.code().to_owned());
    let names = [
        Some(format!("the database refused the row with SQLSTATE {}", sqlstate.as_deref().unwrap_or("unknown"))),
        constraint.as_ref().map(|name| format!("constraint {name}")),
        postgres.and_then(PgDatabaseError::column).map(|name| format!("column {name}")),
    ];
    let detail = names.into_iter().flatten().collect::<Vec<_>>().join(", ");
    Cause { reason: Reason::DatabaseRejected, field: None, detail, sqlstate, constraint }
}

fn letter<'a, E>((entry, outcome): (&&'a Entry<E>, &Outcome)) -> Option<DeadLetter<'a>> {
    match outcome {
        Outcome::DeadLettered(cause) => Some(DeadLetter { record: &entry.record, cause: cause.clone() }),
        _ => None,
    }
}

/// Counts outcomes by kind; they add up to the records handled.
pub(crate) fn totals(outcomes: &[Outcome]) -> Totals {
    let mut totals = Totals::default();
    for outcome in outcomes {
        *match outcome {
            Outcome::Stored(_) => &mut totals.stored,
            Outcome::Duplicate => &mut totals.duplicates,
            Outcome::Ignored => &mut totals.ignored,
            Outcome::DeadLettered(_) => &mut totals.dead_lettered,
        } += 1;
    }
    totals
}
