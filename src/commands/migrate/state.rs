//! The migrations of the database, compared with those of this program.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::{
    PgConnection,
    migrate::{Migration, Migrator},
};

use super::MIGRATOR;

/// How the schema of the database compares with this program. `Display` writes an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// The database has exactly the migrations of this program.
    Current,
    /// No migration is applied.
    Missing,
    /// Some are not applied yet. A `migrate up` may be running.
    Older {
        /// Their versions.
        pending: Vec<i64>,
    },
    /// The database has some that this program does not have: this program is too old.
    Newer {
        /// Their versions.
        unknown: Vec<i64>,
    },
    /// The text of an applied migration differs from the text in this program.
    Altered {
        /// Its version.
        version: i64,
    },
}

impl SchemaState {
    /// What is wrong, or that nothing is.
    pub(crate) fn finding(&self) -> String {
        match self {
            Self::Current => "the database schema is up to date".to_owned(),
            Self::Missing => "the database has none of our tables".to_owned(),
            Self::Older { pending } => format!("the database schema lacks {}", list(pending)),
            Self::Newer { unknown } => {
                format!("the database schema is newer than this program, which does not know {}", list(unknown))
            }
            Self::Altered { version } => {
                format!("migration {version:04} in the database differs from the one in this program")
            }
        }
    }

    /// What to do. `None`: nothing.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Current => None,
            Self::Missing => Some("run `booking-history migrate up`, then start again"),
            Self::Older { .. } => Some("stop the service, run `booking-history migrate up`, then start again"),
            Self::Newer { .. } => Some("use the newer program, or revert with it (`booking-history migrate down`)"),
            Self::Altered { .. } => Some("use the program that applied it"),
        }
    }
}

impl fmt::Display for SchemaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.finding())?;
        self.hint().map_or(Ok(()), |hint| write!(f, ": {hint}"))
    }
}

fn list(versions: &[i64]) -> String {
    versions.iter().map(|version| format!("{version:04}")).collect::<Vec<_>>().join(", ")
}

/// Compares the schema in the `search_path` of the connection with this program. Changes nothing.
///
/// # Errors
/// What the database answered.
pub async fn schema_state(connection: &mut PgConnection) -> sqlx::Result<SchemaState> {
    Ok(compare(&MIGRATOR, &applied(connection).await?))
}

/// A migration that is applied to the database.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct AppliedMigration {
    pub(super) version: i64,
    pub(super) description: String,
    pub(super) installed_on: DateTime<Utc>,
    pub(super) checksum: Vec<u8>,
}

impl AppliedMigration {
    pub(super) fn at_text(&self) -> String {
        self.installed_on.to_rfc3339_opts(SecondsFormat::Secs, true)
    }
}

/// The applied migrations, oldest first. None if sqlx's table does not exist.
pub(super) async fn applied(connection: &mut PgConnection) -> sqlx::Result<Vec<AppliedMigration>> {
    // Not checked at compile time: sqlx creates this table, and our migrations do not.
    let exists: bool =
        sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null").fetch_one(&mut *connection).await?;
    if !exists {
        return Ok(Vec::new());
    }
    sqlx::query_as("select version, description, installed_on, checksum from _sqlx_migrations order by version")
        .fetch_all(connection)
        .await
}

/// Compares applied migrations with those of this program. A difference that `migrate up` can't remove is reported first.
pub(super) fn compare(migrator: &Migrator, applied: &[AppliedMigration]) -> SchemaState {
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

/// The `up` migrations, oldest first.
pub(super) fn ups(migrator: &Migrator) -> impl Iterator<Item = &Migration> {
    migrator.iter().filter(|migration| migration.migration_type.is_up_migration())
}

pub(super) fn is_known(migrator: &Migrator, version: i64) -> bool {
    ups(migrator).any(|up| up.version == version)
}
