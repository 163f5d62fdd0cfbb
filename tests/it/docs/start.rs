//! The samples of a start: settings, the schema, the first record.

use super::walk::Walk;
use testbed::scene::Scene;
use testbed::topic::Outgoing;
use testbed::workload::SEED;

pub const SAMPLES: &[&str] = &["bad-settings", "schema-missing", "check", "migrate-up", "log-lines"];

#[tokio::test]
async fn the_samples_of_a_start() {
    let mut walk = Walk::new("docs/configuration.md", Scene::without_tables(2).await);
    walk.run("bad-settings").await;
    walk.turn_to("docs/operate/exit-codes.md");
    walk.run("schema-missing").await;
    walk.turn_to("docs/operate/check.md");
    walk.run("check").await;
    walk.turn_to("docs/deploy.md");
    walk.run("migrate-up").await;

    walk.turn_to("docs/operate/log-events.md");
    let service = walk.scene.start();
    walk.scene.send([Outgoing::to(1, SEED)]).await;
    service.wait_for_event("booking_history_saved");
    service.wait_for_event("batch_committed");
    walk.logged("log-lines", &[&service]);
}
