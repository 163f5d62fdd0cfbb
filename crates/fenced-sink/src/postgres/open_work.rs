//! Reads what waits for an operator.

use sqlx::PgConnection;

use crate::model::halt::HaltReason;
use crate::model::open_work::{OpenGap, OpenLetters};
use crate::model::record::{Partition, Position};
use crate::postgres::ledger::Ledger;

/// The open dead letters of the group and topic, by reason. It reads all letters, as `dead_letters::count` does.
///
/// # Errors
/// What the database answered.
pub(crate) async fn read_open_letters(
    connection: &mut PgConnection,
    ledger: &Ledger,
) -> sqlx::Result<Vec<OpenLetters>> {
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
    .fetch_all(connection)
    .await?;
    let number = |letters: i64| u64::try_from(letters).unwrap_or_default();
    let letters = letters.into_iter().map(|row| OpenLetters {
        reason: row.reason,
        waiting: number(row.waiting),
        parked: number(row.parked),
    });
    Ok(letters.collect())
}

/// The newest 50 open gaps of the group and topic.
///
/// # Errors
/// What the database answered.
pub(crate) async fn read_open_gaps(connection: &mut PgConnection, ledger: &Ledger) -> sqlx::Result<Vec<OpenGap>> {
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
    let gaps = gaps.into_iter().map(|row| OpenGap {
        id: row.id,
        partition: Partition(row.partition),
        from: Position(row.from_offset),
        to: Position(row.to_offset),
        reason: HaltReason::parse(&row.reason),
        halted: row.halted,
    });
    Ok(gaps.collect())
}
