//! The actions of an operator on the ledger: read its rows, move positions, resume halted partitions.
//!
//! A command does this in one transaction: it locks the rows, reads them, decides, and changes them. It is safe while a
//! service runs. A commit of the service either ends before the rows are locked, or finds another `next_offset` or
//! another epoch in [`Ledger::fence`] and writes nothing. The service reads its rows every second and continues at
//! their positions.
//!
//! Nothing here creates a row: the service does that when it claims a partition for the first time.

use sqlx::PgConnection;

use crate::model::halt::HaltReason;
use crate::model::record::{Epoch, Partition, Position, TopicId};
use crate::postgres::ledger::Ledger;
use crate::postgres::ledger::host::host_name;
use crate::postgres::time::Time;

/// The row of one partition, as it is in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRow {
    /// The partition.
    pub partition: Partition,
    /// All records below it are handled.
    pub next: Position,
    /// The topic whose records were read. `None`: no record was read, or Kafka has no topic ids.
    pub topic_id: Option<TopicId>,
    /// How many times the row was claimed or resumed.
    pub epoch: Epoch,
    /// The host and the process of the last claim. `None`: no service has claimed it.
    pub owner: Option<String>,
    /// When it was halted, if it is halted.
    pub halted_at: Option<Time>,
    /// Why it is halted, if it is halted.
    pub halt_reason: Option<HaltReason>,
    /// The start of the gap that halted it. The gap is not acknowledged yet.
    pub gap_start: Option<Position>,
    /// The end of that gap.
    pub gap_end: Option<Position>,
    /// When the row last changed.
    pub updated_at: Time,
    /// Dead letters since the last stored row.
    pub letters_in_a_row: i32,
    /// The totals count the records from here on.
    pub counted_from: Position,
    /// Records that became a row.
    pub stored: i64,
    /// Records whose row existed before.
    pub duplicates: i64,
    /// Records of another event type.
    pub ignored: i64,
    /// Records that became a dead letter.
    pub dead_lettered: i64,
}

/// How a halted partition continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumption {
    /// The partition.
    pub partition: Partition,
    /// The position at which it is halted.
    pub from: Position,
    /// The position at which it continues.
    pub to: Position,
    /// Whether the topic log is another one. If so, the row must lose its data about the old one.
    ///
    /// False after `log_corrupt`: an operator may repair the damage by creating the topic again. Then the records of
    /// the new topic below the position were never read, and the service must report it.
    pub forgets_log: bool,
    /// Whether the row takes the current topic id. Only if the log is read from its start, or if it is known to be that of
    /// another topic. Otherwise a topic that was created again since the halt would be taken for the one that was read.
    pub takes_topic_id: bool,
    /// After `retention_gap`, where the topic log begins today: the recorded gap is extended to there.
    pub log_start: Option<Position>,
}

/// Offsets that were not read, which the operator acknowledges by resuming their partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcknowledgedGap {
    /// The partition.
    pub partition: Partition,
    /// The first offset.
    pub from: Position,
    /// The first offset after the gap.
    pub to: Position,
    /// Why they were not read.
    pub reason: String,
}

impl Ledger {
    /// Reads the rows of the group and topic in the order of their partitions: the row of one partition, or all.
    ///
    /// # Errors
    /// What the database answered.
    pub async fn partition_rows(
        &self,
        connection: &mut PgConnection,
        partition: Option<Partition>,
    ) -> sqlx::Result<Vec<PartitionRow>> {
        // One snapshot of the rows. Each row has the newest open gap with the reason of its halt.
        let rows = sqlx::query!(
            r#"select partition, next_offset, topic_id, epoch, owner, halted_at as "halted_at: Time", halt_reason,
                      gap.from_offset as "gap_from?", gap.to_offset as "gap_to?", updated_at as "updated_at: Time",
                      letters_in_a_row, counted_from, stored, duplicates, ignored, dead_lettered
               from consumer_offsets as held
               left join lateral (
                   select from_offset, to_offset from offset_gaps
                   where group_id = held.group_id and topic = held.topic and partition = held.partition
                     and reason = held.halt_reason and acknowledged_at is null
                   order by id desc limit 1
               ) as gap on true
               where group_id = $1 and topic = $2 and ($3::integer is null or partition = $3)
               order by partition"#,
            self.group_id,
            self.topic,
            partition.map(|partition| partition.0)
        )
        .fetch_all(connection)
        .await?;
        let rows = rows.into_iter().map(|row| PartitionRow {
            partition: Partition(row.partition),
            next: Position(row.next_offset),
            topic_id: row.topic_id.map(TopicId),
            epoch: Epoch(row.epoch),
            owner: row.owner,
            halted_at: row.halted_at,
            halt_reason: row.halt_reason.as_deref().map(HaltReason::parse),
            gap_start: row.gap_from.map(Position),
            gap_end: row.gap_to.map(Position),
            updated_at: row.updated_at,
            letters_in_a_row: row.letters_in_a_row,
            counted_from: Position(row.counted_from),
            stored: row.stored,
            duplicates: row.duplicates,
            ignored: row.ignored,
            dead_lettered: row.dead_lettered,
        });
        Ok(rows.collect())
    }

    /// Locks the same rows until the transaction ends.
    ///
    /// # Errors
    /// What the database answered.
    pub async fn lock_rows(&self, transaction: &mut PgConnection, partition: Option<Partition>) -> sqlx::Result<()> {
        // In the order of the fence, so that the two cannot wait for each other. A commit in flight ends first.
        sqlx::query!(
            "select partition from consumer_offsets
             where group_id = $1 and topic = $2 and ($3::integer is null or partition = $3)
             order by partition
             for no key update",
            self.group_id,
            self.topic,
            partition.map(|partition| partition.0)
        )
        .fetch_all(transaction)
        .await
        .map(drop)
    }

    /// Moves positions. The rows are locked by [`Self::lock_rows`]. The totals and the count of letters in a row start again
    /// at 0. A halt stays.
    ///
    /// The epoch does not change. The service would take a higher epoch for a claim by another process, and would wait
    /// before it claims the partition again. A commit in flight that has read from the new position is still valid,
    /// because it handles all records from there on.
    ///
    /// # Errors
    /// What the database answered.
    pub async fn set_positions(
        &self,
        transaction: &mut PgConnection,
        moves: &[(Partition, Position)],
    ) -> sqlx::Result<()> {
        let (partitions, positions): (Vec<i32>, Vec<i64>) =
            moves.iter().map(|(partition, to)| (partition.0, to.0)).unzip();
        // Keeps the last record only while it lies below the position. Keeps the topic id: a move does not prove
        // whether the topic log is the same one.
        sqlx::query!(
            "update consumer_offsets as held
             set next_offset = moved.position, counted_from = moved.position,
                 stored = 0, duplicates = 0, ignored = 0, dead_lettered = 0, letters_in_a_row = 0,
                 last_offset = case when held.last_offset < moved.position then held.last_offset end,
                 last_digest = case when held.last_offset < moved.position then held.last_digest end,
                 leader_epochs = case when held.last_offset < moved.position then held.leader_epochs end,
                 checked_offset = least(held.checked_offset, moved.position), updated_at = now()
             from unnest($3::integer[], $4::bigint[]) as moved (partition, position)
             where held.group_id = $1 and held.topic = $2 and held.partition = moved.partition",
            self.group_id,
            self.topic,
            &partitions,
            &positions
        )
        .execute(transaction)
        .await
        .map(drop)
    }

    /// Resumes halted partitions, and acknowledges all their gaps. The rows are locked by [`Self::lock_rows`].
    /// `topic_id` is the current id of the topic, if Kafka returns it.
    ///
    /// # Errors
    /// What the database answered.
    pub async fn resume(
        &self,
        transaction: &mut PgConnection,
        resumptions: &[Resumption],
        topic_id: Option<&TopicId>,
    ) -> sqlx::Result<Vec<AcknowledgedGap>> {
        self.extend_gaps(transaction, resumptions).await?;
        self.lift_halts(transaction, resumptions, topic_id).await?;
        self.acknowledge_gaps(transaction, resumptions).await
    }

    /// Retention continued while a partition was halted, so its gap now ends where the topic log begins.
    async fn extend_gaps(&self, transaction: &mut PgConnection, resumptions: &[Resumption]) -> sqlx::Result<()> {
        let gaps = || resumptions.iter().filter_map(|one| Some((one, one.log_start?)));
        let partitions: Vec<i32> = gaps().map(|(one, _)| one.partition.0).collect();
        let (positions, starts): (Vec<i64>, Vec<i64>) = gaps().map(|(one, start)| (one.from.0, start.0)).unzip();
        // Extends only the newest open gap of a partition, and only if it ends above the position: an older gap is
        // about records that the service has already passed.
        sqlx::query!(
            "update offset_gaps as gap
             set to_offset = greatest(gap.to_offset, resumed.log_start)
             from unnest($3::integer[], $4::bigint[], $5::bigint[]) as resumed (partition, was_at, log_start)
             where gap.to_offset > resumed.was_at
               and gap.id = (select max(id) from offset_gaps as newest
                             where newest.group_id = $1 and newest.topic = $2 and newest.partition = resumed.partition
                               and newest.reason = 'retention_gap' and newest.acknowledged_at is null)",
            self.group_id,
            self.topic,
            &partitions,
            &positions,
            &starts
        )
        .execute(transaction)
        .await
        .map(drop)
    }

    async fn lift_halts(
        &self,
        transaction: &mut PgConnection,
        resumptions: &[Resumption],
        topic_id: Option<&TopicId>,
    ) -> sqlx::Result<()> {
        let partitions: Vec<i32> = resumptions.iter().map(|one| one.partition.0).collect();
        let positions: Vec<i64> = resumptions.iter().map(|one| one.to.0).collect();
        let forget: Vec<bool> = resumptions.iter().map(|one| one.forgets_log).collect();
        let take: Vec<bool> = resumptions.iter().map(|one| one.takes_topic_id).collect();
        // Raises the epoch, so that a writer with the old position or the old topic log matches no row. While the topic id
        // stays, the check still finds a topic that was created again during the halt.
        sqlx::query!(
            "update consumer_offsets as held
             set halted_at = null, halt_reason = null, letters_in_a_row = 0, epoch = held.epoch + 1, updated_at = now(),
                 next_offset = resumed.position, counted_from = resumed.position,
                 stored = 0, duplicates = 0, ignored = 0, dead_lettered = 0,
                 last_offset = case when held.next_offset = resumed.position and not forgets then held.last_offset end,
                 last_digest = case when held.next_offset = resumed.position and not forgets then held.last_digest end,
                 leader_epochs = case when held.next_offset = resumed.position and not forgets then held.leader_epochs end,
                 topic_id = case when takes_id then $7 else held.topic_id end,
                 checked_offset = case when forgets then resumed.position
                                       else least(held.checked_offset, resumed.position) end
             from unnest($3::integer[], $4::bigint[], $5::boolean[], $6::boolean[])
                  as resumed (partition, position, forgets, takes_id)
             where held.group_id = $1 and held.topic = $2 and held.partition = resumed.partition",
            self.group_id,
            self.topic,
            &partitions,
            &positions,
            &forget,
            &take,
            topic_id.map(|id| id.0.as_str())
        )
        .execute(transaction)
        .await
        .map(drop)
    }

    async fn acknowledge_gaps(
        &self,
        transaction: &mut PgConnection,
        resumptions: &[Resumption],
    ) -> sqlx::Result<Vec<AcknowledgedGap>> {
        let partitions: Vec<i32> = resumptions.iter().map(|one| one.partition.0).collect();
        // Acknowledges every open gap of the partitions, and stores who did it: the database user and this machine.
        let rows = sqlx::query!(
            "with acknowledged as (
                 update offset_gaps
                 set acknowledged_at = now(), acknowledged_by = concat_ws(' on ', session_user, nullif($4, ''))
                 where group_id = $1 and topic = $2 and partition = any($3) and acknowledged_at is null
                 returning id, partition, from_offset, to_offset, reason
             )
             select partition, from_offset, to_offset, reason from acknowledged order by id",
            self.group_id,
            self.topic,
            &partitions,
            host_name()
        )
        .fetch_all(transaction)
        .await?;
        let gaps = rows.into_iter().map(|row| AcknowledgedGap {
            partition: Partition(row.partition),
            from: Position(row.from_offset),
            to: Position(row.to_offset),
            reason: row.reason,
        });
        Ok(gaps.collect())
    }
}
