//! SIGINT and SIGTERM end every command, also as process 1 of a container, where they have no default action.

use testbed::scene::Scene;
use testbed::service::Service;

#[tokio::test]
async fn a_signal_ends_a_command_that_waits_and_its_transaction_changes_nothing() {
    let scene = Scene::new(1).await.with("DATABASE_TIMEOUT", "10m");
    let migrations = "select version::text from _sqlx_migrations order by 1";
    let before = scene.lines(migrations).await;
    for code in [130, 143] {
        let lock = scene.hold("lock table consumer_offsets").await;
        let command = Service::start_without_default_actions("migrate down --yes", &scene.environment);
        scene.wait_until_blocked().await;
        if code == 130 {
            command.sigint();
        } else {
            command.sigterm();
        }
        assert_eq!(command.wait_exit(), code);
        drop(lock);
        scene.wait_until_lines("select count(*)::text from pg_locks where locktype = 'advisory'", &["0"]).await;
    }
    assert_eq!(scene.lines(migrations).await, before);
}
