//! How long a record waits for its commit when there is little to do.

use std::time::Duration;

use chrono::{SecondsFormat, Utc};

use crate::events::PARTITIONS;
use crate::stage::{Stage, wait_until_stored};
use crate::usage;
use testbed::service::Service;
use testbed::topic::Topic;

const PER_SECOND: u32 = 500;

/// From the call that produces an event, whose time is in it, until the commit of its row, by Postgres's own note.
pub async fn measure(stage: &Stage, seconds: u32) -> String {
    let (name, scene) = stage.scene(Topic::create(&stage.kafka, PARTITIONS).await).await;
    let program = env!("CARGO_BIN_EXE_booking-history");
    let service = Service::start_program(program, &[], "run", &scene.environment);
    service.wait_until_started(usize::try_from(PARTITIONS).unwrap()).await;

    let producer = scene.topic.producer(&[("linger.ms", "0")]);
    // The first events wait for connections to be made.
    let warm = (0..3).map(|number| stage.ids.event(u32::MAX - number).record());
    producer.send(warm).await;
    let mut connection = scene.connect().await;
    wait_until_stored(&mut connection, 3).await;

    let began = Utc::now();
    let cpu = (usage::cpu(service.pid()), usage::cpu_with_children(stage.postgres.pid()));
    let mut deliveries = Vec::new();
    let mut beat = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    let events = seconds * PER_SECOND;
    for number in 1..=events {
        beat.tick().await;
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        deliveries.push(producer.enqueue(&stage.ids.event(number).record_of(&now)).await);
    }
    for delivery in deliveries {
        delivery.await.unwrap().unwrap();
    }
    let cpu = (usage::cpu(service.pid()) - cpu.0, usage::cpu_with_children(stage.postgres.pid()) - cpu.1);
    wait_until_stored(&mut connection, events + 3).await;

    let (p50, p99, most): (f64, f64, f64) = sqlx::query_as(
        "select percentile_cont(0.5) within group (order by ms), percentile_cont(0.99) within group (order by ms), max(ms)
         from (select extract(epoch from pg_xact_commit_timestamp(xmin) - created_at)::float8 * 1000 as ms
               from booking_history where created_at >= $1) as waits",
    )
    .bind(began)
    .fetch_one(&mut connection)
    .await
    .unwrap();
    drop(connection);
    drop(service);
    stage.drop_database(&name).await;
    let share = |time: Duration| time.as_secs_f64() / f64::from(seconds) * 100.0;
    format!(
        "latency at {PER_SECOND} events/s for {seconds} s, from produce to commit: p50 {p50:.1} ms, p99 {p99:.1} ms, \
         max {most:.1} ms; CPU of one core: own {:.0} %, Postgres {:.0} %",
        share(cpu.0),
        share(cpu.1)
    )
}
