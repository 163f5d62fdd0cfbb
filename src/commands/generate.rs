//! What a package needs beside the program: completions for shells, and man pages. Both come from the definition of the
//! arguments.

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

use super::CommandError;
use super::output::{output_not_written, print};

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  booking-history completions bash > /usr/share/bash-completion/completions/booking-history
  booking-history completions zsh > /usr/share/zsh/site-functions/_booking-history
  booking-history completions fish > /usr/share/fish/vendor_completions.d/booking-history.fish";

pub(super) const MAN_EXAMPLES: &str = "\
Examples:
  booking-history man /usr/share/man/man1    one page for each command";

/// Prints the script that completes the arguments in a shell.
pub(super) fn completions(shell: Shell, mut command: Command) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "booking-history", &mut script);
    let script = String::from_utf8(script).map_err(|error| output_not_written(&io::Error::other(error)))?;
    // clap_complete 4.6 writes the name of a program with a hyphen in two ways, so bash completes no subcommand.
    print(&script.replace("booking__subcmd__history", "booking__history"))
}

/// Writes one man page for each command into a directory, which it creates.
pub(super) fn man(directory: &Path, command: Command) -> Result<(), CommandError> {
    let written = fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(in_full(command), directory));
    written.map_err(|error| {
        CommandError::Unavailable(format!("can't write man pages to {}: {error}", directory.display()))
    })
}

/// A page has no description of an argument that short help leaves out.
fn in_full(command: Command) -> Command {
    command.mut_args(|arg| arg.hide_short_help(false)).mut_subcommands(in_full)
}
