//! What the process needs when there is nothing to do, at its start, and when nothing can be written.

use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::time::sleep;

use crate::events::Load;
use crate::report::Row;
use crate::stage::{Program, Stage, assert_positions, assert_rows, wait_until_handled};
use crate::usage::{self, Memory, Used};
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::Topic;

/// Memory that has not grown for this time is at its limit.
const STEADY: Duration = Duration::from_secs(5);

/// The CPU time of an instance that has nothing to do.
pub async fn idle(stage: &Stage, programs: &[Program], seconds: u32, rows: &mut [Row]) {
    for (program, row) in programs.iter().zip(rows) {
        let (name, scene) = stage.scene(Topic::create(&stage.kafka, Load::STANDARD.partitions).await).await;
        let service = started(program, &scene.with_http(), Load::STANDARD.partitions).await;
        // It has nothing left to do from its start.
        sleep(Duration::from_secs(1)).await;
        let (before, cpu) = (Used::so_far(stage), usage::cpu(service.pid()));
        sleep(Duration::from_secs(seconds.into())).await;
        let (after, cpu) = (Used::so_far(stage), usage::cpu(service.pid()) - cpu);
        let percent = |time: Duration| [time.as_secs_f64() / f64::from(seconds) * 100.0];
        row.add("own CPU", "% of a core", percent(cpu));
        row.add("PostgreSQL CPU", "% of a core", percent(after.postgres - before.postgres));
        row.add("memory", "MiB", [Memory::of(service.pid()).now]);
        row.add("others", "%", [before.others_until(&after, cpu)]);
        service.stop();
        stage.drop_database(&name).await;
    }
}

/// From the start of the process, with the shell that starts it, to the commit of a record that waited.
pub async fn start(stage: &Stage, programs: &[Program], rounds: usize, rows: &mut [Row]) {
    let load = Load { records: u32::try_from(rounds).unwrap() + 1, ..Load::STANDARD };
    for (program, row) in programs.iter().zip(rows) {
        let (name, scene) = stage.scene(Topic::create(&stage.kafka, load.partitions).await).await;
        let mut connection = scene.connect().await;
        let mut waits = Vec::new();
        for number in 1..=load.records {
            scene.send([load.event(number).record()]).await;
            let began = Utc::now();
            let service = program.start("run", &scene);
            let commit = wait_until_handled(&mut connection, &scene.group, number).await;
            service.stop();
            waits.push((commit - began).to_std().unwrap().as_secs_f64() * 1_000.0);
        }
        assert_positions(&mut connection, &scene, load.expected()).await;
        drop(connection);
        stage.drop_database(&name).await;
        // The group is new for the first one.
        row.add("start to first commit", "ms", waits.into_iter().skip(1));
    }
}

/// The memory of an instance whose records wait for the database.
pub async fn outage(stage: &Stage, programs: &[Program], load: Load, rows: &mut [Row]) {
    for (program, row) in programs.iter().zip(rows) {
        let (name, scene) = stage.scene(stage.topic(load).await).await;
        let service = started(program, &scene, load.partitions).await;
        stage.postgres.stop_fast().unwrap();
        let mut steady = (Memory::of(service.pid()), Instant::now());
        while steady.1.elapsed() < STEADY {
            sleep(Duration::from_millis(100)).await;
            let memory = Memory::of(service.pid());
            if memory.peak > steady.0.peak {
                steady = (memory, Instant::now());
            }
        }
        let stopped = steady.0.peak;
        stage.postgres.start().unwrap();
        let mut connection = scene.connect().await;
        wait_until_handled(&mut connection, &scene.group, load.records).await;
        let memory = Memory::of(service.pid());
        service.stop();
        assert_positions(&mut connection, &scene, load.expected()).await;
        assert_rows(&mut connection, load.expected()).await;
        drop(connection);
        stage.drop_database(&name).await;
        row.add("peak while stopped", "MiB", [stopped]);
        row.add("peak memory", "MiB", [memory.peak]);
        row.add("memory", "MiB", [memory.now]);
    }
}

async fn started(program: &Program, scene: &Scene, partitions: i32) -> Service {
    let service = program.start("run", scene);
    service.wait_until_started(usize::try_from(partitions).unwrap()).await;
    service
}
