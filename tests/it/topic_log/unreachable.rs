//! One broker of a cluster does not answer the service. It hides nothing about the partitions of the others.

use testbed::kafka::Kafka;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::Topic;
use testbed::wait::{PATIENCE, eventually};

/// The partitions whose lag is known.
fn known_lags(service: &Service) -> Vec<String> {
    let metrics = service.get("/metrics").body;
    let lags = metrics.lines().filter(|line| line.starts_with("booking_history_lag_records{"));
    let partition = |line: &str| Some(line.split_once("partition=\"")?.1.split_once('"')?.0.to_owned());
    lags.filter_map(partition).collect()
}

#[tokio::test]
async fn a_broker_that_cannot_be_reached_does_not_hide_the_logs_of_the_others() {
    let first = Kafka::start_new();
    // Kafka makes the topic of the groups now, while no other node can get it.
    Topic::create(&first, 1).await.committed("any");
    let second = first.join(2);
    let (_third, proxy) = first.join_behind_proxy(3);
    let topic = Topic::placed(&first, &[1, 2, 3]).await;
    let scene = Scene::of(topic).await.with("TOPIC_CHECK_INTERVAL", "300ms").with_http();
    let service = scene.start();
    scene.send_and_handle("before", 300).await;
    eventually(PATIENCE, |known| *known == ["0", "1", "2"], async || known_lags(&service)).await;

    // A leader that stops to answer is a reason.
    proxy.black_hole(true);
    let reason = format!("partition 2 of {} is not read: its leader in Kafka does not answer", scene.topic.name);
    let says = async || service.get("/readyz").body.contains(&reason);
    eventually(2 * PATIENCE, |says| *says, says).await;
    assert!(!service.get("/readyz").body.contains(&reason.replace("partition 2", "partition 0")));
    proxy.black_hole(false);
    eventually(PATIENCE, |says| !*says, says).await;
    service.stop();
    // Retention deletes records of a broker that can be reached.
    scene.send((0..100).map(|_| testbed::topic::Outgoing::to(1, "{}"))).await;
    let next = scene.row(1).await.next_offset;
    scene.topic.delete_records(1, next + 50).await;

    // The controller still sees the node: it stays the leader.
    proxy.black_hole(true);
    let service = scene.start();
    assert_eq!(scene.wait_until_halted(1).await, "retention_gap");
    let gaps = scene.audit().gaps().await;
    assert_eq!(gaps, [(1, next, next + 50, "retention_gap".to_owned(), false)]);
    eventually(PATIENCE, |known: &Vec<String>| known.contains(&"0".to_owned()), async || known_lags(&service)).await;

    proxy.black_hole(false);
    eventually(PATIENCE, |known: &Vec<String>| known.contains(&"2".to_owned()), async || known_lags(&service)).await;
    service.stop();
    second.stop();
}
