//! How fast records become rows: the service from a real Kafka into a real `PostgreSQL`, under the conditions of
//! [`scenarios`], beside `psql`'s `\copy` of the same rows into the same table of the same server.
//!
//! A measurement and not a test: it fails if a result is not exact, not if it is slow. Machines differ and are never
//! quiet, so only the ratio of two contestants in one run counts.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unchecked_time_subtraction,
    clippy::print_stdout,
    unreachable_pub,
    reason = "here a panic is the report, the table goes to standard output, and the support is the tests' own"
)]

mod events;
mod usage;
mod stage;
mod report;
mod scenarios;
mod rate;
mod latency;
mod limits;
mod recovery;
mod page;
mod plot;

use std::path::PathBuf;

use clap::Parser;

use report::Report;
use scenarios::{ALL, Scenario};
use stage::{Program, Stage};

/// Records per second from Kafka to `PostgreSQL` beside psql's \copy, latencies, memory and the time of a start.
#[derive(Parser)]
struct BenchOptions {
    /// A tenth of the records and of the time, and one round: to see that it works
    #[arg(long)]
    quick: bool,
    /// Only this scenario; may be repeated
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(ALL.iter().map(|one| one.name)))]
    only: Vec<String>,
    /// Times that each contestant runs, in turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// One more contestant: settings as NAME=VALUE separated by spaces; PROGRAM=PATH is another build
    #[arg(long, value_name = "SETTINGS")]
    also: Vec<String>,
    /// Print the ratio of each figure to an earlier run, by its JSON file
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Measure nothing, and take the figures from this JSON file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "only", "also"])]
    from: Option<PathBuf>,
    /// Write the tables of docs/performance.md and the plot beside it
    #[arg(long, conflicts_with_all = ["quick", "only", "also"])]
    write_docs: bool,
    /// Cargo passes this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let options = BenchOptions::parse();
    // A file that can't be read ends the bench before it measures.
    let earlier = options.compare.as_deref().map(Report::read);
    let report = match &options.from {
        Some(file) => Report::read(file),
        None => measure(&options).await,
    };
    if let Some(earlier) = earlier {
        report.compare(&earlier);
    }
    if options.write_docs {
        page::write(&report);
    }
}

async fn measure(options: &BenchOptions) -> Report {
    let mut programs = vec![Program::of("")];
    programs.extend(options.also.iter().map(|settings| Program::of(settings)));
    let is_wanted =
        |scenario: &&Scenario| options.only.is_empty() || options.only.iter().any(|name| name == scenario.name);
    let rounds = if options.quick { 1 } else { options.rounds };

    let stage = Stage::set();
    let mut report = Report::begin(&stage, options.quick).await;
    println!("{}; {}", report.machine, report.versions);
    println!("Kafka, PostgreSQL, the service and this bench run on one machine.");
    for scenario in ALL.iter().filter(is_wanted) {
        println!("\n{}", scenario.name);
        let scenario = if options.quick { scenario.quick() } else { *scenario };
        for row in scenario.run(&stage, &programs, rounds, options.quick).await {
            println!("{row}");
            report.rows.push(row);
        }
        // What is measured is kept if a later scenario fails.
        report.write();
    }
    println!(
        "\nMedian (least to most) of the rounds. Figures of one run compare, those of two don't: another day the same \
         machine does half or double. `others` is the share of the machine that other processes used; above 20 % a \
         round says little.\n{}",
        report.write().display()
    );
    report
}
