//! The output of `verify`: each finding at once, its progress, and at the end the parts that it could not check.

use std::fmt;
use std::io::{IsTerminal as _, stderr};

use fenced_sink::verify::{Finding, NotChecked, NotCheckedPart, Progress, Report};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde::Serialize;

use crate::commands::CommandError;
use crate::commands::output::{OutputFormat, json_lines, print, printable};

/// Prints one verification.
pub(super) struct Printer<'a> {
    output: OutputFormat,
    topic: &'a str,
    findings: u64,
    bar: ProgressBar,
    /// The first error of standard output.
    failed: Option<CommandError>,
}

/// A finding. The field names are those of its JSON.
#[derive(Serialize)]
struct FindingLine<'a> {
    finding: &'static str,
    topic: &'a str,
    partition: Option<i32>,
    offset: Option<i64>,
    booking_id: Option<&'a str>,
    detail: &'a str,
}

/// The last line of the JSON.
#[derive(Serialize)]
struct LastLine<'a> {
    records: u64,
    findings: u64,
    not_checked: Vec<NotCheckedLine<'a>>,
}

#[derive(Serialize)]
struct NotCheckedLine<'a> {
    what: &'static str,
    partition: Option<i32>,
    /// The first offset, if `what` is records.
    from: Option<i64>,
    /// The first offset after the records.
    to: Option<i64>,
    why: &'a str,
}

impl<'a> Printer<'a> {
    /// A printer that has printed nothing.
    pub(super) fn new(output: OutputFormat, topic: &'a str) -> Self {
        Self { output, topic, findings: 0, bar: ProgressBar::hidden(), failed: None }
    }

    /// The number of findings so far.
    pub(super) fn findings(&self) -> u64 {
        self.findings
    }

    /// Prints a finding, or moves the progress bar.
    pub(super) fn show(&mut self, progress: &Progress<'_>) {
        match progress {
            Progress::Begins(what, of) => {
                self.bar.finish_and_clear();
                self.bar = progress_bar(what, *of);
            }
            Progress::Done(count) => self.bar.set_position(*count),
            Progress::Found(finding) => {
                self.findings += 1;
                let text = self.text(finding);
                let printed = self.bar.suspend(|| text.and_then(|text| print(&text)));
                self.failed = self.failed.take().or(printed.err());
            }
        }
    }

    /// Prints the end.
    pub(super) fn end(mut self, report: &Report) -> Result<(), CommandError> {
        self.bar.finish_and_clear();
        if let Some(failed) = self.failed.take() {
            return Err(failed);
        }
        print(&match self.output {
            OutputFormat::Json => json_lines(&[LastLine {
                records: report.records,
                findings: report.findings,
                not_checked: report.not_checked.iter().map(line).collect(),
            }])?,
            OutputFormat::Table => {
                let left_out = report.not_checked.iter().map(|one| format!("not checked: {}\n", in_words(one)));
                let found = findings_in_words(report.findings);
                let sums = format!("{} records compared, {found}\n", report.records);
                left_out.chain([sums]).collect()
            }
        })
    }

    fn text(&self, finding: &Finding) -> Result<String, CommandError> {
        let (partition, offset) = (finding.partition.map(|one| one.0), finding.offset.map(|one| one.0));
        let line = FindingLine {
            finding: finding.kind.as_str(),
            topic: self.topic,
            partition,
            offset,
            booking_id: finding.key.as_deref(),
            detail: &finding.detail,
        };
        if self.output == OutputFormat::Json {
            return json_lines(&[line]);
        }
        let mut text = String::new();
        if self.findings == 1 {
            text.push_str(&columns("finding", "partition", "offset", "booking_id", "detail"));
        }
        let number = |number: Option<i64>| number.map_or_else(String::new, |number| number.to_string());
        let id = printable(line.booking_id.unwrap_or_default()).replace('\n', "\\n");
        text.push_str(&columns(line.finding, &number(partition.map(i64::from)), &number(offset), &id, line.detail));
        Ok(text)
    }
}

pub(super) fn findings_in_words(findings: u64) -> String {
    if findings == 1 { "1 finding".to_owned() } else { format!("{findings} findings") }
}

/// Columns of fixed width, because a line is printed before the next one is known.
fn columns(finding: &str, partition: &str, offset: &str, booking_id: &str, detail: &str) -> String {
    format!("{finding:<7}  {partition:<9}  {offset:<10}  {booking_id:<20}  {detail}\n")
}

fn line(one: &NotChecked) -> NotCheckedLine<'_> {
    let (what, offsets) = match &one.what {
        NotCheckedPart::Records(offsets) => ("records", Some(offsets)),
        NotCheckedPart::Totals => ("totals", None),
        NotCheckedPart::Extra => ("extra", None),
    };
    NotCheckedLine {
        what,
        partition: one.partition.map(|partition| partition.0),
        from: offsets.map(|offsets| offsets.from().0),
        to: offsets.map(|offsets| offsets.to().0),
        why: &one.why,
    }
}

fn in_words(one: &NotChecked) -> String {
    let of = one.partition.map(|partition| format!(" of partition {partition}")).unwrap_or_default();
    let what = match &one.what {
        NotCheckedPart::Records(offsets) => {
            format!("offsets {} to {}", offsets.from(), offsets.to().0.saturating_sub(1))
        }
        NotCheckedPart::Totals => "totals".to_owned(),
        NotCheckedPart::Extra => "extra rows".to_owned(),
    };
    format!("{what}{of}: {}", one.why)
}

/// Hidden unless standard error is a terminal.
fn progress_bar(what: &'static str, of: u64) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(of), ProgressDrawTarget::stderr()).with_message(what);
    let rate = |state: &ProgressState, to: &mut dyn fmt::Write| {
        // This closure cannot return the error.
        write!(to, "{:.0}/s", state.per_sec()).ok();
    };
    match ProgressStyle::with_template("{wide_bar} {percent}% of {human_len} {msg}, {rate}, {eta} left") {
        Ok(style) => bar.with_style(style.with_key("rate", rate)),
        Err(_) => bar,
    }
}
