//! Creates, claims and reads the rows.

use sqlx::{Connection as _, PgConnection};
use std::collections::BTreeMap;

use crate::model::halt::HaltReason;
use crate::model::protocol::LedgerRow;
use crate::model::record::{Digest, Epoch, Offset, Partition, Position, TopicId};
use crate::model::start::FirstPositions;
use crate::model::stored_row::StoredRow;
use crate::model::topic_log::KnownLog;
use crate::postgres::ledger::{Ledger, epochs};

/// The last record is read again only if it lies at most this far before the position. Transaction markers and compacted
/// records may lie between the two.
const MAX_DISTANCE: i64 = 1_000;

impl Ledger {
    /// Claims the row: raises its epoch, which fences all earlier owners. `None` if the row is missing. The statement
    /// never inserts it: an upsert would let a process with an old claim own the partition.
    ///
    /// # Errors
    /// What the database answered.
    pub(crate) async fn claim(
        &self,
        connection: &mut PgConnection,
        partition: Partition,
    ) -> sqlx::Result<Option<StoredRow>> {
        let row = sqlx::query_as!(
            RowColumns,
            "update consumer_offsets set epoch = epoch + 1, owner = $4, updated_at = now()
             where group_id = $1 and topic = $2 and partition = $3
             returning partition, next_offset, epoch, topic_id, last_offset, last_digest, last_next_offset,
                       checked_offset, counted_from, halt_reason, leader_epochs::text as leader_epochs",
            self.group_id,
            self.topic,
            partition.0,
            self.owner
        )
        .fetch_optional(connection)
        .await?;
        Ok(row.map(RowColumns::into_row))
    }

    /// Creates the missing rows in one transaction. An advisory lock lets one process at a time do so. Existing rows are
    /// not changed.
    ///
    /// # Errors
    /// What the database answered.
    pub(crate) async fn create_rows(&self, connection: &mut PgConnection, firsts: &FirstPositions) -> sqlx::Result<()> {
        let mut transaction = connection.begin().await?;
        // No other process creates rows of this group and topic until this transaction ends.
        sqlx::query!(
            "select pg_advisory_xact_lock(hashtextextended('consumer_offsets' || chr(10) || $1 || chr(10) || $2, 0))",
            self.group_id,
            self.topic
        )
        .execute(&mut *transaction)
        .await?;
        // Whether the topic has rows. Because of the lock, the answer is valid until this transaction ends.
        let known = sqlx::query_scalar!(
            r#"select exists(select from consumer_offsets where group_id = $1 and topic = $2) as "known!""#,
            self.group_id,
            self.topic
        )
        .fetch_one(&mut *transaction)
        .await?;
        let topic_id = firsts.topic_id.as_ref().map(|id| id.0.as_str());
        let firsts = if known { &firsts.when_topic_is_known } else { &firsts.when_topic_is_new };
        let partitions: Vec<i32> = firsts.iter().map(|first| first.partition.0).collect();
        let positions: Vec<i64> = firsts.iter().map(|first| first.position.0).collect();
        let refused: Vec<bool> = firsts.iter().map(|first| first.refused).collect();
        // Never changes a row: another program, or an operator, may have created it.
        sqlx::query!(
            "insert into consumer_offsets (group_id, topic, partition, topic_id, next_offset, checked_offset, counted_from,
                                           halted_at, halt_reason)
             select $1, $2, partition, $6, position, position, position, case when refused then now() end,
                    case when refused then 'no_start_position' end
             from unnest($3::integer[], $4::bigint[], $5::boolean[]) as first (partition, position, refused)
             order by partition
             on conflict (group_id, topic, partition) do nothing",
            self.group_id,
            self.topic,
            &partitions,
            &positions,
            &refused,
            topic_id
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }

    /// Stores topic ids in rows that have none, if their epoch is the one of the claim. A locked row is left out: its owner
    /// tries again.
    ///
    /// # Errors
    /// What the database answered.
    pub(crate) async fn store_topic_ids(
        &self,
        connection: &mut PgConnection,
        learnt: &[(Partition, Epoch, TopicId)],
    ) -> sqlx::Result<()> {
        let partitions: Vec<i32> = learnt.iter().map(|(partition, ..)| partition.0).collect();
        let epochs: Vec<i64> = learnt.iter().map(|(_, epoch, _)| epoch.0).collect();
        let ids: Vec<String> = learnt.iter().map(|(.., id)| id.0.clone()).collect();
        sqlx::query!(
            "with free as (
                 select held.partition, learnt.topic_id
                 from consumer_offsets as held
                 join unnest($3::integer[], $4::bigint[], $5::text[]) as learnt (partition, epoch, topic_id)
                   on held.partition = learnt.partition and held.epoch = learnt.epoch
                 where held.group_id = $1 and held.topic = $2 and held.topic_id is null
                 order by held.partition
                 for no key update of held skip locked
             )
             update consumer_offsets as row set topic_id = free.topic_id, updated_at = now()
             from free where row.group_id = $1 and row.topic = $2 and row.partition = free.partition",
            self.group_id,
            self.topic,
            &partitions,
            &epochs,
            &ids
        )
        .execute(connection)
        .await
        .map(drop)
    }

    /// Reads rows without a lock.
    ///
    /// # Errors
    /// What the database answered.
    pub(crate) async fn read_rows(
        &self,
        connection: &mut PgConnection,
        partitions: &[Partition],
    ) -> sqlx::Result<BTreeMap<Partition, StoredRow>> {
        let partitions: Vec<i32> = partitions.iter().map(|partition| partition.0).collect();
        let rows = sqlx::query_as!(
            RowColumns,
            "select partition, next_offset, epoch, topic_id, last_offset, last_digest, last_next_offset, checked_offset,
                    counted_from, halt_reason, leader_epochs::text as leader_epochs
             from consumer_offsets where group_id = $1 and topic = $2 and partition = any($3)",
            self.group_id,
            self.topic,
            &partitions
        )
        .fetch_all(connection)
        .await?;
        Ok(rows.into_iter().map(|row| (Partition(row.partition), row.into_row())).collect())
    }
}

struct RowColumns {
    partition: i32,
    next_offset: i64,
    epoch: i64,
    topic_id: Option<String>,
    last_offset: Option<i64>,
    last_digest: Option<Vec<u8>>,
    last_next_offset: Option<i64>,
    checked_offset: Option<i64>,
    counted_from: i64,
    halt_reason: Option<String>,
    leader_epochs: Option<String>,
}

impl RowColumns {
    /// Keeps the last record only if no record can lie between it and the position. The service knows this if it wrote the
    /// position itself. If an operator has moved the position, or an older version has written the row, only a last record
    /// directly before the position is kept. The leader epochs are kept under the same condition.
    fn into_row(self) -> StoredRow {
        let next = self.next_offset;
        let is_unmoved = self.last_next_offset == Some(next);
        let distance = |offset: i64| next.saturating_sub(offset);
        let is_last = |offset: &i64| distance(*offset) == 1 || (is_unmoved && distance(*offset) >= 1);
        let last_offset = self.last_offset.filter(is_last);
        let digest = self.last_digest.and_then(|digest| digest.try_into().ok()).map(Digest);
        let epochs = self.leader_epochs.zip(last_offset.zip(digest));
        let epochs = epochs.and_then(|(text, (last, digest))| epochs::from_json(&text, Offset(last), &digest));
        let last = last_offset.filter(|offset| distance(*offset) <= MAX_DISTANCE).map(Offset).zip(digest);
        let checked = Position(self.checked_offset.unwrap_or(self.counted_from).min(next));
        StoredRow {
            row: LedgerRow { next: Position(next), epoch: Epoch(self.epoch), halted: self.halt_reason.is_some() },
            known: KnownLog { topic_id: self.topic_id.map(TopicId), last, checked, epochs },
            halt_reason: self.halt_reason.as_deref().map(HaltReason::parse),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row with position 100.
    fn columns(last_offset: i64, last_next_offset: Option<i64>, leader_epochs: Option<String>) -> RowColumns {
        RowColumns {
            partition: 0,
            next_offset: 100,
            epoch: 1,
            topic_id: None,
            last_offset: Some(last_offset),
            last_digest: Some(vec![0; 32]),
            last_next_offset,
            checked_offset: None,
            counted_from: 0,
            halt_reason: None,
            leader_epochs,
        }
    }

    /// The last record that is kept.
    fn check(last_offset: i64, last_next_offset: Option<i64>, expected: Option<i64>) {
        let last = columns(last_offset, last_next_offset, None).into_row().known.last.map(|(offset, _)| offset.0);
        assert_eq!(last, expected, "{last_offset} {last_next_offset:?}");
    }

    #[test]
    fn the_last_record_is_kept_if_no_record_can_lie_behind_it() {
        check(99, Some(100), Some(99));
        check(95, Some(100), Some(95));
        check(95, Some(96), None);
        check(100, Some(100), None);
        check(-900, Some(100), Some(-900));
        check(-901, Some(100), None);
        // A row of an older version.
        check(99, None, Some(99));
        check(95, None, None);
    }

    /// The last record of the leader epochs that are kept, of a row with position 100.
    fn check_epochs(last_offset: i64, last_next_offset: Option<i64>, text: &str, expected: Option<i64>) {
        let columns = columns(last_offset, last_next_offset, Some(text.to_owned()));
        let last = columns.into_row().known.epochs.map(|epochs| epochs.last().0);
        assert_eq!(last, expected, "{last_offset} {last_next_offset:?} {text}");
    }

    #[test]
    fn leader_epochs_are_kept_if_they_are_those_of_the_row() {
        let of = |records: &str| format!(r#"{{"records": {records}, "last_digest": "{}"}}"#, "00".repeat(32));
        let to_99 = &of(r#"{"3": [0, 39], "5": [40, 99]}"#);
        check_epochs(99, Some(100), to_99, Some(99));
        check_epochs(99, None, to_99, Some(99));
        check_epochs(98, Some(100), to_99, None); // another program has written the row
        check_epochs(100, Some(100), &to_99.replace("99", "100"), None);
        check_epochs(95, Some(96), &to_99.replace("99", "95"), None);
        check_epochs(95, Some(100), &to_99.replace("99", "95"), Some(95));
        check_epochs(-2_000, Some(100), &of(r#"{"3": [-3000, -2000]}"#), Some(-2_000));
        check_epochs(99, Some(100), &of("{}"), None);
        check_epochs(99, Some(100), "{}", None);
        // A program that does not know the column has come to the same offset in another log.
        check_epochs(99, Some(100), &to_99.replace("\"00", "\"01"), None);
        let kept = columns(99, Some(100), Some(to_99.clone())).into_row().known.epochs.unwrap();
        assert_eq!(epochs::from_json(&of(&epochs::to_json(&kept).unwrap()), Offset(99), &Digest([0; 32])), Some(kept));
    }
}
