//! Gaps: recorded in the statement that halts a partition at one, or moves it past.

use sqlx::PgConnection;

use super::Ledger;
use crate::engine::gap::Gap;
use crate::engine::record::{Epoch, Partition, Position};

impl Ledger {
    /// Halts a partition at a gap, if its row is still as it was claimed and read: then both are recorded, else neither.
    /// False: it is not.
    ///
    /// # Errors
    /// Whatever the database answered.
    pub async fn halt(
        &self,
        connection: &mut PgConnection,
        partition: Partition,
        epoch: Epoch,
        at: Position,
        gap: &Gap,
    ) -> sqlx::Result<bool> {
        // One statement, so one transaction: the fence, the gap and the halt.
        let halted = sqlx::query!(
            "with held as (
                 select partition from consumer_offsets
                 where group_id = $1 and topic = $2 and partition = $3 and epoch = $4 and next_offset = $5
                   and halted_at is null
                 for no key update
             ), recorded as (
                 insert into offset_gaps (group_id, topic, partition, from_offset, to_offset, reason)
                 select $1, $2, partition, $6, $7, $8 from held
             )
             update consumer_offsets as row set halted_at = now(), halt_reason = $8, updated_at = now()
             from held where row.group_id = $1 and row.topic = $2 and row.partition = held.partition",
            self.group_id,
            self.topic,
            partition.0,
            epoch.0,
            at.0,
            gap.from.0,
            gap.to.0,
            gap.reason.as_str()
        )
        .execute(connection)
        .await?;
        Ok(halted.rows_affected() == 1)
    }

    /// Moves a partition past a gap that begins where it stands, if its row is still as it was claimed and read: then both
    /// are recorded, else neither. False: it is not.
    ///
    /// # Errors
    /// Whatever the database answered.
    pub async fn skip(
        &self,
        connection: &mut PgConnection,
        partition: Partition,
        epoch: Epoch,
        gap: &Gap,
    ) -> sqlx::Result<bool> {
        // One statement, so one transaction: the fence, the gap and the new position.
        let moved = sqlx::query!(
            "with held as (
                 select partition from consumer_offsets
                 where group_id = $1 and topic = $2 and partition = $3 and epoch = $4 and next_offset = $5
                   and halted_at is null
                 for no key update
             ), recorded as (
                 insert into offset_gaps (group_id, topic, partition, from_offset, to_offset, reason)
                 select $1, $2, partition, $5, $6, $7 from held
             )
             update consumer_offsets as row set next_offset = $6, checked_offset = $6, updated_at = now()
             from held where row.group_id = $1 and row.topic = $2 and row.partition = held.partition",
            self.group_id,
            self.topic,
            partition.0,
            epoch.0,
            gap.from.0,
            gap.to.0,
            gap.reason.as_str()
        )
        .execute(connection)
        .await?;
        Ok(moved.rows_affected() == 1)
    }
}
