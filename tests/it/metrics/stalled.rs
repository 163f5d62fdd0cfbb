//! The watchdog, through the library: no setting of the program changes its limit.

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
use tokio::sync::oneshot;

use super::exposition::parse;
use super::sample;
use testbed::free_ports;
use testbed::http::{self, Answer};
use testbed::scene::Scene;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    settings: RawSettings,
}

/// The log lines of this thread.
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
async fn a_partition_whose_records_wait_without_a_commit_is_stalled_until_the_next_commit() {
    // Every task runs on this thread.
    let log = Log::default();
    let theirs = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || theirs.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let scene = Scene::new(2).await.with("DATABASE_TIMEOUT", "1m");
    let arguments =
        scene.environment.iter().map(|(name, value)| format!("--{}={value}", name.to_lowercase().replace('_', "-")));
    let line = CommandLine::try_parse_from([String::new()].into_iter().chain(arguments)).unwrap();
    let settings = Settings::from_raw(&line.settings, |file| std::fs::read_to_string(file)).unwrap();
    let mut options = options(&settings);
    assert_eq!(options.stalled_after, Duration::from_mins(2), "two statements may each take a minute");
    options.stalled_after = Duration::from_secs(3);
    let [port] = free_ports().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    telemetry::http::serve(address, options.health.clone(), telemetry::metrics::PREFIX).await.unwrap();
    let ask = async |path: &'static str| -> Answer {
        tokio::task::spawn_blocking(move || http::get(&address.to_string(), path)).await.unwrap()
    };
    let until_ready_says = async |expected: &[String]| {
        let expected = serde_json::json!(expected);
        let reasons = async || serde_json::from_str::<Value>(&ask("/readyz").await.body).unwrap()["reasons"].clone();
        eventually(PATIENCE, |reasons: &Value| *reasons == expected, reasons).await;
    };
    let stalled = async || sample(&parse(&ask("/metrics").await.body), "stalled");

    let lock = scene.hold("lock table booking_history in exclusive mode").await;
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(run::<Booking>(options, async { drop(stopped.await) }));
    until_ready_says(&[]).await;
    let mut workload = Workload::bookings("stalled", 100, 2);
    workload.records.retain(|record| record.partition == Some(1));
    scene.send(workload.records).await;
    let says = format!("partition 1 of {} is stalled: records wait and nothing is committed", scene.topic.name);
    until_ready_says(&[says]).await;
    assert_eq!(stalled().await, Some(1.0));
    assert_eq!((log.lines("stalled").len(), log.lines("stall_ended").len()), (1, 0));
    assert!(log.lines("stalled")[0].contains("WARN") && log.lines("stalled")[0].contains("partition=1"));

    drop(lock);
    until_ready_says(&[]).await;
    assert_eq!(stalled().await, Some(0.0));
    assert_eq!((log.lines("stalled").len(), log.lines("stall_ended").len()), (1, 1), "each is logged once");
    scene.wait_until_read().await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
