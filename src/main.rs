//! Arguments -> command -> exit code.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use booking_history::commands::{self, CommandLine};

fn main() -> ExitCode {
    // Before clap, which reads settings from the environment, and while the process has one thread: a program must not
    // change its environment later.
    let dotenv = commands::load_dotenv();
    // Ends the process after `--help` and after a mistake in the arguments. An unreadable `.env` file must not prevent that,
    // so its error is returned later.
    let command_line = CommandLine::parse_or_exit();
    // The only place that turns an error into an exit code.
    match dotenv.and_then(|()| command_line.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `eprintln!` panics if standard error is closed. The exit code must still show the result.
            writeln!(io::stderr(), "error: {error}").ok();
            ExitCode::from(error.exit_code())
        }
    }
}
