//! A connection pooler in front of `PostgreSQL`: session mode works with its default settings, and every other mode is
//! refused by name.

use std::str::FromStr as _;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection, Row as _};
use testbed::pgbouncer::PgBouncer;
use testbed::postgres::{PASSWORD, postgres};
use testbed::scene::Scene;
use testbed::service::{Environment, Service};
use testbed::workload::Workload;
use tokio::task::JoinSet;

/// A command ends with this exit code and all of these words, long before a time-out of the pooler.
fn ends(arguments: &str, environment: &Environment, code: i32, words: &[&str]) {
    let began = Instant::now();
    let (ended_with, lines) = Service::finish(arguments, environment);
    let text = lines.join("\n");
    assert_eq!(ended_with, code, "{text}");
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} is not in\n{text}");
    assert!(began.elapsed() < Duration::from_secs(30), "{arguments} took {:?}", began.elapsed());
}

/// The refusal of a pooler that shares sessions.
const MIXED: &[&str] = &["transaction or statement mode", "session mode"];

/// A connection of another client of the pooler.
async fn connect(pooler: &PgBouncer, direct: &Scene) -> PgConnection {
    let options = PgConnectOptions::from_str(&pooler.url(&direct.database)).unwrap().extra_float_digits(None);
    options.connect().await.unwrap()
}

fn through(pooler: &PgBouncer, scene: &Scene) -> Scene {
    scene.clone().with("DATABASE_URL", &pooler.url(&scene.database))
}

#[tokio::test]
async fn session_mode_with_default_settings_works_from_end_to_end() {
    let direct = Scene::without_tables(2).await;
    // A pool of one: there is no second session, and `migrate` does not need it.
    let narrow = PgBouncer::start(postgres(), &[("default_pool_size", "1")], &[]);
    let began = Instant::now();
    ends("migrate up", &through(&narrow, &direct).environment, 0, &["up to date now"]);
    assert!(began.elapsed() < Duration::from_secs(15), "the check took {:?}", began.elapsed());
    drop(narrow);

    let pooler = PgBouncer::start(postgres(), &[], &[]);
    let scene = through(&pooler, &direct);
    let service = scene.start();
    let workload = Workload::mixed("pooled", 500, 2);
    scene.send(&workload.records).await;
    scene.assert_exact(&workload).await;
    service.stop();
    for arguments in ["migrate status", "offsets list", "dead-letters list", "verify"] {
        ends(arguments, &scene.environment, 0, &[]);
    }

    let right = pooler.url(&direct.database);
    let (before, place) = right.split_once('@').unwrap();
    let (address, _) = place.split_once('/').unwrap();
    for url in [format!("postgresql://postgres:{PASSWORD}@{place}"), format!("{before}@{address}/no-such-database")] {
        let scene = scene.clone().with("DATABASE_URL", &url).with("STARTUP_TIMEOUT", "1s");
        for arguments in ["migrate status", "run"] {
            ends(arguments, &scene.environment, 69, &["08P01", "check user, password and database"]);
        }
    }

    // Only the pooler can be told to accept this.
    let url = format!("{right}?options=-c%20search_path%3Dpublic");
    let scene = scene.with("DATABASE_URL", &url).with("STARTUP_TIMEOUT", "1s");
    for arguments in ["migrate up", "run", "offsets list"] {
        ends(arguments, &scene.environment, 69, &["08P01", "ignore_startup_parameters"]);
    }
}

#[tokio::test]
async fn a_mode_that_shares_sessions_is_refused_at_once() {
    let direct = Scene::new(1).await.with("STARTUP_TIMEOUT", "5m");
    for settings in [
        [("pool_mode", "transaction"), ("server_round_robin", "0"), ("min_pool_size", "0")],
        [("pool_mode", "transaction"), ("server_round_robin", "0"), ("default_pool_size", "1")],
        [("pool_mode", "transaction"), ("server_round_robin", "1"), ("min_pool_size", "3")],
        [("pool_mode", "statement"), ("server_round_robin", "0"), ("min_pool_size", "0")],
    ] {
        let pooler = PgBouncer::start(postgres(), &settings, &[]);
        let scene = through(&pooler, &direct);
        // More than once: the first connection to a new pool is served by one server session only.
        for arguments in ["run", "migrate status", "migrate up", "run", "offsets list", "dead-letters list", "verify"] {
            ends(arguments, &scene.environment, 69, MIXED);
        }
        let mut other = connect(&pooler, &direct).await;
        let limit = sqlx::raw_sql("show statement_timeout").fetch_one(&mut other).await.unwrap();
        assert_eq!(limit.get::<&str, _>(0), "0", "another client has the limits of these commands");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_pool_that_is_busy_is_recognised() {
    let direct = Scene::new(1).await;
    let pooler = PgBouncer::start(postgres(), &[("pool_mode", "transaction"), ("default_pool_size", "1")], &[]);
    let mut clients = JoinSet::new();
    for _ in 0..2 {
        let mut client = connect(&pooler, &direct).await;
        clients.spawn(async move { while sqlx::raw_sql("select pg_sleep(1.8)").execute(&mut client).await.is_ok() {} });
    }
    for arguments in ["migrate status", "offsets list"] {
        ends(arguments, &through(&pooler, &direct).environment, 69, MIXED);
    }
}

#[tokio::test]
async fn a_pooler_without_a_free_server_ends_each_command_in_time() {
    let direct = Scene::new(1).await.with("DATABASE_TIMEOUT", "1s");
    let pooler = PgBouncer::start(postgres(), &[("default_pool_size", "1")], &[]);
    let scene = through(&pooler, &direct);
    let mut taken = connect(&pooler, &direct).await;
    sqlx::raw_sql("select 1").execute(&mut taken).await.unwrap();
    for arguments in ["migrate up", "migrate status", "offsets list"] {
        ends(arguments, &scene.environment, 69, &["no answer"]);
    }
}
