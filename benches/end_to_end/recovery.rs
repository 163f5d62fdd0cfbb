//! How long records wait after an instance ends: for its restart on the same host, and for another instance.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use testbed::kafka::Kafka;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::Topic;

use crate::events::PARTITIONS;
use crate::stage::{Contestant, Stage, wait_until_stored};

/// The settings of the testbed that shorten sessions have Kafka's own defaults here.
const DEFAULTS: &[(&str, &str)] = &[
    ("group.initial.rebalance.delay.ms", "3000"),
    ("group.min.session.timeout.ms", "6000"),
    ("group.consumer.min.session.timeout.ms", "45000"),
    ("group.consumer.session.timeout.ms", "45000"),
    ("group.consumer.min.heartbeat.interval.ms", "5000"),
    ("group.consumer.heartbeat.interval.ms", "5000"),
];

/// What ends, and which instance commits again.
#[derive(Clone, Copy)]
enum Case {
    RestartAfterKill,
    RestartAfterStop,
    JoinOfAnother,
    TakeOverAfterKill,
    TakeOverAfterStop,
}

const CASES: [(Case, &str); 5] = [
    (Case::RestartAfterKill, "restart after kill -9"),
    (Case::RestartAfterStop, "restart after a stop, the group is empty"),
    (Case::JoinOfAnother, "start while another instance runs"),
    (Case::TakeOverAfterKill, "take-over by another instance after kill -9"),
    (Case::TakeOverAfterStop, "take-over by another instance after a stop"),
];

/// A duration, measured several times.
pub struct Recovery {
    pub name: String,
    /// In seconds, from the end of an instance or the start of one, until each partition has a commit.
    pub seconds: Vec<f64>,
}

/// Measures each case under each group protocol, against a broker whose group settings are Kafka's defaults.
pub async fn measure(stage: &Stage, contestant: &Contestant, rounds: u32) -> Vec<Recovery> {
    let Contestant::Service { program, settings } = contestant else { return Vec::new() };
    let kafka = Kafka::start_with(DEFAULTS);
    let mut figures = Vec::new();
    for protocol in ["classic", "consumer"] {
        for (case, name) in CASES {
            let mut seconds = Vec::new();
            for round in 0..rounds {
                let (database, scene) = stage.scene(Topic::create(&kafka, PARTITIONS).await).await;
                let scene = settings.iter().fold(scene, |scene, (name, value)| scene.with(name, value));
                let given = scene.environment.get("KAFKA_PROPERTIES").map_or("", String::as_str);
                let properties = format!("group.protocol={protocol},{given}");
                let scene = scene.with("KAFKA_PROPERTIES", &properties);
                seconds.push(run(case, program, &scene, round).await);
                stage.drop_database(&database).await;
            }
            figures.push(Recovery { name: format!("{name}, group.protocol={protocol}"), seconds });
        }
    }
    figures
}

async fn run(case: Case, program: &str, scene: &Scene, round: u32) -> f64 {
    let start = || Service::start_program(program, &[], "run", &scene.environment);
    let mut connection = scene.connect().await;
    let mut one = start();
    one.wait_until_started(usize::try_from(PARTITIONS).unwrap()).await;
    let mut other = None;
    if matches!(case, Case::TakeOverAfterKill | Case::TakeOverAfterStop) {
        let service = start();
        service.wait_until_started(1).await;
        other = Some(service);
    }
    send(scene, 0).await;
    wait_until_stored(&mut connection, 3).await;
    // Ends at different times between two heartbeats.
    tokio::time::sleep(Duration::from_millis(700) * round).await;

    let mut began = Utc::now();
    match case {
        Case::RestartAfterKill | Case::TakeOverAfterKill => one.kill9(),
        Case::RestartAfterStop => one.stop(),
        Case::TakeOverAfterStop => one.sigterm(),
        Case::JoinOfAnother => {}
    }
    match case {
        Case::RestartAfterKill | Case::RestartAfterStop => {
            send(scene, 1).await;
            began = Utc::now();
            one.start_again();
        }
        Case::JoinOfAnother => {
            let service = start();
            service.wait_until_started(1).await;
            send(scene, 1).await;
            other = Some(service);
        }
        Case::TakeOverAfterKill | Case::TakeOverAfterStop => send(scene, 1).await,
    }
    wait_until_stored(&mut connection, 6).await;
    let committed = last_commit(&mut connection).await;
    drop((one, other));
    (committed - began).as_seconds_f64()
}

/// One record for each partition.
async fn send(scene: &Scene, round: u32) {
    let numbers = (1..=PARTITIONS.unsigned_abs()).map(|number| number + round * PARTITIONS.unsigned_abs());
    scene.send(numbers.map(|number| crate::events::IdKind::Sequential.event(number).record())).await;
}

async fn last_commit(connection: &mut PgConnection) -> DateTime<Utc> {
    let (last,): (DateTime<Utc>,) = sqlx::query_as("select max(pg_xact_commit_timestamp(xmin)) from booking_history")
        .fetch_one(connection)
        .await
        .unwrap();
    last
}
