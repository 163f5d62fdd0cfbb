//! The walls between the rooms: each word below may be used in some files only, so that one can know where to look.
//!
//! Comments are not looked at, nor the tests beside the code.

use std::fs;
use std::path::{Path, PathBuf};

/// A word, the files that may use it (paths below `src`, each a beginning), and why.
struct Wall {
    word: &'static str,
    only_in: &'static [&'static str],
    why: &'static str,
}

const WALLS: &[Wall] = &[
    Wall {
        word: "rdkafka",
        only_in: &["engine/source", "commands/"],
        why: "Kafka is spoken to in one room, and by the commands that ask it something",
    },
    Wall {
        word: "sqlx::query",
        only_in: &["engine/ledger", "engine/dead_letter", "booking/table", "commands/"],
        why: "SQL is where a reader of the schema looks for it",
    },
    Wall { word: "backoff::", only_in: &["engine/backoff"], why: "the crate is unmaintained: one file to replace" },
    Wall { word: "unsafe", only_in: &["engine/source/raw.rs"], why: "what librdkafka can do and its wrapper can't" },
    Wall {
        word: "Utc::now",
        only_in: &["commands/", "telemetry/"],
        why: "the middle is pure: time is an argument there, or the database's",
    },
];

/// The engine keeps any event exactly once; these are all the places where it may say the name of the built-in one.
const ENGINE_MAY_SAY: &[&str] = &["\"booking-history\""];

const LONGEST_FILE: usize = 300;

#[test]
fn each_word_stays_in_its_rooms() {
    assert_eq!(trespassers(&sources(), WALLS), [""; 0]);
}

#[test]
fn the_engine_names_no_booking() {
    assert_eq!(bookings_in_the_engine(&sources()), [""; 0]);
}

#[test]
fn no_file_is_too_long_to_read() {
    let long = sources().into_iter().filter(|file| file.lines.len() > LONGEST_FILE);
    assert_eq!(long.map(|file| format!("{}: {} lines", file.path, file.lines.len())).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn a_trespasser_is_seen() {
    let intruder = |path: &str, text: &str| vec![Source::new(path.to_owned(), text)];
    let seen = |path, text| !trespassers(&intruder(path, text), WALLS).is_empty();
    assert!(seen("booking/wire.rs", "use rdkafka::Message;"));
    assert!(seen("engine/writer.rs", "  sqlx::query!(\"select 1\")"));
    assert!(seen("engine/source.rs", "unsafe { free() }"));
    assert!(!seen("engine/source/raw.rs", "unsafe { free() }"));
    assert!(!seen("engine/writer.rs", "let on = true; // rdkafka would say"));
    assert!(!seen("engine/writer.rs", "#[cfg(test)]\nmod tests { use rdkafka::Message; }"));
    assert!(!seen("engine/backoff.rs", "use backoff::ExponentialBackoff;"));
    assert!(!seen("engine/run.rs", "use super::backoff::Schedule;"), "our own module has the same name");

    let names_it = |text| !bookings_in_the_engine(&intruder("engine/run.rs", text)).is_empty();
    assert!(names_it("struct Booking;") && names_it("\"booking-history\" booking"));
    assert!(!names_it("/// not a [`crate::booking`]") && !names_it("metadata(\"booking-history\")"));
}

fn trespassers(sources: &[Source], walls: &[Wall]) -> Vec<String> {
    let mut found = Vec::new();
    for wall in walls {
        for file in sources.iter().filter(|file| !wall.only_in.iter().any(|room| file.path.starts_with(room))) {
            for (number, line) in file.code().filter(|(_, line)| says(line, wall.word)) {
                let Wall { word, only_in, why } = wall;
                found.push(format!("{}:{number}: `{word}` only in {only_in:?}, since {why}: {line}", file.path));
            }
        }
    }
    found
}

fn bookings_in_the_engine(sources: &[Source]) -> Vec<String> {
    let engine = sources.iter().filter(|file| file.path.starts_with("engine"));
    let lines = engine.flat_map(|file| file.code().map(|(number, line)| (&file.path, number, line)));
    let names_it = |line: &str| {
        ENGINE_MAY_SAY
            .iter()
            .fold(line.to_owned(), |line, may| line.replace(may, ""))
            .to_lowercase()
            .contains("booking")
    };
    let found = lines.filter(|(_, _, line)| names_it(line));
    found.map(|(path, number, line)| format!("{path}:{number}: the engine names no booking: {line}")).collect()
}

/// The word stands there, not as the end of another one nor of a path to a module of our own.
fn says(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|before| before.is_alphanumeric() || before == '_' || before == ':')
    })
}

/// A file of `src`.
struct Source {
    path: String,
    lines: Vec<String>,
}

impl Source {
    fn new(path: String, text: &str) -> Self {
        Self { path, lines: text.lines().map(str::to_owned).collect() }
    }

    /// The lines with their numbers, without comments and up to the tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = self.lines.iter().take_while(|line| line.trim() != "#[cfg(test)]");
        code.map(|line| line.split("//").next().unwrap_or_default()).enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// All of `src`.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut open: Vec<PathBuf> = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            sources.push(Source::new(name, &fs::read_to_string(path).unwrap()));
        }
    }
    assert!(sources.iter().any(|file| file.path == "lib.rs"), "src was not found");
    sources
}
