//! The watchdog, through the library alone: its limit is the program's, and not to be set from outside.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use booking_history::booking::Booking;
use booking_history::commands::options;
use booking_history::config::{RawSettings, Settings};
use booking_history::telemetry;
use clap::Parser;
use fenced_sink::run;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use testbed::free_ports;
use tokio::sync::oneshot;

use super::exposition::parse;
use super::sample;
use testbed::audit::Audit;
use testbed::http::{Answer, get};
use testbed::kafka::kafka;
use testbed::postgres::database;
use testbed::service::{migrated, settings};
use testbed::topic::Topic;
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    settings: RawSettings,
}

/// The lines of this thread's log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines(&self, word: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.split(' ').any(|found| found == word)).map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn records_that_wait_while_nothing_is_committed_are_told_until_a_commit() {
    // Every task runs on this thread.
    let log = Log::default();
    let theirs = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || theirs.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let database = database().await;
    migrated(&database);
    let topic = Topic::create(kafka(), 2).await;
    let mut settings = settings(kafka(), &topic, &unique("group"), &database);
    settings.push(("DATABASE_TIMEOUT".to_owned(), "1m".to_owned()));
    let arguments = settings.iter().map(|(name, value)| format!("--{}={value}", name.to_lowercase().replace('_', "-")));
    let line = CommandLine::try_parse_from([String::new()].into_iter().chain(arguments)).unwrap();
    let settings = Settings::from_raw(&line.settings, |file| std::fs::read_to_string(file)).unwrap();
    let mut options = options(&settings);
    assert_eq!(options.stalled_after, Duration::from_mins(2), "two statements may be slow");
    options.stalled_after = Duration::from_secs(3);
    let [port] = free_ports().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    telemetry::http::serve(address, options.health.clone(), telemetry::metrics::PREFIX).await.unwrap();
    let ask = async |path: &'static str| -> Answer {
        tokio::task::spawn_blocking(move || get(&address.to_string(), path)).await.unwrap()
    };
    let until_ready_says = async |expected: &[String]| {
        let expected = serde_json::json!(expected);
        let reasons = async || serde_json::from_str::<Value>(&ask("/readyz").await.body).unwrap()["reasons"].clone();
        eventually(PATIENCE, |reasons: &Value| *reasons == expected, reasons).await;
    };
    let stalled = async || sample(&parse(&ask("/metrics").await.body), "stalled");

    let mut locker = PgConnection::connect(&database).await.unwrap();
    let mut lock = locker.begin().await.unwrap();
    sqlx::query("lock table booking_history in exclusive mode").execute(&mut *lock).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let group = options.group_id.clone();
    let running = tokio::spawn(run::<Booking>(options, async { drop(stopped.await) }));
    until_ready_says(&[]).await;
    let mut workload = Workload::bookings("stalled", 100, 2);
    workload.records.retain(|record| record.partition == Some(1));
    topic.producer(&[]).send(workload.records).await;
    let says = format!("partition 1 of {} is stalled: records wait and nothing is committed", topic.name);
    until_ready_says(&[says]).await;
    assert_eq!(stalled().await, Some(1.0));
    assert_eq!((log.lines("stalled").len(), log.lines("stall_ended").len()), (1, 0));
    assert!(log.lines("stalled")[0].contains("WARN") && log.lines("stalled")[0].contains("partition=1"));

    lock.rollback().await.unwrap();
    until_ready_says(&[]).await;
    assert_eq!(stalled().await, Some(0.0));
    assert_eq!((log.lines("stalled").len(), log.lines("stall_ended").len()), (1, 1), "each is said once");
    Audit { topic: &topic, group: &group, database: &database }.wait_until_read(PATIENCE).await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
