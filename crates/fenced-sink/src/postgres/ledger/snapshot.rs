//! The ledger in one snapshot, for [`crate::verify`].

use sqlx::PgConnection;
use std::collections::BTreeMap;

use crate::model::halt::HaltReason;
use crate::model::outcome::Totals;
use crate::model::record::{Partition, Position, TopicId};
use crate::postgres::ledger::Ledger;

/// Begins the snapshot: later commits are not visible in it, and the transaction can write nothing.
pub(crate) const BEGIN: &str = "begin isolation level repeatable read read only";

/// A row of the ledger, with its totals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CountedRow {
    /// The id of the topic to which the positions belong, if it is known.
    pub(crate) topic_id: Option<TopicId>,
    /// All records below it are handled.
    pub(crate) next: Position,
    /// The position at which the totals begin.
    pub(crate) from: Position,
    /// The outcomes of the records from there to `next`.
    pub(crate) totals: Totals,
    /// Why the partition is halted, if it is.
    pub(crate) halt: Option<HaltReason>,
}

/// A row of `offset_gaps`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordedGap {
    /// The partition.
    pub(crate) partition: Partition,
    /// The first offset.
    pub(crate) from: Position,
    /// The position behind the last offset.
    pub(crate) to: Position,
    /// Why. Each reason of a gap is also a reason to halt.
    pub(crate) reason: HaltReason,
}

/// Removes the limits on idle time and on the length of a transaction, until the connection ends: a snapshot is open
/// for longer than they allow. The limits on single statements stay.
pub(crate) async fn lift_idle_limits(connection: &mut PgConnection) -> sqlx::Result<()> {
    // A server that does not know one of the parameters would refuse to set it.
    sqlx::query!(
        "select set_config(name, '0', false) from pg_settings
         where name in ('idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')"
    )
    .fetch_all(connection)
    .await
    .map(drop)
}

impl Ledger {
    /// Reads all rows of the group and topic.
    pub(crate) async fn counted_rows(
        &self,
        snapshot: &mut PgConnection,
    ) -> sqlx::Result<BTreeMap<Partition, CountedRow>> {
        let rows = sqlx::query!(
            "select partition, topic_id, next_offset, counted_from, stored, duplicates, ignored, dead_lettered, halt_reason
             from consumer_offsets where group_id = $1 and topic = $2",
            self.group_id,
            self.topic
        )
        .fetch_all(snapshot)
        .await?;
        // A negative total becomes a number that can't match, so that it is reported.
        let total = |count| u64::try_from(count).unwrap_or(u64::MAX);
        let counted = rows.into_iter().map(|row| {
            let totals = Totals {
                stored: total(row.stored),
                duplicates: total(row.duplicates),
                ignored: total(row.ignored),
                dead_lettered: total(row.dead_lettered),
            };
            let (next, from) = (Position(row.next_offset), Position(row.counted_from));
            let topic_id = row.topic_id.map(TopicId);
            (
                Partition(row.partition),
                CountedRow { topic_id, next, from, totals, halt: row.halt_reason.as_deref().map(HaltReason::parse) },
            )
        });
        Ok(counted.collect())
    }

    /// Reads all gaps of the group and topic, in the order in which they were found.
    pub(crate) async fn recorded_gaps(&self, snapshot: &mut PgConnection) -> sqlx::Result<Vec<RecordedGap>> {
        let rows = sqlx::query!(
            "select partition, from_offset, to_offset, reason from offset_gaps
             where group_id = $1 and topic = $2 order by id",
            self.group_id,
            self.topic
        )
        .fetch_all(snapshot)
        .await?;
        let gaps = rows.into_iter().map(|row| {
            let (from, to) = (Position(row.from_offset), Position(row.to_offset));
            RecordedGap { partition: Partition(row.partition), from, to, reason: HaltReason::parse(&row.reason) }
        });
        Ok(gaps.collect())
    }

    /// Finds another group or topic, in words, that may have written rows to the same table which the records of this
    /// one do not explain: it has handled other records, or has the row of a corrected letter.
    pub(crate) async fn other_writer(&self, snapshot: &mut PgConnection) -> sqlx::Result<Option<String>> {
        let row = sqlx::query!(
            r#"select group_id as "group_id!", topic as "topic!" from (
                 select group_id, topic from consumer_offsets as other
                 where next_offset > 0
                   and not exists (
                       select from consumer_offsets as own
                       where own.group_id = $1 and own.topic = $2 and own.topic = other.topic
                         and own.partition = other.partition and own.next_offset >= other.next_offset
                         and own.topic_id is not distinct from other.topic_id
                   )
                 union all
                 select group_id, topic from dead_letters where corrected_at is not null and status = 'resolved'
             ) as neighbour
             where (group_id, topic) <> ($1, $2)
             order by group_id, topic limit 1"#,
            self.group_id,
            self.topic
        )
        .fetch_optional(snapshot)
        .await?;
        Ok(row.map(|row| format!("group {} and topic {}", row.group_id, row.topic)))
    }
}
