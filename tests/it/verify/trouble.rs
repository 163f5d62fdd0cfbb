//! Servers that are away, slow or damaged: not all can be compared, and that is said.

use std::fs;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use super::*;

/// Longer than a verification waits for anything.
const LIMIT: Duration = Duration::from_mins(2);

/// Ten bookings that are kept, and a ledger that says that there were more: `verify` waits for these, its snapshot open.
async fn ten_of(next_offset: i64) -> World {
    let mut world = World::new(1).await;
    let ten: Vec<String> = (0..10).map(|n| booking(&format!("a-{n}"), "1")).collect();
    world.send(&ten).await;
    world.keep().await;
    world.run(&format!("update consumer_offsets set next_offset = {next_offset}, stored = {next_offset}")).await;
    world.settings.push(("DATABASE_TIMEOUT".to_owned(), "1s".to_owned()));
    world
}

/// Waits until its snapshot has been idle for longer than the service lets a transaction be.
async fn wait_until_it_waits(world: &World) {
    let mut operator = PgConnection::connect(&world.database).await.unwrap();
    let mut waiting = async || {
        let idle = "select count(*) from pg_stat_activity where datname = current_database()
                    and state = 'idle in transaction' and now() - state_change > interval '3 s'";
        let count: (i64,) = sqlx::query_as(idle).fetch_one(&mut operator).await.unwrap();
        count.0
    };
    let began = std::time::Instant::now();
    while waiting().await == 0 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_snapshot_outlives_the_limits_of_the_service() {
    let world = ten_of(12).await;
    let running = Service::command("verify --output json", &world.settings);
    wait_until_it_waits(&world).await;
    world.send(&[booking("new", "1"), "poison".to_owned()]).await;
    let (code, lines) = running.finished(LIMIT);
    assert_eq!((code, lines.len()), (1, 4), "two findings, the sums and the error: {lines:#?}");
    assert!(
        lines[0].contains(r#""offset":10,"booking_id":"new""#) && lines[1].contains(r#""offset":11"#),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn records_that_are_lost_while_they_are_read_are_no_success() {
    let world = ten_of(15).await;
    let running = Service::command("verify", &world.settings);
    wait_until_it_waits(&world).await;
    running.sigstop();
    tokio::time::sleep(Duration::from_secs(1)).await; // a fetch may be on its way, for a tenth of that
    world.send(&(0..5).map(|n| booking(&format!("b-{n}"), "1")).collect::<Vec<_>>()).await;
    world.topic.delete_records(0, 13).await;
    running.sigcont();
    let (code, lines) = running.finished(LIMIT);
    let told = lines.concat();
    assert!(code == 69 && told.contains("lost records while they were read"), "{code} {lines:#?}");
    assert!(told.contains("read up to 10 of 15, and its log now begins at 13 and ends at 15"), "{lines:#?}");
}

#[tokio::test]
async fn a_broker_that_is_away_is_waited_for_for_a_bounded_time() {
    let broker = Kafka::start_new();
    let world = World::on(&broker, Topic::create(&broker, 1).await).await;
    world.send(&[booking("a", "1")]).await;
    world.keep().await;
    world.verify("").assert_clean(1);
    // In the middle.
    world.run("update consumer_offsets set next_offset = 2").await;
    let running = Service::command("verify", &world.settings);
    wait_until_it_waits(&world).await;
    broker.kill();
    let (code, lines) = running.finished(LIMIT);
    assert!(code == 69 && lines.concat().contains("Kafka gave nothing for 30 s"), "{code} {lines:#?}");
    // From the beginning.
    let (code, lines) = Service::finish("verify", &world.settings, LIMIT);
    assert!(code == 69 && lines.concat().contains("can't ask Kafka"), "{code} {lines:#?}");
    world.run("update consumer_offsets set next_offset = 1").await;
    broker.start();
    world.verify("").assert_clean(1);
}

#[tokio::test]
async fn a_damaged_batch_is_told_and_what_follows_is_not_taken_for_all() {
    let broker = Kafka::start_new();
    let world = World::on(&broker, Topic::create(&broker, 1).await).await;
    for id in ["first", "second", "third"] {
        world.send(&[booking(id, "1")]).await;
    }
    world.keep().await;
    world.run("update booking_history set price = 2 where booking_id = 'first'").await;
    broker.stop();
    let segment = broker.segment(&world.topic.name, 0);
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(6).position(|window| window == b"second").unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    broker.start();
    let (code, lines) = Service::finish("verify", &world.settings, LIMIT);
    assert!(code == 70 && lines.concat().contains("the topic log is damaged"), "{code} {lines:#?}");
    assert!(lines.concat().contains("partition 0 is read up to 1 of 3"), "{lines:#?}");
    // What was read before is compared all the same.
    assert!(lines.concat().contains("altered  0          0           first"), "{lines:#?}");
    assert!(lines.concat().contains("not everything was compared, 1 finding so far"), "{lines:#?}");
}

#[tokio::test]
async fn a_database_without_its_tables_or_out_of_reach_is_said() {
    let mut world = World::new(1).await;
    let empty = database().await;
    let swap = |world: &mut World, url: &str| {
        world.settings.retain(|(name, _)| name != "DATABASE_URL");
        world.settings.push(("DATABASE_URL".to_owned(), url.to_owned()));
    };
    let (code, lines) = Service::finish("verify", &world.settings, LIMIT);
    assert!(code == 69 && lines.concat().contains("there is nothing to verify"), "{code} {lines:#?}");
    swap(&mut world, &empty);
    let (code, lines) = Service::finish("verify", &world.settings, LIMIT);
    assert!(code == 69 && lines.concat().contains("migrate up"), "{code} {lines:#?}");
    swap(&mut world, "postgresql://nobody@127.0.0.1:1/none");
    let (code, lines) = Service::finish("verify", &world.settings, LIMIT);
    assert!(code == 69 && lines.concat().contains("can't use PostgreSQL"), "{code} {lines:#?}");
}
