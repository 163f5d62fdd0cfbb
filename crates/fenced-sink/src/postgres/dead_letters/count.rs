//! Counts the dead letters.

use sqlx::PgConnection;
use std::collections::BTreeMap;

use crate::postgres::ledger::Ledger;

/// Counts the letters of the group and topic by status. A status without letters counts 0.
///
/// It reads all letters: an index for this one query would cost more at each insert than it saves here.
///
/// # Errors
/// What the database answered.
pub(crate) async fn count(connection: &mut PgConnection, ledger: &Ledger) -> sqlx::Result<BTreeMap<String, u64>> {
    let rows = sqlx::query!(
        r#"select status, count(*) as "letters!" from dead_letters where group_id = $1 and topic = $2 group by status"#,
        ledger.group_id(),
        ledger.topic()
    )
    .fetch_all(connection)
    .await?;
    let none = ["waiting", "parked", "resolved", "discarded"].map(|status| (status.to_owned(), 0));
    let counted = rows.into_iter().map(|row| (row.status, u64::try_from(row.letters).unwrap_or_default()));
    Ok(none.into_iter().chain(counted).collect())
}
