//! A table of bookings that is partitioned by hash, made from the table that is there while the service runs.
//!
//! With `TEST_TABLE=partitioned` each test that creates new tables runs on such a table. The gate does this for some suites.

use crate::adoption::OLD_TABLE;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testbed::pages;
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

#[tokio::test]
async fn what_changes_between_the_steps_is_in_the_new_table() {
    let scene = Scene::without_tables(1).await;
    scene.migrate();
    let insert = "insert into booking_history (booking_id, user_id, hotel_id, discount_percent, price, created_at)
        select id, 'u', 'h', 0, 1, now() from unnest(string_to_array($ids, ' ')) as id;";
    let insert = |ids: &str| insert.replace("$ids", &format!("'{ids}'"));
    scene.execute(&insert("stays changes leaves former")).await;
    let [copy, swap] = ["1-copy.sql", "2-swap.sql"].map(|name| pages::read(&format!("deploy/partitioning/{name}")));
    scene.execute(&copy).await;
    // The triggers also list the changes of a session with the role `replica`.
    let changes = "set session_replication_role = replica;
        update booking_history set price = 2 where booking_id = 'changes';
        update booking_history set booking_id = 'latter' where booking_id = 'former';
        delete from booking_history where booking_id = 'leaves';";
    scene.execute(&format!("{changes} {}", insert("comes"))).await;
    assert!(refusal(&scene, "truncate booking_history").await.contains("cannot be truncated"));
    let trigger = "trigger booking_history_changes_delete";
    scene.execute(&format!("alter table booking_history disable {trigger}")).await;
    assert!(refusal(&scene, &swap).await.contains("missing or disabled"));
    scene.execute(&format!("alter table booking_history enable always {trigger}")).await;
    let (_, exchange) = swap.split_once("lock table").unwrap();
    let incomplete = format!("begin; drop index booking_history_partitioned_booking_id_idx; lock table {exchange}");
    assert!(refusal(&scene, &incomplete).await.contains("not copied"));
    scene.execute(&swap).await;
    let rows = "select booking_id || ' ' || price from booking_history order by booking_id";
    assert_eq!(scene.lines(rows).await, ["changes 2", "comes 1", "latter 1", "stays 1"]);
    let left = "select count(*)::text from pg_class where relname = 'booking_history_changes'";
    assert_eq!(scene.lines(left).await, ["0"]);
}

/// The error of these statements.
async fn refusal(scene: &Scene, statements: &str) -> String {
    let mut operator = PgConnection::connect(&scene.database).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut operator).await.unwrap_err().to_string()
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
