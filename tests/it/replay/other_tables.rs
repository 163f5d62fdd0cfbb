//! The topic is read again into another schema or another database, and compared with the live tables.

use std::process::Command;

use sqlx::AssertSqlSafe;

use super::run_until_end;
use testbed::postgres::database;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

const PAGE: &str = include_str!("../../../docs/operate/replay.md");

/// The statement of the page that begins with these words.
fn of_the_page(words: &str) -> &'static str {
    let block = PAGE.split("```sql\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    block.into_iter().find(|block| block.starts_with(words)).unwrap_or_else(|| panic!("no {words:?} in the page"))
}

/// A topic that a live service has read.
async fn live() -> (Scene, Service, Workload) {
    let scene = Scene::new(3).await;
    let service = scene.start();
    let workload = Workload::mixed("live", 600, 3);
    scene.send(&workload.records).await;
    scene.wait_until_read().await;
    (scene, service, workload)
}

/// Reads the topic again, with another group, into this database.
fn replay(live: &Scene, database: String) -> Scene {
    let replay = live.clone().with_group(&unique("replay")).with_database(database);
    replay.migrate();
    run_until_end(&replay);
    replay
}

#[tokio::test]
async fn a_replay_into_another_schema_differs_in_nothing() {
    let (live, service, workload) = live().await;
    live.execute("create schema replay").await;
    let replay = replay(&live, format!("{}?options=-csearch_path%3Dreplay", live.database));
    replay.assert_exact(&workload).await;

    let differences = async || -> Vec<(String, String)> {
        let sql = of_the_page("with live").trim().trim_end_matches(';');
        let sql = format!("select side, booking_id from ({sql}) as d order by 1, 2");
        sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut live.connect().await).await.unwrap()
    };
    assert_eq!(differences().await, []);
    live.execute("update replay.booking_history set price = price + 0.01 where booking_id = 'live-3'").await;
    live.execute("delete from booking_history where booking_id = 'live-4'").await;
    let named = |side: &str, id: &str| (side.to_owned(), id.to_owned());
    assert_eq!(
        differences().await,
        [named("live only", "live-3"), named("replay only", "live-3"), named("replay only", "live-4")]
    );

    // The replay changes no position of the live group, neither in the table nor in Kafka.
    live.wait_until_read().await;
    assert_eq!(live.audit().rows().await.len(), 3);
    assert_eq!(live.clone().with_group(&replay.group).audit().rows().await.len(), 0);
    let positions = |group: &str| live.topic.committed(group).into_iter().map(|(partition, (at, _))| (partition, at));
    assert!(positions(&replay.group).eq(live.topic.ends()), "the mirror has the group of the replay");
    eventually(PATIENCE, |equal: &bool| *equal, async || positions(&live.group).eq(live.topic.ends())).await;
    service.stop();
}

#[tokio::test]
async fn a_replay_into_another_database_differs_in_nothing() {
    let (live, _service, workload) = live().await;
    let replay = replay(&live, database().await);
    replay.assert_exact(&workload).await;
    assert_eq!(diff(&live.database, &replay.database), "");
    replay.execute("update booking_history set promo_code = '' where booking_id = 'live-3'").await;
    let differences = diff(&live.database, &replay.database);
    assert!(differences.lines().count() == 4 && differences.contains("live-3"), "{differences}");
}

/// The output of the page's shell lines, which end with a diff.
fn diff(live: &str, replay: &str) -> String {
    let lines = PAGE.split("```sh\n").find(|block| block.contains("diff ")).unwrap();
    let script = lines.split_once("```").unwrap().0;
    let directory = tempfile::tempdir().unwrap();
    let shell = Command::new("sh")
        .args(["-c", script])
        .current_dir(&directory)
        .env("DATABASE_URL", live)
        .env("REPLAY_URL", replay)
        .output()
        .unwrap();
    assert!(shell.stderr.is_empty(), "{}", String::from_utf8_lossy(&shell.stderr));
    String::from_utf8(shell.stdout).unwrap()
}
