//! Within a transaction: what is tried, and taken back when it fails.
//!
//! A savepoint that is rolled back to is released, too: left open, each failed try would nest the next one deeper, and ten
//! thousand of them cost Postgres some 200 MB.

use sqlx::PgConnection;

/// Makes deferred constraints speak at the statement that breaks them, for the rest of the transaction.
pub(crate) async fn check_constraints_at_once(transaction: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("set constraints all immediate").execute(transaction).await.map(drop)
}

/// A try begins.
pub(crate) async fn begin(transaction: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("savepoint tried").execute(transaction).await.map(drop)
}

/// It succeeded: what it wrote is the transaction's.
pub(crate) async fn keep(transaction: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("release savepoint tried").execute(transaction).await.map(drop)
}

/// It failed: what it wrote is gone.
pub(crate) async fn take_back(transaction: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("rollback to savepoint tried").execute(&mut *transaction).await?;
    keep(transaction).await
}
