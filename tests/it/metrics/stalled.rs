//! The watchdog, through the library: no setting of the program changes its limit.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use booking_history::booking::Booking;
use booking_history::commands::options;
use booking_history::config::{RawSettings, Settings};
use booking_history::telemetry;
use booking_history::telemetry::status_page::StatusPage;
use clap::Parser;
use fenced_sink::{EngineError, Options, run};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::exposition::parse;
use super::sample;
use testbed::free_ports;
use testbed::http::{self, Answer};
use testbed::kafka::Kafka;
use testbed::postgres::postgres;
use testbed::scene::Scene;
use testbed::topic::Outgoing;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    settings: RawSettings,
}

/// What this thread logs.
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

/// A run in this process, with its HTTP server. Every task runs on the thread of the test.
struct Run {
    options: Options,
    address: SocketAddr,
    log: Log,
    _logging: tracing::subscriber::DefaultGuard,
}

impl Run {
    /// The watchdog reports a stall after this time.
    async fn prepare(scene: &Scene, stalled_after: Duration) -> Self {
        let log = Log::default();
        let theirs = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || theirs.clone()).finish();
        let logging = tracing::subscriber::set_default(subscriber);
        let arguments = scene
            .environment
            .iter()
            .map(|(name, value)| format!("--{}={value}", name.to_lowercase().replace('_', "-")));
        let line = Flags::try_parse_from([String::new()].into_iter().chain(arguments)).unwrap();
        let settings = Settings::from_raw(&line.settings, |file| std::fs::read_to_string(file)).unwrap();
        let options = options(&settings);
        assert_eq!(options.stalled_after, Duration::from_mins(2), "two statements may each take a minute");
        let options = Options { stalled_after, ..options };
        let [port] = free_ports().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let page = StatusPage { group: options.group_id.clone(), topic: options.topic.clone() };
        telemetry::http::serve(address, options.health.clone(), telemetry::metrics::PREFIX, page).await.unwrap();
        Self { options, address, log, _logging: logging }
    }

    /// Runs until the sender is used.
    fn start(&self) -> (oneshot::Sender<()>, JoinHandle<Result<(), EngineError>>) {
        let (stop, stopped) = oneshot::channel::<()>();
        (stop, tokio::spawn(run::<Booking>(self.options.clone(), async { drop(stopped.await) })))
    }

    async fn ask(&self, path: &'static str) -> Answer {
        let address = self.address.to_string();
        tokio::task::spawn_blocking(move || http::get(&address, path)).await.unwrap()
    }

    async fn until_ready_says(&self, expected: &[String]) {
        let expected = serde_json::json!(expected);
        let reasons = async || {
            let answer: Value = serde_json::from_str(&self.ask("/readyz").await.body).unwrap();
            answer.get("reasons").cloned()
        };
        eventually(PATIENCE, |reasons: &Option<Value>| reasons.as_ref() == Some(&expected), reasons).await;
    }

    async fn sample(&self, name: &str) -> Option<f64> {
        sample(&parse(&self.ask("/metrics").await.body), name)
    }
}

#[tokio::test]
async fn a_partition_whose_records_wait_without_a_commit_is_stalled_until_the_next_commit() {
    let scene = Scene::new(2).await.with("DATABASE_TIMEOUT", "1m");
    let watched = Run::prepare(&scene, Duration::from_secs(3)).await;
    let lock = scene.hold("lock table booking_history in exclusive mode").await;
    let (stop, running) = watched.start();
    watched.until_ready_says(&[]).await;
    let mut workload = Workload::bookings("stalled", 100, 2);
    workload.records.retain(|record| record.partition == Some(1));
    scene.send(workload.records).await;
    let says = format!("partition 1 of {} is stalled: records wait and nothing is committed", scene.topic.name);
    watched.until_ready_says(&[says]).await;
    assert_eq!(watched.sample("stalled").await, Some(1.0));
    let log = &watched.log;
    assert_eq!((log.lines("stalled").len(), log.lines("stall_ended").len()), (1, 0));
    assert!(log.lines("stalled")[0].contains("WARN") && log.lines("stalled")[0].contains("partition=1"));

    drop(lock);
    watched.until_ready_says(&[]).await;
    assert_eq!(watched.sample("stalled").await, Some(0.0));
    assert_eq!((log.lines("stalled").len(), log.lines("stall_ended").len()), (1, 1), "each is logged once");
    scene.wait_until_read().await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_quota_of_kafka_is_named_as_the_cause_of_a_stall() {
    // The broker closes a connection before the throttle time is over.
    let kafka = Kafka::start_with(&[("connections.max.idle.ms", "5000")]);
    let scene = Scene::on(&kafka, postgres(), 1).await.with("DATABASE_TIMEOUT", "1m");
    // One batch is more than the quota allows in its window of 11 s, so Kafka never sends it.
    kafka.limit_consumers(Some(1_000));
    let ids: Vec<String> = (100..130).map(|number| number.to_string()).collect();
    let padding = " ".repeat(50_000);
    scene.send(ids.iter().map(|id| Outgoing::to(0, format!("{padding}{}", booking(id, "1"))))).await;
    let watched = Run::prepare(&scene, Duration::from_secs(12)).await;
    let (stop, running) = watched.start();
    let topic = &scene.topic.name;
    let says = format!("partition 0 of {topic} is stalled: Kafka throttles this client, because a quota is exceeded");
    watched.until_ready_says(&[says]).await;
    let log = &watched.log;
    let found = log.lines("stalled");
    assert!(found.len() == 1 && found[0].contains("raise the quota"), "{found:?}");
    let lag = format!("lag_records{{topic=\"{topic}\",partition=\"0\"}}");
    eventually(PATIENCE, |lag| *lag == Some(30.0), async || watched.sample(&lag).await).await;

    kafka.limit_consumers(None);
    scene.wait_until_read().await;
    watched.until_ready_says(&[]).await;
    assert_eq!(scene.booking_ids().await, ids);
    assert_eq!(log.lines("fetch_stalled"), [""; 0]);
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
