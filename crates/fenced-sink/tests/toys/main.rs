//! The engine stores any event exactly once: here an event of another team, with its own table, through the library
//! only.

#![expect(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod bisecting;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Duration;

use fenced_sink::verify::{FindingKind, Progress, Report, Scope, verify};
use fenced_sink::{
    ConsumerError, EngineError, Event, InsertOutcome, LogPoint, Lookup, Offset, Options, Parsed, Reason, Record,
    RecordRef, Refusal, RetrySchedule, check, create_tables, run,
};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use testbed::audit::{Audit, Totals};
use testbed::kafka::kafka;
use testbed::postgres::{self, database};
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::PATIENCE;

/// An event `toy NAME SIZE`. A record that begins with another word has another event type.
#[derive(Debug)]
struct Toy {
    name: String,
    size: i32,
}

impl Event for Toy {
    fn parse(record: &Record) -> Result<Parsed<Self>, Refusal> {
        let refusal = |reason, field, detail: &str| Refusal { reason, field, detail: detail.to_owned() };
        let value = record.value.as_deref().ok_or_else(|| refusal(Reason::Tombstone, None, "there is no value"))?;
        let text = str::from_utf8(value).map_err(|_| refusal(Reason::WrongType, None, "the value is no text"))?;
        match text.split(' ').collect::<Vec<_>>().as_slice() {
            ["toy", name, size] => {
                count(name, |calls| calls.parse += 1);
                let size = size.parse().map_err(|_| refusal(Reason::InvalidValue, Some("size"), "no number"))?;
                Ok(Parsed::Event(Self { name: (*name).to_owned(), size }))
            }
            ["toy", ..] => Err(refusal(Reason::MissingField, None, "a toy has a name and a size")),
            [other, ..] => Ok(Parsed::Ignored { event_type: (*other).to_owned() }),
            [] => Err(refusal(Reason::MissingField, None, "a text has a first word")),
        }
    }

    fn key(&self) -> &str {
        &self.name
    }

    async fn insert_all(connection: &mut PgConnection, events: &[&Self]) -> sqlx::Result<Vec<i64>> {
        let (names, sizes) = columns(events);
        sqlx::query_scalar("insert into toys (name, size) select * from unnest($1, $2) returning id")
            .bind(names)
            .bind(sizes)
            .fetch_all(connection)
            .await
    }

    async fn insert_each(connection: &mut PgConnection, events: &[&Self]) -> sqlx::Result<Vec<InsertOutcome>> {
        if let Some(first) = events.first() {
            count(&first.name, |calls| calls.insert_each += 1);
        }
        let (names, sizes) = columns(events);
        let new: Vec<(String, i64)> = sqlx::query_as(
            "insert into toys (name, size) select * from unnest($1, $2) on conflict do nothing returning name, id",
        )
        .bind(names)
        .bind(sizes)
        .fetch_all(&mut *connection)
        .await?;
        let mut new: BTreeMap<String, i64> = new.into_iter().collect();
        let mut fates = Vec::new();
        for event in events {
            fates.push(match new.remove(&event.name) {
                Some(id) => InsertOutcome::Stored(id),
                None => met(connection, event).await?,
            });
        }
        Ok(fates)
    }

    async fn find(connection: &mut PgConnection, events: &[&Self]) -> sqlx::Result<Vec<Lookup>> {
        let mut found = Vec::new();
        for event in events {
            let stored: Option<(i64, i32)> = sqlx::query_as("select id, size from toys where name = $1")
                .bind(&event.name)
                .fetch_optional(&mut *connection)
                .await?;
            found.push(match stored {
                None => Lookup::Missing,
                Some((id, size)) if size == event.size => Lookup::Same(id),
                Some((id, _)) => Lookup::Different(id),
            });
        }
        Ok(found)
    }

    async fn page(connection: &mut PgConnection, from: i64, limit: i64) -> sqlx::Result<Vec<(i64, String)>> {
        sqlx::query_as("select id, name from toys where id >= $1 order by id limit $2")
            .bind(from)
            .bind(limit)
            .fetch_all(connection)
            .await
    }

    fn log(&self, _: LogPoint, _: RecordRef<'_>) {}
}

/// The number of calls by the engine for the toys of one set.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    parse: usize,
    insert_each: usize,
}

/// By set. The name of a toy begins with its set, up to a `-`.
static CALLS: Mutex<BTreeMap<String, Calls>> = Mutex::new(BTreeMap::new());

fn count(name: &str, one: impl FnOnce(&mut Calls)) {
    let (set, _) = name.split_once('-').unwrap_or((name, ""));
    one(CALLS.lock().unwrap().entry(set.to_owned()).or_default());
}

async fn met(connection: &mut PgConnection, toy: &Toy) -> sqlx::Result<InsertOutcome> {
    Ok(match Toy::find(connection, &[toy]).await?.as_slice() {
        [Lookup::Same(_)] => InsertOutcome::Duplicate,
        [Lookup::Different(_)] => InsertOutcome::Conflict,
        _ => InsertOutcome::Discarded,
    })
}

fn columns(events: &[&Toy]) -> (Vec<String>, Vec<i32>) {
    events.iter().map(|toy| (toy.name.clone(), toy.size)).unzip()
}

/// Short delays, so that the tests are fast.
fn options(topic: &Topic, group: &str, database: &str) -> Options {
    let defaults = Options::new(database.parse::<PgConnectOptions>().unwrap(), &kafka().address(), &topic.name, group);
    Options {
        batch_max_records: 1_000,
        database_timeout: Duration::from_secs(10),
        retry_max: Duration::from_secs(1),
        startup_timeout: Duration::from_secs(10),
        dead_letters: RetrySchedule { max_attempts: NonZeroU32::MIN, ..RetrySchedule::default() },
        breaker: None,
        log_records_per_second: 0,
        ..defaults
    }
}

/// A run in this process, and the sender that stops it.
fn start(options: Options) -> (oneshot::Sender<()>, JoinHandle<Result<(), EngineError>>) {
    let (stop, stopped) = oneshot::channel();
    (stop, tokio::spawn(run::<Toy>(options, async { drop(stopped.await) })))
}

#[tokio::test]
async fn an_event_of_another_team_is_stored_exactly_once() {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    let mut connection = PgConnection::connect(&database).await.unwrap();
    create_tables(&mut connection).await.unwrap();
    let table = "create table toys (id bigint generated always as identity, name text primary key,
                                    size integer check (size < 1000))";
    postgres::run(&database, table).await;
    let producer = topic.producer(&[]);
    let send = async |texts: &[&str]| {
        producer.send(texts.iter().map(|text| Outgoing::to(0, *text))).await;
    };
    let audit = Audit { topic: &topic, group: &group, database: &database };

    let (stop, running) = start(options(&topic, &group, &database));
    send(&["toy bear 30", "game chess 2", "toy train 12", "toy bear 30", "toy bear 31"]).await;
    send(&["toy", "toy ship big", "toy giant 1000", "toy kite 7"]).await;
    audit.wait_until_read(PATIENCE).await;
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();

    // The next run reads the records that arrive while no run is active.
    send(&["toy doll 5", "toy train 12"]).await;
    let (stop, running) = start(options(&topic, &group, &database));
    audit.wait_until_read(PATIENCE).await;
    drop(stop);
    running.await.unwrap().unwrap();

    // The topic log explains every toy, and `verify` looks up each of them.
    let options = options(&topic, &group, &database);
    let mut found = Vec::new();
    let mut tell = |told: Progress<'_>| {
        if let Progress::Found(finding) = told {
            found.push((finding.kind, finding.offset, finding.key.clone()));
        }
    };
    let report = verify::<Toy>(&options, &Scope::default(), &mut tell).await.unwrap();
    assert_eq!(report, Report { records: 11, ..Report::default() });
    postgres::run(&database, "delete from toys where name = 'kite'; insert into toys (name, size) values ('ball', 1)")
        .await;
    let report = verify::<Toy>(&options, &Scope::default(), &mut tell).await.unwrap();
    assert_eq!(report, Report { records: 11, findings: 2, ..Report::default() });
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(
        found,
        [(FindingKind::Missing, Some(Offset(8)), named("kite")), (FindingKind::Extra, None, named("ball"))]
    );
    postgres::run(&database, "delete from toys where name = 'ball'; insert into toys (name, size) values ('kite', 7)")
        .await;

    let totals = audit.rows().await[&0].totals;
    assert_eq!(totals, Totals { stored: 4, duplicates: 2, ignored: 1, dead_lettered: 4 });
    let toys: Vec<(String, i32)> =
        sqlx::query_as("select name, size from toys order by name").fetch_all(&mut connection).await.unwrap();
    let toys: Vec<_> = toys.iter().map(|(name, size)| (name.as_str(), *size)).collect();
    assert_eq!(toys, [("bear", 30), ("doll", 5), ("kite", 7), ("train", 12)]);
    let letters: Vec<(i64, String, Option<String>)> =
        sqlx::query_as("select \"offset\", reason, field from dead_letters order by \"offset\"")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    let letters: Vec<_> =
        letters.iter().map(|(offset, reason, field)| (*offset, reason.as_str(), field.as_deref())).collect();
    let expected = [
        (4, "conflicting_duplicate", None),
        (5, "missing_field", None),
        (6, "invalid_value", Some("size")),
        (7, "database_rejected", None),
    ];
    assert_eq!(letters, expected);
}

#[tokio::test]
async fn a_run_that_cannot_start_returns_an_error() {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    let mut options = options(&topic, &group, &database);
    options.startup_timeout = Duration::ZERO;
    let (_stop, running) = start(options.clone());
    // Without the tables.
    assert!(matches!(running.await.unwrap(), Err(EngineError::Database(_))));
    options.properties.insert("no.such.property".to_owned(), "1".to_owned());
    let checked = check(&options);
    let (_stop, running) = start(options);
    for error in [checked.unwrap_err(), running.await.unwrap().unwrap_err()] {
        let EngineError::Kafka(ConsumerError::Configuration(why)) = error else { panic!("{error}") };
        assert!(why.contains("no.such.property"), "{why}");
    }
}
