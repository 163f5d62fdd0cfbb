//! The figures in `docs/performance.md`, between two markers. The same report always gives the same text.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::plot;
use crate::report::{Figure, ROOT, Report, Row};

const BEGIN: &str = "<!-- figures of make bench: begin -->\n";
const END: &str = "<!-- figures of make bench: end -->\n";

/// Writes the page and the plot.
pub fn write(report: &Report) {
    assert!(!report.quick, "the figures of a quick run say little");
    let docs = Path::new(ROOT).join("docs");
    fs::write(docs.join("performance.svg"), plot::svg(report)).unwrap();
    let page = docs.join("performance.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap_or_else(|| panic!("no {BEGIN}"));
    let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("no {END}"));
    fs::write(&page, format!("{before}{BEGIN}{}{END}{after}", figures(report))).unwrap();
}

fn figures(report: &Report) -> String {
    let Report { machine, versions, date, commit, rows, .. } = report;
    let mut text = format!(
        "\nMeasured on {date} at commit `{commit}`: {machine}; {versions}.\n\n\
         ![Rates of the scenarios as ratios, and latencies by rate](performance.svg)\n"
    );
    // Rows with the same figures are one table.
    let labels = |row: &Row| -> Vec<String> { row.figures.iter().map(Figure::label).collect() };
    let mut tables: Vec<(Vec<String>, Vec<&Row>)> = Vec::new();
    for row in rows {
        match tables.iter_mut().find(|(known, _)| *known == labels(row)) {
            Some((_, rows)) => rows.push(row),
            None => tables.push((labels(row), vec![row])),
        }
    }
    for (labels, rows) in tables {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let head = ["name".to_owned(), "scenario".to_owned()].into_iter();
        text += "\n";
        text += &line(head.chain(labels.iter().map(|label| escaped(label))).collect());
        text += &line(vec!["---".to_owned(); labels.len() + 2]);
        for row in rows {
            let first = [format!("`{}`", row.name), row.what.clone()].into_iter();
            text += &line(first.chain(row.figures.iter().map(cell)).collect());
        }
    }
    text += "\n| goal | name | measured | |\n|---|---|---|---|\n";
    for row in rows {
        for (figure, goal) in row.figures.iter().filter_map(|figure| Some((figure, figure.goal?))) {
            let (label, spread) = (escaped(&figure.label()), figure.spread());
            let met = if figure.meets(goal) { "met" } else { "**not met**" };
            writeln!(text, "| {label}: {goal} | `{}` | {spread} | {met} |", row.name).unwrap();
        }
    }
    text + "\n"
}

/// The median, and how far rates, ratios and times differ between rounds.
fn cell(figure: &Figure) -> String {
    let spread = figure.spread();
    if matches!(figure.unit.as_str(), "" | "ms" | "s") {
        spread.to_string()
    } else {
        crate::report::shown(spread.median)
    }
}

fn escaped(label: &str) -> String {
    label.replace("\\copy", "`\\copy`")
}
