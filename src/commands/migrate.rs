//! `migrate`: the schema, one transaction for each migration.
//!
//! The record of what is applied is sqlx's table `_sqlx_migrations`, in the connection's `search_path`. Only one
//! `migrate` works at a time (an advisory lock), and no migration waits for a table's lock without end.

mod state;

use std::{fmt::Display, io, io::Write, num::NonZeroUsize};

use clap::{Args, Subcommand};
use fenced_sink::admin::{ErrorClass, RetryCause, classify};
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    migrate::{Migrate as _, MigrateError, Migration, Migrator},
};

pub use state::{SchemaState, schema_state};

use super::CommandError;
use crate::config::{Database, Settings};
use state::{Applied, applied, compare, is_known, ups};

/// All migrations that this program knows.
pub static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

pub(super) const EXAMPLES: &str = "\
Examples:
  booking-history migrate status                      what is applied and what is not
  booking-history migrate up                          apply what is missing; stop the service first
  booking-history migrate down                        take the newest back
  booking-history migrate down 2                      take the newest two back
  booking-history migrate up --database-timeout 5m    wait longer for the tables' locks";

/// What `migrate` is asked to do.
#[derive(Args)]
pub(super) struct MigrateArgs {
    #[command(subcommand)]
    command: MigrateCommand,
}

#[derive(Subcommand)]
enum MigrateCommand {
    /// Applies every migration that is missing
    Up,
    /// Takes the newest migrations back
    Down {
        /// How many
        #[arg(default_value = "1")]
        count: NonZeroUsize,
    },
    /// Shows each migration and whether it is applied
    Status,
}

pub(super) async fn run(args: &MigrateArgs, settings: &Settings) -> Result<(), CommandError> {
    let database = &settings.database;
    // A migration that takes its time is no news, and its text is no line of a log.
    let options = database.options().clone().disable_statement_logging();
    let connect = PgConnection::connect_with(&options);
    let mut connection = match tokio::time::timeout(settings.database_timeout, connect).await {
        Ok(connected) => connected.map_err(|error| CommandError::database(&error, database))?,
        Err(_) => return Err(CommandError::database_silent(database)),
    };
    limit_lock_waits(&mut connection, settings).await.map_err(|error| CommandError::database(&error, database))?;

    let mut job = Job { migrator: &MIGRATOR, connection: &mut connection, out: io::stdout() };
    let done = match &args.command {
        MigrateCommand::Up => job.up().await,
        MigrateCommand::Down { count } => job.down(count.get()).await,
        MigrateCommand::Status => job.status().await,
    };
    done.map_err(|problem| problem.explain(database))?;
    connection.close().await.map_err(|error| CommandError::database(&error, database))
}

/// The longest wait for a lock is `DATABASE_TIMEOUT`. A statement may take as long as it needs: it may rewrite a table.
async fn limit_lock_waits(connection: &mut PgConnection, settings: &Settings) -> sqlx::Result<()> {
    let timeout = format!("{}ms", settings.database_timeout.as_millis());
    sqlx::query("select set_config('lock_timeout', $1, false), set_config('statement_timeout', '0', false)")
        .bind(timeout)
        .execute(connection)
        .await?;
    Ok(())
}

/// A connection, what to apply through it, and where to say so.
struct Job<'a, Out> {
    migrator: &'a Migrator,
    connection: &'a mut PgConnection,
    out: Out,
}

impl<Out: Write> Job<'_, Out> {
    async fn up(&mut self) -> Result<(), Problem> {
        let applied = self.lock().await?;
        let pending: Vec<&Migration> = match compare(self.migrator, &applied) {
            SchemaState::Current => Vec::new(),
            SchemaState::Missing => ups(self.migrator).collect(),
            SchemaState::Older { pending } => ups(self.migrator).filter(|up| pending.contains(&up.version)).collect(),
            state @ (SchemaState::Newer { .. } | SchemaState::Altered { .. }) => return Err(Problem::Schema(state)),
        };
        if pending.is_empty() {
            return self.say("the schema is up to date");
        }
        for up in pending {
            self.say(format_args!("applying {}", title(up)))?;
            self.connection.apply(&self.migrator.table_name, up).await?;
        }
        self.say("the schema is up to date now")
    }

    async fn down(&mut self, count: usize) -> Result<(), Problem> {
        let applied = self.lock().await?;
        let state = compare(self.migrator, &applied);
        if matches!(state, SchemaState::Newer { .. }) {
            return Err(Problem::Schema(state));
        }
        for version in applied.iter().rev().take(count).map(|applied| applied.version) {
            let down = self
                .migrator
                .iter()
                .find(|migration| migration.version == version && migration.migration_type.is_down_migration());
            let down = down.ok_or(MigrateError::VersionNotPresent(version))?;
            self.say(format_args!("taking back {}", title(down)))?;
            self.connection.revert(&self.migrator.table_name, down).await?;
        }
        match applied.len().checked_sub(count) {
            Some(left @ 1..) => self.say(format_args!("{left} left")),
            Some(0) | None => self.say("none left"),
        }
    }

    async fn status(&mut self) -> Result<(), Problem> {
        let applied = applied(self.connection).await.map_err(MigrateError::from)?;
        for line in status_lines(self.migrator, &applied) {
            self.say(line)?;
        }
        Ok(())
    }

    /// Keeps other `migrate`s out until the connection ends, and tells what is applied.
    async fn lock(&mut self) -> Result<Vec<Applied>, Problem> {
        self.connection.lock().await.map_err(|error| match Problem::from(error) {
            Problem::TableLocked => Problem::AnotherMigrate,
            other => other,
        })?;
        self.connection.ensure_migrations_table(&self.migrator.table_name).await?;
        Ok(applied(self.connection).await.map_err(MigrateError::from)?)
    }

    fn say(&mut self, line: impl Display) -> Result<(), Problem> {
        writeln!(self.out, "{line}").map_err(Problem::Output)
    }
}

/// One line for each migration that this program or the database knows, in their order.
fn status_lines(migrator: &Migrator, applied: &[Applied]) -> Vec<String> {
    let mut lines: Vec<(i64, String)> = Vec::new();
    for up in ups(migrator) {
        let state = match applied.iter().find(|applied| applied.version == up.version) {
            Some(applied) if applied.checksum != *up.checksum => {
                format!("applied {}, but altered since", applied.at_text())
            }
            Some(applied) => format!("applied {}", applied.at_text()),
            None => "pending".to_owned(),
        };
        lines.push((up.version, format!("{:<32} {state}", title(up))));
    }
    for unknown in applied.iter().filter(|applied| !is_known(migrator, applied.version)) {
        let title = format!("{:04} {}", unknown.version, unknown.description);
        lines.push((unknown.version, format!("{title:<32} applied {}, unknown to this program", unknown.at_text())));
    }
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

fn title(migration: &Migration) -> String {
    format!("{:04} {}", migration.version, migration.description)
}

/// What keeps a migration from being applied or taken back.
#[derive(Debug)]
enum Problem {
    /// Somebody holds a lock on one of the tables.
    TableLocked,
    /// Another `migrate` is at work.
    AnotherMigrate,
    /// The schema isn't one that this program can work with.
    Schema(SchemaState),
    /// A migration, by its version, or what goes before it was refused.
    Refused(Option<i64>, sqlx::Error),
    /// A mistake in the program's own migrations.
    Own(MigrateError),
    /// Standard output is gone.
    Output(io::Error),
}

impl From<MigrateError> for Problem {
    fn from(error: MigrateError) -> Self {
        let (version, error) = match error {
            MigrateError::Execute(error) => (None, error),
            MigrateError::ExecuteMigration(error, version) => (Some(version), error),
            other => return Self::Own(other),
        };
        match classify(&error) {
            ErrorClass::Retry(RetryCause::Contention) => Self::TableLocked,
            _ => Self::Refused(version, error),
        }
    }
}

impl Problem {
    fn explain(self, database: &Database) -> CommandError {
        match self {
            Self::TableLocked => CommandError::Unavailable(
                "the tables are in use: stop the service (the old one too) and whatever else has them open, then run \
                 the command again; a longer DATABASE_TIMEOUT waits longer for them"
                    .to_owned(),
            ),
            Self::AnotherMigrate => CommandError::Unavailable(
                "another `booking-history migrate` is at work on this database: wait for its end, then run the \
                 command again"
                    .to_owned(),
            ),
            Self::Schema(state) => CommandError::Unavailable(state.to_string()),
            Self::Refused(None, error) => CommandError::database(&error, database),
            Self::Refused(Some(version), error) => match CommandError::database(&error, database) {
                CommandError::Unavailable(why) => {
                    // An answer to COMMIT may be lost, so nothing is said about what it changed.
                    CommandError::Unavailable(format!("migration {version:04}: {why}; then see `migrate status`"))
                }
                other => other,
            },
            Self::Own(error) => CommandError::Internal(error.to_string()),
            Self::Output(error) => CommandError::Internal(format!("can't write to standard output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests;
