//! Kafka refuses a connection, the topic or the group: the service says what is refused, why, and what to do. It continues
//! as soon as Kafka permits it.

use std::sync::OnceLock;

use serde_json::Value;

use super::check::Checked;
use testbed::kafka::{Kafka, Listeners, Operation, Resource, USER, USER_PASSWORD, supports};
use testbed::log_line::LogLine;
use testbed::postgres::postgres;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::Topic;
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};

/// The broker with several listeners that these tests share. No test stops it.
fn guarded() -> &'static (Kafka, Listeners) {
    static SHARED: OnceLock<(Kafka, Listeners)> = OnceLock::new();
    SHARED.get_or_init(Kafka::start_guarded)
}

/// The properties of a client that logs in with a password.
fn login(password: &str) -> String {
    format!("security.protocol=sasl_plaintext,sasl.mechanism=PLAIN,sasl.username={USER},sasl.password={password}")
}

/// A scene whose service uses this listener with these properties.
async fn scene_at(kafka: &Kafka, listener: &str, properties: &str) -> Scene {
    let scene = Scene::on(kafka, postgres(), 1).await.with("STARTUP_TIMEOUT", "3s").with("TOPIC_CHECK_INTERVAL", "1s");
    scene.with_http().with("KAFKA_BOOTSTRAP_SERVERS", listener).with("KAFKA_PROPERTIES", properties)
}

/// A scene whose service logs in, with these more properties.
async fn user_scene(kafka: &Kafka, listeners: &Listeners, properties: &str) -> Scene {
    scene_at(kafka, &listeners.sasl, &format!("{}{properties}", login(USER_PASSWORD))).await
}

/// Whether it is ready, its reasons, and the number of running partitions.
fn readiness(service: &Service) -> (bool, String, usize) {
    let answer = service.get("/readyz");
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    (answer.status == 200, body.get("reasons").unwrap().to_string(), answer.body.matches("running").count())
}

/// Waits until it is not ready for this reason, and fails if it becomes ready within the next 12 s: a member without
/// partitions counts as a spare one after 10 s.
async fn stays_unready(service: &Service, reason: &str) {
    let seconds = |reasons: &str| {
        let (_, rest) = reasons.split_once(reason)?;
        rest.split_once(" for ")?.1.split_once(" s: ")?.0.parse::<u32>().ok()
    };
    eventually(PATIENCE, |found: &Option<u32>| found.is_some(), async || seconds(&readiness(service).1)).await;
    let lasts = async || {
        let (ready, reasons, _) = readiness(service);
        assert!(!ready && reasons.contains(reason), "{reasons}: {:#?}", service.lines());
        seconds(&reasons)
    };
    eventually(PATIENCE, |seconds: &Option<u32>| seconds.is_some_and(|seconds| seconds >= 12), lasts).await;
    assert!(service.is_running());
}

async fn until_ready(service: &Service) {
    let ready = |found: &(bool, String, usize)| found.0 && found.2 == 1;
    eventually(PATIENCE, ready, async || readiness(service)).await;
}

/// Waits for the end with 69, and for the reason in the last line.
fn ends_with(service: Service, words: &[&str]) {
    let (code, lines) = service.finished();
    let last = lines.last().unwrap();
    assert_eq!(code, 69, "{words:?}: {lines:#?}");
    assert!(last.starts_with("error: ") && words.iter().all(|word| last.contains(word)), "{words:?}: {last}");
    assert!(!lines.iter().any(|line| line.contains(USER_PASSWORD)), "a password is shown: {lines:#?}");
}

#[tokio::test]
async fn what_is_refused_since_the_start_ends_with_69_and_the_reason() {
    let (kafka, listeners) = guarded();
    let mut services = Vec::new();
    for (properties, words) in [
        (login("wrong"), "sasl.password"),
        (login(USER_PASSWORD).replace("PLAIN,", "SCRAM-SHA-256,"), "set sasl.mechanism"),
    ] {
        let scene = scene_at(kafka, &listeners.sasl, &properties).await;
        services.push((scene.start(), vec![words.to_owned()]));
    }
    let unknown_ca = scene_at(kafka, &listeners.tls, "security.protocol=ssl").await;
    services.push((unknown_ca.start(), vec!["ssl.ca.location".to_owned()]));
    for protocol in ["", ",group.protocol=consumer"] {
        let scene = user_scene(kafka, listeners, protocol).await;
        kafka.allow(Resource::Topic(&scene.topic.name), Operation::Read);
        services.push((scene.start(), vec![format!("grant READ on the group {}", scene.group)]));
    }
    for operation in [None, Some(Operation::Describe)] {
        let scene = user_scene(kafka, listeners, "").await;
        kafka.allow(Resource::Group(&scene.group), Operation::Read);
        if let Some(operation) = operation {
            kafka.allow(Resource::Topic(&scene.topic.name), operation);
        }
        services.push((scene.start(), vec![format!("grant READ on the topic {}", scene.topic.name)]));
    }
    for (service, words) in services {
        ends_with(service, &words.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// A service whose permission is withdrawn: for the group, or for the topic.
struct Withdrawal {
    service: Service,
    scene: Scene,
    of_group: bool,
}

impl Withdrawal {
    fn resource(&self) -> Resource<'_> {
        if self.of_group { Resource::Group(&self.scene.group) } else { Resource::Topic(&self.scene.topic.name) }
    }

    fn reason(&self) -> &'static str {
        if self.of_group { "Kafka refuses the consumer group" } else { "Kafka refuses the topic" }
    }
}

#[tokio::test]
async fn a_permission_that_is_withdrawn_makes_it_not_ready_until_it_is_granted_again() {
    let (kafka, listeners) = guarded();
    let (short_session, newer) = (",session.timeout.ms=1500,heartbeat.interval.ms=300", ",group.protocol=consumer");
    let mut withdrawals = Vec::new();
    let kinds = [(short_session, true, false), (newer, true, false), ("", false, false), ("", false, true)];
    for (properties, of_group, keeps_describe) in kinds.into_iter().filter(|(properties, ..)| supports(properties)) {
        let scene = user_scene(kafka, listeners, properties).await;
        kafka.allow(Resource::Topic(&scene.topic.name), Operation::Read);
        kafka.allow(Resource::Group(&scene.group), Operation::Read);
        if keeps_describe {
            kafka.allow(Resource::Topic(&scene.topic.name), Operation::Describe);
        }
        withdrawals.push(Withdrawal { service: scene.start(), scene, of_group });
    }
    for one in &withdrawals {
        until_ready(&one.service).await;
        one.scene.send_and_handle("before", 1).await;
        kafka.withdraw(one.resource(), Operation::Read);
    }
    for one in &withdrawals {
        stays_unready(&one.service, one.reason()).await;
    }
    for one in &withdrawals {
        kafka.allow(one.resource(), Operation::Read);
        // No record arrives: only the questions of the service show that it may read again.
        until_ready(&one.service).await;
        one.scene.send_and_handle("after", 1).await;
        assert_eq!(one.scene.booking_ids().await.len(), 2);
    }
}

#[tokio::test]
async fn a_topic_that_does_not_exist_makes_it_not_ready_and_it_waits() {
    let (kafka, listeners) = guarded();
    let reason = "the topic does not exist";
    let scene = scene_at(kafka, &listeners.sasl, &login(USER_PASSWORD)).await;
    let absent = Topic::named(kafka, &unique("absent"));
    let scene = scene.with("KAFKA_TOPIC", &absent.name).with_group(&unique("group"));
    kafka.allow(Resource::Topic(&absent.name), Operation::Read);
    kafka.allow(Resource::Group(&scene.group), Operation::Read);
    let service = scene.start();
    stays_unready(&service, reason).await;
    absent.create_again(1, &[]).await;
    until_ready(&service).await;
    absent.delete().await;
    stays_unready(&service, reason).await;
    service.stop();
}

#[tokio::test]
async fn a_password_that_is_refused_later_makes_it_not_ready_until_it_is_accepted() {
    let (kafka, listeners) = Kafka::start_guarded();
    let scene = user_scene(&kafka, &listeners, "").await;
    kafka.allow(Resource::Topic(&scene.topic.name), Operation::Read);
    kafka.allow(Resource::Group(&scene.group), Operation::Read);
    let service = scene.start();
    until_ready(&service).await;
    kafka.change_password(USER_PASSWORD, "another-password");
    // It is much longer than STARTUP_TIMEOUT, and the process does not end.
    stays_unready(&service, "no connection to Kafka").await;
    kafka.change_password("another-password", USER_PASSWORD);
    until_ready(&service).await;
    scene.send_and_handle("after", 1).await;
    assert!(!service.lines().iter().any(|line| line.contains("-password")), "{:#?}", service.lines());
}

/// For each wrong setting: the listener, the properties, what the error contains, and what the hint contains.
fn wrong_connections(listeners: &Listeners) -> [(String, String, String, &'static str); 7] {
    let tls = format!("security.protocol=ssl,ssl.ca.location={}", listeners.ca);
    let unresolvable = listeners.unresolvable.clone();
    let advertised = unresolvable.replace("127.0.0.1", "kafka.invalid");
    let by_address = listeners.tls.replace("localhost", "127.0.0.1");
    let none = || "client.id=test".to_owned();
    [
        (unresolvable.clone(), none(), advertised, "advertised.listeners"),
        (unresolvable.clone(), tls.clone(), unresolvable.clone(), "security.protocol in KAFKA_PROPERTIES to plaintext"),
        (unresolvable.clone(), login("any"), unresolvable, "security.protocol in KAFKA_PROPERTIES to ssl or plaintext"),
        (listeners.tls.clone(), none(), listeners.tls.clone(), "security.protocol in KAFKA_PROPERTIES to ssl"),
        (listeners.sasl.clone(), none(), listeners.sasl.clone(), "security.protocol in KAFKA_PROPERTIES to sasl_ssl"),
        (by_address.clone(), tls, by_address, "host name"),
        (listeners.sasl.clone(), login("wrong"), listeners.sasl.clone(), "sasl.password"),
    ]
}

#[tokio::test]
async fn a_connection_that_cannot_work_is_explained_in_the_log() {
    let (kafka, listeners) = guarded();
    let mut services = Vec::new();
    for (listener, properties, error, hint) in wrong_connections(listeners) {
        services.push((scene_at(kafka, &listener, &properties).await.start(), error, hint));
    }
    for (service, error, hint) in services {
        let is_explained = |lines: &Vec<LogLine>| {
            lines.iter().any(|line| line.field("error").contains(&error) && line.field("hint").contains(hint))
        };
        let lines = async || [service.events("kafka_unavailable"), service.events("kafka_refused")].concat();
        eventually(PATIENCE, is_explained, lines).await;
        assert!(!service.lines().iter().any(|line| line.contains("nothing to do")), "{:#?}", service.lines());
    }
}

#[tokio::test]
async fn a_command_that_cannot_ask_kafka_says_why() {
    let (kafka, listeners) = guarded();
    let scene = Scene::on(kafka, postgres(), 1).await;
    let service = scene.start();
    scene.send_and_handle("handled", 1).await;
    service.stop();
    let mut commands = Vec::new();
    for (listener, properties, _, hint) in wrong_connections(listeners) {
        let scene = scene.clone().with("KAFKA_BOOTSTRAP_SERVERS", &listener).with("KAFKA_PROPERTIES", &properties);
        for (command, code) in [("offsets list", 0), ("offsets set --all --to earliest", 69), ("verify", 69)] {
            commands.push((command, code, hint, scene.start_command(command)));
        }
    }
    kafka.allow(Resource::Topic(&scene.topic.name), Operation::Describe);
    let properties = login(USER_PASSWORD);
    let scene = scene.with("KAFKA_BOOTSTRAP_SERVERS", &listeners.sasl).with("KAFKA_PROPERTIES", &properties);
    commands.push(("verify", 69, "grant READ on the topic", scene.start_command("verify")));
    for (command, code, hint, running) in commands {
        let (ended_with, lines) = running.finished();
        assert_eq!(ended_with, code, "{command}, {hint}: {lines:#?}");
        assert!(lines.iter().any(|line| line.contains(hint)), "{command}, {hint}: {lines:#?}");
    }
}

#[tokio::test]
async fn check_names_the_step_of_the_connection_and_the_permission_that_is_missing() {
    let (kafka, listeners) = guarded();
    let tls = format!("security.protocol=ssl,ssl.ca.location={}", listeners.ca);
    let trusted = scene_at(kafka, &listeners.tls, &tls).await;
    Checked::ends_with(&trusted, 0).assert("kafka_tls", "ok", "").assert("kafka_answer", "ok", &listeners.tls);
    let by_address = listeners.tls.replace("localhost", "127.0.0.1");
    Checked::ends_with(&trusted.clone().with("KAFKA_BOOTSTRAP_SERVERS", &by_address), 1)
        .assert("kafka_tls", "failed", "host name")
        .assert("kafka_answer", "skipped", "kafka_tls failed");
    let advertised = trusted.with("KAFKA_BOOTSTRAP_SERVERS", &listeners.unresolvable).with("KAFKA_PROPERTIES", "");
    Checked::ends_with(&advertised, 1).assert("kafka_answer", "ok", &listeners.unresolvable).assert(
        "kafka_dns",
        "failed",
        "advertised.listeners",
    );

    let scene = user_scene(kafka, listeners, "").await;
    let wrong = scene.clone().with("KAFKA_PROPERTIES", &login("wrong"));
    Checked::ends_with(&wrong, 1).assert("kafka_login", "failed", "sasl.password").assert(
        "kafka_group_permission",
        "skipped",
        "kafka_login failed",
    );
    Checked::ends_with(&scene, 1)
        .assert("kafka_login", "ok", &format!("PLAIN as {USER}"))
        .assert("kafka_topic", "failed", &format!("grant READ on the topic {}", scene.topic.name))
        .assert("kafka_group_permission", "failed", &format!("grant READ on the group {}", scene.group));
    kafka.allow(Resource::Topic(&scene.topic.name), Operation::Describe);
    kafka.allow(Resource::Group(&scene.group), Operation::Describe);
    Checked::ends_with(&scene, 1)
        .assert("kafka_topic", "ok", "")
        .assert("kafka_topic_permission", "failed", "grant READ on the topic")
        .assert("kafka_group_permission", "failed", "grant READ on the group")
        .assert("kafka_retention", "not_visible", "DESCRIBE_CONFIGS");
    kafka.allow(Resource::Topic(&scene.topic.name), Operation::Read);
    kafka.allow(Resource::Group(&scene.group), Operation::Read);
    kafka.allow(Resource::Topic(&scene.topic.name), Operation::DescribeConfigs);
    Checked::ends_with(&scene, 0)
        .assert("kafka_topic_permission", "ok", "")
        .assert("kafka_group_permission", "ok", "")
        .assert("kafka_retention", "ok", "delete");
}
