//! A `.env` file -> the environment.
//!
//! The Python service may have used the same file. What its library, python-dotenv, reads in another way than dotenvy is
//! refused by its name: a changed password or group would be harder to find.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

use clap::Args as _;

use super::{ConfigFault, ConfigFaults, RawSettings, values};

/// Adds a `.env` file of the working directory to the environment. The file does not change a variable that is already
/// set. The file is optional.
///
/// Call it before the first thread starts, because it changes the environment of the process.
///
/// # Errors
/// The file exists and cannot be read or parsed.
pub fn load_dotenv(path: &Path) -> Result<(), ConfigFaults> {
    let loaded = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(format!("a file that can be read, or no file: {error}")),
        Ok(text) => {
            let text = without_byte_order_mark(&text);
            let loaded = || dotenvy::from_read(text.as_bytes()).map_err(|error| unreadable(text, &error));
            variables(text).and_then(|_| loaded())
        }
    };
    loaded.map_err(|accepted| ConfigFaults::one(ConfigFault { setting: ".env", given: None, accepted }))
}

/// The variables of a file, or what it must have instead. That text has no value, because a value can be a password.
pub(super) fn variables(text: &str) -> Result<Vec<(String, String)>, String> {
    let text = without_byte_order_mark(text);
    let literal = with_literal_dollars(text);
    let (mut names, mut found) = (BTreeSet::new(), Vec::new());
    for (variable, literal) in dotenvy::from_read_iter(text.as_bytes()).zip(dotenvy::from_read_iter(literal.as_bytes()))
    {
        let (name, value) = variable.map_err(|error| unreadable(text, &error))?;
        let upper = name.to_ascii_uppercase();
        if !is_setting(&upper) {
            continue;
        }
        if name != upper {
            return Err(format!("{upper} in upper case"));
        }
        if !names.insert(name.clone()) {
            return Err(format!("each name once; {name} is there twice"));
        }
        if !literal.is_ok_and(|(_, literal)| literal.replace(DOLLAR, "$") == value) {
            return Err(format!("the value of {name} in single quotes, because it contains a $"));
        }
        if text.lines().filter_map(|line| value_of(&name, line)).any(is_ambiguous) {
            return Err(format!(
                "the value of {name} without a backslash, a quote or a default in ${{…}}, because python-dotenv reads it in \
                 another way: set this variable in the environment"
            ));
        }
        found.push((name, value));
    }
    Ok(found)
}

/// Editors of Windows write it.
fn without_byte_order_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// A character of the private use area, in place of a `$`.
const DOLLAR: &str = "\u{e000}";

/// The text as python-dotenv reads it: `${NAME}` is replaced and `$NAME` is not.
fn with_literal_dollars(text: &str) -> String {
    let braces = "\u{e001}";
    text.replace("${", braces).replace('$', DOLLAR).replace(braces, "${")
}

/// The value of this variable as it is in the line.
fn value_of<'a>(name: &str, line: &'a str) -> Option<&'a str> {
    let line = line.trim_start();
    let (found, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    (found.trim() == name).then(|| value.trim())
}

/// Whether python-dotenv reads this value in another way: escapes depend on the quotes, and `${NAME:-default}`.
fn is_ambiguous(value: &str) -> bool {
    match value.chars().next() {
        Some('\'') => ["\\\\", "\\'", "${"].iter().any(|part| value.contains(part)) || has_text_after(value, '\''),
        Some('"') => value.contains("\\$") || value.contains("\\ ") || has_default(value) || has_text_after(value, '"'),
        Some('#') => true,
        _ => {
            let value = value.split(" #").next().unwrap_or_default();
            value.contains(['\\', '"', '\'']) || has_default(value)
        }
    }
}

/// Whether text that is no comment follows the closing quote. In the first line of a value with several lines, none follows.
fn has_text_after(value: &str, quote: char) -> bool {
    let (_, after) = value.rsplit_once(quote).unwrap_or_default();
    let is_closed = value.matches(quote).count() > 1;
    is_closed && !after.trim().is_empty() && !after.trim_start().starts_with('#') && !value.contains(" #")
}

fn has_default(value: &str) -> bool {
    value.split_once("${").is_some_and(|(_, rest)| rest.contains(":-"))
}

fn is_setting(name: &str) -> bool {
    let settings = RawSettings::augment_args(clap::Command::new("settings"));
    settings.get_arguments().any(|setting| setting.get_env().is_some_and(|known| known == name))
}

/// Names the line, and does not show it. The error contains the line from its value on, or the file from this line on.
fn unreadable(text: &str, error: &dotenvy::Error) -> String {
    let dotenvy::Error::LineParse(part, _) = error else { return format!("a file that can be read: {error}") };
    let end = part.lines().next().unwrap_or_default().trim_end();
    // dotenvy has removed a comment at the end of the line.
    let is_this = |line: &str| line.contains(end) && !line.trim_start().starts_with('#');
    let Some((line, number)) = text.lines().zip(1..).find(|(line, _)| is_this(line)) else {
        return "NAME=value lines and comments; a line is another one".to_owned();
    };
    let line = line.trim_start();
    let name = line.strip_prefix("export ").unwrap_or(line).split_once('=').map(|(name, _)| name.trim());
    match name.filter(|name| values::is_variable_name(name)) {
        Some(name) => {
            format!("NAME=value lines; the line of {name} can't be read (put its value in single quotes)")
        }
        None => format!(
            "NAME=value lines and comments; line {number} is another one (put a value with spaces, # or $ in single quotes)"
        ),
    }
}
