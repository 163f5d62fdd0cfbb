//! What resuming writes. The rows are held by then, and all of it is one transaction.

use fenced_sink::TopicId;
use sqlx::PgConnection;

use super::Resumption;
use crate::config::Settings;

/// Offsets that are acknowledged as not read.
pub(super) struct AcknowledgedGap {
    pub(super) partition: i32,
    pub(super) from_offset: i64,
    pub(super) to_offset: i64,
    pub(super) reason: String,
}

/// Retention went on while the partition was halted: the gap it was halted for ends where the log begins today, wherever
/// reading goes on. That is the newest one that is open, if it reaches past the position; any older one tells of a loss that
/// is over.
pub(super) async fn extend_gaps(
    transaction: &mut PgConnection,
    settings: &Settings,
    planned: &[Resumption],
) -> sqlx::Result<()> {
    let gaps = || planned.iter().filter_map(|one| Some((one, one.gone_below?)));
    let partitions: Vec<i32> = gaps().map(|(one, _)| one.partition).collect();
    let (from, start): (Vec<i64>, Vec<i64>) = gaps().map(|(one, start)| (one.from, start)).unzip();
    let extended = sqlx::query!(
        "update offset_gaps as gap
         set to_offset = greatest(gap.to_offset, resumed.log_start)
         from unnest($3::integer[], $4::bigint[], $5::bigint[]) as resumed (partition, was_at, log_start)
         where gap.to_offset > resumed.was_at
           and gap.id = (select max(id) from offset_gaps as newest
                         where newest.group_id = $1 and newest.topic = $2 and newest.partition = resumed.partition
                           and newest.reason = 'retention_gap' and newest.acknowledged_at is null)",
        settings.kafka_group_id,
        settings.kafka_topic,
        &partitions,
        &from,
        &start
    );
    extended.execute(transaction).await.map(drop)
}

/// Lifts the halts: the count of letters and the totals begin anew, and the epoch rises. Where the log was at fault, the
/// one that is there now is taken for ours. Elsewhere the topic's id stays, and so does the last good check, so that a
/// log that was replaced while the partition was halted is still noticed.
pub(super) async fn lift(
    transaction: &mut PgConnection,
    settings: &Settings,
    planned: &[Resumption],
    topic_id: Option<&TopicId>,
) -> sqlx::Result<()> {
    let partitions: Vec<i32> = planned.iter().map(|one| one.partition).collect();
    let positions: Vec<i64> = planned.iter().map(|one| one.at).collect();
    let forget: Vec<bool> = planned.iter().map(|one| one.forgets_log).collect();
    let lifted = sqlx::query!(
        "update consumer_offsets as held
         set halted_at = null, halt_reason = null, letters_in_a_row = 0, epoch = held.epoch + 1, updated_at = now(),
             next_offset = resumed.position, counted_from = resumed.position,
             stored = 0, duplicates = 0, ignored = 0, dead_lettered = 0,
             last_offset = case when held.next_offset = resumed.position and not forgets then held.last_offset end,
             last_digest = case when held.next_offset = resumed.position and not forgets then held.last_digest end,
             topic_id = case when forgets then $6 else held.topic_id end,
             checked_offset = case when forgets then resumed.position
                                   else least(held.checked_offset, resumed.position) end
         from unnest($3::integer[], $4::bigint[], $5::boolean[]) as resumed (partition, position, forgets)
         where held.group_id = $1 and held.topic = $2 and held.partition = resumed.partition",
        settings.kafka_group_id,
        settings.kafka_topic,
        &partitions,
        &positions,
        &forget,
        topic_id.map(|id| id.0.as_str())
    );
    lifted.execute(transaction).await.map(drop)
}

/// Whoever resumes a partition knows of its gaps: the database's user, and the machine that it was typed on.
pub(super) async fn acknowledge(
    transaction: &mut PgConnection,
    settings: &Settings,
    planned: &[Resumption],
) -> sqlx::Result<Vec<AcknowledgedGap>> {
    let partitions: Vec<i32> = planned.iter().map(|one| one.partition).collect();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let acknowledged = sqlx::query_as!(
        AcknowledgedGap,
        "with acknowledged as (
             update offset_gaps
             set acknowledged_at = now(), acknowledged_by = concat_ws(' on ', session_user, nullif($4, ''))
             where group_id = $1 and topic = $2 and partition = any($3) and acknowledged_at is null
             returning id, partition, from_offset, to_offset, reason
         )
         select partition, from_offset, to_offset, reason from acknowledged order by id",
        settings.kafka_group_id,
        settings.kafka_topic,
        &partitions,
        host.trim()
    );
    acknowledged.fetch_all(transaction).await
}
