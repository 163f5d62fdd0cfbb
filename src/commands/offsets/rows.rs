//! The rows of `consumer_offsets`: read for all that `offsets` does, and held for what changes them.

use sqlx::PgConnection;

use crate::commands::time::Time;
use crate::config::Settings;

/// What the row of a partition says.
pub(super) struct PartitionRow {
    pub(super) partition: i32,
    pub(super) next_offset: i64,
    pub(super) epoch: i64,
    pub(super) owner: Option<String>,
    pub(super) halted_at: Option<Time>,
    pub(super) halt_reason: Option<String>,
    /// Where the gap ends that it is halted for.
    pub(super) gap_to: Option<i64>,
    pub(super) updated_at: Time,
    pub(super) letters_in_a_row: i32,
    pub(super) counted_from: i64,
    pub(super) stored: i64,
    pub(super) duplicates: i64,
    pub(super) ignored: i64,
    pub(super) dead_lettered: i64,
}

/// The rows of the group and topic, by partition; of one partition, or of all.
pub(super) async fn read(
    connection: &mut PgConnection,
    settings: &Settings,
    partition: Option<i32>,
) -> sqlx::Result<Vec<PartitionRow>> {
    sqlx::query_as!(
        PartitionRow,
        r#"select partition, next_offset, epoch, owner, halted_at as "halted_at: Time", halt_reason,
                  (select to_offset from offset_gaps as gap
                   where gap.group_id = held.group_id and gap.topic = held.topic and gap.partition = held.partition
                     and gap.reason = held.halt_reason and gap.acknowledged_at is null
                   order by id desc limit 1) as gap_to,
                  updated_at as "updated_at: Time", letters_in_a_row, counted_from, stored, duplicates, ignored,
                  dead_lettered
           from consumer_offsets as held
           where group_id = $1 and topic = $2 and ($3::integer is null or partition = $3)
           order by partition"#,
        settings.kafka_group_id,
        settings.kafka_topic,
        partition
    )
    .fetch_all(connection)
    .await
}

/// Holds the same rows for the rest of the transaction, in the order of the engine's fence: a commit in flight ends
/// first, and the next one finds what was made of them.
pub(super) async fn hold(
    transaction: &mut PgConnection,
    settings: &Settings,
    partition: Option<i32>,
) -> sqlx::Result<()> {
    let held = sqlx::query!(
        "select partition from consumer_offsets
         where group_id = $1 and topic = $2 and ($3::integer is null or partition = $3)
         order by partition
         for no key update",
        settings.kafka_group_id,
        settings.kafka_topic,
        partition
    );
    held.fetch_all(transaction).await.map(drop)
}
