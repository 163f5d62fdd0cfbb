//! The CPU time and memory of processes, by the kernel's counts.

use std::fs;
use std::time::Duration;

/// The CPU time of a process so far, over all its threads.
pub fn cpu(pid: i32) -> Duration {
    Stat::of(&pid.to_string()).unwrap().own
}

/// The CPU time of this process so far.
pub fn cpu_of_self() -> Duration {
    Stat::of("self").unwrap().own
}

/// The CPU time of a process with its children, also those that have ended.
pub fn cpu_with_children(pid: i32) -> Duration {
    let parent = Stat::of(&pid.to_string()).unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let all = processes.filter_map(|entry| Stat::of(entry.file_name().to_str()?));
    let children = all.filter(|stat| stat.parent == pid);
    parent.own + parent.buried + children.map(|child| child.own + child.buried).sum::<Duration>()
}

/// The CPU time of the children of this process that have ended.
pub fn cpu_of_ended_children() -> Duration {
    Stat::of("self").unwrap().buried
}

/// The CPU time of the whole machine so far, with the time that its host took away.
pub fn cpu_of_all() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap();
    let ticks: Vec<u64> =
        text.lines().next().unwrap().split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
    // user nice system idle iowait irq softirq steal; the time of guests is part of `user`.
    [0, 1, 2, 5, 6, 7].into_iter().map(|field: usize| duration(ticks[field])).sum()
}

/// The most memory that a process has used so far, in MiB.
pub fn peak_memory(pid: i32) -> u32 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u32>().unwrap() / 1024
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
