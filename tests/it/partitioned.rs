//! A table of bookings that is partitioned by hash, made from the table that is there while the service runs.
//!
//! With `TEST_TABLE=partitioned` each test that creates new tables runs on such a table. The gate does this for some suites.

use crate::adoption::OLD_TABLE;
use testbed::postgres::plain_user;
use testbed::scene::Scene;
use testbed::workload::Workload;

#[tokio::test]
async fn a_table_is_partitioned_while_the_service_runs() {
    let scene = Scene::without_tables(3).await;
    scene.migrate();
    let (found, lines) = partitioned(&scene, Workload::default()).await.finish("verify");
    assert_eq!(found, 0, "{lines:#?}");
    // PostgreSQL can't change the collation of the partition key, so this reverts 0010 only.
    let (code, lines) = scene.finish("migrate down 2 --yes");
    assert!(code == 69 && lines.iter().any(|line| line.contains("part of the partition key")), "{lines:#?}");
    scene.migrate();
    scene.command("run --until-end");
}

#[tokio::test]
async fn an_adopted_table_is_partitioned_while_the_service_runs() {
    let scene = Scene::without_tables(3).await;
    scene.execute(OLD_TABLE).await;
    scene.migrate();
    let mut stored = Workload::default();
    stored.expected.booking_ids.extend((1..=5).map(|id| id.to_string()));
    partitioned(&scene, stored).await;
}

/// Partitions the table of bookings, which holds what is `stored`, while a service with few privileges writes it.
async fn partitioned(scene: &Scene, stored: Workload) -> &Scene {
    let (role, url) = plain_user(&scene.database).await;
    scene.execute(&format!("grant usage on all sequences in schema public to \"{role}\"")).await;
    let service = scene.clone().with("DATABASE_URL", &url).with("RETRY_MAX", "1s").start();
    let mut expected = stored.expected;
    let mut workload = |prefix| {
        let workload = Workload::mixed(prefix, 3_000, 3);
        expected.extend(workload.expected);
        workload.records
    };
    scene.send(&workload("before")).await;
    scene.wait_until_read().await;
    let during = workload("during");
    tokio::join!(scene.send(&during), scene.partition_table());
    scene.wait_until_read().await;

    // The sequence belongs to the new table, so the ids continue.
    scene.execute("drop table booking_history_plain").await;
    scene.send(&workload("after")).await;
    scene.wait_until_read().await;
    scene.audit().assert_exact(&expected).await;
    service.stop();
    let facts = "select (select relkind::text from pg_class where oid = 'booking_history'::regclass)
            || ' ' || (count(*) = count(distinct id))::text
        from booking_history";
    assert_eq!(scene.lines(facts).await, ["p true"]);
    scene
}
