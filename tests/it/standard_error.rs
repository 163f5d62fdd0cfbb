//! The reader of standard error stops: the work, the HTTP server and the shutdown do not wait for it.

use testbed::scene::Scene;
use testbed::service::Service;
use testbed::wait::{PATIENCE, eventually};

/// Two lines for each booking: more bytes than the pipe and the buffer hold. The ids make the lines long.
async fn flood(scene: &Scene, prefix: char) {
    scene.send_and_handle(&prefix.to_string().repeat(200), 10_000).await;
}

fn dropped(service: &Service) -> u64 {
    let metrics = service.get("/metrics").body;
    let value = metrics.lines().find_map(|line| line.strip_prefix("booking_history_log_lines_dropped_total "));
    value.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_reader_that_stops_delays_nothing_and_later_reads_how_many_lines_were_dropped() {
    let scene = Scene::new(2).await.with_http().with("SHUTDOWN_TIMEOUT", "5m");
    let scene = scene.with("LOG_RECORDS_PER_SECOND", "1000000");
    let mut service = scene.start();
    service.wait_until_started(2).await;
    assert_eq!(dropped(&service), 0);

    service.stop_reading();
    flood(&scene, 'a').await;
    eventually(PATIENCE, |dropped| *dropped > 1_000, async || dropped(&service)).await;
    assert_eq!(service.get("/livez").status, 200);
    assert_eq!(service.get("/readyz").status, 200);
    service.continue_reading();
    let reported = service.wait_for_event("log_lines_dropped");
    assert_eq!(reported.field("lines"), dropped(&service).to_string());

    service.stop_reading();
    flood(&scene, 'b').await;
    service.stop();
    assert_eq!(scene.booking_ids().await.len(), 20_000);

    service.continue_reading();
    // The second signal ends a stop that waits for a transaction.
    service.start_again();
    service.wait_until_started(2).await;
    service.stop_reading();
    flood(&scene, 'c').await;
    let lock = scene.hold("lock table booking_history in exclusive mode").await;
    scene.send_values([testbed::workload::booking("waits", "1")]).await;
    scene.wait_until_blocked().await;
    service.sigterm();
    // Two signals of one kind at the same time are delivered as one.
    eventually(PATIENCE, |ready: &String| ready.contains("stopping"), async || service.get("/readyz").body).await;
    service.sigterm();
    assert_eq!(service.wait_exit(), 143);
    drop(lock);
}
