//! How fast records become rows: the service from a real Kafka into a real `PostgreSQL`, beside `psql`'s `\copy` of the
//! same rows into the same table of the same server.
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
mod latency;
mod recovery;

use clap::Parser;

use events::IdKind;
use stage::{Contestant, Run, Stage};

/// Records per second from Kafka to `PostgreSQL`, beside psql's \copy.
#[derive(Parser)]
struct BenchOptions {
    /// A tenth of the rows and one round: to see that it works
    #[arg(long)]
    quick: bool,
    /// Rows in each run
    #[arg(long, default_value_t = 300_000)]
    rows: u32,
    /// The kind of booking ids
    #[arg(long, value_enum, default_value_t = IdKind::Sequential)]
    ids: IdKind,
    /// Times that each contestant runs, in turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds at 500 events a second; 0 = no latency
    #[arg(long, default_value_t = 15)]
    latency: u32,
    /// Times that each recovery after the end of an instance is measured; 0 = none
    #[arg(long, default_value_t = 3)]
    recovery: u32,
    /// One more contestant: settings as NAME=VALUE separated by spaces; PROGRAM=PATH is another build
    #[arg(long = "also", value_name = "SETTINGS")]
    also: Vec<String>,
    /// Cargo passes this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let mut options = BenchOptions::parse();
    if options.quick {
        (options.rows, options.rounds, options.latency) = (options.rows / 10, 1, options.latency.min(5));
        options.recovery = 0;
    }
    let mut contestants = vec![Contestant::Copy, Contestant::service("")];
    contestants.extend(options.also.iter().map(|settings| Contestant::service(settings)));

    let stage = Stage::set(options.rows, options.ids).await;
    println!(
        "{} rows, ids {:?}, 3 partitions, lz4; Kafka, PostgreSQL, the service and this bench on one machine",
        options.rows, options.ids
    );
    println!("{}", Run::HEAD);
    let mut rounds: Vec<Vec<Run>> = Vec::new();
    for round in 0..options.rounds {
        let mut runs = Vec::new();
        // The first of a round meets another state of the disk than those that follow, so the order changes.
        let turn = round % contestants.len();
        for (index, contestant) in contestants.iter().enumerate().cycle().skip(turn).take(contestants.len()) {
            let run = stage.run(contestant).await;
            println!("{}", run.line(round + 1, contestant, options.rows));
            runs.push((index, run));
        }
        runs.sort_by_key(|(index, _)| *index);
        rounds.push(runs.into_iter().map(|(_, run)| run).collect());
    }
    println!();
    for (index, contestant) in contestants.iter().enumerate().skip(1) {
        let to = |base: usize| {
            Spread::of(rounds.iter().map(|runs| runs[index].rows_per_second / runs[base].rows_per_second))
        };
        println!("{contestant}: {} times \\copy", to(0));
        if index > 1 {
            println!("    {} times {}", to(1), contestants[1]);
        }
        let verify = |runs: &Vec<Run>| Some(runs[index].verified_per_second? / runs[index].rows_per_second);
        println!("    verify: {} times the service", Spread::of(rounds.iter().filter_map(verify)));
    }
    if options.latency > 0 {
        println!("{}", latency::measure(&stage, options.latency).await);
    }
    for contestant in contestants.iter().filter(|_| options.recovery > 0) {
        for recovery::Recovery { name, seconds } in recovery::measure(&stage, contestant, options.recovery).await {
            println!("{contestant}: {name}: {} s", Spread::of(seconds.into_iter()));
        }
    }
    println!(
        "\nMedian (min..max) of rounds. Figures of one run compare, those of two don't: another day the same machine does \
         half or double. `others` is the share of the machine that something else took; above 20 % a round says little."
    );
}

/// Some figures of the same thing.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures[index];
        let (middle, last) = (figures.len() / 2, figures.len() - 1);
        let median = if figures.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle - 1), at(middle)) };
        Self { median, least: at(0), most: at(last) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2}..{:.2})", self.median, self.least, self.most)
    }
}
