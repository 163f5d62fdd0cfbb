//! Arguments -> command -> exit code.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use booking_history::commands::{self, CommandLine};

fn main() -> ExitCode {
    // Before clap, which reads the environment; its fault is kept until `--help` has had its chance.
    let dotenv = commands::load_dotenv();
    let command_line = CommandLine::parse_or_exit();
    match dotenv.and_then(|()| command_line.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where standard error is gone, the exit code has to do.
            writeln!(io::stderr(), "error: {error}").ok();
            ExitCode::from(error.exit_code())
        }
    }
}
