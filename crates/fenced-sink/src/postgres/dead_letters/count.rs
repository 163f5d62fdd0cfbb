//! How many letters there are.

use sqlx::PgConnection;
use std::collections::BTreeMap;

use crate::postgres::ledger::Ledger;

/// How many letters of the group and topic there are, by status. It reads all of them: no index is worth its price to
/// every letter for the sake of this one question.
///
/// # Errors
/// Whatever the database answered.
pub(crate) async fn count(connection: &mut PgConnection, ledger: &Ledger) -> sqlx::Result<BTreeMap<String, u64>> {
    let rows = sqlx::query!(
        r#"select status, count(*) as "letters!" from dead_letters where group_id = $1 and topic = $2 group by status"#,
        ledger.group_id(),
        ledger.topic()
    )
    .fetch_all(connection)
    .await?;
    let none = ["waiting", "parked", "resolved", "discarded"].map(|status| (status.to_owned(), 0));
    let found = rows.into_iter().map(|row| (row.status, u64::try_from(row.letters).unwrap_or_default()));
    Ok(none.into_iter().chain(found).collect())
}
