//! Many records wait in Kafka and the database is locked: the process stays small, and stays a member of the group.

use std::fs;
use std::time::{Duration, Instant};

use testbed::scene::Scene;
use testbed::workload::Workload;

const PARTITIONS: i32 = 50;
const RECORDS: usize = 100_000;
/// The bytes of an unknown field in each record.
const PADDING: usize = 2_800;

/// The most memory that the process may use, in MiB: the program, its buffer, and for each partition librdkafka's queue
/// with one batch of a producer (1 MB) more. With librdkafka's own defaults it is more than all records.
const BOUND: u64 = 192;

/// The most memory that a process has used so far, in MiB.
fn peak(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn three_hundred_megabytes_that_wait_for_a_locked_database_are_not_held_in_memory() {
    let scene = Scene::new(PARTITIONS).await.with("BUFFER_MAX_BYTES", "16MiB");
    let mut workload = Workload::bookings("waiting", RECORDS, PARTITIONS);
    let padding = format!("{{\"padding\":\"{}\",", "x".repeat(PADDING));
    for record in &mut workload.records {
        let value = record.value.as_mut().unwrap();
        value.splice(..1, padding.bytes());
    }
    // Not compressed: librdkafka limits the bytes of a fetch before it decompresses them.
    scene.send(&workload.records).await;

    let lock = scene.hold("lock table booking_history in exclusive mode").await;
    let service = scene.start();
    service.wait_until_started(50).await;
    // Its buffers are full when its memory has not grown for two seconds.
    let mut steady = (peak(service.pid()), Instant::now());
    while steady.1.elapsed() < Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = peak(service.pid());
        steady = if now == steady.0 { steady } else { (now, Instant::now()) };
    }
    assert!(steady.0 < BOUND, "{} MiB while the database is locked", steady.0);
    drop(lock);
    scene.wait_until_read().await;
    assert!(peak(service.pid()) < BOUND, "{} MiB while it catches up", peak(service.pid()));
    scene.assert_exact(&workload).await;
    assert!(service.events("partition_revoked").is_empty(), "it stays a member");
}
