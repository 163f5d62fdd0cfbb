//! The commands of the program, one file each, and what they share.

mod failure;
mod output;
mod timestamp;
mod signals;
mod migrate;
mod database;
mod engine;
mod run;
mod health;
mod check;
mod offsets;
mod dead_letters;
mod verify;
mod generate;

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Arg, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;
use tokio::sync::oneshot;

pub use engine::options;
pub use failure::CommandError;
pub use migrate::{MIGRATOR, SchemaState, schema_state};

use crate::{
    config::{self, RawSettings, Settings},
    telemetry,
};

const EXAMPLES: &str = "\
Examples:
  booking-history migrate up          create the tables
  booking-history check               check settings, database and Kafka
  booking-history run                 store bookings until a signal stops the service
  booking-history offsets list        position and lag of each partition
  booking-history COMMAND --help      the arguments of a command, the settings that it uses, and examples

A setting is a flag, a variable of the environment, or a line of a .env file in the working directory. A flag overrides the \
environment, and the environment overrides the file. Each command accepts every setting.";

/// The arguments. A setting that is not given here comes from the environment.
#[derive(Parser)]
#[command(
    name = "booking-history",
    version,
    about = "Stores bookings from Kafka in PostgreSQL, exactly once",
    long_about = None,
    arg_required_else_help = true,
    after_help = EXAMPLES
)]
pub struct CommandLine {
    #[command(flatten)]
    settings: RawSettings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Store bookings until a signal stops the service
    #[command(after_help = run::EXAMPLES)]
    Run(run::RunArgs),
    /// Ask the instance on this machine whether it is ready, as `/readyz` does
    #[command(after_help = health::EXAMPLES)]
    Health,
    /// Create or update the tables, revert migrations, or show which are applied
    #[command(after_help = migrate::EXAMPLES, arg_required_else_help = true)]
    Migrate(migrate::MigrateArgs),
    /// Check settings, database and Kafka, and say what to do; changes nothing
    #[command(after_help = check::EXAMPLES)]
    Check(check::CheckArgs),
    /// Show the position and the state of each partition, move positions, or resume halted partitions
    #[command(after_help = offsets::EXAMPLES, arg_required_else_help = true)]
    Offsets(offsets::OffsetsArgs),
    /// Show the records that could not be stored; SQL functions change them
    #[command(after_help = dead_letters::EXAMPLES, arg_required_else_help = true)]
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Read handled records again and compare them with the tables; changes nothing
    #[command(after_help = verify::EXAMPLES, after_long_help = format!("{}\n\n{}", verify::EXAMPLES, verify::NOTES))]
    Verify(verify::VerifyArgs),
    /// Print the completions for a shell
    #[command(hide = true, after_help = generate::COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the man pages
    #[command(hide = true, after_help = generate::MAN_EXAMPLES)]
    Man {
        /// The directory for the pages
        directory: PathBuf,
    },
}

impl Command {
    /// Whether the command needs a server that can write. `check` looks for one, because `run` needs it.
    fn writes(&self) -> bool {
        match self {
            Self::Run(_) | Self::Check(_) => true,
            Self::Migrate(args) => args.writes(),
            Self::Offsets(args) => args.writes(),
            Self::Health | Self::DeadLetters(_) | Self::Verify(_) | Self::Completions { .. } | Self::Man { .. } => {
                false
            }
        }
    }
}

impl CommandLine {
    /// Reads the arguments and the environment. Ends the process with 0 after `--help`, and with 2 after a mistake.
    #[must_use]
    pub fn parse_or_exit() -> Self {
        let matches = Self::described().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// The arguments, as clap parses them.
    fn described() -> clap::Command {
        // `global`: a setting is accepted before and after the command. Help must not show values: some are secrets.
        let command = Self::command().mut_args(|arg| {
            let is_essential = config::is_essential(arg.get_id().as_str());
            arg.global(true).hide_env_values(true).hide_short_help(!is_essential)
        });
        let settings: Vec<Arg> = command.get_arguments().cloned().collect();
        let names: Vec<String> = command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
        let with_settings = |command: clap::Command, name: &String| {
            command.mut_subcommand(name, |one| {
                let used = |setting: &Arg| config::is_used(setting.get_id().as_str(), name);
                with_hidden(one, &settings.iter().map(|one| one.clone().hide(!used(one))).collect::<Vec<_>>())
            })
        };
        names.iter().fold(command, with_settings).mut_args(|arg| arg.hide_short_help(true))
    }

    /// Runs the command.
    ///
    /// # Errors
    /// The command failed, or has a finding. The error contains the exit code.
    pub fn run(self) -> Result<(), CommandError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| CommandError::Internal(format!("can't start threads: {error}")))?;
        let (stop, stopped) = oneshot::channel();
        let stop = matches!(self.command, Command::Run(_)).then_some(stop);
        signals::handle(stop).map_err(|error| CommandError::Internal(format!("can't receive signals: {error}")))?;
        let settings = || {
            let settings = Settings::from_raw(&self.settings, |file: &Path| fs::read_to_string(file))?;
            if self.command.writes() { settings.able_to_write() } else { Ok(settings) }
        };
        let done = runtime.block_on(async {
            let done = match &self.command {
                Command::Run(args) => run::run(args, &logging(settings()?), stopped).await,
                Command::Health => health::run(&logging(settings()?)).await,
                Command::Migrate(args) => migrate::run(args, &logging(settings()?)).await,
                Command::Check(args) => check::run(args, settings().map(logging).map_err(Into::into)).await,
                Command::Offsets(args) => offsets::run(args, &logging(settings()?)).await,
                Command::DeadLetters(args) => dead_letters::run(args, &logging(settings()?)).await,
                Command::Verify(args) => verify::run(args, &logging(settings()?)).await,
                Command::Completions { shell } => generate::completions(*shell, Self::described()),
                Command::Man { directory } => generate::man(directory, Self::described()),
            };
            let Err(CommandError::Privilege(why)) = done else { return done };
            let grants = database::missing_grants(&settings()?).await;
            Err(CommandError::Privilege(if grants.is_empty() {
                why
            } else {
                format!("{why}. `run` needs: {}", grants.join(" "))
            }))
        });
        // Does not wait for blocking calls: a request to a frozen server could delay the exit.
        runtime.shutdown_background();
        done
    }
}

/// The command and its subcommands with these settings, of which some are hidden. Without them, clap would copy the settings
/// of the program, where none is hidden.
fn with_hidden(command: clap::Command, settings: &[Arg]) -> clap::Command {
    command.args(settings).mut_subcommands(|one| with_hidden(one, settings))
}

fn logging(settings: Settings) -> Settings {
    telemetry::init(&settings.log_level, settings.log_format);
    settings
}

/// Ends the process at once, without the exit handlers of C libraries. Threads of librdkafka and blocking calls of the runtime
/// can still be in a TLS handshake: the handler of OpenSSL frees the data that they use, and the process would end with SIGSEGV.
/// All output is written before.
pub fn exit(code: i32) -> ! {
    signal_hook::low_level::exit(code)
}

/// Adds the `.env` file of the working directory to the environment. Call it first, while the process has one thread.
///
/// # Errors
/// The file exists and can't be read or parsed.
pub fn load_dotenv() -> Result<(), CommandError> {
    Ok(config::load_dotenv(Path::new(".env"))?)
}

#[cfg(test)]
mod tests;
