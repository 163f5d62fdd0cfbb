//! The figures of a run of the benchmark, as a JSON file and in words.
//!
//! The file: `{"machine", "versions", "date", "commit", "quick", "rows": [{"name", "what", "figures": [{"name", "unit", "rounds",
//! "goal"}]}]}`. `rounds` has the value of each round. `goal` is null, `{"at_least": n}` or `{"at_most": n}`, for the
//! median of the rounds. A row is found again by its name, and a figure by its name in the row.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use sqlx::Connection as _;

use crate::stage::Stage;

/// The root of the repository.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A run of the benchmark.
#[derive(Deserialize, Serialize)]
pub struct Report {
    pub machine: String,
    pub versions: String,
    pub date: String,
    pub commit: String,
    /// With a tenth of the records and of the time: its figures say little.
    pub quick: bool,
    pub rows: Vec<Row>,
}

/// What one scenario gave.
#[derive(Deserialize, Serialize)]
pub struct Row {
    pub name: String,
    /// In words.
    pub what: String,
    pub figures: Vec<Figure>,
}

/// A figure with the value of each round.
#[derive(Deserialize, Serialize)]
pub struct Figure {
    pub name: String,
    pub unit: String,
    pub rounds: Vec<f64>,
    pub goal: Option<Goal>,
}

/// What the median of a figure should be.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Report {
    /// Without rows.
    pub async fn begin(stage: &Stage, quick: bool) -> Self {
        let mut connection = sqlx::PgConnection::connect(&stage.postgres.url("postgres")).await.unwrap();
        let postgres: String = sqlx::query_scalar("show server_version").fetch_one(&mut connection).await.unwrap();
        let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
        Self {
            machine: machine(),
            versions: format!(
                "PostgreSQL {}, Kafka {}, librdkafka {librdkafka}",
                postgres.split(' ').next().unwrap(),
                kafka_version()
            ),
            date: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
            commit: commit(),
            quick,
            rows: Vec::new(),
        }
    }

    pub fn read(file: &Path) -> Self {
        let text = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// Writes it into `target/bench`, under its date and commit.
    pub fn write(&self) -> PathBuf {
        let directory = Path::new(ROOT).join("target/bench");
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join(format!("{}-{}.json", self.date.replace(':', ""), self.commit));
        fs::write(&file, serde_json::to_string_pretty(self).unwrap() + "\n").unwrap();
        file
    }

    /// Prints how each figure differs from an earlier run.
    pub fn compare(&self, earlier: &Self) {
        assert_eq!(self.quick, earlier.quick, "a quick run compares only with a quick run");
        println!("\nRatios to the run of {} at {} ({}):", earlier.date, earlier.commit, earlier.machine);
        for row in &self.rows {
            let Some(before) = earlier.rows.iter().find(|before| before.name == row.name) else { continue };
            for figure in &row.figures {
                let Some(before) = before.figures.iter().find(|before| before.name == figure.name) else { continue };
                let (now, before) = (figure.spread().median, before.spread().median);
                let ratio = if before > 0.0 { format!("{:.2}", now / before) } else { "-".to_owned() };
                println!("  {:<22} {:<28} {ratio:>6}   {} -> {}", row.name, figure.label(), shown(before), shown(now));
            }
        }
    }
}

impl Row {
    pub fn new(name: &str, what: &str) -> Self {
        Self { name: name.to_owned(), what: what.to_owned(), figures: Vec::new() }
    }

    /// Adds a figure with the value of each round.
    pub fn add(&mut self, name: &str, unit: &str, rounds: impl IntoIterator<Item = f64>) {
        // Four digits after the point are more than anything here is worth, and keep the file readable.
        let rounds: Vec<f64> = rounds.into_iter().map(|value| (value * 1e4).round() / 1e4).collect();
        if !rounds.is_empty() {
            self.figures.push(Figure { name: name.to_owned(), unit: unit.to_owned(), rounds, goal: None });
        }
    }

    pub fn figure(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.what)?;
        for figure in &self.figures {
            write!(f, "\n    {:<28} {}", figure.label(), figure.spread())?;
            if let Some(goal) = figure.goal {
                write!(f, "   goal {goal}: {}", if figure.meets(goal) { "met" } else { "NOT MET" })?;
            }
        }
        Ok(())
    }
}

impl Figure {
    /// Its name and unit.
    pub fn label(&self) -> String {
        if self.unit.is_empty() { self.name.clone() } else { format!("{}, {}", self.name, self.unit) }
    }

    pub fn spread(&self) -> Spread {
        Spread::of(self.rounds.iter().copied())
    }

    pub fn meets(&self, goal: Goal) -> bool {
        let median = self.spread().median;
        match goal {
            Goal::AtLeast(least) => median >= least,
            Goal::AtMost(most) => median <= most,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "at least {}", shown(*least)),
            Self::AtMost(most) => write!(f, "at most {}", shown(*most)),
        }
    }
}

/// Median, least and most of some values.
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values[index];
        let (middle, last) = (values.len() / 2, values.len() - 1);
        let median = if values.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle - 1), at(middle)) };
        Self { median, least: at(0), most: at(last) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(self.median))?;
        if self.least < self.most {
            write!(f, " ({} to {})", shown(self.least), shown(self.most))?;
        }
        Ok(())
    }
}

/// Three digits or more, and thousands separated.
pub fn shown(value: f64) -> String {
    let digits = match value.abs() {
        1_000.0.. => {
            let whole = format!("{value:.0}");
            let groups: Vec<&str> =
                whole.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap()).collect();
            return groups.join(",");
        }
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn machine() -> String {
    let line = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("unknown");
        value.trim_start_matches(['\t', ':', ' ']).to_owned()
    };
    let memory = line("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse::<u32>().unwrap_or_default();
    format!(
        "{}, {} cores, {} GiB, Linux {}",
        line("/proc/cpuinfo", "model name"),
        std::thread::available_parallelism().map_or(1, usize::from),
        memory.div_ceil(1 << 20),
        fs::read_to_string("/proc/sys/kernel/osrelease")
            .unwrap_or_default()
            .split(['-', '\n'])
            .next()
            .unwrap_or_default()
    )
}

/// From the names of its files.
fn kafka_version() -> String {
    let mut files = fs::read_dir(Path::new(ROOT).join(".cache/kafka")).into_iter().flatten().filter_map(Result::ok);
    let version = |name: String| Some(name.strip_prefix("kafka-clients-")?.strip_suffix(".jar")?.to_owned());
    files.find_map(|file| version(file.file_name().into_string().ok()?)).unwrap_or_default()
}

fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(ROOT).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|changes| !changes.is_empty());
    if changed { commit + "-changed" } else { commit }
}
