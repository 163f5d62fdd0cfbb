//! The pages agree with the program: their links resolve, their samples match the current output, and the program
//! accepts their command lines.

mod links;
mod walk;
mod dead_letters;
mod positions;
mod tables;
mod start;

use std::collections::BTreeSet;

use booking_history::commands::CommandLine;
use clap::CommandFactory as _;
use testbed::pages;

/// The samples that a test of these modules checks. `demo` is checked by the test of the demo.
const CHECKED: [(&str, &[&str]); 5] = [
    ("dead_letters", dead_letters::SAMPLES),
    ("positions", positions::SAMPLES),
    ("tables", tables::SAMPLES),
    ("start", start::SAMPLES),
    ("demo", &["demo"]),
];

#[test]
fn every_sample_is_checked_once() {
    let mut marked: Vec<String> =
        pages::all().iter().flat_map(|page| pages::samples(page)).map(|sample| sample.name).collect();
    marked.sort();
    let mut checked: Vec<String> =
        CHECKED.iter().flat_map(|(_, names)| *names).map(|name| (*name).to_owned()).collect();
    checked.sort();
    assert_eq!(marked, checked);
}

/// The command lines of the pages, in samples and in the text.
fn command_lines() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for page in pages::all() {
        for line in pages::read(&page).lines() {
            for (at, _) in line.match_indices("booking-history ") {
                let (before, rest) = line.split_at(at);
                // Only in code: after a prompt, at the start of a line of a block, or after a backtick.
                let in_code = before.is_empty() || before.ends_with('`') || before.starts_with("$ ");
                let command = rest.split(['`', ';', '|', '#']).next().unwrap().trim();
                if in_code && command.split(' ').nth(1).is_some_and(is_word) {
                    found.insert((page.clone(), command.to_owned()));
                }
            }
        }
    }
    found
}

fn is_word(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|char| char.is_ascii_lowercase() || char == '-')
}

#[test]
fn command_lines_are_accepted() {
    let lines = command_lines();
    assert!(lines.len() > 20, "{lines:#?}");
    for (page, line) in lines {
        let command = CommandLine::command().mut_args(|arg| arg.global(true));
        if let Err(error) = command.try_get_matches_from(line.split(' ')) {
            let asks_for_help = matches!(
                error.kind(),
                clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            );
            assert!(asks_for_help, "{page}: {line}\n{error}");
        }
    }
}
