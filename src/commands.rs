//! What the program can be asked to do: one file for each command.

mod failure;
mod output;
mod time;
mod migrate;
mod offsets;
mod run;
mod dead_letters;
mod verify;

use std::{fs, path::Path};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub use failure::CommandError;
pub use migrate::{MIGRATOR, SchemaState, schema_state};
pub use run::options;

use crate::{
    config::{self, RawSettings, Settings},
    telemetry,
};

/// The arguments, and the environment where it stands in for them.
#[derive(Parser)]
#[command(
    name = "booking-history",
    version,
    about = "Keeps the history of bookings from Kafka in PostgreSQL, exactly once",
    long_about = None,
    arg_required_else_help = true
)]
pub struct CommandLine {
    #[command(flatten)]
    settings: RawSettings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Keeps the history until it is told to stop
    #[command(after_help = run::EXAMPLES)]
    Run(run::RunArgs),
    /// Brings the database's schema up to date, takes it back, or shows where it is
    #[command(after_help = migrate::EXAMPLES, arg_required_else_help = true)]
    Migrate(migrate::MigrateArgs),
    /// Shows where each partition stands, moves positions, or lets halted partitions go on
    #[command(after_help = offsets::EXAMPLES, arg_required_else_help = true)]
    Offsets(offsets::OffsetsArgs),
    /// Shows the records that could not become a row; what changes them is SQL
    #[command(after_help = dead_letters::EXAMPLES, arg_required_else_help = true)]
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Reads what was handled again and compares it with the tables; changes nothing
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::VerifyArgs),
}

impl CommandLine {
    /// Reads the arguments and the environment. Ends the process itself with 0 after `--help`, with 2 after a mistake.
    #[must_use]
    pub fn parse_or_exit() -> Self {
        let matches = Self::described().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// The arguments as clap is told about them.
    fn described() -> clap::Command {
        // A setting may stand before or after the command, and its value in the environment may be a secret.
        Self::command().mut_args(|arg| arg.global(true).hide_env_values(true))
    }

    /// Does what was asked for.
    ///
    /// # Errors
    /// It can't be done; the error knows the exit code.
    pub fn run(self) -> Result<(), CommandError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| CommandError::Internal(format!("no threads for the work: {error}")))?;
        let settings = || Settings::from_raw(&self.settings, |file: &Path| fs::read_to_string(file));
        let done = runtime.block_on(async {
            match &self.command {
                Command::Run(args) => run::run(args, &logging(settings()?)).await,
                Command::Migrate(args) => migrate::run(args, &logging(settings()?)).await,
                Command::Offsets(args) => offsets::run(args, &logging(settings()?)).await,
                Command::DeadLetters(args) => dead_letters::run(args, &logging(settings()?)).await,
                Command::Verify(args) => verify::run(args, &logging(settings()?)).await,
            }
        });
        // A question to a frozen server may still be open: nobody waits for its answer.
        runtime.shutdown_background();
        done
    }
}

fn logging(settings: Settings) -> Settings {
    telemetry::init(&settings.log_level, settings.log_format);
    settings
}

/// Adds the `.env` file of the working directory to the environment. Call it first, while there is one thread.
///
/// # Errors
/// There is one that can't be understood.
pub fn load_dotenv() -> Result<(), CommandError> {
    Ok(config::load_dotenv(Path::new(".env"))?)
}

#[cfg(test)]
mod tests;
