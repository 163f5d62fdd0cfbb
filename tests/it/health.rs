//! `/livez`, `/readyz` and the command `health`: an orchestrator sees the state of the instance, and changes of it at once.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use testbed::kafka::{Kafka, kafka};
use testbed::postgres::{own_postgres, postgres};
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::Outgoing;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::booking;

const RUNNING: (&str, Option<&str>) = ("running", None);
const WITHOUT_SCHEMA: &str = "waiting for the database schema and privileges";
const WITHOUT_DATABASE: &str = "the database cannot be used: no writer can connect";
const WITHOUT_GROUP: &str = "not in the consumer group: rejoining";

/// Ends all other sessions of the database.
const END_SESSIONS: &str = "select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid()";

/// Waits until `/readyz` answers with reasons that begin like this (none: 200, else 503), and with these states and halt reasons of
/// the partitions.
async fn until_ready_says(service: &Service, reasons: &[&str], partitions: &[(&str, Option<&str>)]) {
    let expected: Vec<Value> = partitions.iter().map(|(state, why)| json!([state, why])).collect();
    let ready = reasons.is_empty();
    let wanted = |(status, body): &(u16, Value)| {
        let lines = body["partitions"].as_array().unwrap();
        let lines: Vec<Value> = lines.iter().map(|line| json!([line["state"], line["halt_reason"]])).collect();
        let given = body["reasons"].as_array().unwrap();
        *status == if ready { 200 } else { 503 }
            && body["ready"] == ready
            && given.len() == reasons.len()
            && given.iter().zip(reasons).all(|(given, reason)| given.as_str().unwrap().starts_with(reason))
            && lines == expected
    };
    eventually(PATIENCE, wanted, async || {
        let answer = service.get("/readyz");
        (answer.status, serde_json::from_str(&answer.body).unwrap())
    })
    .await;
    let live = service.get("/livez");
    assert_eq!((live.status, live.body.as_str()), (200, "ok\n"), "the process works in each of these states");
}

#[tokio::test]
async fn ready_after_the_schema_and_the_first_assignment_and_not_while_a_partition_is_halted() {
    let scene = Scene::without_tables(2).await.with_http().with("BREAKER_CONSECUTIVE", "3");
    let service = scene.start();
    until_ready_says(&service, &[WITHOUT_SCHEMA], &[]).await;
    let health = |answer: &str, code| {
        let (found, lines) = scene.finish(&format!("health --http-addr {}", service.http_address()));
        assert_eq!((found, lines.as_slice()), (code, [answer.to_owned()].as_slice()));
    };
    health(&format!("error: not ready: {WITHOUT_SCHEMA}"), 1);
    scene.migrate();
    until_ready_says(&service, &[], &[RUNNING, RUNNING]).await;
    health("ready", 0);

    scene.send((0..3).map(|n| Outgoing::to(1, format!("poison {n}")))).await;
    let halted = format!("partition 1 of {} is halted: too_many_dead_letters", scene.topic.name);
    let states = [RUNNING, ("halted", Some("too_many_dead_letters"))];
    until_ready_says(&service, &[&halted], &states).await;
    // The next owner reads the reason in the row.
    service.stop();
    let service = scene.start();
    until_ready_says(&service, &[&halted], &states).await;

    scene.command("offsets resume --partition 1");
    until_ready_says(&service, &[], &[RUNNING, RUNNING]).await;
    assert_eq!(service.get("/other").status, 404);
}

#[tokio::test]
async fn health_ends_with_1_if_no_instance_answers() {
    let scene = Scene::new(1).await.with("DATABASE_URL", "postgresql://user@127.0.0.1:1/none");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let (silent_at, other_at) = (silent.local_addr().unwrap().port(), other.local_addr().unwrap());
    let answer = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        BufReader::new(&stream).lines().find(|line| line.as_ref().unwrap().is_empty()).unwrap().unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n").unwrap();
    });
    for (address, why) in [
        // The address of a server that listens on all networks: the command asks this machine.
        (
            &*format!("0.0.0.0:{silent_at}"),
            &*format!("no answer from http://127.0.0.1:{silent_at}/readyz: waited for 5 s;"),
        ),
        (&*other_at.to_string(), "expected value at line 1 column 1;"),
        ("127.0.0.1:1", "Connection refused (os error 111);"),
        ("''", "HTTP_ADDR is empty"),
    ] {
        let (code, lines) = scene.finish(&format!("health --http-addr {address}"));
        assert!(code == 1 && lines.len() == 1 && lines[0].contains(why), "{address}: {code} {lines:?}");
    }
    answer.join().unwrap();
}

#[tokio::test]
async fn not_ready_while_the_database_is_away() {
    let postgres = own_postgres();
    let scene = Scene::on(kafka(), &postgres, 1).await.with_http().with("RETRY_MAX", "1s");
    let service = scene.start();
    until_ready_says(&service, &[], &[RUNNING]).await;
    postgres.stop_fast().unwrap();
    until_ready_says(&service, &[WITHOUT_DATABASE], &[RUNNING]).await;
    scene.send([Outgoing::to(0, booking("later", "1"))]).await;
    until_ready_says(&service, &[WITHOUT_DATABASE], &[RUNNING]).await;
    postgres.start().unwrap();
    until_ready_says(&service, &[], &[RUNNING]).await;
    service.stop();
}

#[tokio::test]
async fn an_instance_without_partitions_is_ready_and_notices_the_database() {
    let postgres = own_postgres();
    let scene = Scene::on(kafka(), &postgres, 1).await.with_http().with("RETRY_MAX", "1s");
    let first = scene.start();
    until_ready_says(&first, &[], &[RUNNING]).await;
    let second = scene.start();
    until_ready_says(&second, &[], &[]).await;
    postgres.stop_fast().unwrap();
    until_ready_says(&second, &[WITHOUT_DATABASE], &[]).await;
    postgres.start().unwrap();
    until_ready_says(&second, &[], &[]).await;
}

#[tokio::test]
async fn not_ready_after_the_group_removed_it_until_it_is_a_member_again() {
    let kafka = Kafka::start_new();
    let session = "session.timeout.ms=3000,heartbeat.interval.ms=500";
    let scene = Scene::on(&kafka, postgres(), 1).await.with_http().with("KAFKA_PROPERTIES", session);
    let reader = scene.start();
    until_ready_says(&reader, &[], &[RUNNING]).await;
    // An instance without partitions loses none: the group is all that it can lose.
    let spare = scene.start();
    until_ready_says(&spare, &[], &[]).await;
    kafka.kill();
    for service in [&reader, &spare] {
        until_ready_says(service, &[WITHOUT_GROUP], &[]).await;
        service.wait_for_event("membership_lost");
    }
    kafka.start();
    let ready = async || {
        let answers = [&reader, &spare].map(|service| service.get("/readyz"));
        answers.map(|answer| (answer.status, answer.body.matches("running").count()))
    };
    let apart = |found: &[(u16, usize); 2]| found.contains(&(200, 0)) && found.contains(&(200, 1));
    eventually(PATIENCE, apart, ready).await;
}

#[tokio::test]
async fn under_the_newer_group_protocol_an_instance_without_partitions_is_ready_too() {
    let scene = Scene::new(1).await.with_http().with("KAFKA_PROPERTIES", "group.protocol=consumer");
    let first = scene.start();
    until_ready_says(&first, &[], &[RUNNING]).await;
    let second = scene.start();
    until_ready_says(&second, &[], &[]).await;
    // The group removes the frozen member, which then returns and gets no partition.
    first.sigstop();
    until_ready_says(&second, &[], &[RUNNING]).await;
    first.sigcont();
    first.wait_for_event("partition_revoked");
    until_ready_says(&first, &[], &[]).await;
}

#[tokio::test]
async fn half_sent_requests_keep_neither_probes_nor_the_database_from_an_answer() {
    let scene = Scene::new(1).await.with_http();
    let service = Service::start_with_files(256, "run", &scene.environment);
    until_ready_says(&service, &[], &[RUNNING]).await;
    let address = service.http_address();
    let half_sent = |_| {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET /livez HTTP/1.1\r\nhost: here\r\nslow: ").unwrap();
        stream
    };
    let mut slow: Vec<TcpStream> = (0..280).map(half_sent).collect();
    assert_eq!(service.get("/livez").body, "ok\n");
    assert_eq!(service.get("/readyz").status, 200);
    // A new connection to the database needs a file descriptor.
    scene.execute(END_SESSIONS).await;
    scene.send_and_handle("behind", 100).await;
    assert_eq!(service.get("/livez").body, "ok\n");

    // Each of them ends after its time limit, also those below the maximum number.
    for stream in &mut slow {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let ended = stream.read(&mut [0; 512]);
        assert!(matches!(&ended, Ok(0)) || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    }
    service.stop();
}

#[tokio::test]
async fn an_address_in_use_ends_with_69_and_an_empty_one_is_off() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let scene = Scene::new(1).await.with("HTTP_ADDR", &address);
    let (code, lines) = scene.finish("run");
    assert_eq!(code, 69, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains(&format!("can't listen on HTTP_ADDR={address}"))), "{lines:#?}");

    let scene = scene.with("HTTP_ADDR", "");
    let service = scene.start();
    service.wait_for_event("partition_started");
    service.stop();
    assert!(service.events("http_listening").is_empty());

    let (code, lines) = scene.finish("run --http-addr localhost");
    assert_eq!(code, 78, "a name without a port is a wrong setting: {lines:#?}");
    assert!(lines.iter().any(|line| line.contains("HTTP_ADDR")), "{lines:#?}");
}
