//! A cluster of three brokers, each of which can be lost: while one restarts, moves its partitions or is gone, the
//! service reads the others.

use std::collections::BTreeMap;

use testbed::kafka::Kafka;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::steady_flow::SteadyFlow;
use testbed::topic::Topic;
use testbed::wait::{PATIENCE, eventually};

/// Waits until all replicas are in sync, and leader and replicas of each partition are as wanted.
async fn wait_for_placement(topic: &Topic, wanted: impl Fn(i32, &[i32]) -> bool) {
    let placed = |found: &BTreeMap<i32, (i32, Vec<i32>)>| {
        !found.is_empty() && found.values().all(|(leader, replicas)| *leader != -1 && wanted(*leader, replicas))
    };
    eventually(2 * PATIENCE, placed, async || topic.placement()).await;
}

/// Each partition is read further, no partition is halted, no gap is recorded, and each instance is ready.
async fn assert_works(scene: &Scene, services: &[Service; 2]) {
    let positions = async || -> BTreeMap<i32, i64> {
        scene.audit().rows().await.into_iter().map(|(partition, row)| (partition, row.next_offset)).collect()
    };
    let before = positions().await;
    let read_further = |now: &BTreeMap<i32, i64>| before.iter().all(|(partition, next)| now[partition] > next + 10);
    eventually(PATIENCE, read_further, positions).await;
    for service in services {
        let ready = async || (service.get("/readyz").status, service.get("/readyz").body);
        eventually(PATIENCE, |(status, _)| *status == 200, ready).await;
        assert_eq!(service.events("partition_halted").len(), 0, "{:#?}", service.lines());
    }
    assert_eq!(scene.audit().gaps().await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_restart_move_their_partitions_and_are_lost_without_a_rebalance_or_a_halt() {
    let brokers = Kafka::start_cluster();
    let replicas: [[i32; 3]; 3] = [[1, 2, 3], [2, 3, 1], [3, 1, 2]];
    let topic = Topic::replicated(&brokers.each_ref(), &replicas.each_ref().map(<[i32; 3]>::as_slice), &[]).await;
    let scene = Scene::of(topic).await.with_http();
    let services = [scene.start(), scene.start()];
    // Each partition is read, and each instance has one of them.
    let counts = |name| services.each_ref().map(|service| service.events(name).len());
    let divided = |starts: &[usize; 2]| starts.iter().sum::<usize>() >= 3 && !starts.contains(&0);
    eventually(PATIENCE, divided, async || counts("partition_started")).await;
    let flow = SteadyFlow::start(scene.topic.clone(), 3);
    assert_works(&scene, &services).await;
    let members = async || {
        let epochs: Vec<i64> = scene.audit().rows().await.into_values().map(|row| row.epoch).collect();
        (counts("partition_started"), counts("partition_revoked"), counts("membership_lost"), epochs)
    };
    let before = members().await;

    for broker in &brokers {
        broker.stop();
        broker.start();
        wait_for_placement(&scene.topic, |_, _| true).await;
        assert_works(&scene, &services).await;
    }
    brokers[0].elect_preferred_leaders();
    wait_for_placement(&scene.topic, |leader, replicas| replicas[0] == leader).await;
    assert_works(&scene, &services).await;

    // No leader is among the new replicas of its partition. Then each partition has three replicas again.
    for count in [2, 3] {
        for (partition, nodes) in [(0, [2, 3, 1]), (1, [3, 1, 2]), (2, [1, 2, 3])] {
            brokers[0].reassign(&scene.topic.name, partition, &nodes[..count]);
        }
        wait_for_placement(&scene.topic, |_, replicas| replicas.len() == count).await;
        assert_works(&scene, &services).await;
    }

    // The broker that coordinates the group is lost for good, and then replaced by one with an empty disk.
    let coordinator = Topic::named(&brokers[0], "__consumer_offsets").leader().0;
    let lost = &brokers[usize::try_from(coordinator - 1).unwrap()];
    lost.kill();
    lost.lose_data();
    assert_works(&scene, &services).await;
    lost.start();
    wait_for_placement(&scene.topic, |_, _| true).await;
    assert_works(&scene, &services).await;

    assert_eq!(members().await, before, "there was no rebalance");
    let workload = flow.stop().await;
    scene.assert_exact(&workload).await;
    scene.command("verify");
}
