//! Where the schema stands, compared with the migrations that this program knows.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::{
    PgConnection,
    migrate::{Migration, Migrator},
};

use super::MIGRATOR;

/// How the database's schema stands to this program. `Display` says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// It is the one that this program is written for.
    Current,
    /// No migration is applied.
    Missing,
    /// Some are still to be applied: a `migrate up` may be at work, or nobody has called it.
    Older {
        /// Their versions.
        pending: Vec<i64>,
    },
    /// Some that are applied are unknown here: this program is too old.
    Newer {
        /// Their versions.
        unknown: Vec<i64>,
    },
    /// One that is applied has another text than here.
    Altered {
        /// Its version.
        version: i64,
    },
}

impl fmt::Display for SchemaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |versions: &[i64]| versions.iter().map(|v| format!("{v:04}")).collect::<Vec<_>>().join(", ");
        match self {
            Self::Current => f.write_str("the database's schema is up to date"),
            Self::Missing => {
                f.write_str("the database has none of our tables: run `booking-history migrate up`, then start again")
            }
            Self::Older { pending } => write!(
                f,
                "the database's schema lacks {}: stop the service, run `booking-history migrate up`, then start again",
                list(pending)
            ),
            Self::Newer { unknown } => write!(
                f,
                "the database's schema is newer than this program ({} is unknown to it): use the newer program, or \
                 take the schema back with it (`booking-history migrate down`)",
                list(unknown)
            ),
            Self::Altered { version } => write!(
                f,
                "migration {version:04} was applied to the database with another text than this program's: use the \
                 program that applied it"
            ),
        }
    }
}

/// How the schema in the connection's `search_path` stands to this program. Changes nothing.
///
/// # Errors
/// Postgres can't be asked.
pub async fn schema_state(connection: &mut PgConnection) -> sqlx::Result<SchemaState> {
    Ok(compare(&MIGRATOR, &applied(connection).await?))
}

/// A migration that is in the database.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Applied {
    pub(super) version: i64,
    pub(super) description: String,
    pub(super) installed_on: DateTime<Utc>,
    pub(super) checksum: Vec<u8>,
}

impl Applied {
    pub(super) fn at_text(&self) -> String {
        self.installed_on.to_rfc3339_opts(SecondsFormat::Secs, true)
    }
}

/// What is applied, oldest first; nothing where sqlx never wrote its table.
pub(super) async fn applied(connection: &mut PgConnection) -> sqlx::Result<Vec<Applied>> {
    // The table is sqlx's, so its statements are not checked against our migrations.
    let exists: bool =
        sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null").fetch_one(&mut *connection).await?;
    if !exists {
        return Ok(Vec::new());
    }
    sqlx::query_as("select version, description, installed_on, checksum from _sqlx_migrations order by version")
        .fetch_all(connection)
        .await
}

/// Compares what is applied with what is known. What this program can't work with counts before what it can mend.
pub(super) fn compare(migrator: &Migrator, applied: &[Applied]) -> SchemaState {
    let unknown: Vec<i64> =
        applied.iter().map(|applied| applied.version).filter(|version| !is_known(migrator, *version)).collect();
    if !unknown.is_empty() {
        return SchemaState::Newer { unknown };
    }
    let mut pending = Vec::new();
    for up in ups(migrator) {
        match applied.iter().find(|applied| applied.version == up.version) {
            Some(applied) if applied.checksum != *up.checksum => {
                return SchemaState::Altered { version: up.version };
            }
            Some(_) => {}
            None => pending.push(up.version),
        }
    }
    match (pending.is_empty(), applied.is_empty()) {
        (true, _) => SchemaState::Current,
        (false, true) => SchemaState::Missing,
        (false, false) => SchemaState::Older { pending },
    }
}

/// The migrations upwards, oldest first.
pub(super) fn ups(migrator: &Migrator) -> impl Iterator<Item = &Migration> {
    migrator.iter().filter(|migration| migration.migration_type.is_up_migration())
}

pub(super) fn is_known(migrator: &Migrator, version: i64) -> bool {
    ups(migrator).any(|up| up.version == version)
}
