//! Arguments -> command -> exit code.

use booking_history::{
    commands::{self, CommandLine},
    telemetry::standard_error,
};

fn main() {
    standard_error::report_panics();
    // Before clap, which reads settings from the environment, and while the process has one thread: a program must not
    // change its environment later.
    let dotenv = commands::load_dotenv();
    // Ends the process after `--help` and after a mistake in the arguments. An unreadable `.env` file must not prevent that,
    // so its error is returned later.
    let command_line = CommandLine::parse_or_exit();
    // The only place that turns an error into an exit code.
    let exit_code = match dotenv.and_then(|()| command_line.run()) {
        Ok(()) => {
            standard_error::flush();
            0
        }
        Err(error) => {
            standard_error::write_last_line(&format!("error: {error}"));
            error.exit_code()
        }
    };
    commands::exit(exit_code);
}
