//! `migrate`: the schema of the database, one transaction for each migration.
//!
//! sqlx's table `_sqlx_migrations`, in the `search_path` of the connection, records which migrations are applied. An advisory
//! lock lets only one `migrate` run at a time. A migration waits for the lock of a table at most `DATABASE_TIMEOUT`.

mod state;
mod adoption;
mod dropped;

use std::{fmt::Display, io, io::Write, num::NonZeroUsize, pin::pin, time::Duration};

use clap::{Args, Subcommand};
use fenced_sink::admin::{ErrorClass, RetryCause, ServerProblem, classify, connect_and_check, nearly_full_columns};
use fenced_sink::{DatabaseServers, Event as _};
use sqlx::{
    Connection as _, PgConnection,
    migrate::{Migrate as _, MigrateError, Migration, Migrator},
};

pub use state::{SchemaState, schema_state};

use super::CommandError;
use super::output::{output_not_written, report_not_written};
use crate::booking::Booking;
use crate::config::{Database, Settings};
use adoption::{OldTable, PROGRESS_INTERVAL, ProgressWatch, SESSIONS_END, suspicious_sessions};
use dropped::{ask_at_terminal, dropped_rows, in_words};
use state::{AppliedMigration, applied, compare, is_known, ups};

/// The version that creates or adopts the table `booking_history`.
const BOOKING_HISTORY: i64 = 1;
/// The version that creates `consumer_offsets`.
const CONSUMER_OFFSETS: i64 = 2;

/// The migrations of this program.
pub static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

pub(super) const EXAMPLES: &str = "\
Examples:
  booking-history migrate status                      show which migrations are applied
  booking-history migrate up                          apply the missing ones; stop the service first
  booking-history migrate down                        revert the newest one
  booking-history migrate down 2                      revert the newest two
  booking-history migrate down 2 --yes                the same, even if tables with rows are dropped
  booking-history migrate up --database-timeout 5m    wait longer for the locks of the tables";

const UP_EXAMPLES: &str = "\
Examples:
  booking-history migrate up                          stop the service first
  booking-history migrate up --database-timeout 5m    wait longer for the locks of the tables
  booking-history migrate up --ignore-sessions        adopt the old table, although some sessions use the database

Exit code 69: another session uses the tables, or the migration failed. A migration that failed changed nothing.";

const DOWN_EXAMPLES: &str = "\
Examples:
  booking-history migrate down            revert the newest migration
  booking-history migrate down 2          revert the newest two
  booking-history migrate down 2 --yes    the same, even if tables with rows are dropped

Exit code 2: tables with rows would be dropped, and --yes is missing. Nothing was changed.";

const STATUS_EXAMPLES: &str = "\
Examples:
  booking-history migrate status
  booking-history migrate status | grep pending    the migrations that `migrate up` would apply";

/// The arguments of `migrate`.
#[derive(Args)]
pub(super) struct MigrateArgs {
    #[command(subcommand)]
    command: MigrateCommand,
}

impl MigrateArgs {
    /// Whether the command needs a server that can write.
    pub(super) fn writes(&self) -> bool {
        !matches!(self.command, MigrateCommand::Status)
    }
}

#[derive(Subcommand)]
enum MigrateCommand {
    /// Apply every missing migration
    #[command(after_help = UP_EXAMPLES)]
    Up {
        /// Adopt the table of the Python service even if some sessions may belong to that service
        #[arg(long)]
        ignore_sessions: bool,
    },
    /// Revert the newest migrations
    #[command(after_help = DOWN_EXAMPLES)]
    Down {
        /// The number of migrations to revert
        #[arg(default_value = "1")]
        count: NonZeroUsize,
        /// Do not ask before tables that have rows are dropped
        #[arg(long)]
        yes: bool,
    },
    /// Show each migration and whether it is applied
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
}

pub(super) async fn run(args: &MigrateArgs, settings: &Settings) -> Result<(), CommandError> {
    let (database, servers, limit) = (&settings.database, settings.database.servers(), settings.database_timeout);
    let connected = connect_and_check(servers, limit).await;
    let (session, problems) = connected.map_err(|error| CommandError::database(&error, database))?;
    // `down` must also work in a database that `up` refuses.
    let is_up = matches!(args.command, MigrateCommand::Up { .. });
    if let Some(problem) = problems.iter().find(|problem| is_up || **problem == ServerProblem::SharedSession) {
        return Err(CommandError::server_problem(problem, database));
    }
    let mut connection = session.into_connection();
    within(limit, limit_lock_waits(&mut connection, limit)).await.map_err(|problem| problem.explain(database))?;

    let mut job = MigrationJob {
        migrator: &MIGRATOR,
        connection: &mut connection,
        servers,
        limit,
        out: io::stdout(),
        not_written: None,
    };
    let done = match &args.command {
        MigrateCommand::Up { ignore_sessions } => job.up(*ignore_sessions).await,
        MigrateCommand::Down { count, yes } => job.down(count.get(), *yes).await,
        MigrateCommand::Status => job.status().await,
    };
    let not_written = job.not_written.take();
    done.map_err(|problem| problem.explain(database))?;
    connection.close().await.map_err(|error| CommandError::database(&error, database))?;
    match not_written {
        Some(error) if args.writes() => Err(report_not_written(&error)),
        Some(error) => Err(output_not_written(&error)),
        None => Ok(()),
    }
}

/// Limits the wait for a lock. A statement has no limit, because it may rewrite a large table.
async fn limit_lock_waits(connection: &mut PgConnection, limit: Duration) -> sqlx::Result<()> {
    let timeout = format!("{}ms", limit.as_millis());
    sqlx::query("select set_config('lock_timeout', $1, false), set_config('statement_timeout', '0', false)")
        .bind(timeout)
        .execute(connection)
        .await?;
    Ok(())
}

/// Limits a statement that is not a migration. The server limits the wait for a lock itself, and its answer comes first.
async fn within<T, E>(limit: Duration, work: impl Future<Output = Result<T, E>>) -> Result<T, MigrationProblem>
where
    MigrationProblem: From<E>,
{
    let answer = tokio::time::timeout(limit.saturating_add(Duration::from_secs(1)), work).await;
    let no_answer = || io::Error::new(io::ErrorKind::TimedOut, "no answer within DATABASE_TIMEOUT");
    Ok(answer.map_err(|_| sqlx::Error::from(no_answer()))??)
}

/// A connection, the migrations to apply through it, and the output for their reports.
struct MigrationJob<'a, Out> {
    migrator: &'a Migrator,
    connection: &'a mut PgConnection,
    /// For a second connection.
    servers: &'a DatabaseServers,
    /// For each statement that is not a migration.
    limit: Duration,
    out: Out,
    /// The first error of the output. It stops no migration.
    not_written: Option<io::Error>,
}

impl<Out: Write> MigrationJob<'_, Out> {
    async fn up(&mut self, ignore_sessions: bool) -> Result<(), MigrationProblem> {
        let applied = self.lock().await?;
        let pending: Vec<&Migration> = match compare(self.migrator, &applied) {
            SchemaState::Current => Vec::new(),
            SchemaState::Missing => ups(self.migrator).collect(),
            SchemaState::Older { pending } => ups(self.migrator).filter(|up| pending.contains(&up.version)).collect(),
            state @ (SchemaState::Newer { .. } | SchemaState::Altered { .. }) => {
                return Err(MigrationProblem::Schema(state));
            }
        };
        if pending.is_empty() {
            self.say("the schema is up to date");
            return self.warn_of_full_columns().await;
        }
        let lacks = |version| pending.iter().any(|up| up.version == version);
        if lacks(CONSUMER_OFFSETS) && self.has_tables_of_the_library().await? {
            return Err(MigrationProblem::TablesOfTheLibrary);
        }
        let mut watch = if lacks(BOOKING_HISTORY) { self.prepare_adoption(ignore_sessions).await? } else { None };
        for up in pending {
            self.say(format_args!("applying {}", title(up)));
            let applied = self.apply(up, watch.as_mut()).await;
            if applied.is_err() && up.version == BOOKING_HISTORY && watch.is_some() {
                self.say(
                    "0000 is applied: run this command again, or `booking-history migrate down` to restore the types",
                );
            }
            applied?;
        }
        self.say("the schema is up to date now");
        self.warn_of_full_columns().await
    }

    async fn warn_of_full_columns(&mut self) -> Result<(), MigrationProblem> {
        for column in within(self.limit, nearly_full_columns(self.connection, Booking::PRIVILEGES)).await? {
            self.say(format_args!("warning: {column}"));
        }
        Ok(())
    }

    /// Prints what the adoption of an old table does. Refuses it while the Python service may be connected. `None`:
    /// there is no old table, or its progress can't be observed.
    async fn prepare_adoption(&mut self, ignore_sessions: bool) -> Result<Option<ProgressWatch>, MigrationProblem> {
        let Some(table) = within(self.limit, OldTable::read(self.connection)).await? else { return Ok(None) };
        if !ignore_sessions {
            let sessions = within(self.limit.max(SESSIONS_END), suspicious_sessions(self.connection)).await?;
            if !sessions.is_empty() {
                return Err(MigrationProblem::OldServiceConnected(sessions));
            }
        }
        for line in table.announcement() {
            self.say(line);
        }
        Ok(ProgressWatch::start(self.servers, &table).await)
    }

    /// Applies a migration, and reports its progress if it takes long.
    async fn apply(&mut self, up: &Migration, mut watch: Option<&mut ProgressWatch>) -> Result<(), MigrationProblem> {
        let Self { migrator, connection, out, not_written, .. } = self;
        let mut applying = pin!(connection.apply(&migrator.table_name, up));
        loop {
            tokio::select! {
                applied = &mut applying => {
                    return applied.map(drop).map_err(|error| MigrationProblem::of(up, error));
                }
                () = tokio::time::sleep(PROGRESS_INTERVAL), if watch.is_some() => {}
            }
            if let Some(watch) = watch.as_mut()
                && let Some(line) = watch.line().await
            {
                write_line(out, line, not_written);
            }
        }
    }

    async fn has_tables_of_the_library(&mut self) -> Result<bool, MigrationProblem> {
        let exists = "select to_regclass('fenced_sink_migrations') is not null";
        within(self.limit, sqlx::query_scalar(exists).fetch_one(&mut *self.connection)).await
    }

    async fn down(&mut self, count: usize, yes: bool) -> Result<(), MigrationProblem> {
        let applied = self.lock().await?;
        let state = compare(self.migrator, &applied);
        if matches!(state, SchemaState::Newer { .. }) {
            return Err(MigrationProblem::Schema(state));
        }
        let migrator = self.migrator;
        let down = |version| {
            let is_down = |one: &&Migration| one.version == version && one.migration_type.is_down_migration();
            migrator.iter().find(is_down).ok_or(MigrateError::VersionNotPresent(version))
        };
        let downs = applied.iter().rev().take(count).map(|applied| down(applied.version));
        let downs = downs.collect::<Result<Vec<&Migration>, MigrateError>>()?;
        if !yes {
            self.ask_to_drop_rows(&downs).await?;
        }
        for down in downs {
            self.say(format_args!("reverting {}", title(down)));
            let reverted = self.connection.revert(&self.migrator.table_name, down).await;
            reverted.map_err(|error| MigrationProblem::of(down, error))?;
        }
        match applied.len().checked_sub(count) {
            Some(left @ 1..) => self.say(format_args!("{left} left")),
            Some(0) | None => self.say("none left"),
        }
        Ok(())
    }

    /// While the user decides, a running service can add rows. Then this asks again.
    async fn ask_to_drop_rows(&mut self, downs: &[&Migration]) -> Result<(), MigrationProblem> {
        let mut agreed = String::new();
        loop {
            // Without a limit: it reads whole tables.
            let rows = in_words(&dropped_rows(self.connection, downs).await?);
            if rows == agreed {
                return Ok(());
            }
            if ask_at_terminal(rows.clone()).await != Some(true) {
                return Err(MigrationProblem::DropsRows(rows));
            }
            agreed = rows;
        }
    }

    async fn status(&mut self) -> Result<(), MigrationProblem> {
        let applied = within(self.limit, applied(self.connection)).await?;
        for line in status_lines(self.migrator, &applied) {
            self.say(line);
        }
        Ok(())
    }

    /// Takes the advisory lock, so that other `migrate` commands wait until this connection ends. Reads the applied
    /// migrations.
    async fn lock(&mut self) -> Result<Vec<AppliedMigration>, MigrationProblem> {
        within(self.limit, self.connection.lock()).await.map_err(|problem| match problem {
            MigrationProblem::TableLocked => MigrationProblem::AnotherMigrate,
            other => other,
        })?;
        within(self.limit, self.connection.ensure_migrations_table(&self.migrator.table_name)).await?;
        within(self.limit, applied(self.connection)).await
    }

    fn say(&mut self, line: impl Display) {
        write_line(&mut self.out, line, &mut self.not_written);
    }
}

/// Writes a line, and keeps the first error. A reader that closes the pipe is no error.
fn write_line(out: &mut impl Write, line: impl Display, not_written: &mut Option<io::Error>) {
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        not_written.get_or_insert(error);
    }
}

/// One line for each migration of this program or of the database, in the order of the versions.
fn status_lines(migrator: &Migrator, applied: &[AppliedMigration]) -> Vec<String> {
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

/// Why a migration was not applied or reverted.
#[derive(Debug)]
enum MigrationProblem {
    /// Another connection holds a lock on one of the tables.
    TableLocked,
    /// Another `migrate` is running.
    AnotherMigrate,
    /// The library has created the tables of the engine.
    TablesOfTheLibrary,
    /// These sessions may belong to the Python service.
    OldServiceConnected(Vec<String>),
    /// The user has not agreed to drop these rows.
    DropsRows(String),
    /// This program can't work with the schema.
    Schema(SchemaState),
    /// The database refused a statement that is not part of a migration.
    Database(sqlx::Error),
    /// The migration of this version failed.
    Migration {
        version: i64,
        error: sqlx::Error,
        /// The answer to COMMIT may be lost, so it is not known whether the migration is done.
        perhaps_done: bool,
    },
    /// A mistake in the migrations of this program.
    Own(MigrateError),
}

impl From<sqlx::Error> for MigrationProblem {
    fn from(error: sqlx::Error) -> Self {
        Self::from(MigrateError::from(error))
    }
}

impl From<MigrateError> for MigrationProblem {
    fn from(error: MigrateError) -> Self {
        let (error, version) = match error {
            MigrateError::Execute(error) => (error, None),
            MigrateError::ExecuteMigration(error, version) => (error, Some(version)),
            other => return Self::Own(other),
        };
        match (classify(&error), version) {
            (ErrorClass::Retry(RetryCause::Contention), _) => Self::TableLocked,
            (_, None) => Self::Database(error),
            (_, Some(version)) => Self::Migration { version, error, perhaps_done: false },
        }
    }
}

impl MigrationProblem {
    /// Why a migration was not applied or reverted. The errors of sqlx name it only for its own statements: an error
    /// without a version can be the one of its COMMIT.
    fn of(migration: &Migration, error: MigrateError) -> Self {
        match Self::from(error) {
            Self::Database(error) => Self::Migration { version: migration.version, error, perhaps_done: true },
            other => other,
        }
    }

    fn explain(self, database: &Database) -> CommandError {
        match self {
            Self::TableLocked => CommandError::Unavailable(
                "the tables are in use: stop the service, the old Python service and every other program that uses them, \
                 then run this command again; a longer DATABASE_TIMEOUT waits longer for their locks"
                    .to_owned(),
            ),
            Self::AnotherMigrate => CommandError::Unavailable(
                "another `booking-history migrate` is running on this database: wait until it ends, then run this command \
                 again"
                    .to_owned(),
            ),
            Self::TablesOfTheLibrary => CommandError::Unavailable(
                "`create_tables` of the library fenced-sink has created consumer_offsets and the other tables here: use \
                 another database, or another schema with ?options=-c%20search_path%3DNAME in DATABASE_URL"
                    .to_owned(),
            ),
            Self::OldServiceConnected(sessions) => CommandError::Unavailable(format!(
                "the Python service may still be connected to this database: {}. Nothing was changed. Stop it, and run this \
                 command again. If these sessions are not of this service, run `booking-history migrate up --ignore-sessions`",
                sessions.join("; ")
            )),
            Self::DropsRows(rows) => CommandError::Usage(format!(
                "this drops {rows}. Nothing was changed. To drop them, run this command again with --yes"
            )),
            Self::Schema(state) => CommandError::Unavailable(state.to_string()),
            Self::Database(error) => CommandError::database(&error, database),
            Self::Migration { version, error, perhaps_done } => match CommandError::database(&error, database) {
                CommandError::Unavailable(why) | CommandError::Privilege(why) => {
                    let then = if perhaps_done { "; then run `booking-history migrate status`" } else { "" };
                    CommandError::Unavailable(format!("migration {version:04}: {why}{then}"))
                }
                other => other,
            },
            Self::Own(error) => CommandError::Internal(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
