//! `run --until-end`, and with it the topic read once more into other tables, as docs/operate/replay.md says it is done.

use std::process::Command;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use testbed::audit::Audit;
use testbed::kafka::kafka;
use testbed::postgres::{database, run};
use testbed::service::{Service, migrated, settings};
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

const PAGE: &str = include_str!("../../docs/operate/replay.md");

/// The statement of the page that begins with these words.
fn of_the_page(words: &str) -> &'static str {
    let block = PAGE.split("```sql\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    block.into_iter().find(|block| block.starts_with(words)).unwrap_or_else(|| panic!("no {words:?} in the page"))
}

/// A topic that a live service has read: its database holds what came of it.
struct Live {
    topic: Topic,
    group: String,
    database: String,
    service: Service,
    workload: Workload,
}

impl Live {
    async fn new() -> Self {
        let (topic, group, database) = (Topic::create(kafka(), 3).await, unique("group"), database().await);
        migrated(&database);
        let service = Service::run(&settings(kafka(), &topic, &group, &database));
        let workload = Workload::mixed("live", 600, 3);
        topic.producer(&[]).send(workload.records.iter().cloned()).await;
        let live = Self { topic, group, database, service, workload };
        live.audit(&live.group, &live.database).wait_until_read(PATIENCE).await;
        live
    }

    fn audit<'a>(&'a self, group: &'a str, database: &'a str) -> Audit<'a> {
        Audit { topic: &self.topic, group, database }
    }

    /// Reads the topic once more into other tables.
    fn replay(&self, database: &str) -> String {
        let group = unique("replay");
        let settings = settings(kafka(), &self.topic, &self.group, database);
        let (code, lines) = Service::finish(&format!("run --until-end --group-id {group}"), &settings, PATIENCE);
        assert_eq!(code, 0, "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("end_reached")), "{lines:#?}");
        group
    }
}

#[tokio::test]
async fn a_replay_into_another_schema_differs_in_nothing() {
    let live = Live::new().await;
    run(&live.database, "create schema replay").await;
    let replayed = format!("{}?options=-csearch_path%3Dreplay", live.database);
    migrated(&replayed);
    let group = live.replay(&replayed);
    live.audit(&group, &replayed).assert_exact(&live.workload.expected).await;

    let differences = async || -> Vec<(String, String)> {
        let mut both = PgConnection::connect(&live.database).await.unwrap();
        let sql = of_the_page("with live");
        let rows: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(format!(
            "select side, booking_id from ({}) as d order by 1, 2",
            sql.trim().trim_end_matches(';')
        )))
        .fetch_all(&mut both)
        .await
        .unwrap();
        rows
    };
    assert_eq!(differences().await, []);
    let altered = "update replay.booking_history set price = price + 0.01 where booking_id = 'live-3'";
    run(&live.database, altered).await;
    run(&live.database, "delete from booking_history where booking_id = 'live-4'").await;
    let named = |side: &str, id: &str| (side.to_owned(), id.to_owned());
    assert_eq!(
        differences().await,
        [named("live only", "live-3"), named("replay only", "live-3"), named("replay only", "live-4")]
    );

    // Nothing of the live service was touched: neither its positions nor those that Kafka has of its group.
    live.audit(&live.group, &live.database).wait_until_read(PATIENCE).await;
    assert_eq!(live.audit(&live.group, &live.database).rows().await.len(), 3);
    assert_eq!(live.audit(&group, &live.database).rows().await.len(), 0);
    let positions = |group: &str| live.topic.committed(group).into_iter().map(|(partition, (at, _))| (partition, at));
    assert!(positions(&group).eq(live.topic.ends()), "the mirror has the group of the replay");
    eventually(PATIENCE, |told: &bool| *told, async || positions(&live.group).eq(live.topic.ends())).await;
    live.service.sigterm();
    assert_eq!(live.service.wait_exit(PATIENCE), 0);
}

#[tokio::test]
async fn a_replay_into_another_database_differs_in_nothing() {
    let live = Live::new().await;
    let replayed = database().await;
    migrated(&replayed);
    let group = live.replay(&replayed);
    live.audit(&group, &replayed).assert_exact(&live.workload.expected).await;
    assert_eq!(diff(&live.database, &replayed), "");
    run(&replayed, "update booking_history set promo_code = '' where booking_id = 'live-3'").await;
    let differences = diff(&live.database, &replayed);
    assert!(differences.lines().count() == 4 && differences.contains("live-3"), "{differences}");
}

/// The page's lines for a shell, which end with a diff.
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

/// A run of `--until-end` on a topic of its own.
struct Ending {
    topic: Topic,
    group: String,
    database: String,
    settings: Vec<(String, String)>,
}

impl Ending {
    async fn new(topic: Topic) -> Self {
        let (group, database) = (unique("group"), database().await);
        migrated(&database);
        let settings = settings(kafka(), &topic, &group, &database);
        Self { topic, group, database, settings }
    }

    fn start(&self) -> Service {
        Service::command("run --until-end", &self.settings)
    }

    async fn stored(&self) -> Vec<String> {
        let mut connection = PgConnection::connect(&self.database).await.unwrap();
        sqlx::query_scalar("select booking_id from booking_history order by booking_id")
            .fetch_all(&mut connection)
            .await
            .unwrap()
    }

    fn audit(&self) -> Audit<'_> {
        Audit { topic: &self.topic, group: &self.group, database: &self.database }
    }
}

#[tokio::test]
async fn it_waits_for_a_topic_and_ends_at_once_where_there_is_nothing_to_read() {
    let topic = Topic::named(kafka(), &unique("bookings"));
    let ending = Ending::new(topic).await;
    let service = ending.start();
    service.wait_for_line(|line| line.contains("topic_missing"), PATIENCE);
    ending.topic.create_again(2, &[]).await;
    assert_eq!(service.wait_exit(PATIENCE), 0, "{:#?}", service.lines());
    assert_eq!(ending.audit().rows().await.len(), 2);
    // And once more, with all done already.
    let (code, lines) = ending.start().finished(PATIENCE);
    assert_eq!(code, 0, "{lines:#?}");
}

#[tokio::test]
async fn markers_aborted_records_and_an_open_transaction_are_no_obstacle() {
    let ending = Ending::new(Topic::create(kafka(), 2).await).await;
    let record = |id: &str, partition| Outgoing::to(partition, booking(id, "1"));
    let producer = ending.topic.transactional_producer();
    for (ids, keep) in [(["committed-0", "committed-1"], true), (["aborted-0", "aborted-1"], false)] {
        producer.begin();
        producer.send([record(ids[0], 0), record(ids[1], 1)]).await;
        if keep { producer.commit() } else { producer.abort() }
    }
    let open = ending.topic.transactional_producer();
    open.begin();
    open.send([record("open", 1)]).await;
    ending.topic.producer(&[]).send([record("behind the open one", 1), record("free", 0)]).await;
    let (code, lines) = ending.start().finished(PATIENCE);
    assert_eq!(code, 0, "{lines:#?}");
    assert_eq!(ending.stored().await, ["committed-0", "committed-1", "free"]);
    open.commit();
    let (code, lines) = ending.start().finished(PATIENCE);
    assert_eq!(code, 0, "{lines:#?}");
    assert_eq!(ending.stored().await, ["behind the open one", "committed-0", "committed-1", "free", "open"]);
}

#[tokio::test]
async fn what_comes_after_the_start_is_not_waited_for_and_a_signal_ends_it_sooner() {
    let ending = Ending::new(Topic::create(kafka(), 1).await).await;
    ending.topic.producer(&[]).send(Workload::bookings("first", 100, 1).records).await;
    // A lock holds the engine up, so that it can't be done before the rest is there.
    let mut operator = PgConnection::connect(&ending.database).await.unwrap();
    let mut lock = operator.begin().await.unwrap();
    sqlx::query("lock table booking_history in share mode").execute(&mut *lock).await.unwrap();
    let service = ending.start();
    service.wait_for_line(|line| line.contains("end_seen") && line.contains("end=100"), PATIENCE);
    ending.topic.producer(&[]).send(Workload::bookings("later", 100, 1).records).await;
    service.sigterm();
    lock.rollback().await.unwrap();
    assert_eq!(service.wait_exit(PATIENCE), 0, "{:#?}", service.lines());
    assert!(!service.lines().iter().any(|line| line.contains("end_reached")), "{:#?}", service.lines());

    let service = ending.start();
    service.wait_for_line(|line| line.contains("end_seen") && line.contains("end=200"), PATIENCE);
    assert_eq!(service.wait_exit(PATIENCE), 0, "{:#?}", service.lines());
    assert_eq!(ending.stored().await.len(), 200);
}

#[tokio::test]
async fn instances_that_share_the_work_end_together() {
    let ending = Ending::new(Topic::create(kafka(), 2).await).await;
    let workload = Workload::mixed("shared", 2_000, 2);
    ending.topic.producer(&[]).send(workload.records.iter().cloned()).await;
    // One with nothing to do among them: there are more instances than partitions.
    let services: Vec<Service> = (0..3).map(|_| ending.start()).collect();
    for service in services {
        let (code, lines) = service.finished(PATIENCE);
        assert_eq!(code, 0, "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("end_reached")), "{lines:#?}");
    }
    ending.audit().assert_exact(&workload.expected).await;
}

#[tokio::test]
async fn a_halted_partition_ends_it_with_69_once_the_others_are_done() {
    let mut ending = Ending::new(Topic::create(kafka(), 2).await).await;
    ending.settings.push(("BREAKER_CONSECUTIVE".to_owned(), "2".to_owned()));
    let poison = (0..5).map(|number| Outgoing::to(1, format!("poison {number}")));
    ending.topic.producer(&[]).send(poison).await;
    ending.topic.producer(&[]).send((0..50).map(|n| Outgoing::to(0, booking(&format!("good-{n}"), "1")))).await;
    let (code, lines) = ending.start().finished(PATIENCE);
    assert_eq!(code, 69, "{lines:#?}");
    let last = lines.last().unwrap();
    for words in ["partition 1 (too_many_dead_letters)", "offsets resume"] {
        assert!(last.contains(words), "{words:?} is not in {last}");
    }
    assert!(!last.contains("partition 0"), "{last}");
    assert_eq!(ending.stored().await.len(), 50);
}

#[tokio::test]
async fn a_position_that_the_log_does_not_have_is_no_end() {
    let ending = Ending::new(Topic::create(kafka(), 1).await).await;
    ending.topic.producer(&[]).send(Workload::bookings("first", 10, 1).records).await;
    let (code, lines) = ending.start().finished(PATIENCE);
    assert_eq!(code, 0, "{lines:#?}");
    run(&ending.database, "update consumer_offsets set next_offset = 999, counted_from = 999").await;
    let service = ending.start();
    service.wait_for_line(|line| line.contains("partition_started") || line.contains("partition_halted"), PATIENCE);
    // It would have ended within a second or two. That the engine halts the partition is another matter, and ends it, too.
    let (patience, began) = (Duration::from_secs(4), Instant::now());
    let ended = |running: &bool| !running || began.elapsed() > patience;
    if !eventually(PATIENCE, ended, async || service.is_running()).await {
        assert_eq!(service.wait_exit(PATIENCE), 69, "{:#?}", service.lines());
    }
    assert!(!service.lines().iter().any(|line| line.contains("end_reached")), "{:#?}", service.lines());
}
