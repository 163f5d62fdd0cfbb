//! What processes have used, as the kernel counts it.

use std::fs;
use std::time::Duration;

/// Time on the processors of a process so far, all its threads together.
pub fn cpu(pid: i32) -> Duration {
    Stat::of(&pid.to_string()).unwrap().own
}

/// The same of this process.
pub fn cpu_of_self() -> Duration {
    Stat::of("self").unwrap().own
}

/// The same with its children, those that live and those that it has buried.
pub fn cpu_with_children(pid: i32) -> Duration {
    let parent = Stat::of(&pid.to_string()).unwrap();
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let all = processes.filter_map(|entry| Stat::of(entry.file_name().to_str()?));
    let children = all.filter(|stat| stat.parent == pid);
    parent.own + parent.buried + children.map(|child| child.own + child.buried).sum::<Duration>()
}

/// What children of ours have used that have ended and were waited for.
pub fn cpu_of_ended_children() -> Duration {
    Stat::of("self").unwrap().buried
}

/// What the whole machine has worked so far, also for a host that took its time away.
pub fn cpu_of_all() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap();
    let ticks: Vec<u64> =
        text.lines().next().unwrap().split_whitespace().skip(1).map(|word| word.parse().unwrap()).collect();
    // user nice system idle iowait irq softirq steal; guests are in `user`.
    [0, 1, 2, 5, 6, 7].into_iter().map(|field: usize| duration(ticks[field])).sum()
}

/// The most memory that a process has ever had, in MiB.
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
    /// `None`: it has ended.
    fn of(process: &str) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // A name may hold anything, even brackets; behind the last one the fields are numbers.
        let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
        let time = |field: usize| Some(duration(fields.get(field)?.parse().ok()?));
        Some(Self { parent: fields.get(1)?.parse().ok()?, own: time(11)? + time(12)?, buried: time(13)? + time(14)? })
    }
}

/// The kernel tells times in hundredths of a second, whatever it counts them in.
fn duration(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 10)
}
