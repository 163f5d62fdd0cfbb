//! What the listing commands print: aligned columns for people, or one JSON object a line for programs.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

use super::CommandError;

/// How a list is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// Aligned columns
    #[default]
    Table,
    /// One object a line
    Json,
}

/// Prints lines to standard output; if there are none, says so on standard error.
pub(super) fn print<T: Serialize>(output: Output, lines: &[T], none: &str) -> Result<(), CommandError> {
    let failed = |error: &dyn std::fmt::Display| CommandError::Internal(format!("can't print: {error}"));
    let lines: Vec<Value> = lines.iter().map(serde_json::to_value).collect::<Result<_, _>>().map_err(|e| failed(&e))?;
    let text = match output {
        Output::Json => lines.iter().flat_map(|line| [line.to_string(), "\n".to_owned()]).collect(),
        Output::Table => table(&lines),
    };
    let written = io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush());
    written.map_err(|error| failed(&error))?;
    if lines.is_empty() {
        writeln!(io::stderr(), "{none}").map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Objects of the same fields, in their order: a line of names, then a line for each, numbers to the right.
fn table(lines: &[Value]) -> String {
    let objects: Vec<_> = lines.iter().filter_map(Value::as_object).collect();
    let Some(first) = objects.first() else { return String::new() };
    let column = |name: &String| {
        let values: Vec<&Value> = objects.iter().filter_map(|object| object.get(name)).collect();
        let cells: Vec<String> = std::iter::once(name.clone()).chain(values.iter().map(|value| cell(value))).collect();
        let width = cells.iter().map(|cell| cell.chars().count()).max().unwrap_or_default();
        let right = values.iter().all(|value| value.is_number() || value.is_null());
        let pad = |cell: String| if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
        cells.into_iter().map(pad).collect::<Vec<_>>()
    };
    let columns: Vec<Vec<String>> = first.keys().map(column).collect();
    let line = |index: usize| {
        let cells: Vec<&str> = columns.iter().filter_map(|column| column.get(index)).map(String::as_str).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    (0..=objects.len()).map(line).collect()
}

/// One line whatever the value holds.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.chars().any(char::is_control) => text.escape_debug().to_string(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_has_its_names_first_and_numbers_to_the_right() {
        let lines = [
            json!({"partition": 0, "state": "halted", "lag": 12345}),
            json!({"partition": 11, "state": "a\nb", "lag": null}),
        ];
        let expected = "partition  state     lag\n        0  halted  12345\n       11  a\\nb        -\n";
        assert_eq!(table(&lines), expected);
        assert_eq!(table(&[]), "");
    }
}
