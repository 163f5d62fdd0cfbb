//! The ledger: the table `consumer_offsets`, and all statements that read or write it.
//!
//! Invariant: a statement that moves or halts a partition names the epoch of the claim and the position of the row. It
//! changes the row only if both are unchanged. This is the fence.

mod rows;
mod gaps;
mod epochs;
pub(crate) mod snapshot;
pub(crate) mod host;
pub(crate) mod operator;

use std::collections::BTreeMap;

use sqlx::PgConnection;

use crate::model::batch::ClaimedStep;
use crate::model::leader_epochs::LeaderEpochs;
use crate::model::outcome::Totals;
use crate::model::record::{Digest, Offset, Partition, Position};
use crate::model::topic_log::KnownLog;

/// The rows of one consumer group and topic. All statements are bound to them.
#[derive(Clone, Debug)]
pub struct Ledger {
    group_id: String,
    topic: String,
    owner: String,
}

/// The values that a transaction writes to the row of a partition.
#[derive(Clone, Debug)]
pub(crate) struct Advance {
    /// The partition, held by [`Ledger::fence`].
    pub partition: Partition,
    /// The new position.
    pub to: Position,
    /// The last record of the step, if it had any.
    pub last: Option<(Offset, Digest)>,
    /// The outcomes of its records.
    pub totals: Totals,
    /// The number of dead letters since the last stored row.
    pub letters_in_a_row: u32,
    /// The breaker has tripped: the partition is halted until an operator resumes it.
    pub halt: bool,
    /// What is known about the topic log that its records were read from.
    pub known: Option<KnownLog>,
    /// The leader epochs of the records up to the last one.
    pub epochs: Option<LeaderEpochs>,
}

impl Ledger {
    /// The rows of one group and topic. `owner` names this process in the rows that it claims.
    #[must_use]
    pub fn new(group_id: String, topic: String, owner: String) -> Self {
        Self { group_id, topic, owner }
    }

    /// The name of this process in the rows that it claims.
    #[must_use]
    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    /// The group whose rows these are.
    #[must_use]
    pub(crate) fn group_id(&self) -> &str {
        &self.group_id
    }

    /// The topic whose rows these are.
    #[must_use]
    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// The first statement of a transaction that moves rows. It locks the rows whose epoch and position are unchanged,
    /// in the order of their partitions, and returns their dead letters in a row. If another transaction holds a row,
    /// the statement waits, and then compares the row that this transaction has committed.
    ///
    /// # Errors
    /// What the database answered.
    pub(crate) async fn fence(
        &self,
        transaction: &mut PgConnection,
        steps: &[ClaimedStep],
    ) -> sqlx::Result<BTreeMap<Partition, u32>> {
        let partitions: Vec<i32> = steps.iter().map(|step| step.partition.0).collect();
        let positions: Vec<i64> = steps.iter().map(|step| step.step.from().0).collect();
        let epochs: Vec<i64> = steps.iter().map(|step| step.epoch.0).collect();
        let held = sqlx::query!(
            "select held.partition, held.letters_in_a_row from consumer_offsets as held
             join unnest($3::integer[], $4::bigint[], $5::bigint[]) as step (partition, next_offset, epoch)
               on held.partition = step.partition and held.next_offset = step.next_offset and held.epoch = step.epoch
             where held.group_id = $1 and held.topic = $2 and held.halted_at is null
             order by held.partition
             for no key update of held",
            self.group_id,
            self.topic,
            &partitions,
            &positions,
            &epochs
        )
        .fetch_all(transaction)
        .await?;
        let letters = |count: i32| u32::try_from(count).unwrap_or_default();
        Ok(held.into_iter().map(|row| (Partition(row.partition), letters(row.letters_in_a_row))).collect())
    }

    /// The last statement of the transaction. It moves all of the rows that [`Self::fence`] has locked, or it fails.
    ///
    /// # Errors
    /// What the database answered.
    #[expect(
        clippy::as_conversions,
        reason = "with this syntax the macro knows the type of an array of optional values"
    )]
    pub(crate) async fn advance(&self, transaction: &mut PgConnection, advances: &[Advance]) -> sqlx::Result<()> {
        let column = |value: fn(&Advance) -> i64| advances.iter().map(value).collect::<Vec<i64>>();
        let partitions: Vec<i32> = advances.iter().map(|advance| advance.partition.0).collect();
        let offsets: Vec<Option<i64>> =
            advances.iter().map(|advance| advance.last.map(|(offset, _)| offset.0)).collect();
        let digests: Vec<Option<&[u8]>> =
            advances.iter().map(|advance| advance.last.as_ref().map(|(_, digest)| digest.0.as_slice())).collect();
        let letters: Vec<i32> =
            advances.iter().map(|advance| i32::try_from(advance.letters_in_a_row).unwrap_or(i32::MAX)).collect();
        let known = || advances.iter().map(|advance| advance.known.as_ref());
        let topic_ids: Vec<Option<&str>> =
            known().map(|known| known.and_then(|known| known.topic_id.as_ref()).map(|id| id.0.as_str())).collect();
        let checked: Vec<Option<i64>> = known().map(|known| known.map(|known| known.checked.0)).collect();
        let epochs: Vec<Option<String>> =
            advances.iter().map(|advance| advance.epochs.as_ref().and_then(epochs::to_json)).collect();
        let halts: Vec<bool> = advances.iter().map(|advance| advance.halt).collect();
        // A step without records keeps the last record of the row, unless the row was moved past records that were not
        // read: `last_next_offset` would then say that none lies between the two.
        let moved = sqlx::query!(
            "update consumer_offsets as held
             set next_offset = step.next_offset, last_next_offset = step.next_offset,
                 last_offset = coalesce(step.last_offset, case
                     when held.next_offset in (held.last_next_offset, held.last_offset + 1) then held.last_offset end),
                 last_digest = coalesce(step.last_digest, case
                     when held.next_offset in (held.last_next_offset, held.last_offset + 1) then held.last_digest end),
                 stored = held.stored + step.stored, duplicates = held.duplicates + step.duplicates,
                 ignored = held.ignored + step.ignored, dead_lettered = held.dead_lettered + step.dead_lettered,
                 letters_in_a_row = step.letters_in_a_row,
                 topic_id = coalesce(held.topic_id, step.topic_id),
                 checked_offset = coalesce(step.checked_offset, held.checked_offset),
                 leader_epochs = case when step.leader_epochs is not null then jsonb_build_object(
                     'records', step.leader_epochs::jsonb,
                     'last_digest', encode(coalesce(step.last_digest, held.last_digest), 'hex')) end,
                 halted_at = case when step.halt then now() end,
                 halt_reason = case when step.halt then 'too_many_dead_letters' end,
                 updated_at = now()
             from unnest($3::integer[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bigint[], $8::bigint[], $9::bigint[],
                         $10::bigint[], $11::integer[], $12::boolean[], $13::text[], $14::bigint[], $15::text[])
                  as step (partition, next_offset, last_offset, last_digest, stored, duplicates, ignored, dead_lettered,
                           letters_in_a_row, halt, topic_id, checked_offset, leader_epochs)
             where held.group_id = $1 and held.topic = $2 and held.partition = step.partition",
            self.group_id,
            self.topic,
            &partitions,
            &column(|advance| advance.to.0),
            &offsets as &[Option<i64>],
            &digests as &[Option<&[u8]>],
            &column(|advance| total(advance.totals.stored)),
            &column(|advance| total(advance.totals.duplicates)),
            &column(|advance| total(advance.totals.ignored)),
            &column(|advance| total(advance.totals.dead_lettered)),
            &letters,
            &halts,
            &topic_ids as &[Option<&str>],
            &checked as &[Option<i64>],
            &epochs as &[Option<String>]
        )
        .execute(transaction)
        .await?;
        if moved.rows_affected() == u64::try_from(advances.len()).unwrap_or(u64::MAX) {
            Ok(())
        } else {
            Err(sqlx::Error::Protocol("consumer_offsets has not accepted all new positions".to_owned()))
        }
    }
}

fn total(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
