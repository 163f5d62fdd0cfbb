//! The servers, filled, and one run of a contestant on them.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use testbed::Postgres;

use crate::events::{IdKind, PARTITIONS};
use crate::usage;
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
const LIMIT: Duration = Duration::from_mins(10);

/// The program that moves the rows.
pub enum Contestant {
    /// `psql`, one connection, one transaction, from a file.
    Copy,
    /// The service, from Kafka, with these further settings.
    Service { program: String, settings: Vec<(String, String)> },
}

impl Contestant {
    /// `NAME=VALUE` separated by spaces.
    pub fn service(words: &str) -> Self {
        let mut program = env!("CARGO_BIN_EXE_booking-history").to_owned();
        let mut settings = Vec::new();
        for word in words.split_whitespace() {
            match word.split_once('=') {
                Some(("PROGRAM", path)) => path.clone_into(&mut program),
                Some((name, value)) => settings.push((name.to_owned(), value.to_owned())),
                None => panic!("not NAME=VALUE: {word}"),
            }
        }
        Self::Service { program, settings }
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Service { program, settings } = self else { return f.write_str("\\copy") };
        let mut words: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if program != env!("CARGO_BIN_EXE_booking-history") {
            words.push(program.rsplit('/').next().unwrap_or(program).to_owned());
        }
        let name = if words.is_empty() { "booking-history".to_owned() } else { words.join(" ") };
        f.write_str(&name)
    }
}

/// The figures of a run. CPU is in seconds for a million rows.
pub struct Run {
    pub rows_per_second: f64,
    /// Records a second that `verify` compared after the run, with the start of the program.
    pub verified_per_second: Option<f64>,
    own: f64,
    postgres: f64,
    kafka: f64,
    /// Of the contestant, in MiB.
    memory: Option<u32>,
    transactions: i64,
    /// Share of the machine that other processes used.
    others: f64,
}

impl Run {
    pub const HEAD: &str = "\n\
        round      rows/s   CPU s per M rows: own  Postgres  Kafka   peak MiB  rows/commit   others   what";

    pub fn line(&self, round: usize, contestant: &Contestant, rows: u32) -> String {
        let Self { rows_per_second, own, postgres, kafka, memory, transactions, others, .. } = self;
        let memory = memory.map_or("-".to_owned(), |memory| memory.to_string());
        let each = i64::from(rows) / transactions;
        format!(
            "{round:>5} {rows_per_second:>11.0} {own:>26.1} {postgres:>9.1} {kafka:>6.1} {memory:>10} {each:>12} \
             {:>6.0} %   {contestant}",
            others * 100.0
        )
    }
}

/// The servers, the topic and the file.
pub struct Stage {
    pub rows: u32,
    pub ids: IdKind,
    pub kafka: Kafka,
    pub postgres: Postgres,
    topic: Topic,
    file: PathBuf,
    cents: i64,
}

impl Stage {
    /// Starts the servers and fills them.
    pub async fn set(rows: u32, ids: IdKind) -> Self {
        let postgres = Postgres::start_new(POSTGRES).unwrap_or_else(|error| panic!("{error}"));
        let kafka = Kafka::start_new();
        let topic = Topic::create(&kafka, PARTITIONS).await;
        topic.producer(&[("compression.type", "lz4")]).send((1..=rows).map(|number| ids.event(number).record())).await;
        // The file is removed with the server's directory.
        let file = postgres.directory().join("rows");
        let mut lines = BufWriter::new(File::create(&file).unwrap());
        (1..=rows).for_each(|number| ids.event(number).write_line(&mut lines).unwrap());
        lines.flush().unwrap();
        let cents = (1..=rows).map(|number| i64::from(ids.event(number).cents())).sum();
        Self { rows, ids, kafka, postgres, topic, file, cents }
    }

    /// A topic, and the tables in an empty database: its name and the scene.
    pub async fn scene(&self, topic: Topic) -> (String, Scene) {
        let name = unique("bench");
        let scene = Scene::between(topic, self.postgres.create_database(&name).await.unwrap());
        scene.migrate();
        (name, scene)
    }

    /// Drops a database and writes what it left to be written, so that the next run writes only its own rows.
    pub async fn drop_database(&self, name: &str) {
        let mut server = PgConnection::connect(&self.postgres.url("postgres")).await.unwrap();
        let drop = format!("drop database \"{name}\" with (force)");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut server).await.unwrap();
        sqlx::raw_sql("checkpoint").execute(&mut server).await.unwrap();
    }

    /// One run, on tables of its own, checked to the last row.
    pub async fn run(&self, contestant: &Contestant) -> Run {
        let (name, scene) = self.scene(self.topic.clone()).await;
        let mut connection = scene.connect().await;
        let before = Used::so_far(self);
        let mut verified = None;
        let (took, own, memory, after) = match contestant {
            Contestant::Copy => {
                let (began, own_before) = (Instant::now(), usage::cpu_of_ended_children());
                self.copy(&scene.database);
                (began.elapsed(), usage::cpu_of_ended_children() - own_before, None, Used::so_far(self))
            }
            Contestant::Service { program, settings } => {
                let scene = settings.iter().fold(scene, |scene, (name, value)| scene.with(name, value));
                let service = Service::start_program(program, &[], "run", &scene.environment);
                wait_until_stored(&mut connection, self.rows).await;
                let (own, after) = (usage::cpu(service.pid()), Used::so_far(self));
                let memory = Some(usage::peak_memory(service.pid()));
                let took = last_commit(&mut connection).await - started(&service);
                service.stop();
                self.assert_positions(&mut connection).await;
                verified = Some(self.verify(program, &scene));
                (took.to_std().unwrap(), own, memory, after)
            }
        };
        let transactions = self.assert_exact(&mut connection).await;
        drop(connection);
        self.drop_database(&name).await;
        let rows = f64::from(self.rows);
        let per_million = |time: Duration| time.as_secs_f64() * 1e6 / rows;
        Run {
            rows_per_second: rows / took.as_secs_f64(),
            verified_per_second: verified.map(|took| rows / took.as_secs_f64()),
            own: per_million(own),
            postgres: per_million(after.postgres - before.postgres),
            kafka: per_million(after.kafka - before.kafka),
            memory,
            transactions,
            others: before.others_until(&after, own),
        }
    }

    /// Compares the tables with the topic, and returns how long that took.
    fn verify(&self, program: &str, scene: &Scene) -> Duration {
        let began = Instant::now();
        let verify = Service::start_program(program, &[], "verify", &scene.environment);
        let (code, lines) = verify.finished_within(LIMIT);
        let took = began.elapsed();
        assert_eq!((code, lines), (0, vec![format!("{} records compared, 0 findings", self.rows)]));
        took
    }

    fn copy(&self, database: &str) {
        let columns = "booking_id, user_id, hotel_id, promo_code, discount_percent, price, created_at";
        let copy = format!("\\copy booking_history ({columns}) from '{}'", self.file.display());
        let status = Command::new("psql").args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", &copy, database]).status();
        assert!(status.unwrap().success(), "psql");
    }

    /// Checks that each row is stored once, with its price; returns the number of transactions that wrote them.
    async fn assert_exact(&self, connection: &mut PgConnection) -> i64 {
        let found: (i64, i64, i64, i64) = sqlx::query_as(
            "select count(*), count(distinct booking_id), (sum(price) * 100)::bigint, count(distinct xmin::text) \
             from booking_history",
        )
        .fetch_one(connection)
        .await
        .unwrap();
        let rows = i64::from(self.rows);
        assert_eq!((found.0, found.1, found.2), (rows, rows, self.cents), "rows, bookings and sum of prices");
        found.3
    }

    async fn assert_positions(&self, connection: &mut PgConnection) {
        let found: (i64, i64, i64) = sqlx::query_as(
            "select sum(next_offset)::bigint, sum(stored)::bigint, sum(duplicates + ignored + dead_lettered)::bigint \
             from consumer_offsets",
        )
        .fetch_one(connection)
        .await
        .unwrap();
        let (ends, rows) = (self.topic.ends().into_values().sum::<i64>(), i64::from(self.rows));
        assert_eq!(found, (ends, rows, 0), "positions and totals of consumer_offsets");
    }
}

/// What other processes than the contestant have used.
struct Used {
    at: Instant,
    all: Duration,
    postgres: Duration,
    kafka: Duration,
    bench: Duration,
}

impl Used {
    fn so_far(stage: &Stage) -> Self {
        Self {
            at: Instant::now(),
            all: usage::cpu_of_all(),
            postgres: usage::cpu_with_children(stage.postgres.pid()),
            kafka: usage::cpu(stage.kafka.pid()),
            bench: usage::cpu_of_self(),
        }
    }

    /// The share of the machine that neither the contestant nor the servers nor this bench used since.
    fn others_until(&self, later: &Self, own: Duration) -> f64 {
        let known = own + (later.postgres - self.postgres) + (later.kafka - self.kafka) + (later.bench - self.bench);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let capacity = (later.at - self.at).as_secs_f64() * f64::from(u32::try_from(cores).unwrap());
        (later.all - self.all).saturating_sub(known).as_secs_f64() / capacity
    }
}

/// Reads the service's own count on one connection: too cheap to change the figures.
pub async fn wait_until_stored(connection: &mut PgConnection, rows: u32) {
    let began = Instant::now();
    loop {
        let (stored,): (i64,) = sqlx::query_as("select coalesce(sum(stored), 0)::bigint from consumer_offsets")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        if stored == i64::from(rows) {
            return;
        }
        assert!(began.elapsed() < LIMIT, "{stored} rows after {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn last_commit(connection: &mut PgConnection) -> DateTime<Utc> {
    let (last,): (DateTime<Utc>,) = sqlx::query_as("select max(pg_xact_commit_timestamp(xmin)) from booking_history")
        .fetch_one(connection)
        .await
        .unwrap();
    last
}

/// When the service began to read: earlier than the commit of its first row.
fn started(service: &Service) -> DateTime<Utc> {
    service.wait_for_event("partition_started").time.parse().unwrap()
}
