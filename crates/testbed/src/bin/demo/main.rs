//! Shows the service at work on a machine where nothing is prepared.
//!
//! The demo runs a broker inside this process, a private `PostgreSQL`, and the service as a child process. It kills the
//! service while it produces records, and starts it again. In the end the tables have to account for every record.

mod plan;
mod service;

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::oneshot;

use self::plan::{DemoPlan, DemoTotals, Planned};
use self::service::DemoService;
use testbed::{Postgres, ServerError};

const TOPIC: &str = "booking-events";
const PARTITIONS: i32 = 3;
/// Slow enough that the service is killed while the demo produces records.
const RECORDS_A_TICK: usize = 5;
const TICK: Duration = Duration::from_millis(10);
/// Much longer than a step takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Shows the service at work with an embedded broker, a private database and a crash; needs no preparation
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Number of different bookings; duplicates, other events and invalid records are added
    #[arg(long, default_value_t = 4000, value_name = "NUMBER")]
    bookings: usize,
    /// Ends at once, and does not keep the database up until Enter or Ctrl-C
    #[arg(long)]
    no_wait: bool,
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    /// The private server or the child process.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The embedded broker or the producer.
    #[error("the embedded broker: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// A query of the demo.
    #[error("the private database: {0}")]
    Database(#[from] sqlx::Error),
    /// Standard input or output.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The service did not do what it has to do.
    #[error("{0}")]
    Failed(String),
}

#[tokio::main]
async fn main() -> ExitCode {
    match show(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => failed("the tables do not account for what was produced"),
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(why: &str) -> ExitCode {
    // If standard error is closed, the exit code is all that can be reported.
    writeln!(io::stderr(), "error: {why}").ok();
    ExitCode::FAILURE
}

/// Runs the demo; false if the tables do not account for what was produced.
///
/// # Errors
/// A server, the service or a query failed.
async fn show(arguments: &Arguments) -> Result<bool, DemoError> {
    let started = Instant::now();
    let say = |text: &str| writeln!(io::stdout(), "[{:4.1} s] {text}", started.elapsed().as_secs_f32());

    let postgres = Postgres::start_new(&[])?;
    let url = postgres.create_database("booking_history").await?;
    say(&format!("a private PostgreSQL listens on port {}", postgres.port()))?;
    let broker = MockCluster::new(1)?;
    broker.create_topic(TOPIC, PARTITIONS, 1)?;
    say("an embedded Kafka broker with a topic of 3 partitions runs in this process")?;

    let service = DemoService::new(&[
        ("DATABASE_URL", &url),
        ("KAFKA_BOOTSTRAP_SERVERS", &broker.bootstrap_servers()),
        ("KAFKA_TOPIC", TOPIC),
        ("HTTP_ADDR", ""),
        // Short, so that the broker soon removes the killed member: the mock broker has no static members in this group
        // protocol. It delays a new group by 3 s, and removes a member whose session is shorter than that.
        ("KAFKA_PROPERTIES", "session.timeout.ms=4000,heartbeat.interval.ms=500"),
    ])?;
    service.migrate()?;
    service.start()?;
    say("`migrate up` made the tables; `run` is started as a child process")?;

    let plan = DemoPlan::new(arguments.bookings);
    let produced = i64::try_from(plan.records.len()).unwrap_or(i64::MAX);
    let producing = tokio::spawn(produce(broker.bootstrap_servers(), plan.records));
    let mut database = PgConnection::connect(&url).await?;

    handled(&mut database, &service, produced / 4).await?;
    service.kill()?;
    let before = outcome(&mut database).await?.sum();
    say(&format!("killed the service (SIGKILL) with {before} of {produced} records handled"))?;
    service.start()?;
    say("started it again; the embedded broker waits until the session of the killed process ends")?;
    producing.await.map_err(io::Error::other)??;
    handled(&mut database, &service, produced).await?;
    service.stop()?;
    say("every record is handled; the service stopped as asked")?;

    let found = outcome(&mut database).await?;
    let (rows,): (i64,) = sqlx::query_as("select count(*) from booking_history").fetch_one(&mut database).await?;
    let exact = found == plan.expected && rows == found.stored;
    report(&plan.expected, &found, rows, exact)?;
    look_further(&url)?;
    if !arguments.no_wait && io::stdin().is_terminal() {
        writeln!(io::stdout(), "\nThe database stays up until Enter or Ctrl-C.")?;
        until_enter_or_interrupt().await?;
    }
    Ok(exact)
}

/// Produces all records at a constant rate, and returns when the broker has them.
async fn produce(broker: String, records: Vec<Planned>) -> Result<(), DemoError> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", broker)
        .set("linger.ms", "5")
        .set("enable.idempotence", "true")
        .create()?;
    let mut ticks = tokio::time::interval(TICK);
    let mut deliveries = Vec::with_capacity(records.len());
    for some in records.chunks(RECORDS_A_TICK) {
        ticks.tick().await;
        for record in some {
            let mut message = FutureRecord::to(TOPIC).key(&record.key);
            message.payload = record.value.as_ref();
            deliveries.push(producer.send_result(message).map_err(|(error, _)| error)?);
        }
    }
    for delivery in deliveries {
        let delivered = delivery.await.map_err(io::Error::other)?;
        delivered.map_err(|(error, _)| error)?;
    }
    Ok(())
}

/// Waits until the tables account for at least this number of records.
async fn handled(database: &mut PgConnection, service: &DemoService, at_least: i64) -> Result<(), DemoError> {
    let started = Instant::now();
    loop {
        let sum = outcome(database).await?.sum();
        if sum >= at_least {
            return Ok(());
        }
        service.must_run()?;
        if started.elapsed() > PATIENCE {
            let log = service.log();
            return Err(DemoError::Failed(format!(
                "{sum} of {at_least} records handled after {PATIENCE:?}; the service's log ends with:\n{log}"
            )));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The number of records with each outcome so far, by the tables.
async fn outcome(database: &mut PgConnection) -> sqlx::Result<DemoTotals> {
    // One statement sees both tables at the same instant.
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select outcome, sum(records)::bigint from consumer_offsets, \
         lateral (values ('stored', stored), ('duplicates', duplicates), ('ignored', ignored)) as t(outcome, records) \
         group by outcome \
         union all \
         select reason, count(*) from dead_letters group by reason",
    )
    .fetch_all(database)
    .await?;
    let mut outcome = DemoTotals::default();
    for (word, records) in rows {
        match word.as_str() {
            "stored" => outcome.stored = records,
            "duplicates" => outcome.duplicates = records,
            "ignored" => outcome.ignored = records,
            _ => drop(outcome.dead_lettered.insert(word, records)),
        }
    }
    Ok(outcome)
}

fn report(expected: &DemoTotals, found: &DemoTotals, rows: i64, exact: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "\n  {:<38}{:>10}{:>12}", "outcome", "expected", "in tables")?;
    let mut line = |what: &str, expected: i64, found: i64| {
        let verdict = if expected == found { "" } else { "  <- differs" };
        writeln!(out, "  {what:<38}{expected:>10}{found:>12}{verdict}")
    };
    line("stored as a row", expected.stored, found.stored)?;
    line("duplicate (same booking, same content)", expected.duplicates, found.duplicates)?;
    line("ignored (another event type)", expected.ignored, found.ignored)?;
    let mut reasons: Vec<_> = expected.dead_lettered.keys().chain(found.dead_lettered.keys()).collect();
    reasons.sort();
    reasons.dedup();
    for reason in reasons {
        let of = |outcome: &DemoTotals| outcome.dead_lettered.get(reason).copied().unwrap_or_default();
        line(&format!("dead letter: {reason}"), of(expected), of(found))?;
    }
    line("sum", expected.sum(), found.sum())?;
    line("rows of booking_history", expected.stored, rows)?;
    let verdict = if exact {
        "Every record is accounted for exactly once, also over the crash."
    } else {
        "The tables do not account for what was produced."
    };
    writeln!(out, "\n{verdict}")
}

fn look_further(url: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "\nLook further:")?;
    for sql in [
        "select * from booking_history order by id limit 5",
        "select partition, next_offset, epoch, stored, duplicates, ignored, dead_lettered from consumer_offsets",
        "select partition, \"offset\", reason, field, detail from dead_letters order by id limit 10",
    ] {
        writeln!(out, "  psql '{url}' -c '{sql}'")?;
    }
    Ok(())
}

async fn until_enter_or_interrupt() -> io::Result<()> {
    let (entered, enter) = oneshot::channel();
    // A thread of its own: a read from a terminal cannot be cancelled, and the end of the process does not wait for a
    // thread.
    thread::spawn(move || {
        io::stdin().lock().read_line(&mut String::new()).ok();
        entered.send(()).ok();
    });
    tokio::select! {
        _ = enter => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}
