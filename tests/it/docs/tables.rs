//! The samples that compare the tables with the topic: replay and verify.

use super::walk::Walk;
use testbed::scene::Scene;
use testbed::workload::Workload;

pub const SAMPLES: &[&str] = &[
    "replay-run",
    "replay-no-difference",
    "replay-difference",
    "verify-findings",
    "verify-not-checked",
    "verify-json",
];

#[tokio::test]
async fn the_samples_of_a_replay() {
    let scene = Scene::new(3).await;
    let service = scene.start();
    scene.send(&Workload::mixed("booking", 330, 3).records).await;
    scene.wait_until_read().await;
    service.stop();
    let mut walk = Walk::new("docs/operate/replay.md", scene);
    walk.run("replay-run").await;
    walk.run("replay-no-difference").await;
    walk.scene.execute("update replay.booking_history set price = 90.01 where booking_id = 'booking-3'").await;
    walk.run_again("replay-no-difference", "replay-difference").await;
}

#[tokio::test]
async fn the_samples_of_verify() {
    let scene = Scene::new(3).await;
    let service = scene.start();
    scene.send(&Workload::mixed("booking", 3_000, 3).records).await;
    scene.wait_until_read().await;
    service.stop();
    let mut walk = Walk::new("docs/operate/verify.md", scene);
    for damage in [
        "update dead_letters set value = 'x' where partition = 0 and \"offset\" =
             (select min(\"offset\") from dead_letters where partition = 0 and reason = 'not_json')",
        // These bookings have no second record: the first of their twenty.
        "update booking_history set price = 1 where booking_id = 'booking-1220'",
        "delete from booking_history where booking_id = 'booking-1240'",
        "insert into booking_history (booking_id, user_id, hotel_id, discount_percent, price, created_at)
             values ('by-hand', 'u', 'h', 0, 1, now())",
        "update consumer_offsets set stored = stored + 1 where partition = 2",
    ] {
        walk.scene.execute(damage).await;
    }
    walk.run("verify-findings").await;
    let repair = "update booking_history set price = 90 where booking_id = 'booking-1220'";
    walk.scene.execute(repair).await;
    walk.scene.topic.delete_records(1, 400).await;
    walk.run("verify-not-checked").await;
    walk.run("verify-json").await;
}
