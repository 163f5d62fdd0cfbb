//! The ledger as one snapshot shows it, for whoever compares it with the log.

use sqlx::PgConnection;
use std::collections::BTreeMap;

use crate::model::outcome::Totals;
use crate::model::record::{Partition, Position, TopicId};
use crate::postgres::ledger::Ledger;

/// Begins the snapshot: what it shows stays as it is, whatever is committed meanwhile, and nothing can be written.
pub(crate) const BEGIN: &str = "begin isolation level repeatable read read only";

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CountedRow {
    /// The topic that the positions belong to, if it is known.
    pub(crate) topic_id: Option<TopicId>,
    /// Everything below is handled.
    pub(crate) next: Position,
    /// The totals count from here.
    pub(crate) from: Position,
    /// What became of the records in between.
    pub(crate) totals: Totals,
    /// Why it is halted, if it is, in the table's words.
    pub(crate) halt: Option<String>,
}

/// A gap on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordedGap {
    /// The partition.
    pub(crate) partition: Partition,
    /// The first offset.
    pub(crate) from: Position,
    /// Past the last one.
    pub(crate) to: Position,
    /// Why, in the table's words.
    pub(crate) reason: String,
}

/// A snapshot is held for longer than a transaction of the service may idle: lifts the limits on that, for this
/// connection. Those on single statements stay.
pub(crate) async fn let_it_last(connection: &mut PgConnection) -> sqlx::Result<()> {
    // Not every server knows all of them, and one that is not known can't be set.
    sqlx::query!(
        "select set_config(name, '0', false) from pg_settings
         where name in ('idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')"
    )
    .fetch_all(connection)
    .await
    .map(drop)
}

impl Ledger {
    /// All rows of the group and topic.
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
        // Less than nothing is no total, and is told as one that does not add up.
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
            (Partition(row.partition), CountedRow { topic_id, next, from, totals, halt: row.halt_reason })
        });
        Ok(counted.collect())
    }

    /// All gaps on record of the group and topic, in the order in which they were found.
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
            RecordedGap { partition: Partition(row.partition), from, to, reason: row.reason }
        });
        Ok(gaps.collect())
    }

    /// Another group or topic, in words, whose records may have become rows of the same table and are not all among
    /// those that this one has handled. A letter that was corrected has a row that the record itself doesn't explain.
    pub(crate) async fn other_writers(&self, snapshot: &mut PgConnection) -> sqlx::Result<Option<String>> {
        let found = sqlx::query!(
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
        Ok(found.map(|row| format!("group {} and topic {}", row.group_id, row.topic)))
    }
}
