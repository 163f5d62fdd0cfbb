//! A fault of the environment makes no dead letter: the records wait, and when it is over all of them are stored.

use testbed::postgres::{PASSWORD, plain_user};
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

/// The records that are sent before, during and after the fault: a third each.
fn workload() -> Workload {
    Workload::bookings("waiting", 900, 2)
}

async fn send(scene: &Scene, third: usize) {
    scene.send(workload().records.chunks(300).nth(third).unwrap()).await;
}

/// The service works, the fault begins, it reports this error several times, the fault ends, and the service continues.
async fn survives(scene: &Scene, fault: &str, error: &str, repair: &str) {
    let service = scene.start();
    send(scene, 0).await;
    scene.wait_until_read().await;
    // One session: a lock that it takes lasts until it ends the transaction.
    let mut operator = scene.connect().await;
    let mut operate = async |statements: &str| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(&mut operator).await.unwrap();
    };
    operate(fault).await;
    send(scene, 1).await;
    let reports = async || {
        let lines = service.events("database_unavailable");
        lines.iter().filter(|line| line.field("error").contains(error)).count()
    };
    eventually(PATIENCE, |reports| *reports >= 3, reports).await;
    operate(repair).await;
    send(scene, 2).await;
    assert_all_stored(scene, &service).await;
}

async fn assert_all_stored(scene: &Scene, service: &Service) {
    scene.assert_exact(&workload()).await;
    assert!(service.is_running());
    let lines = service.lines();
    assert!(!lines.iter().any(|line| line.contains("record_dead_lettered")), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains(PASSWORD)), "{lines:#?}");
}

/// The service connects as a user that has only the privileges it needs.
async fn scene_with_plain_user() -> (Scene, String) {
    let scene = Scene::new(2).await;
    let (user, url) = plain_user(&scene.database).await;
    (scene.with("DATABASE_URL", &url), user)
}

#[tokio::test]
async fn a_privilege_that_is_missing_for_a_while() {
    let (scene, user) = scene_with_plain_user().await;
    let revoke = format!("revoke insert on booking_history from \"{user}\"");
    let grant = format!("grant insert on booking_history to \"{user}\"");
    survives(&scene, &revoke, "permission denied", &grant).await;
}

#[tokio::test]
async fn a_privilege_that_stays_missing_ends_the_service_and_loses_nothing() {
    let (scene, user) = scene_with_plain_user().await;
    let scene = scene.with("STARTUP_TIMEOUT", "1s");
    let mut service = scene.start();
    send(&scene, 0).await;
    scene.wait_until_read().await;
    scene.execute(&format!("revoke insert on booking_history from \"{user}\"")).await;
    send(&scene, 1).await;
    assert_eq!(service.wait_exit(), 69);
    let grant = format!("grant insert on booking_history to \"{user}\";");
    service.wait_for_error(&grant);
    assert!(service.wait_for_event("database_unavailable").field("error").contains(&grant));
    scene.execute(&format!("grant insert on booking_history to \"{user}\"")).await;
    send(&scene, 2).await;
    service.start_again();
    assert_all_stored(&scene, &service).await;
}

#[tokio::test]
async fn a_database_that_takes_no_writes_for_a_while() {
    let scene = Scene::new(2).await;
    // A setting of the database is for new sessions, so the open ones are ended.
    let fault = "do $$ begin
        execute format('alter database %I set default_transaction_read_only = on', current_database());
        perform pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid();
        end $$";
    let repair = "do $$ begin
        execute format('alter database %I reset default_transaction_read_only', current_database());
        perform pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid();
        end $$";
    survives(&scene, fault, "read-only transaction", repair).await;
}

#[tokio::test]
async fn a_disk_that_is_full_for_a_while() {
    let scene = Scene::new(2).await;
    let fault = "create function full_disk() returns trigger language plpgsql as $$
        begin raise exception 'could not extend file' using errcode = '53100'; end $$;
        create trigger full_disk before insert on booking_history for each row execute function full_disk()";
    survives(&scene, fault, "could not extend file", "drop trigger full_disk on booking_history").await;
}

#[tokio::test]
async fn a_table_that_is_locked_for_a_while() {
    let scene = Scene::new(2).await.with("DATABASE_TIMEOUT", "1s");
    let fault = "begin; lock table booking_history in access exclusive mode";
    survives(&scene, fault, "timeout", "commit").await;
}
