//! One transaction: fence, rows, dead letters, positions, commit. It contains everything that the records of its
//! batches cause, and it commits as a whole or not at all.

pub(crate) mod mode;
pub(crate) mod row_by_row;
mod rows;

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use crate::event::Event;
use crate::model::batch::{ClaimedBatch, ClaimedStep, Entry};
use crate::model::leader_epochs::LeaderEpochs;
use crate::model::outcome::{BatchOutcome, RecordOutcome, totals};
use crate::model::record::Partition;
use crate::postgres::dead_letters;
use crate::postgres::dead_letters::{DeadLetter, RetrySchedule};
use crate::postgres::ledger::{Advance, Ledger};
use crate::postgres::session::Session;
use crate::postgres::transaction::mode::WriteMode;

/// Why a transaction was not committed, or why this is unknown.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    /// It was rolled back because a bulk write failed on a record. Write the batches in this mode.
    NeedsMode(WriteMode),
    /// It was rolled back because the breaker trips before the end of a batch. Write only its first entries.
    BreakerLimit {
        /// The partition of the batch.
        partition: Partition,
        /// The number of entries to write.
        entries: usize,
    },
    /// The database failed before COMMIT was sent: the transaction is not committed.
    Database(sqlx::Error),
    /// The answer to COMMIT was an error, or there was none. The transaction may be committed or not.
    Commit(sqlx::Error),
}

impl From<sqlx::Error> for WriteFailure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// The settings that all transactions of a process share.
#[derive(Clone, Debug)]
pub(crate) struct WriteRules {
    /// This number of dead letters in a row halts a partition; `None` = never.
    pub(crate) breaker: Option<NonZeroU32>,
    /// When a dead letter is tried again.
    pub(crate) schedule: RetrySchedule,
}

/// Writes the batches in one transaction, and returns one outcome for each, in their order.
pub(crate) async fn write<E: Event>(
    session: &mut Session,
    ledger: &Ledger,
    work: &[ClaimedBatch<E>],
    mode: WriteMode,
    rules: &WriteRules,
) -> Result<Vec<BatchOutcome>, WriteFailure> {
    let mut transaction = session.begin().await?;
    let steps: Vec<ClaimedStep> = work.iter().map(ClaimedBatch::claimed).collect();
    let held = transaction.run(|connection| ledger.fence(connection, &steps)).await?;
    let ours: Vec<&ClaimedBatch<E>> = work.iter().filter(|one| held.contains_key(&one.batch.partition())).collect();
    let entries: Vec<&Entry<E>> = ours.iter().flat_map(|one| one.batch.entries()).collect();
    let outcomes = rows::store(&mut transaction, &entries, mode).await?;
    let advances = advances(&ours, &outcomes, &held, rules.breaker)?;
    let letters: Vec<DeadLetter<'_>> = entries.iter().zip(&outcomes).filter_map(letter).collect();
    transaction.run(|connection| dead_letters::insert(connection, ledger, &letters, &rules.schedule)).await?;
    transaction.run(|connection| ledger.advance(connection, &advances)).await?;
    // A deferred constraint fails at the commit. If the server has committed nevertheless, the next fence detects it.
    let not_committed = |error| mode.after(&error).map_or(WriteFailure::Commit(error), WriteFailure::NeedsMode);
    transaction.commit().await.map_err(not_committed)?;
    let (mut outcomes, mut advances) = (outcomes.into_iter(), advances.into_iter());
    let written = work.iter().map(|one| {
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
    Ok(written.collect())
}

/// The new state of each batch's row in the ledger.
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
            Some(last) if last < entries => Err(WriteFailure::BreakerLimit { partition, entries: last }),
            tripped => Ok(Advance {
                partition,
                to: one.batch.step().to(),
                last: one.batch.last(),
                totals: totals(these),
                letters_in_a_row,
                halt: tripped.is_some(),
                known: one.known.clone(),
                epochs: LeaderEpochs::after(
                    one.known.as_ref().and_then(|known| known.epochs.clone()),
                    one.batch.leader_epochs(),
                ),
            }),
        }
    };
    batches.iter().map(advance).collect()
}

/// The number of dead letters in a row, `before` included: a stored row sets it to 0, a duplicate or an ignored event
/// does not change it. If the breaker trips, also the number of outcomes up to that letter.
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
            's' => RecordOutcome::Stored(None),
            'd' => RecordOutcome::Duplicate,
            'i' => RecordOutcome::Ignored,
            _ => RecordOutcome::DeadLettered(cause()),
        };
        let all: Vec<RecordOutcome> = outcomes.chars().map(outcome).collect();
        assert_eq!(letters_in_a_row(before, &all, NonZeroU32::new(breaker)), expected, "{before} {outcomes} {breaker}");
    }

    #[test]
    fn a_stored_row_resets_the_letters_in_a_row_and_duplicates_and_ignored_events_do_not() {
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
