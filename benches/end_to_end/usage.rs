//! The CPU time and memory of processes, by the kernel's counts.

use std::fs;
use std::time::{Duration, Instant};

use crate::stage::Stage;

/// The CPU time of a process so far, over all its threads.
pub fn cpu(pid: i32) -> Duration {
    Stat::of(&pid.to_string()).unwrap().own
}

/// The CPU time of this process so far.
fn cpu_of_self() -> Duration {
    Stat::of("self").unwrap().own
}

/// The CPU time of a process with its children, also those that have ended.
fn cpu_with_children(pid: i32) -> Duration {
    loop {
        let parent = || Stat::of(&pid.to_string()).unwrap();
        let before = parent();
        let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let all = processes.filter_map(|entry| Stat::of(entry.file_name().to_str()?));
        let children: Duration = all.filter(|stat| stat.parent == pid).map(|child| child.own + child.buried).sum();
        // A child that ended meanwhile may be missing in both.
        if parent().buried == before.buried {
            return before.own + before.buried + children;
        }
    }
}

/// The CPU time of the children of this process that have ended.
pub fn cpu_of_ended_children() -> Duration {
    Stat::of("self").unwrap().buried
}

/// The CPU time of the whole machine so far, with the time that its host took away.
fn cpu_of_all() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap();
    let ticks: Vec<u64> =
        text.lines().next().unwrap().split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
    // user nice system idle iowait irq softirq steal; the time of guests is part of `user`.
    [0, 1, 2, 5, 6, 7].into_iter().map(|field: usize| duration(ticks[field])).sum()
}

/// The resident memory of a process, in MiB.
#[derive(Clone, Copy)]
pub struct Memory {
    /// The most so far.
    pub peak: f64,
    pub now: f64,
}

impl Memory {
    pub fn of(pid: i32) -> Self {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let mebibytes = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            f64::from(value.trim().trim_end_matches(" kB").parse::<u32>().unwrap()) / 1024.0
        };
        Self { peak: mebibytes("VmHWM:"), now: mebibytes("VmRSS:") }
    }
}

/// What other processes than the contestant have used.
pub struct Used {
    pub at: Instant,
    pub postgres: Duration,
    pub kafka: Duration,
    all: Duration,
    bench: Duration,
}

impl Used {
    pub fn so_far(stage: &Stage) -> Self {
        Self {
            at: Instant::now(),
            all: cpu_of_all(),
            postgres: cpu_with_children(stage.postgres.pid()),
            kafka: cpu(stage.kafka.pid()),
            bench: cpu_of_self(),
        }
    }

    /// The share of the machine that neither the contestant nor the servers nor this bench used since, in percent.
    pub fn others_until(&self, later: &Self, own: Duration) -> f64 {
        let known = own + (later.postgres - self.postgres) + (later.kafka - self.kafka) + (later.bench - self.bench);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let capacity = (later.at - self.at).as_secs_f64() * f64::from(u32::try_from(cores).unwrap());
        (later.all - self.all).saturating_sub(known).as_secs_f64() / capacity * 100.0
    }
}

struct Stat {
    parent: i32,
    own: Duration,
    buried: Duration,
}

impl Stat {
    /// `None` if it has ended.
    fn of(process: &str) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // A process name may contain brackets; behind the last one all fields are numbers.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let time = |field: usize| Some(duration(fields.get(field)?.parse().ok()?));
        Some(Self { parent: fields.get(1)?.parse().ok()?, own: time(11)? + time(12)?, buried: time(13)? + time(14)? })
    }
}

/// The kernel reports times in hundredths of a second.
fn duration(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 10)
}
