//! The image and the Compose files on a real Docker Engine: `make test-docker`.
//!
//! Each test has a Compose project of its own.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    unreachable_pub,
    reason = "a panic is the report of a test, and these modules are private"
)]

mod engine;

use std::fs;
use std::time::Duration;

use engine::{IMAGE, Project, build_image, docker, inspect};
use serde_json::{Value, json};
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{SEED, booking};

const COMPOSE: &str = "docker/compose.yml";

/// Docker runs the health check every 5 s, and a container is unhealthy after three failures.
const HEALTH_PATIENCE: Duration = Duration::from_mins(2);

#[test]
fn the_image_is_small_and_says_what_it_contains() {
    build_image();
    let image = inspect(IMAGE);
    let labels = &image["Config"]["Labels"];
    assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(labels["org.opencontainers.image.description"], env!("CARGO_PKG_DESCRIPTION"));
    let binary = "/usr/local/bin/booking-history";
    let size = docker(&["run", "--rm", "--entrypoint", "stat", IMAGE, "--format=%s", binary]);
    let size: u64 = size.trim().parse().unwrap();
    assert!(size < 25_000_000, "the program has {size} bytes");
    let files = ["/usr/share/bash-completion/completions/booking-history", "/usr/share/man/man1/booking-history-run.1"];
    docker(&[&["run", "--rm", "--entrypoint", "ls", IMAGE], &files[..]].concat());
    // The section with the list of dependencies, which scanners read.
    docker(&["run", "--rm", "--entrypoint", "grep", IMAGE, "--quiet", "--text", r"\.dep-v0", binary]);
}

#[tokio::test]
async fn three_instances_store_a_booking_without_privileges_and_stop_cleanly() {
    let project = Project::new("three", &[COMPOSE], &[("LOG_FORMAT", "json")]);
    project.up(&["--scale", "booking-history=3"]);
    let instances = project.containers("booking-history");
    assert_eq!(instances.len(), 3);
    for instance in &instances {
        has_no_privileges(instance);
    }

    project.produce(SEED);
    eventually(PATIENCE, |found| found == &["13"], async || project.bookings()).await;

    project.compose(&["run", "--rm", "check"]);

    let log = project.compose(&["logs", "--no-color", "--no-log-prefix", "booking-history"]);
    let events: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().any(|event| event["event"] == "http_listening"), "{log}");

    project.compose(&["stop", "booking-history"]);
    // After the grace period, Docker kills the process, and the exit code is 137.
    for instance in instances {
        assert_eq!(inspect(&instance)["State"]["ExitCode"], 0);
    }
}

/// What the Compose file asks for, and what the kernel then says about the process.
fn has_no_privileges(container: &str) {
    let settings = inspect(container);
    assert_eq!(settings["Config"]["User"], "10001:10001");
    assert_eq!(settings["HostConfig"]["ReadonlyRootfs"], true);
    assert_eq!(settings["HostConfig"]["CapDrop"], json!(["ALL"]));
    assert_eq!(settings["HostConfig"]["SecurityOpt"], json!(["no-new-privileges:true"]));
    let status = docker(&["exec", container, "cat", "/proc/1/status"]);
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert_eq!(field("Uid:"), "10001\t10001\t10001\t10001");
    assert_eq!(field("CapBnd:"), "0000000000000000");
    assert_eq!(field("NoNewPrivs:"), "1");
}

#[tokio::test]
async fn a_killed_instance_starts_again_and_one_without_a_database_is_unhealthy() {
    let project = Project::new("killed", &[COMPOSE], &[("DATABASE_TIMEOUT", "2s")]);
    project.up(&[]);
    let instance = project.container("booking-history");

    // `docker kill` counts as a stop by an operator: then no policy restarts the container.
    let process = inspect(&instance)["State"]["Pid"].to_string();
    docker(&["run", "--rm", "--pid=host", "--entrypoint=bash", IMAGE, "-c", &format!("kill -KILL {process}")]);
    eventually(PATIENCE, |count| count == 1, async || inspect(&instance)["RestartCount"].clone()).await;
    eventually(HEALTH_PATIENCE, |health| health == "healthy", async || project.health()).await;

    // A database that does not answer is noticed by the instance that has something to write.
    project.compose(&["pause", "postgres"]);
    project.produce(SEED);
    eventually(HEALTH_PATIENCE, |health| health == "unhealthy", async || project.health()).await;
    project.compose(&["unpause", "postgres"]);
    eventually(HEALTH_PATIENCE, |health| health == "healthy", async || project.health()).await;
    eventually(PATIENCE, |found| found == &["13"], async || project.bookings()).await;
    assert_eq!(inspect(&instance)["RestartCount"], 1);
}

#[tokio::test]
async fn the_next_start_updates_an_older_schema_and_the_service_continues() {
    let project = Project::new("upgrade", &[COMPOSE], &[]);
    project.up(&[]);
    project.produce(SEED);
    eventually(PATIENCE, |found| found == &["13"], async || project.bookings()).await;
    project.compose(&["stop", "booking-history"]);
    project.compose(&["run", "--rm", "migrate", "migrate", "down", "3", "--yes"]);
    project.produce(&booking("14", "1"));

    project.up(&[]);
    eventually(PATIENCE, |found| found == &["13", "14"], async || project.bookings()).await;
}

#[tokio::test]
async fn a_bigger_system_includes_the_service_without_its_servers() {
    let directory = tempfile::tempdir().unwrap();
    let docker = concat!(env!("CARGO_MANIFEST_DIR"), "/docker");
    let server = |name: &str| json!({"extends": {"file": format!("{docker}/compose.yml"), "service": name}});
    let system = json!({
        "include": [format!("{docker}/compose.include.yml")],
        "services": {"kafka": server("kafka"), "topic": server("topic"), "postgres": server("postgres")},
        "volumes": {"kafka": {}, "postgres": {}},
    });
    let file = directory.path().join("compose.yml");
    fs::write(&file, system.to_string()).unwrap();

    let variables = [
        ("DATABASE_URL", "postgresql://postgres:postgres@postgres:5432/booking_history"),
        ("KAFKA_BOOTSTRAP_SERVERS", "kafka:19092"),
    ];
    let project = Project::new("include", &[file.to_str().unwrap()], &variables);
    project.up(&[]);
    project.produce(SEED);
    eventually(PATIENCE, |found| found == &["13"], async || project.bookings()).await;
}

#[tokio::test]
async fn kafka_3_9_with_zookeeper_takes_the_place_of_kafka_4() {
    let project = Project::new("zookeeper", &[COMPOSE, "docker/compose.kafka-3.9.yml"], &[]);
    project.up(&[]);
    project.produce(SEED);
    eventually(PATIENCE, |found| found == &["13"], async || project.bookings()).await;
}
