//! `check` on real servers: each fault has its line with what to do, and what does not depend on it is checked all the
//! same.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use testbed::kafka::kafka;
use testbed::pages;
use testbed::pgbouncer::PgBouncer;
use testbed::postgres::{PASSWORD, plain_user, postgres};
use testbed::proxy::Proxy;
use testbed::scene::Scene;
use testbed::topic::{Outgoing, Topic};
use testbed::unique;

/// The lines of a check, in JSON.
pub struct Checked(Vec<Value>);

impl Checked {
    /// Runs `check`, which must end with this code.
    pub fn ends_with(scene: &Scene, code: i32) -> Self {
        let (ended_with, lines) = scene.finish("check --output json");
        assert_eq!(ended_with, code, "{lines:#?}");
        assert!(!lines.iter().any(|line| line.contains(PASSWORD)), "a password is shown: {lines:#?}");
        Self(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// A line of this part has this result, and its other fields contain these words.
    pub fn assert(&self, part: &str, result: &str, words: &str) -> &Self {
        let has = |line: &Value| line["part"] == part && line["result"] == result && line.to_string().contains(words);
        assert!(self.0.iter().any(has), "{part} {result} {words}: {:#?}", self.0);
        self
    }

    fn parts(&self) -> BTreeSet<&str> {
        self.0.iter().filter_map(|line| line["part"].as_str()).collect()
    }
}

#[tokio::test]
async fn a_start_without_a_fault_has_no_finding_with_the_fewest_privileges() {
    let scene = Scene::new(2).await;
    let (_, url) = plain_user(&scene.database).await;
    let service = scene.start();
    scene.send_and_handle("checked", 20).await;
    service.stop();
    let before = scene.lines("select to_jsonb(one)::text from consumer_offsets as one order by partition").await;
    let checked = Checked::ends_with(&scene.clone().with("DATABASE_URL", &url), 0);
    for part in checked.parts() {
        checked.assert(part, if part == "database_sequence" { "not_visible" } else { "ok" }, "");
    }
    let after = scene.lines("select to_jsonb(one)::text from consumer_offsets as one order by partition").await;
    assert_eq!(before, after, "a check changes nothing");
    // The page has a row for each part. Two parts need TLS and SASL.
    let page = pages::read("docs/operate/check.md");
    let (_, page) = page.split_once("## Parts").unwrap();
    let described: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |").map(|(part, _)| part)).collect();
    let mut parts = checked.parts();
    parts.extend(["kafka_tls", "kafka_login"]);
    assert_eq!(described, parts);
}

#[tokio::test]
async fn a_wrong_setting_or_address_is_named_and_the_other_parts_are_checked() {
    let scene = Scene::new(1).await;
    let wrong = scene.clone().with("KAFKA_START", "newest").with("WRITERS", "none");
    Checked::ends_with(&wrong, 1)
        .assert("settings", "failed", "earliest, latest")
        .assert("settings", "failed", "WRITERS");
    let refused = scene.clone().with("KAFKA_PROPERTIES", "no.such.property=1");
    Checked::ends_with(&refused, 1).assert("settings", "failed", "no.such.property");

    // A frozen broker accepts connections and answers nothing.
    let frozen = Proxy::start(kafka().address().rsplit_once(':').unwrap().1.parse().unwrap());
    frozen.black_hole(true);
    let url = format!("postgresql://postgres:{PASSWORD}@127.0.0.1:{}/none", postgres().port());
    let wrong = scene.clone().with("KAFKA_BOOTSTRAP_SERVERS", &frozen.address()).with("DATABASE_URL", &url);
    Checked::ends_with(&wrong, 1)
        .assert("database_connection", "failed", "check user and password")
        .assert("database_schema", "skipped", "database_connection failed")
        .assert("kafka_tcp", "ok", "")
        .assert("kafka_answer", "failed", "no answer within 10 s")
        .assert("kafka_topic", "skipped", "kafka_answer failed");

    let frozen = Proxy::start(postgres().port());
    frozen.black_hole(true);
    let place = scene.database.rsplit_once('/').unwrap().1;
    let url = format!("postgresql://postgres:{PASSWORD}@{}/{place}", frozen.address());
    let broker = kafka().address();
    let servers = format!("kafka.invalid:9092,127.0.0.1:1,{broker}");
    let wrong = scene.clone().with("DATABASE_URL", &url).with("DATABASE_TIMEOUT", "1s");
    let wrong = wrong.with("KAFKA_BOOTSTRAP_SERVERS", &servers).with("KAFKA_TOPIC", &unique("absent"));
    Checked::ends_with(&wrong, 1)
        .assert("database_connection", "failed", "no answer from the database within 1s")
        .assert("kafka_dns", "warning", "kafka.invalid:9092")
        .assert("kafka_tcp", "warning", "127.0.0.1:1")
        .assert("kafka_answer", "ok", &broker)
        .assert("kafka_topic", "failed", "create the topic")
        .assert("kafka_topic_permission", "skipped", "kafka_topic failed")
        .assert("kafka_group_permission", "ok", &scene.group)
        .assert("positions", "skipped", "database_connection failed");
}

#[tokio::test]
async fn what_is_wrong_with_database_and_topic_is_found_in_one_run() {
    let scene = Scene::new(1).await;
    let service = scene.start();
    scene.send_and_handle("checked", 20).await;
    service.stop();
    // Kafka deletes records that were not read, and the sequence is that of a table that was copied.
    scene.send_values((0..20).map(|number| number.to_string())).await;
    scene.topic.delete_records(0, 30).await;
    scene.topic.alter(&[("cleanup.policy", "compact,delete")]).await;
    let database = scene.database.rsplit_once('/').unwrap().1;
    scene
        .execute(&format!(
            "alter sequence booking_history_id_seq restart;
             create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             alter table booking_history alter column booking_id type text collate loose;
             alter database \"{database}\" set idle_session_timeout = '1min';
             alter database \"{database}\" set lock_timeout = '5ms';
             alter database \"{database}\" set default_transaction_read_only = on"
        ))
        .await;
    Checked::ends_with(&scene, 1)
        .assert("database_writable", "failed", "reset default_transaction_read_only")
        .assert("database_settings", "warning", "idle_session_timeout=60000ms")
        .assert("database_collation", "failed", "booking_history.booking_id")
        .assert("database_sequence", "failed", "select setval('booking_history_id_seq'")
        .assert("database_privileges", "ok", "")
        .assert("kafka_retention", "failed", "cleanup.policy=delete")
        .assert("positions", "failed", "Kafka deleted records before they were read (partition 0)");

    let reset = format!("begin; set transaction read write; alter database \"{database}\" reset all; commit");
    scene.execute(&reset).await;
    let (user, url) = plain_user(&scene.database).await;
    scene
        .execute(&format!(
            "revoke insert on dead_letters from \"{user}\";
             update consumer_offsets set halted_at = now(), halt_reason = 'log_corrupt'"
        ))
        .await;
    Checked::ends_with(&scene.clone().with("DATABASE_URL", &url), 1)
        .assert("database_writable", "ok", "")
        .assert("database_settings", "ok", "")
        .assert("database_privileges", "failed", "grant insert on dead_letters to")
        .assert("positions", "skipped", "database_privileges failed");
    Checked::ends_with(&scene, 1).assert("positions", "failed", "offsets resume");
    scene.command("migrate down");
    Checked::ends_with(&scene, 1).assert("database_schema", "failed", "`booking-history migrate up`");

    let pooler = PgBouncer::start(postgres(), &[("pool_mode", "transaction"), ("server_round_robin", "0")], &[]);
    Checked::ends_with(&scene.clone().with("DATABASE_URL", &pooler.url(&scene.database)), 1)
        .assert("database_connection", "ok", "")
        .assert("database_session", "failed", "session mode")
        .assert("database_schema", "skipped", "database_session failed");
}

#[tokio::test]
async fn an_unread_record_that_kafka_deletes_soon_is_a_warning() {
    let (hour, settings) = (3_600_000, [("retention.ms", "3600000"), ("message.timestamp.before.max.ms", "86400000")]);
    let scene = Scene::of(Topic::create_as(kafka(), &unique("checked"), 1, &settings).await).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    let record = |age| Outgoing { timestamp: Some(now - age), ..Outgoing::to(0, "unread") };
    let service = scene.start();
    scene.send([record(hour * 9 / 10)]).await;
    scene.wait_until_read().await;
    service.stop();
    scene.send([record(hour / 2)]).await;
    Checked::ends_with(&scene, 0).assert("positions", "ok", "1 records to read");
    scene.execute("update consumer_offsets set next_offset = 0").await;
    Checked::ends_with(&scene, 0).assert("positions", "warning", "80 % of the retention (partition 0)");
}
