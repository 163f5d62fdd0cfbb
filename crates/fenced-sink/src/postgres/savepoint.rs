//! Savepoints: a part of a transaction that can be rolled back alone.
//!
//! Rolling back also releases the savepoint. Otherwise each failed part would nest the next one deeper, and ten thousand
//! nested savepoints cost Postgres about 200 MB.

use sqlx::PgConnection;

/// Deferred constraints are checked at each statement from here on, until the transaction ends.
pub(crate) async fn check_constraints_immediately(transaction: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("set constraints all immediate").execute(transaction).await.map(drop)
}

/// Sets the savepoint.
pub(crate) async fn begin(transaction: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("savepoint tried").execute(transaction).await.map(drop)
}

/// Keeps what was written since the savepoint.
pub(crate) async fn release(transaction: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("release savepoint tried").execute(transaction).await.map(drop)
}

/// Undoes what was written since the savepoint.
pub(crate) async fn roll_back(transaction: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("rollback to savepoint tried").execute(&mut *transaction).await?;
    release(transaction).await
}
