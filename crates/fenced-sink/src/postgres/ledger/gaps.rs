//! Records a gap, in the statement that halts a partition at the gap or moves it past the gap.

use sqlx::PgConnection;

use crate::model::record::{Epoch, Partition, Position};
use crate::model::topic_log::{Gap, GapPolicy};
use crate::postgres::ledger::Ledger;

impl Ledger {
    /// Records a gap, and halts the partition or moves it past the gap, according to `policy`. It does so only if the
    /// epoch and position of the row are unchanged. Otherwise it does nothing and returns false. A partition can only
    /// be moved past a gap that begins at its position.
    ///
    /// # Errors
    /// What the database answered.
    pub(crate) async fn record_log_fault(
        &self,
        connection: &mut PgConnection,
        partition: Partition,
        epoch: Epoch,
        at: Position,
        gap: &Gap,
        policy: GapPolicy,
    ) -> sqlx::Result<bool> {
        // One statement is one transaction: the fence, the gap, and the new state of the partition.
        let recorded = sqlx::query!(
            "with held as (
                 select partition from consumer_offsets
                 where group_id = $1 and topic = $2 and partition = $3 and epoch = $4 and next_offset = $5
                   and halted_at is null
                 for no key update
             ), recorded as (
                 insert into offset_gaps (group_id, topic, partition, from_offset, to_offset, reason)
                 select $1, $2, partition, $6, $7, $8 from held
             )
             update consumer_offsets as row
             set next_offset = case when $9 then $7 else row.next_offset end,
                 checked_offset = case when $9 then $7 else row.checked_offset end,
                 halted_at = case when $9 then null else now() end,
                 halt_reason = case when $9 then null else $8 end,
                 updated_at = now()
             from held where row.group_id = $1 and row.topic = $2 and row.partition = held.partition",
            self.group_id,
            self.topic,
            partition.0,
            epoch.0,
            at.0,
            gap.from.0,
            gap.to.0,
            gap.reason.as_str(),
            policy == GapPolicy::Skip
        )
        .execute(connection)
        .await?;
        Ok(recorded.rows_affected() == 1)
    }
}
