//! One transaction: fence, rows, dead letters, positions, commit. Everything that the records of its batches cause is in
//! it, or none of it.

pub(crate) mod rows;

use sqlx::{Connection as _, PgConnection};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::event::Event;
use crate::model::batch::{ClaimedBatch, ClaimedStep, Entry};
use crate::model::error_class::ErrorClass;
use crate::model::outcome::{BatchOutcome, RecordOutcome, totals};
use crate::model::record::Partition;
use crate::postgres::dead_letters;
use crate::postgres::dead_letters::{DeadLetter, RetrySchedule};
use crate::postgres::error::classify;
use crate::postgres::ledger::{Advance, Ledger};
use crate::postgres::session::within;

/// How the rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteMode {
    /// One statement that handles nothing. It must take every row, or the transaction is done again with care.
    Bulk,
    /// Row by row where needed. Only this way judges records.
    RowByRow,
    /// The same for an error that nobody has classified, and that came back again and again.
    Bisect,
}

/// Why a transaction was not committed, or may not have been.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    /// It was rolled back; what it wrote has to be written with care.
    NeedsCare,
    /// It was rolled back; the breaker lets only so many entries of this partition's batch pass.
    Cut(Partition, usize),
    /// The database failed, and nobody knows what it did.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for WriteFailure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// What all transactions of a process share.
#[derive(Clone, Debug)]
pub(crate) struct WriteRules {
    /// For one statement.
    pub(crate) limit: Duration,
    /// So many dead letters in a row halt a partition; `None` = never.
    pub(crate) breaker: Option<NonZeroU32>,
    /// When a letter that may heal is tried again.
    pub(crate) schedule: RetrySchedule,
}

/// Writes the batches, and tells what became of each, in their order.
pub(crate) async fn write<E: Event>(
    connection: &mut PgConnection,
    ledger: &Ledger,
    work: &[ClaimedBatch<E>],
    way: WriteMode,
    rules: &WriteRules,
) -> Result<Vec<BatchOutcome>, WriteFailure> {
    let limit = rules.limit;
    let mut transaction = within(limit, connection.begin()).await?;
    let steps: Vec<ClaimedStep> = work.iter().map(ClaimedBatch::claimed).collect();
    let held = within(limit, ledger.fence(&mut transaction, &steps)).await?;
    let ours: Vec<&ClaimedBatch<E>> = work.iter().filter(|one| held.contains_key(&one.batch.partition())).collect();
    let entries: Vec<&Entry<E>> = ours.iter().flat_map(|one| one.batch.entries()).collect();
    let outcomes = rows::store(&mut transaction, &entries, way, limit).await?;
    let advances = advances(&ours, &outcomes, &held, rules.breaker)?;
    let letters: Vec<DeadLetter<'_>> = entries.iter().zip(&outcomes).filter_map(letter).collect();
    within(limit, dead_letters::insert(&mut transaction, ledger, &letters, &rules.schedule)).await?;
    within(limit, ledger.advance(&mut transaction, &advances)).await?;
    match within(limit, transaction.commit()).await {
        // A deferred constraint speaks at the commit. Should it be committed all the same, the next fence tells.
        Err(error) if way == WriteMode::Bulk && needs_care(&error) => return Err(WriteFailure::NeedsCare),
        answer => answer?,
    }
    let (mut outcomes, mut advances) = (outcomes.into_iter(), advances.into_iter());
    let handled = work.iter().map(|one| {
        if !held.contains_key(&one.batch.partition()) {
            return BatchOutcome::Fenced;
        }
        let outcomes = outcomes.by_ref().take(one.batch.entries().len()).collect();
        if advances.next().is_some_and(|advance| advance.halt) {
            BatchOutcome::Halted(outcomes)
        } else {
            BatchOutcome::Committed(outcomes)
        }
    });
    Ok(handled.collect())
}

/// How each batch leaves its row.
fn advances<E>(
    batches: &[&ClaimedBatch<E>],
    mut outcomes: &[RecordOutcome],
    letters_before: &BTreeMap<Partition, u32>,
    breaker: Option<NonZeroU32>,
) -> Result<Vec<Advance>, WriteFailure> {
    let advance = |one: &&ClaimedBatch<E>| {
        let (partition, entries) = (one.batch.partition(), one.batch.entries().len());
        let (these, others) = outcomes.split_at_checked(entries).unwrap_or((outcomes, &[]));
        outcomes = others;
        let before = letters_before.get(&partition).copied().unwrap_or_default();
        let (letters_in_a_row, tripped) = letters_in_a_row(before, these, breaker);
        match tripped {
            Some(last) if last < entries => Err(WriteFailure::Cut(partition, last)),
            tripped => Ok(Advance {
                partition,
                to: one.batch.step().to(),
                last: one.batch.last(),
                totals: totals(these),
                letters_in_a_row,
                halt: tripped.is_some(),
                known: one.known.clone(),
            }),
        }
    };
    batches.iter().map(advance).collect()
}

/// Counts on from `before`: a good row ends the count, a duplicate or an ignored event leaves it. Also tells after how
/// many outcomes the breaker's number is reached.
fn letters_in_a_row(before: u32, outcomes: &[RecordOutcome], breaker: Option<NonZeroU32>) -> (u32, Option<usize>) {
    let mut count = before;
    for (outcome, so_far) in outcomes.iter().zip(1..) {
        match outcome {
            RecordOutcome::Stored(_) => count = 0,
            RecordOutcome::Duplicate | RecordOutcome::Ignored => {}
            RecordOutcome::DeadLettered(_) => {
                count = count.saturating_add(1);
                if breaker.is_some_and(|number| count >= number.get()) {
                    return (count, Some(so_far));
                }
            }
        }
    }
    (count, None)
}

/// The fast way judges nothing: whatever may be a record's fault is left to the careful one.
pub(crate) fn needs_care(error: &sqlx::Error) -> bool {
    matches!(classify(error), ErrorClass::Record | ErrorClass::Unknown)
}

fn letter<'a, E>((entry, outcome): (&&'a Entry<E>, &RecordOutcome)) -> Option<DeadLetter<'a>> {
    match outcome {
        RecordOutcome::DeadLettered(cause) => Some(DeadLetter { record: &entry.record, cause: cause.clone() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{Reason, Refusal};
    use crate::model::outcome::DeadLetterCause;

    fn check(before: u32, outcomes: &str, breaker: u32, expected: (u32, Option<usize>)) {
        let cause = || DeadLetterCause::from(Refusal { reason: Reason::NotJson, field: None, detail: String::new() });
        let outcome = |letter: char| match letter {
            's' => RecordOutcome::Stored(1),
            'd' => RecordOutcome::Duplicate,
            'i' => RecordOutcome::Ignored,
            _ => RecordOutcome::DeadLettered(cause()),
        };
        let all: Vec<RecordOutcome> = outcomes.chars().map(outcome).collect();
        assert_eq!(letters_in_a_row(before, &all, NonZeroU32::new(breaker)), expected, "{before} {outcomes} {breaker}");
    }

    #[test]
    fn good_rows_end_the_row_of_letters_and_duplicates_and_ignored_events_do_not() {
        check(0, "", 3, (0, None));
        check(2, "", 3, (2, None));
        check(2, "s", 3, (0, None));
        check(2, "di", 3, (2, None));
        check(0, "xdxi", 3, (2, None));
        check(0, "xxsx", 3, (1, None));
    }

    #[test]
    fn the_breaker_trips_at_the_number_and_not_one_later() {
        check(0, "xxx", 3, (3, Some(3)));
        check(2, "x", 3, (3, Some(1)));
        check(2, "dixsss", 3, (3, Some(3)));
        check(0, "xxsxxxx", 3, (3, Some(6)));
        check(7, "x", 3, (8, Some(1)));
        check(90, "xxxx", 0, (94, None));
    }
}
