//! The output of commands: aligned columns for people, one JSON object per line for tools.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::CommandError;
use crate::telemetry::standard_error;

/// The format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// columns, for people
    Table,
    /// one JSON object per line, for programs
    Json,
}

/// Writes to standard output, after all waiting lines of standard error. A reader that closes the pipe (`| head`) is no error.
pub(super) fn print(text: &str) -> Result<(), CommandError> {
    write(text).map_err(|error| output_not_written(&error))
}

/// The same, for the report of a change that is committed.
pub(super) fn print_report(text: &str) -> Result<(), CommandError> {
    write(text).map_err(|error| report_not_written(&error))
}

fn write(text: &str) -> io::Result<()> {
    standard_error::flush();
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// The output of a command that changes nothing is not written.
pub(super) fn output_not_written(error: &io::Error) -> CommandError {
    CommandError::Internal(format!("can't write to standard output: {error}"))
}

/// The change is committed, but its report is not written.
pub(super) fn report_not_written(error: &io::Error) -> CommandError {
    CommandError::Internal(format!("the work is done, but its report can't be written to standard output: {error}"))
}

/// Writes a remark to standard error, so that it is not part of the output.
pub(super) fn remark(text: &str) {
    standard_error::write_line(text);
}

/// One JSON object per line.
pub(super) fn json_lines<T: Serialize>(objects: &[T]) -> Result<String, CommandError> {
    let mut lines = String::new();
    for object in objects {
        let line = serde_json::to_string(object).map_err(|error| CommandError::Internal(error.to_string()))?;
        lines.push_str(&line);
        lines.push('\n');
    }
    Ok(lines)
}

/// Columns as wide as their longest cell. Each cell becomes [`printable`].
pub(super) fn table<const COLUMNS: usize>(
    names: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let mut lines = vec![names.map(str::to_owned)];
    lines.extend(rows.into_iter().map(|row| row.map(|cell| printable(&cell).replace('\n', "\\n"))));
    let mut widths = [0; COLUMNS];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Replaces each character that controls a terminal by its escape: a record may hold any text.
pub(super) fn printable(text: &str) -> String {
    let each = text.chars().map(|c| match c {
        '\n' | '\t' => c.to_string(),
        // They change the direction of the text.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => c.escape_unicode().to_string(),
        c if c.is_control() => c.escape_unicode().to_string(),
        c => c.to_string(),
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned(), String::new()];
        assert_eq!(
            table(["id", "reason", "note"], [row("1", "é"), row("1000", "two\nlines")]),
            "id    reason      note\n1     é\n1000  two\\nlines\n"
        );
        assert_eq!(table(["id"], []), "id\n");
    }

    #[test]
    fn no_text_of_a_record_controls_a_terminal() {
        assert_eq!(printable("a\tb\né \u{1F600}"), "a\tb\né \u{1F600}");
        assert_eq!(printable("\u{1b}[2J\r\u{9b}\u{202e}"), "\\u{1b}[2J\\u{d}\\u{9b}\\u{202e}");
    }

    #[test]
    fn json_is_one_object_per_line() {
        assert_eq!(json_lines(&["a\nb", "c"]).unwrap(), "\"a\\nb\"\n\"c\"\n");
    }
}
