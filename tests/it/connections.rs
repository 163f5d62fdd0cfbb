//! The database has fewer connections than the service can use: the writers come first, and the reason has a name.

use testbed::postgres::plain_user;
use testbed::scene::Scene;
use testbed::wait::{PATIENCE, eventually};

#[tokio::test]
async fn a_role_with_one_connection_stores_records_and_names_the_limit() {
    let scene = Scene::new(2).await.with_http().with("WRITERS", "1").with("RETRY_MAX", "1s");
    let (user, url) = plain_user(&scene.database).await;
    let limit = async |connections: i32| {
        scene.execute(&format!("alter role \"{user}\" connection limit {connections}")).await;
    };
    limit(1).await;
    let service = scene.clone().with("DATABASE_URL", &url).start();
    scene.send_and_handle("one", 20).await;
    let redrive = ["dead letters are not redriven", "53300", "WRITERS + 1 connections"];
    service.wait_for_reason(&redrive).await;
    limit(2).await;
    eventually(PATIENCE, Vec::is_empty, async || service.reasons()).await;

    // The redrive has the only connection that is left, and gives it to the writer.
    limit(1).await;
    let end_writer = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where usename = '{user}' and query like '%from consumer_offsets%'"
    );
    scene.execute(&end_writer).await;
    scene.send_and_handle("again", 20).await;
    service.wait_for_reason(&redrive).await;

    limit(0).await;
    let end_all = format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{user}'");
    scene.execute(&end_all).await;
    service.wait_for_reason(&["no writer can connect", "53300", "WRITERS + 1 connections"]).await;
    limit(-1).await;
    eventually(PATIENCE, Vec::is_empty, async || service.reasons()).await;
}
