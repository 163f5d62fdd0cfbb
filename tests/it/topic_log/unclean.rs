//! A leader is elected that does not have all records (an unclean election), on a real cluster. The gap begins exactly
//! where the logs diverge, so reading from there on misses no record of the new leader.

use super::replaced::{bookings, ids};
use super::wait_for_halt;
use testbed::kafka::Kafka;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::Topic;
use testbed::wait::{PATIENCE, eventually};

/// Node 1 controls the cluster and has the positions of the groups. The replicas of a topic are on the nodes 2 and 3.
struct Cluster {
    first: Kafka,
    second: Kafka,
    third: Kafka,
}

/// What the service does while the leader changes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ServiceState {
    Runs,
    IsFrozen,
    IsStopped,
}

impl Cluster {
    async fn start() -> Self {
        let first = Kafka::start_new();
        // Kafka makes the topics of groups and transactions now, while no other node can get them.
        let topic = Topic::create(&first, 1).await;
        topic.committed("any");
        drop(topic.transactional_producer());
        let (second, third) = (first.join(2), first.join(3));
        Self { first, second, third }
    }

    /// A topic with the leader 2 and the follower 3. The follower stops at 100 records. The leader takes more, up to
    /// 152, the service reads them, and the leader dies. Then the follower is the leader. If the old leader restarts
    /// first, these records have a leader epoch that the follower never had.
    async fn unclean_election(&self, state: ServiceState, restart: bool) -> (Scene, Service) {
        let settings = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "1")];
        let topic = Topic::replicated(&[&self.first, &self.second, &self.third], &[&[2, 3]], &settings).await;
        wait_for_leader(&topic, (2, 2)).await;
        let scene = Scene::of(topic).await.with("TOPIC_CHECK_INTERVAL", "100ms");
        let service = scene.start();
        scene.send(bookings(0..100)).await;
        scene.wait_until_at(0, 100).await;
        self.third.stop();
        wait_for_leader(&scene.topic, (2, 1)).await;
        if restart {
            self.second.stop();
            self.second.start();
            wait_for_leader(&scene.topic, (2, 1)).await;
        }
        scene.send(bookings(100..132)).await;
        for (number, next) in (132..152).zip(133..) {
            scene.send(bookings(number..number + 1)).await;
            scene.wait_until_at(0, next).await;
        }
        // Looks at the topic id between these commits have moved it. They prove nothing about the records.
        let checked = "select (checked_offset > 100)::text from consumer_offsets";
        assert_eq!(scene.lines(checked).await, ["true"]);
        match state {
            ServiceState::Runs => {}
            ServiceState::IsFrozen => service.sigstop(),
            ServiceState::IsStopped => service.stop(),
        }
        self.second.kill();
        self.third.start();
        wait_for_leader(&scene.topic, (3, 1)).await;
        (scene, service)
    }

    /// The dead leader becomes a follower, and loses what the new leader does not have.
    async fn heal(&self, scene: &Scene) {
        self.second.start();
        wait_for_leader(&scene.topic, (3, 2)).await;
    }
}

async fn wait_for_leader(topic: &Topic, expected: (i32, usize)) {
    eventually(2 * PATIENCE, |leader| *leader == expected, async || topic.leader()).await;
}

/// Partition 0 is halted with this gap, up to 152.
async fn assert_halted(scene: &Scene, reason: &str, from: i64) {
    assert_eq!(scene.wait_until_halted(0).await, reason);
    assert_eq!(scene.audit().gaps().await, [(0, from, 152, reason.to_owned(), false)]);
}

/// Continues as the command advises first. Then the tables have these bookings, and nothing of the log is missing.
async fn resume_as_advised(scene: &Scene, advice: &str, expected: Vec<String>, totals: (i64, i64)) {
    let (code, lines) = scene.finish("offsets resume --partition 0");
    let text = lines.join("\n");
    let at = text.split("--at ").nth(1).and_then(|rest| rest.split('`').next());
    assert_eq!((code, at), (2, Some(advice)), "{text}");
    scene.command(&format!("offsets resume --partition 0 --at {advice}"));
    scene.wait_until_read().await;
    assert_eq!(scene.booking_ids().await, expected);
    let row = scene.row(0).await.totals;
    assert_eq!((row.stored, row.duplicates), totals);
    assert!(scene.audit().gaps().await.iter().all(|(.., acknowledged)| *acknowledged));
    scene.command("verify");
}

#[tokio::test]
async fn the_gap_of_an_unclean_leader_election_begins_where_the_logs_diverge() {
    let cluster = Cluster::start().await;

    // The running client compares the epochs with the log of the new leader.
    let (scene, service) = cluster.unclean_election(ServiceState::Runs, false).await;
    scene.send(bookings(200..400)).await;
    assert_halted(&scene, "log_truncated", 100).await;
    wait_for_halt(&service, 0, "log_truncated", 100, 152);
    resume_as_advised(&scene, "100", [ids(0..152), ids(200..400)].concat(), (200, 0)).await;
    service.stop();
    cluster.heal(&scene).await;

    // The same, after the log of the new leader has become longer than the position.
    let (scene, service) = cluster.unclean_election(ServiceState::IsFrozen, false).await;
    scene.send(bookings(200..400)).await;
    service.sigcont();
    assert_halted(&scene, "log_truncated", 100).await;
    resume_as_advised(&scene, "100", [ids(0..152), ids(200..400)].concat(), (200, 0)).await;
    service.stop();
    cluster.heal(&scene).await;

    // The service starts again and finds a longer log.
    let (scene, _) = cluster.unclean_election(ServiceState::IsStopped, false).await;
    scene.send(bookings(200..400)).await;
    let service = scene.start();
    assert_halted(&scene, "log_truncated", 100).await;
    // As if the logs had parted later at the time of the halt: the command asks the leader that is elected now.
    scene.execute("update offset_gaps set from_offset = 120").await;
    resume_as_advised(&scene, "100", [ids(0..152), ids(200..400)].concat(), (200, 0)).await;
    service.stop();
    cluster.heal(&scene).await;

    // It finds a shorter log, which has new records below the position.
    let (scene, _) = cluster.unclean_election(ServiceState::IsStopped, true).await;
    scene.send(bookings(200..230)).await;
    let service = scene.start();
    assert_halted(&scene, "log_truncated", 100).await;
    resume_as_advised(&scene, "100", [ids(0..152), ids(200..230)].concat(), (30, 0)).await;
    service.stop();
    cluster.heal(&scene).await;

    // A transaction marker has the offset of the last record: there is no record to compare.
    let (scene, _) = cluster.unclean_election(ServiceState::IsStopped, false).await;
    let producer = scene.topic.transactional_producer();
    producer.begin();
    producer.send(bookings(200..251)).await;
    producer.commit();
    scene.send(bookings(251..300)).await;
    let service = scene.start();
    assert_halted(&scene, "log_truncated", 100).await;
    resume_as_advised(&scene, "100", [ids(0..152), ids(200..300)].concat(), (100, 0)).await;
    service.stop();
    cluster.heal(&scene).await;

    // The row has no leader epochs: every record of the log is in doubt.
    let (scene, _) = cluster.unclean_election(ServiceState::IsStopped, false).await;
    scene.send(bookings(200..400)).await;
    scene.execute("update consumer_offsets set leader_epochs = null").await;
    let service = scene.start();
    assert_halted(&scene, "log_replaced", 0).await;
    resume_as_advised(&scene, "earliest", [ids(0..152), ids(200..400)].concat(), (200, 100)).await;
    service.stop();
}
