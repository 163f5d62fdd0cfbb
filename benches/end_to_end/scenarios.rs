//! What is measured, each under a name, with its goals.

use crate::events::{Fault, IdKind, Load};
use crate::report::Goal::{AtLeast, AtMost};
use crate::report::{Goal, Row};
use crate::stage::{Collation, Program, Stage};
use crate::{latency, limits, rate, recovery};

/// A measurement.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// For `--only`.
    pub name: &'static str,
    pub what: &'static str,
    pub measure: Measure,
    /// Settings of the service, as `NAME=VALUE` separated by spaces.
    pub settings: &'static str,
    /// By the name of a figure.
    pub goals: &'static [(&'static str, Goal)],
}

/// What a scenario measures.
#[derive(Clone, Copy)]
pub enum Measure {
    /// How fast the records that wait in a topic are handled, compared with something else.
    Rate { load: Load, collation: Collation, base: Base },
    /// How long a record waits for its commit while records arrive at this rate.
    Latency { per_second: u32 },
    /// What the process uses when there is nothing to do.
    Idle,
    /// From the start of the process to its first commit.
    Start,
    /// How long records wait after an instance ends, under this group protocol.
    Recovery { protocol: &'static str },
    /// The memory of the process while records wait and the database is stopped.
    Outage { load: Load },
}

/// What a rate is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// `\copy` of the same rows into the same table.
    Copy,
    /// The same program with the standard load.
    Standard,
    /// The run before: the records are handled a second time, by another group and into the same tables.
    FirstRun,
}

impl Base {
    pub fn words(self) -> &'static str {
        match self {
            Self::Copy => "\\copy",
            Self::Standard => "standard",
            Self::FirstRun => "first run",
        }
    }
}

/// As long as a latency or an idle process is measured.
const SECONDS: u32 = 20;

const STANDARD: Load = Load::STANDARD;
const RANDOM: Load = Load { ids: IdKind::Random, ..STANDARD };

const fn copy(load: Load) -> Measure {
    Measure::Rate { load, collation: Collation::CUtf8, base: Base::Copy }
}

const fn fault(fault: Fault) -> Measure {
    Measure::Rate { load: Load { fault, ..STANDARD }, collation: Collation::CUtf8, base: Base::Standard }
}

const fn scenario(name: &'static str, what: &'static str, measure: Measure) -> Scenario {
    Scenario { name, what, measure, settings: "", goals: &[] }
}

/// All scenarios. Unless `what` says otherwise: 300,000 records, 3 partitions, sequential ids, C.UTF-8, default settings.
pub const ALL: &[Scenario] = &[
    Scenario {
        goals: &[
            ("times \\copy", AtLeast(1.5)),
            ("own CPU", AtMost(1.2)),
            ("PostgreSQL CPU", AtMost(5.5)),
            // The two goals before are of a machine on which `\copy` needs 6.8 s. These are the same goals on any machine.
            ("own CPU, times \\copy", AtMost(0.18)),
            ("PostgreSQL CPU, times \\copy", AtMost(0.81)),
            ("peak memory", AtMost(128.0)),
        ],
        ..scenario("standard", "300,000 records, 3 partitions, sequential ids, C.UTF-8", copy(STANDARD))
    },
    Scenario {
        goals: &[
            ("times \\copy", AtLeast(1.5)),
            ("own CPU, times \\copy", AtMost(0.18)),
            ("PostgreSQL CPU, times \\copy", AtMost(0.81)),
        ],
        ..scenario("random-ids", "random UUIDs as ids", copy(RANDOM))
    },
    scenario(
        "en-us",
        "random ids in a database with en_US.utf8",
        Measure::Rate { load: RANDOM, collation: Collation::EnUs, base: Base::Copy },
    ),
    scenario("3-million", "3,000,000 records", copy(Load { records: 3_000_000, ..STANDARD })),
    scenario("1-partition", "1 partition", copy(Load { partitions: 1, ..STANDARD })),
    scenario("12-partitions", "12 partitions", copy(Load { partitions: 12, ..STANDARD })),
    scenario("50-partitions", "50 partitions", copy(Load { partitions: 50, ..STANDARD })),
    Scenario { settings: "WRITERS=1", ..scenario("1-writer", "WRITERS=1", copy(STANDARD)) },
    Scenario { settings: "WRITERS=2", ..scenario("2-writers", "WRITERS=2", copy(STANDARD)) },
    scenario("300-bytes", "values of 300 bytes", copy(Load { bytes: 300, ..STANDARD })),
    scenario(
        "10-kilobytes",
        "50,000 records with values of 10 KB",
        copy(Load { records: 50_000, bytes: 10_000, ..STANDARD }),
    ),
    scenario("letters-1-percent", "1 % dead letters", fault(Fault::DeadLetters(100))),
    Scenario {
        settings: "BREAKER_CONSECUTIVE=0",
        goals: &[("records/s", AtLeast(30_000.0))],
        ..scenario("letters-all", "100 % dead letters, without the breaker", fault(Fault::DeadLetters(1)))
    },
    Scenario {
        goals: &[("times standard", AtLeast(0.7))],
        ..scenario("duplicates", "1 % duplicates", fault(Fault::Duplicates(100)))
    },
    Scenario {
        goals: &[("times first run", AtLeast(3.0))],
        ..scenario(
            "replay",
            "replay: all records are stored already",
            Measure::Rate { load: STANDARD, collation: Collation::CUtf8, base: Base::FirstRun },
        )
    },
    scenario("latency-100", "100 records/s", Measure::Latency { per_second: 100 }),
    Scenario {
        goals: &[("p99", AtMost(5.0)), ("peak memory", AtMost(64.0))],
        ..scenario("latency-1000", "1,000 records/s", Measure::Latency { per_second: 1_000 })
    },
    scenario("latency-10000", "10,000 records/s", Measure::Latency { per_second: 10_000 }),
    Scenario {
        goals: &[("peak while stopped", AtMost(200.0)), ("peak memory", AtMost(200.0))],
        ..scenario(
            "outage",
            "1 GB waits in 50 partitions, PostgreSQL is stopped for a while",
            Measure::Outage { load: Load { records: 100_000, partitions: 50, bytes: 10_000, ..STANDARD } },
        )
    },
    Scenario { goals: &[("own CPU", AtMost(1.0))], ..scenario("idle", "no records, HTTP_ADDR on", Measure::Idle) },
    Scenario {
        goals: &[("start to first commit", AtMost(500.0))],
        ..scenario("start", "a group that exists, one record waits", Measure::Start)
    },
    Scenario {
        goals: &[("restart after kill -9", AtMost(3.0)), ("take-over by another instance after kill -9", AtMost(12.0))],
        ..scenario("recovery", "an instance ends, group.protocol=classic", Measure::Recovery { protocol: "classic" })
    },
    Scenario {
        goals: &[("restart after kill -9", AtMost(3.0))],
        ..scenario(
            "recovery-kip-848",
            "an instance ends, group.protocol=consumer",
            Measure::Recovery { protocol: "consumer" },
        )
    },
];

impl Scenario {
    /// A tenth of the records and of the time: to see that it works.
    pub fn quick(mut self) -> Self {
        if let Measure::Rate { load, .. } | Measure::Outage { load } = &mut self.measure {
            load.records /= 10;
        }
        self
    }

    /// Measures it with each program, in turns; one row for each.
    pub async fn run(&self, stage: &Stage, programs: &[Program], rounds: usize, quick: bool) -> Vec<Row> {
        let seconds = if quick { SECONDS / 10 } else { SECONDS };
        let named = |program: &Program| {
            let name = program.to_string();
            let name = if name.is_empty() { self.name.to_owned() } else { format!("{} [{name}]", self.name) };
            Row::new(&name, self.what)
        };
        let mut rows: Vec<Row> = programs.iter().map(named).collect();
        let programs: Vec<Program> = programs.iter().map(|program| program.with(self.settings)).collect();
        match self.measure {
            Measure::Rate { load, collation, base } => {
                rate::measure(stage, &programs, load, collation, base, rounds, &mut rows).await;
            }
            Measure::Latency { per_second } => {
                latency::measure(stage, &programs, per_second, seconds, rounds, &mut rows).await;
            }
            Measure::Idle => limits::idle(stage, &programs, seconds, &mut rows).await,
            Measure::Start => limits::start(stage, &programs, rounds, &mut rows).await,
            Measure::Recovery { protocol } => recovery::measure(stage, &programs, protocol, rounds, &mut rows).await,
            Measure::Outage { load } => limits::outage(stage, &programs, load, &mut rows).await,
        }
        for (name, goal) in self.goals {
            for row in &mut rows {
                let figure = row.figures.iter_mut().find(|figure| figure.name == *name);
                figure.unwrap_or_else(|| panic!("no figure {name}")).goal = Some(*goal);
            }
        }
        rows
    }
}
