//! `/livez` and `/readyz`: an orchestrator learns what the log and the tables say, as it happens.

use std::net::TcpListener;

use serde_json::{Value, json};

use testbed::http::{address, get, listening};
use testbed::kafka::{Kafka, kafka};
use testbed::postgres::{database, own_postgres};
use testbed::service::{Service, migrated};
use testbed::topic::Outgoing;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::booking;

/// Asks until the answer has this status, these reasons, and these states and halt reasons of the partitions.
async fn until_ready_says(address: &str, status: u16, reasons: &[String], partitions: &[(&str, Option<&str>)]) {
    let expected: Vec<Value> = partitions.iter().map(|(state, why)| json!([state, why])).collect();
    let wanted = |(found, body): &(u16, Value)| {
        let lines = body["partitions"].as_array().unwrap();
        let lines: Vec<Value> = lines.iter().map(|line| json!([line["state"], line["halt_reason"]])).collect();
        *found == status
            && body["ready"] == json!(status == 200)
            && body["reasons"] == json!(reasons)
            && lines == expected
    };
    eventually(PATIENCE, wanted, async || {
        let answer = get(address, "/readyz");
        (answer.status, serde_json::from_str(&answer.body).unwrap())
    })
    .await;
    let lives = get(address, "/livez");
    assert_eq!((lives.status, lives.body.as_str()), (200, "ok\n"), "it lives, whatever it is ready for");
}

#[tokio::test]
async fn ready_after_the_schema_and_the_first_assignment_and_not_while_a_partition_is_halted() {
    let database = database().await;
    let (topic, settings) = listening(kafka(), 2, &database, &[("BREAKER_CONSECUTIVE", "3")]).await;
    let service = Service::run(&settings);
    let address = address(&service);
    until_ready_says(&address, 503, &["waiting for the database schema".to_owned()], &[]).await;
    migrated(&database);
    until_ready_says(&address, 200, &[], &[("running", None), ("running", None)]).await;

    topic.producer(&[]).send((0..3).map(|n| Outgoing::to(1, format!("poison {n}")))).await;
    let halted = format!("partition 1 of {} is halted: too_many_dead_letters", topic.name);
    let states = [("running", None), ("halted", Some("too_many_dead_letters"))];
    until_ready_says(&address, 503, std::slice::from_ref(&halted), &states).await;
    // Whoever claims it next learns why from the row.
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 0);
    let service = Service::run(&settings);
    let address = self::address(&service);
    until_ready_says(&address, 503, &[halted], &states).await;

    let (code, lines) = Service::finish("offsets resume --partition 1", &settings, PATIENCE);
    assert_eq!(code, 0, "{lines:#?}");
    until_ready_says(&address, 200, &[], &[("running", None), ("running", None)]).await;
    assert_eq!(get(&address, "/").status, 404);
}

#[tokio::test]
async fn not_ready_while_the_database_is_away() {
    let postgres = own_postgres();
    let database = postgres.create_database("away").await.unwrap();
    migrated(&database);
    let (topic, settings) = listening(kafka(), 1, &database, &[("RETRY_MAX", "1s")]).await;
    let service = Service::run(&settings);
    let address = address(&service);
    until_ready_says(&address, 200, &[], &[("running", None)]).await;
    postgres.stop_fast().unwrap();
    let away = "the database cannot be used: the last operation on it failed".to_owned();
    until_ready_says(&address, 503, std::slice::from_ref(&away), &[("running", None)]).await;
    topic.producer(&[]).send([Outgoing::to(0, booking("later", "1"))]).await;
    until_ready_says(&address, 503, &[away], &[("recovering", None)]).await;
    postgres.start().unwrap();
    until_ready_says(&address, 200, &[], &[("running", None)]).await;
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 0);
}

#[tokio::test]
async fn an_instance_without_partitions_is_ready_and_notices_the_database() {
    let postgres = own_postgres();
    let database = postgres.create_database("spare").await.unwrap();
    migrated(&database);
    let (_topic, settings) = listening(kafka(), 1, &database, &[("RETRY_MAX", "1s")]).await;
    let first = Service::run(&settings);
    until_ready_says(&address(&first), 200, &[], &[("running", None)]).await;
    let second = Service::run(&settings);
    let address = address(&second);
    until_ready_says(&address, 200, &[], &[]).await;
    postgres.stop_fast().unwrap();
    until_ready_says(&address, 503, &["the database cannot be used: the last operation on it failed".to_owned()], &[])
        .await;
    postgres.start().unwrap();
    until_ready_says(&address, 200, &[], &[]).await;
}

#[tokio::test]
async fn not_ready_when_the_group_has_given_it_up_until_it_is_a_member_again() {
    let (kafka, database) = (Kafka::start_new(), database().await);
    migrated(&database);
    let session = [("KAFKA_PROPERTIES", "session.timeout.ms=3000,heartbeat.interval.ms=500")];
    let (_topic, settings) = listening(&kafka, 1, &database, &session).await;
    let reader = Service::run(&settings);
    until_ready_says(&address(&reader), 200, &[], &[("running", None)]).await;
    // One without partitions has none to lose.
    let spare = Service::run(&settings);
    until_ready_says(&address(&spare), 200, &[], &[]).await;
    kafka.kill();
    let lost = "not in the consumer group: rejoining".to_owned();
    for service in [&reader, &spare] {
        until_ready_says(&address(service), 503, std::slice::from_ref(&lost), &[]).await;
        service.wait_for_line(|line| line.contains("membership_lost"), PATIENCE);
    }
    kafka.start();
    let ready = async || {
        let answers = [&reader, &spare].map(|service| get(&address(service), "/readyz"));
        answers.map(|answer| (answer.status, answer.body.matches("running").count()))
    };
    let apart = |found: &[(u16, usize); 2]| found.contains(&(200, 0)) && found.contains(&(200, 1));
    eventually(PATIENCE, apart, ready).await;
}

#[tokio::test]
async fn under_the_newer_group_protocol_an_instance_without_partitions_is_ready_too() {
    let database = database().await;
    migrated(&database);
    let newer = [("KAFKA_PROPERTIES", "group.protocol=consumer")];
    let (_topic, settings) = listening(kafka(), 1, &database, &newer).await;
    let first = Service::run(&settings);
    until_ready_says(&address(&first), 200, &[], &[("running", None)]).await;
    let second = Service::run(&settings);
    until_ready_says(&address(&second), 200, &[], &[]).await;
    // Given up while it is frozen, and back with nothing.
    first.sigstop();
    until_ready_says(&address(&second), 200, &[], &[("running", None)]).await;
    first.sigcont();
    first.wait_for_line(|line| line.contains("membership_lost"), PATIENCE);
    until_ready_says(&address(&first), 200, &[], &[]).await;
}

#[tokio::test]
async fn an_address_in_use_ends_with_69_and_an_empty_one_is_off() {
    let database = database().await;
    migrated(&database);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (_topic, settings) = listening(kafka(), 1, &database, &[("HTTP_ADDR", &address)]).await;
    let (code, lines) = Service::finish("run", &settings, PATIENCE);
    assert_eq!(code, 69, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains(&format!("can't listen on HTTP_ADDR={address}"))), "{lines:#?}");

    let (_topic, settings) = listening(kafka(), 1, &database, &[("HTTP_ADDR", "")]).await;
    let service = Service::run(&settings);
    service.wait_for_line(|line| line.contains("partition_started"), PATIENCE);
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 0);
    assert!(!service.lines().iter().any(|line| line.contains("http_listening")));
    // A word that is no address is a fault of the configuration.
    let (code, lines) = Service::finish("run --http-addr localhost", &settings, PATIENCE);
    assert_eq!(code, 78, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("HTTP_ADDR")), "{lines:#?}");
}
