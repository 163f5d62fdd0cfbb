//! How long records wait after an instance ends, for its restart on the same host or for another instance, and after one
//! more instance starts.

use std::time::Duration;

use chrono::Utc;
use testbed::kafka::Kafka;
use testbed::scene::Scene;
use testbed::topic::Topic;

use crate::events::Load;
use crate::report::Row;
use crate::stage::{Program, Stage, wait_until_handled};

const LOAD: Load = Load::STANDARD;

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

/// Measures each case under a group protocol, against a broker whose group settings are Kafka's defaults: from the end of
/// an instance or the start of one, until each partition has a commit.
pub async fn measure(stage: &Stage, programs: &[Program], protocol: &str, rounds: usize, rows: &mut [Row]) {
    let kafka = Kafka::start_with(DEFAULTS);
    let program_of = |program: &Program| program.with_kafka_property(&format!("group.protocol={protocol}"));
    for (program, row) in programs.iter().map(program_of).zip(rows) {
        for (case, name) in CASES {
            let mut seconds = Vec::new();
            for round in (0..).take(rounds) {
                let (database, scene) = stage.scene(Topic::create(&kafka, LOAD.partitions).await).await;
                seconds.push(run(case, &program, &scene, round).await);
                stage.drop_database(&database).await;
            }
            row.add(name, "s", seconds);
        }
    }
}

async fn run(case: Case, program: &Program, scene: &Scene, round: u32) -> f64 {
    let start = || program.start("run", scene);
    let mut connection = scene.connect().await;
    let mut one = start();
    one.wait_until_started(usize::try_from(LOAD.partitions).unwrap()).await;
    let mut other = None;
    if matches!(case, Case::TakeOverAfterKill | Case::TakeOverAfterStop) {
        let service = start();
        service.wait_until_started(1).await;
        other = Some(service);
    }
    send(scene, 0).await;
    wait_until_handled(&mut connection, &scene.group, 3).await;
    // Each round ends the instance at another time between two heartbeats.
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
    let committed = wait_until_handled(&mut connection, &scene.group, 6).await;
    drop((one, other));
    (committed - began).as_seconds_f64()
}

/// One record for each partition.
async fn send(scene: &Scene, round: u32) {
    let partitions = LOAD.partitions.unsigned_abs();
    scene.send((1..=partitions).map(|number| LOAD.event(number + round * partitions).record())).await;
}
