//! Reads what waits for an operator.

use sqlx::PgConnection;

use crate::model::halt::HaltReason;
use crate::model::open_work::{OpenGap, OpenLetters, OpenWork};
use crate::model::record::{Partition, Position};
use crate::postgres::ledger::Ledger;

/// The open dead letters and gaps of the group and topic; at most 50 gaps.
///
/// It reads all letters, as `dead_letters::count` does.
///
/// # Errors
/// What the database answered.
pub(crate) async fn read_open_work(connection: &mut PgConnection, ledger: &Ledger) -> sqlx::Result<OpenWork> {
    let letters = sqlx::query!(
        r#"select reason, count(*) filter (where status = 'waiting') as "waiting!",
               count(*) filter (where status = 'parked') as "parked!"
           from dead_letters
           where group_id = $1 and topic = $2 and status in ('waiting', 'parked')
           group by reason
           order by count(*) desc, reason"#,
        ledger.group_id(),
        ledger.topic()
    )
    .fetch_all(&mut *connection)
    .await?;
    let gaps = sqlx::query!(
        r#"select gap.id, gap.partition, gap.from_offset, gap.to_offset, gap.reason,
               row.halted_at is not null as "halted!"
           from offset_gaps as gap
           left join consumer_offsets as row using (group_id, topic, partition)
           where gap.group_id = $1 and gap.topic = $2 and gap.acknowledged_at is null
           order by gap.id desc
           limit 50"#,
        ledger.group_id(),
        ledger.topic()
    )
    .fetch_all(connection)
    .await?;
    let number = |letters: i64| u64::try_from(letters).unwrap_or_default();
    let letters = letters.into_iter().map(|row| OpenLetters {
        reason: row.reason,
        waiting: number(row.waiting),
        parked: number(row.parked),
    });
    let gaps = gaps.into_iter().map(|row| OpenGap {
        id: row.id,
        partition: Partition(row.partition),
        from: Position(row.from_offset),
        to: Position(row.to_offset),
        reason: HaltReason::parse(&row.reason),
        halted: row.halted,
    });
    Ok(OpenWork { letters: letters.collect(), gaps: gaps.collect() })
}
