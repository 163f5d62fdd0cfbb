//! The rows that `migrate down` would drop, and the consent to drop them.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, stderr, stdin};

use sqlx::{AssertSqlSafe, PgConnection, migrate::Migration};

use crate::commands::output::remark;

/// The tables that the down migrations drop, with the number of rows of each. Tables without rows are left out.
pub(super) async fn dropped_rows(
    connection: &mut PgConnection,
    downs: &[&Migration],
) -> sqlx::Result<Vec<(String, i64)>> {
    // An adopted table stays. The tables about the adoption have no rows of a user.
    let is_adopted: bool = sqlx::query_scalar("select to_regclass('booking_history_adopted') is not null")
        .fetch_one(&mut *connection)
        .await?;
    let mut dropped = Vec::new();
    for table in downs.iter().flat_map(|down| dropped_tables(down)) {
        if table.starts_with("booking_history_") || table == "booking_history" && is_adopted {
            continue;
        }
        let count = AssertSqlSafe(format!("select count(*) from {table}"));
        let rows: i64 = sqlx::query_scalar(count).fetch_one(&mut *connection).await?;
        if rows > 0 {
            dropped.push((table.to_owned(), rows));
        }
    }
    Ok(dropped)
}

/// Each migration drops each table with a separate statement on one line.
pub(super) fn dropped_tables(down: &Migration) -> impl Iterator<Item = &str> {
    down.sql.as_str().lines().filter_map(|line| line.trim().strip_prefix("drop table ")?.strip_suffix(';'))
}

/// The text for the user.
pub(super) fn in_words(dropped: &[(String, i64)]) -> String {
    let mut words = String::new();
    for (index, (table, rows)) in dropped.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        let row = if *rows == 1 { "row" } else { "rows" };
        // A String accepts every write.
        write!(words, "{comma}{rows} {row} of {table}").ok();
    }
    words
}

/// Asks the person at the terminal. `None`: there is no terminal.
pub(super) async fn ask_at_terminal(rows: String) -> Option<bool> {
    if !(stdin().is_terminal() && stderr().is_terminal()) {
        return None;
    }
    remark(&format!("this drops {rows}; type yes to drop them:"));
    let answer = tokio::task::spawn_blocking(|| stdin().lines().next());
    Some(matches!(answer.await, Ok(Some(Ok(answer))) if answer.trim() == "yes"))
}
