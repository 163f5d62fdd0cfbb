//! The database has fewer connections than the service can use: the writers come first, and the reason has a name.

use serde_json::Value;
use testbed::postgres::plain_user;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::wait::{PATIENCE, eventually};

fn reasons(service: &Service) -> Vec<String> {
    let body: Value = serde_json::from_str(&service.get("/readyz").body).unwrap();
    let reasons = body.get("reasons").and_then(Value::as_array).unwrap();
    reasons.iter().map(|reason| reason.as_str().unwrap().to_owned()).collect()
}

async fn until_a_reason_has(service: &Service, words: &[&str]) {
    let has = |reasons: &Vec<String>| reasons.iter().any(|reason| words.iter().all(|word| reason.contains(word)));
    eventually(PATIENCE, has, async || reasons(service)).await;
}

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
    until_a_reason_has(&service, &redrive).await;
    limit(2).await;
    eventually(PATIENCE, Vec::is_empty, async || reasons(&service)).await;

    // The redrive has the only connection that is left, and gives it to the writer.
    limit(1).await;
    let end_writer = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where usename = '{user}' and query like '%from consumer_offsets%'"
    );
    scene.execute(&end_writer).await;
    scene.send_and_handle("again", 20).await;
    until_a_reason_has(&service, &redrive).await;

    limit(0).await;
    let end_all = format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{user}'");
    scene.execute(&end_all).await;
    until_a_reason_has(&service, &["no writer can connect", "53300", "WRITERS + 1 connections"]).await;
    limit(-1).await;
    eventually(PATIENCE, Vec::is_empty, async || reasons(&service)).await;
}
