//! How long a record waits for its commit.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use hdrhistogram::Histogram;
use sqlx::PgConnection;
use tokio::runtime::Handle;

use crate::events::Load;
use crate::report::Row;
use crate::stage::{Program, Stage, assert_positions, wait_until_handled};
use crate::usage::{self, Memory, Used};
use testbed::topic::{Producer, Topic};

/// Seconds before the measurement begins: connections are made, and the broker compiles its code.
const WARM_UP: u32 = 2;

/// The latencies of one run, and what the process used.
struct Run {
    /// In microseconds.
    latencies: Histogram<u64>,
    own: f64,
    postgres: f64,
    memory: Memory,
    others: f64,
    /// Of a small write that must reach the disk, in microseconds.
    disk: Histogram<u64>,
}

/// Open loop: each event has a planned time, and is produced at this time, also if the events before it are late. Its
/// latency counts from the planned time, so a pause delays each event that is planned in it, as users see it.
pub async fn measure(
    stage: &Stage,
    programs: &[Program],
    per_second: u32,
    seconds: u32,
    rounds: usize,
    rows: &mut [Row],
) {
    let mut runs: Vec<Vec<Run>> = programs.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (program, runs) in programs.iter().zip(&mut runs) {
            runs.push(run(stage, program, per_second, seconds).await);
        }
    }
    for (row, runs) in rows.iter_mut().zip(&runs) {
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            row.add(name, "ms", runs.iter().map(|run| milliseconds(run.latencies.value_at_quantile(quantile))));
        }
        // What a commit waits for at least.
        row.add("disk p99", "ms", runs.iter().map(|run| milliseconds(run.disk.value_at_quantile(0.99))));
        row.add("own CPU", "% of a core", runs.iter().map(|run| run.own));
        row.add("PostgreSQL CPU", "% of a core", runs.iter().map(|run| run.postgres));
        row.add("peak memory", "MiB", runs.iter().map(|run| run.memory.peak));
        row.add("memory", "MiB", runs.iter().map(|run| run.memory.now));
        row.add("others", "%", runs.iter().map(|run| run.others));
    }
}

async fn run(stage: &Stage, program: &Program, per_second: u32, seconds: u32) -> Run {
    let load = Load { records: (WARM_UP + seconds) * per_second, ..Load::STANDARD };
    let (name, scene) = stage.scene(Topic::create(&stage.kafka, load.partitions).await).await;
    let service = program.start("run", &scene);
    service.wait_until_started(usize::try_from(load.partitions).unwrap()).await;
    // Immediately, as long as the broker can handle a request for each record.
    let linger = if per_second > 1_000 { "1" } else { "0" };
    let producer = scene.topic.producer(&[("linger.ms", linger)]);

    let warm_up = WARM_UP * per_second;
    produce(&producer, load, 1..=warm_up, per_second);
    let (before, cpu) = (Used::so_far(stage), usage::cpu(service.pid()));
    let measured = AtomicBool::new(false);
    let (began, disk) = thread::scope(|scope| {
        let disk = scope.spawn(|| time_disk(stage.postgres.directory(), &measured));
        let began = produce(&producer, load, warm_up + 1..=load.records, per_second);
        measured.store(true, Ordering::Relaxed);
        (began, disk.join().unwrap())
    });
    let (after, cpu) = (Used::so_far(stage), usage::cpu(service.pid()) - cpu);

    let mut connection = scene.connect().await;
    wait_until_handled(&mut connection, &scene.group, load.records).await;
    let memory = Memory::of(service.pid());
    service.stop();
    assert_positions(&mut connection, &scene, load.expected()).await;
    let latencies = latencies(&mut connection, began).await;
    assert_eq!(latencies.len(), u64::from(load.records - warm_up), "rows since {began}");
    drop(connection);
    stage.drop_database(&name).await;
    let percent = |time: Duration| time.as_secs_f64() / f64::from(seconds) * 100.0;
    Run {
        latencies,
        own: percent(cpu),
        postgres: percent(after.postgres - before.postgres),
        memory,
        others: before.others_until(&after, cpu),
        disk,
    }
}

/// Produces each event at its planned time, or immediately if that has passed. Returns the planned time of the first one.
/// `created_at` of each event is its planned time.
fn produce(
    producer: &Producer<'_>,
    load: Load,
    numbers: std::ops::RangeInclusive<u32>,
    per_second: u32,
) -> DateTime<Utc> {
    let began = Utc::now();
    // The timers of tokio are exact to a millisecond only.
    tokio::task::block_in_place(|| {
        for (number, place) in numbers.zip(0_i64..) {
            let planned = began + TimeDelta::microseconds(place * 1_000_000 / i64::from(per_second));
            if let Ok(wait) = (planned - Utc::now()).to_std() {
                thread::sleep(wait);
            }
            let created_at = planned.to_rfc3339_opts(SecondsFormat::Micros, true);
            let record = load.event(number).record_of(&created_at);
            // The tables show later whether all arrived.
            drop(Handle::current().block_on(producer.enqueue(&record)));
        }
    });
    began
}

/// Writes a page to a file twenty times a second, until it has to stop, and returns how long each write took.
fn time_disk(directory: &Path, stop: &AtomicBool) -> Histogram<u64> {
    let mut file = File::create(directory.join("disk")).unwrap();
    let mut times = Histogram::new(3).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        file.write_all(&[0; 8192]).unwrap();
        file.sync_data().unwrap();
        times.record(u64::try_from(began.elapsed().as_micros()).unwrap()).unwrap();
        thread::sleep(Duration::from_millis(50));
    }
    times
}

/// From the planned time to the commit, as `PostgreSQL` recorded it.
async fn latencies(connection: &mut PgConnection, began: DateTime<Utc>) -> Histogram<u64> {
    let waits: Vec<(i64,)> = sqlx::query_as(
        "select (extract(epoch from pg_xact_commit_timestamp(xmin) - created_at) * 1000000)::bigint \
         from booking_history where created_at >= date_trunc('microseconds', $1::timestamptz)",
    )
    .bind(began)
    .fetch_all(connection)
    .await
    .unwrap();
    let mut latencies = Histogram::new(3).unwrap();
    for (wait,) in waits {
        latencies.record(u64::try_from(wait).unwrap()).unwrap();
    }
    latencies
}

fn milliseconds(microseconds: u64) -> f64 {
    Duration::from_micros(microseconds).as_secs_f64() * 1_000.0
}
