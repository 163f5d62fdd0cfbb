//! The result of `check`: one line for each part.

use serde::Serialize;

use super::super::CommandError;
use super::super::output::{OutputFormat, json_lines, print, table};

/// What the check of a part found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CheckResult {
    /// The part works.
    Ok,
    /// The service works, but the part can cause a problem later.
    Warning,
    /// The service can't work, or records can be lost.
    Failed,
    /// The server does not show the part to this user.
    NotVisible,
    /// The part needs another part, which failed.
    Skipped,
}

impl CheckResult {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::NotVisible => "not_visible",
            Self::Skipped => "skipped",
        }
    }
}

/// The result of one part. The field names are those of its JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct CheckLine {
    pub(super) part: &'static str,
    /// The server, topic, group or setting that was checked.
    pub(super) target: String,
    pub(super) result: CheckResult,
    /// What was tried, and what came back.
    pub(super) detail: String,
    /// What to do. `None`: nothing.
    pub(super) hint: Option<String>,
}

impl CheckLine {
    pub(super) fn ok(part: &'static str, target: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { part, target: target.into(), result: CheckResult::Ok, detail: detail.into(), hint: None }
    }

    pub(super) fn failed(part: &'static str, target: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { result: CheckResult::Failed, ..Self::ok(part, target, detail) }
    }

    pub(super) fn warning(part: &'static str, target: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { result: CheckResult::Warning, ..Self::ok(part, target, detail) }
    }

    pub(super) fn not_visible(part: &'static str, target: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { result: CheckResult::NotVisible, ..Self::ok(part, target, detail) }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// The line of a part that needs another part, the cause.
pub(super) fn skipped(part: &'static str, target: &str, cause: &str) -> CheckLine {
    let detail = format!("not checked, because {cause} failed");
    CheckLine { result: CheckResult::Skipped, ..CheckLine::ok(part, target, detail) }
}

/// Adds a line for each of `parts` that has none, because another part, the cause, failed. Sorts the lines in the order of
/// `parts`.
pub(super) fn complete(lines: &mut Vec<CheckLine>, parts: &[&'static str], target: &str, cause: &str) {
    let missing = |part: &&&'static str| !lines.iter().any(|line| line.part == **part);
    let missing: Vec<CheckLine> = parts.iter().filter(missing).map(|part| skipped(part, target, cause)).collect();
    lines.extend(missing);
    lines.sort_by_key(|line| parts.iter().position(|part| *part == line.part));
}

/// Prints the lines. An error if a part failed.
pub(super) fn report(lines: &[CheckLine], output: OutputFormat) -> Result<(), CommandError> {
    match output {
        OutputFormat::Json => print(&json_lines(lines)?)?,
        OutputFormat::Table => print(&table(["result", "part", "target", "detail"], lines.iter().map(cells)))?,
    }
    let failed = lines.iter().filter(|line| line.result == CheckResult::Failed).count();
    match failed {
        0 => Ok(()),
        1 => Err(CommandError::Finding("1 part failed".to_owned())),
        _ => Err(CommandError::Finding(format!("{failed} parts failed"))),
    }
}

fn cells(line: &CheckLine) -> [String; 4] {
    let hint = line.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    let detail = format!("{}{hint}", line.detail);
    [line.result.name().to_owned(), line.part.to_owned(), line.target.clone(), detail]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_was_not_reached_names_the_part_that_failed() {
        let mut lines = vec![CheckLine::failed("b", "t", "broken").hint("repair it"), CheckLine::ok("a", "t", "good")];
        complete(&mut lines, &["a", "b", "c"], "t", "b");
        let seen: Vec<_> = lines.iter().map(|line| (line.part, line.result, line.detail.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("a", CheckResult::Ok, "good"),
                ("b", CheckResult::Failed, "broken"),
                ("c", CheckResult::Skipped, "not checked, because b failed"),
            ]
        );
        assert_eq!(cells(&lines[1])[3], "broken; repair it");
    }
}
