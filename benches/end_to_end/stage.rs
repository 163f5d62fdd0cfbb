//! The servers, the topics, and one run of a contestant on them.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::process::Command;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testbed::Postgres;
use tokio::sync::Mutex;

use crate::events::{Expected, Load};
use crate::usage::{self, Memory, Used};
use testbed::kafka::Kafka;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::Topic;
use testbed::unique;

/// As a careful production server: what is committed is on the disk.
const POSTGRES: &[(&str, &str)] = &[
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("shared_buffers", "1GB"),
    ("max_wal_size", "4GB"),
    // Records when each row was committed, so that the bench need not ask during a run.
    ("track_commit_timestamp", "on"),
];

/// Longer than a run takes on any machine.
const LIMIT: Duration = Duration::from_mins(30);

/// A build of the service, and settings that differ from its defaults.
#[derive(Clone)]
pub struct Program {
    path: String,
    settings: Vec<(String, String)>,
}

impl Program {
    /// `NAME=VALUE` separated by spaces. `PROGRAM=PATH` is another build.
    pub fn of(words: &str) -> Self {
        let mut program = Self { path: env!("CARGO_BIN_EXE_booking-history").to_owned(), settings: Vec::new() };
        for word in words.split_whitespace() {
            match word.split_once('=') {
                Some(("PROGRAM", path)) => path.clone_into(&mut program.path),
                Some((name, value)) => program.settings.push((name.to_owned(), value.to_owned())),
                None => panic!("not NAME=VALUE: {word}"),
            }
        }
        program
    }

    /// The same with more settings, of which its own have precedence.
    pub fn with(&self, words: &str) -> Self {
        let settings = Self::of(words).settings.into_iter().chain(self.settings.iter().cloned()).collect();
        Self { path: self.path.clone(), settings }
    }

    /// The same with this property of Kafka before those that it has.
    pub fn with_kafka_property(&self, property: &str) -> Self {
        let mut program = self.clone();
        match program.settings.iter_mut().rfind(|(name, _)| name == "KAFKA_PROPERTIES") {
            Some((_, given)) => *given = format!("{property},{given}"),
            None => program.settings.push(("KAFKA_PROPERTIES".to_owned(), property.to_owned())),
        }
        program
    }

    /// Runs a command of the service in a scene.
    pub fn start(&self, command: &str, scene: &Scene) -> Service {
        let settings = self.settings.iter();
        let scene = settings.fold(scene.clone(), |scene, (name, value)| scene.with(name, value));
        Service::start_program(&self.path, &[], command, &scene.environment)
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = self.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if self.path != env!("CARGO_BIN_EXE_booking-history") {
            words.push(self.path.rsplit('/').next().unwrap_or(&self.path).to_owned());
        }
        f.write_str(&words.join(" "))
    }
}

/// How a database sorts and compares text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Collation {
    /// By the bytes.
    CUtf8,
    /// By the rules of a language, as in a database of the official image.
    EnUs,
}

/// The figures of a run.
pub struct Run {
    pub records_per_second: f64,
    /// Seconds of CPU time for a million records.
    pub own: f64,
    pub postgres: f64,
    pub kafka: f64,
    /// Only of the service.
    pub memory: Option<Memory>,
    /// Share of the machine that other processes used.
    pub others: f64,
}

/// The servers, and the topics that they hold already.
pub struct Stage {
    pub kafka: Kafka,
    pub postgres: Postgres,
    topics: Mutex<Vec<(Load, Topic)>>,
}

impl Stage {
    /// Starts the servers.
    pub fn set() -> Self {
        // The server makes the locale for itself, because few machines have it.
        let postgres = Postgres::start_with(POSTGRES, Some(("en_US", "UTF-8")));
        let postgres = postgres.unwrap_or_else(|error| panic!("{error}"));
        Self { kafka: Kafka::start_with_large_heap(), postgres, topics: Mutex::default() }
    }

    /// A topic with these records. It is made at the first call.
    pub async fn topic(&self, load: Load) -> Topic {
        let mut topics = self.topics.lock().await;
        if let Some((_, topic)) = topics.iter().find(|(known, _)| *known == load) {
            return topic.clone();
        }
        let topic = Topic::create(&self.kafka, load.partitions).await;
        // Large values are random text, which producers compress less than ours would be.
        let compression = if load.bytes < 1_000 { "lz4" } else { "none" };
        topic.producer(&[("compression.type", compression)]).send(load.events().map(|event| event.record())).await;
        topics.push((load, topic.clone()));
        topic
    }

    /// A topic, and the tables in an empty database: its name and the scene.
    pub async fn scene(&self, topic: Topic) -> (String, Scene) {
        self.scene_in(topic, Collation::CUtf8).await
    }

    /// As [`Self::scene`], with this collation.
    pub async fn scene_in(&self, topic: Topic, collation: Collation) -> (String, Scene) {
        let name = unique("bench");
        let collation = match collation {
            Collation::CUtf8 => "C.UTF-8",
            Collation::EnUs => "en_US.UTF-8",
        };
        self.administer(&format!("create database \"{name}\" template template0 locale '{collation}'")).await;
        let scene = Scene::between(topic, self.postgres.url(&name));
        scene.migrate();
        (name, scene)
    }

    /// Drops a database and writes what it left to be written, so that the next run writes only its own rows.
    pub async fn drop_database(&self, name: &str) {
        self.administer(&format!("drop database \"{name}\" with (force)")).await;
        self.administer("checkpoint").await;
    }

    async fn administer(&self, statement: &str) {
        let mut server = PgConnection::connect(&self.postgres.url("postgres")).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut server).await.unwrap();
    }

    /// Copies the rows of a load into an empty table with `psql`: one connection, one transaction, from a file.
    pub async fn copy(&self, load: Load, collation: Collation) -> Run {
        // The file is removed with the server's directory.
        let topic = self.topic(load).await;
        let file = self.postgres.directory().join(format!("{}.rows", topic.name));
        if !file.exists() {
            let mut lines = BufWriter::new(File::create(&file).unwrap());
            load.events().for_each(|event| event.write_line(&mut lines).unwrap());
            lines.flush().unwrap();
        }
        let (name, scene) = self.scene_in(topic, collation).await;
        let columns = "booking_id, user_id, hotel_id, promo_code, discount_percent, price, created_at";
        let copy = format!("\\copy booking_history ({columns}) from '{}'", file.display());
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", &copy, &scene.database]);
        let (before, own_before) = (Used::so_far(self), usage::cpu_of_ended_children());
        assert!(psql.status().unwrap().success(), "psql");
        let (after, own) = (Used::so_far(self), usage::cpu_of_ended_children() - own_before);
        let mut connection = scene.connect().await;
        assert_rows(&mut connection, load.expected()).await;
        drop(connection);
        self.drop_database(&name).await;
        Run::between(&before, &after, load.records, after.at - before.at, own, None)
    }

    /// Lets the service handle all records of a topic, and checks what the tables hold then.
    pub async fn handle(&self, program: &Program, scene: &Scene, load: Load, expected: Expected) -> Run {
        let before = Used::so_far(self);
        let mut connection = scene.connect().await;
        let service = program.start("run", scene);
        let last_commit = wait_until_handled(&mut connection, &scene.group, load.records).await;
        let (own, after) = (usage::cpu(service.pid()), Used::so_far(self));
        let memory = Some(Memory::of(service.pid()));
        let took = (last_commit - started(&service)).to_std().unwrap();
        service.stop();
        assert_positions(&mut connection, scene, expected).await;
        assert_rows(&mut connection, load.expected()).await;
        Run::between(&before, &after, load.records, took, own, memory)
    }
}

impl Run {
    fn between(
        before: &Used,
        after: &Used,
        records: u32,
        took: Duration,
        own: Duration,
        memory: Option<Memory>,
    ) -> Self {
        let records = f64::from(records);
        let per_million = |time: Duration| time.as_secs_f64() * 1e6 / records;
        Self {
            records_per_second: records / took.as_secs_f64(),
            own: per_million(own),
            postgres: per_million(after.postgres - before.postgres),
            kafka: per_million(after.kafka - before.kafka),
            memory,
            others: before.others_until(after, own),
        }
    }
}

/// Compares the tables with the topic, and returns the records per second, with the start of the program.
pub fn verify(program: &Program, scene: &Scene, records: u32) -> f64 {
    let began = Instant::now();
    let (code, lines) = program.start("verify", scene).finished_within(LIMIT);
    let took = began.elapsed();
    assert_eq!((code, lines), (0, vec![format!("{records} records compared, 0 findings")]));
    f64::from(records) / took.as_secs_f64()
}

/// Waits until the group has handled this number of records, and returns the time of the last commit. It reads the
/// service's own counts on one connection: too cheap to change the figures.
pub async fn wait_until_handled(connection: &mut PgConnection, group: &str, records: u32) -> DateTime<Utc> {
    let began = Instant::now();
    loop {
        let (handled, last): (i64, Option<DateTime<Utc>>) = sqlx::query_as(
            "select coalesce(sum(stored + duplicates + ignored + dead_lettered), 0)::bigint, \
             max(pg_xact_commit_timestamp(xmin)) from consumer_offsets where group_id = $1",
        )
        .bind(group)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
        if handled == i64::from(records) {
            return last.unwrap();
        }
        assert!(began.elapsed() < LIMIT, "{handled} records after {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Checks that each row is stored once, with its price, and each dead letter once.
pub async fn assert_rows(connection: &mut PgConnection, expected: Expected) {
    let found: (i64, i64, i64, i64, i64) = sqlx::query_as(
        "select count(*), count(distinct booking_id), coalesce((sum(price) * 100)::bigint, 0), \
                (select count(*) from dead_letters), \
                (select count(distinct (partition, \"offset\")) from dead_letters) \
         from booking_history",
    )
    .fetch_one(connection)
    .await
    .unwrap();
    let Expected { rows, cents, dead_letters, .. } = expected;
    let expected = (rows, rows, cents, dead_letters, dead_letters);
    assert_eq!(found, expected, "rows, bookings, sum of prices, dead letters and their records");
}

/// Checks that the group is at the end of the topic, and counts each record once.
pub async fn assert_positions(connection: &mut PgConnection, scene: &Scene, expected: Expected) {
    let found: (i64, i64, i64, i64, i64) = sqlx::query_as(
        "select sum(next_offset)::bigint, sum(stored)::bigint, sum(duplicates)::bigint, sum(dead_lettered)::bigint, \
         sum(ignored)::bigint from consumer_offsets where group_id = $1",
    )
    .bind(&scene.group)
    .fetch_one(connection)
    .await
    .unwrap();
    let ends = scene.topic.ends().into_values().sum::<i64>();
    let expected = (ends, expected.rows, expected.duplicates, expected.dead_letters, 0);
    assert_eq!(found, expected, "positions and totals of consumer_offsets");
}

/// When the service began to read: earlier than the commit of its first row.
fn started(service: &Service) -> DateTime<Utc> {
    service.wait_for_event("partition_started").time.parse().unwrap()
}
