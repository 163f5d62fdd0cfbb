//! However much waits in Kafka and however long the database is of no use: the process stays small, and a member.

use std::fs;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};

use testbed::audit::Audit;
use testbed::kafka::kafka;
use testbed::postgres::database;
use testbed::service::{Service, migrated, settings};
use testbed::topic::Topic;
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

const PARTITIONS: i32 = 50;
const RECORDS: usize = 100_000;
/// Of each record, beside the booking: a field that nobody knows.
const PADDING: usize = 2_800;

/// What it may ever have, in MiB: the program, its buffer, librdkafka's queue with one fetch beyond, and as much again for
/// an allocator that keeps what it had. With librdkafka's own defaults it is 150 to 200.
const BOUND: u64 = 128;

/// The most memory that a process ever had, in MiB.
fn peak(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn three_hundred_megabytes_that_wait_for_a_locked_database_are_not_held_in_memory() {
    let (topic, group, database) = (Topic::create(kafka(), PARTITIONS).await, unique("group"), database().await);
    migrated(&database);
    let mut settings = settings(kafka(), &topic, &group, &database);
    settings.push(("BUFFER_MAX_BYTES".to_owned(), "16MiB".to_owned()));
    let mut workload = Workload::bookings("waiting", RECORDS, PARTITIONS);
    let padding = format!("{{\"padding\":\"{}\",", "x".repeat(PADDING));
    for record in &mut workload.records {
        let value = record.value.as_mut().unwrap();
        value.splice(..1, padding.bytes());
    }
    // Not compressed: a fetch is bounded by what it brings, not by what that becomes.
    topic.producer(&[]).send(workload.records).await;

    let mut locker = PgConnection::connect(&database).await.unwrap();
    let mut lock = locker.begin().await.unwrap();
    sqlx::query("lock table booking_history in exclusive mode").execute(&mut *lock).await.unwrap();
    let service = Service::run(&settings);
    let started = async || service.lines().iter().filter(|line| line.contains("partition_started")).count();
    eventually(PATIENCE, |started| *started >= 50, started).await;
    // It has as much as it ever takes when its memory has not grown for a while.
    let mut steady = (peak(service.pid()), Instant::now());
    while steady.1.elapsed() < Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = peak(service.pid());
        steady = if now == steady.0 { steady } else { (now, Instant::now()) };
    }
    assert!(steady.0 < BOUND, "{} MiB while the database is locked", steady.0);
    lock.rollback().await.unwrap();
    let audit = Audit { topic: &topic, group: &group, database: &database };
    audit.wait_until_read(PATIENCE).await;
    assert!(peak(service.pid()) < BOUND, "{} MiB while it catches up", peak(service.pid()));
    audit.assert_exact(&workload.expected).await;
    assert!(!service.lines().iter().any(|line| line.contains("partition_revoked")), "it stayed a member");
}
