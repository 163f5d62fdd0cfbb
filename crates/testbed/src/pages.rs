//! The pages of the documentation, and the samples in them: blocks of real output below `<!-- sample: NAME -->`.
//!
//! A test produces the output again and compares it by [`check`]. What differs from run to run does not count: numbers,
//! times, ids, the width of columns, the line numbers and values of log lines. With `UPDATE_DOCS=1` a stale sample is
//! rewritten and the test passes; with `UPDATE_DOCS=all` every sample is, so that the times of a page agree.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::log_line::LogLine;

/// Stands for lines that a sample leaves out.
pub const LEFT_OUT: &str = "…";

/// One line of text for each line of a sample, without the fence.
#[derive(Clone, Debug)]
pub struct PageSample {
    pub name: String,
    pub lines: Vec<String>,
    /// The statement above the sample, if the sample is its result.
    pub sql: Option<String>,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The text of a page, by its path in the repository.
pub fn read(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// All pages, by their paths in the repository.
pub fn all() -> Vec<String> {
    let mut pages: Vec<String> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned).to_vec();
    for directory in ["docs", "docs/operate"] {
        pages.extend(files(directory).filter(|path| is_page(path)));
    }
    pages.extend(files("crates").map(|path| format!("{path}/README.md")).filter(|path| root().join(path).is_file()));
    pages.sort();
    pages
}

fn files(directory: &str) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(root().join(directory)).unwrap();
    entries.map(move |entry| format!("{directory}/{}", entry.unwrap().file_name().into_string().unwrap()))
}

fn is_page(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "md")
}

/// The samples of a page, in order.
pub fn samples(page: &str) -> Vec<PageSample> {
    let text = read(page);
    let mut samples = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = line.strip_prefix("<!-- sample: ").and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        let (before, after) = lines.split_at(at);
        let block = after.iter().skip(2).take_while(|line| !line.starts_with("```"));
        let sql = before.split_last().filter(|(end, _)| **end == "```").and_then(|(_, block)| {
            let start = block.iter().rposition(|line| line.starts_with("```"))?;
            let (fence, statement) = block.get(start..)?.split_first()?;
            (*fence == "```sql").then(|| statement.join("\n"))
        });
        let lines = block.map(|line| (*line).to_owned()).collect();
        samples.push(PageSample { name: name.to_owned(), lines, sql });
    }
    samples
}

/// A sample by its name.
pub fn sample(page: &str, name: &str) -> PageSample {
    let found = samples(page).into_iter().find(|sample| sample.name == name);
    found.unwrap_or_else(|| panic!("{page} has no sample {name}"))
}

/// Compares a sample with what was printed, and fails if it is stale.
///
/// A sample that leaves lines out, or holds only log lines, is an excerpt: each of its lines has to be printed. Any
/// other sample has to be printed as a whole.
pub fn check(page: &str, name: &str, printed: &[String]) {
    let sample = sample(page, name);
    let is_excerpt = sample.lines.iter().all(|line| LogLine::parse(line).is_some())
        || sample.lines.iter().any(|line| line == LEFT_OUT);
    let fresh = if is_excerpt { excerpt(&sample.lines, printed.to_vec()) } else { Some(printed.to_vec()) };
    let update = update();
    match fresh {
        Some(fresh) if update == Update::All => rewrite(page, name, &fresh),
        Some(fresh) if normal(&fresh) == normal(&sample.lines) => {}
        Some(fresh) if update == Update::Stale => rewrite(page, name, &fresh),
        _ => {
            let (shown, printed) = (normal(&sample.lines), normal(printed));
            let stale: Vec<&String> = shown.iter().filter(|line| !printed.contains(line)).collect();
            let new: BTreeSet<&String> = printed.iter().filter(|line| !shown.contains(line)).collect();
            panic!(
                "{page}: the sample {name} is stale (UPDATE_DOCS=1 rewrites it): {stale:#?}; printed today: {new:#?}"
            )
        }
    }
}

/// Compares a file of the documentation that a test makes, by its path in the repository, and fails if it is stale.
pub fn check_file(path: &str, text: &str) {
    if update() != Update::None {
        fs::write(root().join(path), text).unwrap();
    }
    assert!(fs::read_to_string(root().join(path)).is_ok_and(|found| found == text), "{path} is stale: UPDATE_DOCS=1");
}

/// The printed lines that an excerpt shows, each once: the same line, else the same event.
fn excerpt(lines: &[String], mut printed: Vec<String>) -> Option<Vec<String>> {
    let mut fresh = Vec::new();
    for line in lines {
        let shown = LogLine::parse(line);
        let is_same = |other: &String| normal_line(other) == normal_line(line);
        let is_event = |other: &String, fields_too: bool| {
            shown.as_ref().zip(LogLine::parse(other)).is_some_and(|(shown, other)| {
                shown.event == other.event && (!fields_too || shown.fields.keys().eq(other.fields.keys()))
            })
        };
        if line == LEFT_OUT {
            fresh.push(line.clone());
            continue;
        }
        let at = printed.iter().position(is_same);
        let at = at.or_else(|| printed.iter().position(|other| is_event(other, true)));
        let at = at.or_else(|| printed.iter().position(|other| is_event(other, false)))?;
        fresh.push(printed.remove(at));
    }
    Some(fresh)
}

/// What `UPDATE_DOCS` asks for.
#[derive(Clone, Copy, PartialEq)]
enum Update {
    None,
    Stale,
    All,
}

fn update() -> Update {
    match crate::switch("UPDATE_DOCS").as_deref() {
        None => Update::None,
        Some("all") => Update::All,
        Some(_) => Update::Stale,
    }
}

fn rewrite(page: &str, name: &str, lines: &[String]) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let text = read(page);
    let (before, rest) = text.split_once(&format!("<!-- sample: {name} -->\n")).unwrap();
    let (fence, rest) = rest.split_once('\n').unwrap();
    let (_, after) = rest.split_once("```").unwrap();
    let lines = lines.join("\n");
    fs::write(root().join(page), format!("{before}<!-- sample: {name} -->\n{fence}\n{lines}\n```{after}")).unwrap();
}

fn normal(lines: &[String]) -> Vec<String> {
    lines.iter().map(|line| normal_line(line)).filter(|line| !line.is_empty()).collect()
}

/// A line without what differs from run to run.
fn normal_line(line: &str) -> String {
    if let Some(LogLine { level, event, fields, module, .. }) = LogLine::parse(line) {
        let names: Vec<String> = fields.into_keys().collect();
        return format!("[{level}] {event} {} [{module}]", names.join(" "));
    }
    let words: Vec<String> = line.split(' ').filter(|word| !word.is_empty()).map(normal_word).collect();
    words.join(" ")
}

/// Numbers are `0`, ids and digests are `#`, rules of any length are equal.
fn normal_word(word: &str) -> String {
    let mut normal = word.to_owned();
    for id in ids(word) {
        normal = normal.replace(&id, "#");
    }
    if normal.len() == 64 && normal.chars().all(|char| char.is_ascii_hexdigit()) {
        return "#".to_owned();
    }
    normal = normal.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).collect();
    for (long, short) in [("00", "0"), ("0.0", "0"), ("--", "-")] {
        while normal.contains(long) {
            normal = normal.replace(long, short);
        }
    }
    normal
}

/// The UUIDs in a text, in order.
pub fn ids(text: &str) -> Vec<String> {
    const LENGTH: usize = 36;
    let is_id = |part: &&[u8]| {
        part.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    text.as_bytes().windows(LENGTH).filter(is_id).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::{ids, normal_line};

    #[test]
    fn what_differs_from_run_to_run_does_not_count() {
        for (one, other) in [
            (" 1 |  7 | 2026-11-22 23:51:35.54+00 | ", " 30 | 115 | 2027-01-01 00:00:00+00 |"),
            ("----+---+--", "-+-+-----"),
            ("01a205ac-1d7f-77d0-9079-ba0f9f76a1d4  90.5", "0198a1c4-0000-7000-8000-000000000001 90"),
            (
                "2026-11-22T23:20:22.495883Z [info     ] event booking_id=13 hint=\"a b\" [booking:49]",
                "2026-12-22T23:20:22.495883Z [info     ] event hint=c booking_id=b-14 [booking:5]",
            ),
        ] {
            assert_eq!(normal_line(one), normal_line(other));
        }
        for (one, other) in [
            ("1 records", "1 finding"),
            (
                "2026-11-22T23:20:22Z [info     ] event a=1 [booking:49]",
                "2026-11-22T23:20:22Z [info     ] event a=1 [book:49]",
            ),
            (
                "2026-11-22T23:20:22Z [info     ] event a=1 [booking:49]",
                "2026-11-22T23:20:22Z [info     ] event b=1 [booking:49]",
            ),
        ] {
            assert_ne!(normal_line(one), normal_line(other));
        }
    }

    #[test]
    fn ids_are_found_anywhere() {
        let id = "01a205ac-1d7f-77d0-9079-ba0f9f76a1d4";
        assert_eq!(ids(&format!("select f('{{{id}}}', '{id}')")), [id, id]);
        assert!(ids("01a205ac-1d7f").is_empty());
    }
}
