//! The first seconds: what is wrong is said in words that help, with the exit code that says who has to act.

use booking_history::commands::MIGRATOR;
use sqlx::{Connection as _, PgConnection};

use testbed::audit::Audit;
use testbed::kafka::kafka;
use testbed::postgres::{PASSWORD, database, plain_user, run};
use testbed::service::{Service, migrated, settings};
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

/// Settings for `run` against the shared broker, which give up soon.
async fn impatient(database: &str) -> Vec<(String, String)> {
    let topic = Topic::create(kafka(), 1).await;
    let mut settings = settings(kafka(), &topic, &unique("group"), database);
    settings.push(("STARTUP_TIMEOUT".to_owned(), "1s".to_owned()));
    settings
}

fn with(settings: &[(String, String)], more: &[(&str, &str)]) -> Vec<(String, String)> {
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    settings.iter().cloned().chain(more).collect()
}

/// Runs a command to its end: it gives this exit code, says all of this, and shows no password.
fn ends(arguments: &str, settings: &[(String, String)], code: i32, words: &[&str]) {
    let (ended_with, lines) = Service::finish(arguments, settings, PATIENCE);
    let text = lines.join("\n");
    assert_eq!(ended_with, code, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in\n{text}");
    }
    assert_no_secret(&lines, settings);
}

fn assert_no_secret(lines: &[String], settings: &[(String, String)]) {
    let urls = settings.iter().filter(|(name, _)| name == "DATABASE_URL");
    let passwords = urls.filter_map(|(_, url)| Some(url.split_once('@')?.0.rsplit_once(':')?.1));
    for secret in passwords.chain([PASSWORD]) {
        assert!(!lines.iter().any(|line| line.contains(secret)), "a password is shown: {lines:#?}");
    }
}

#[tokio::test]
async fn everything_that_is_wrong_with_the_settings_is_said_at_once() {
    let url = format!("postgresql://user:{PASSWORD}@host:99999/bookings");
    let properties = format!("enable.auto.commit=true,sasl.password={PASSWORD},sasl.password={PASSWORD}");
    let wrong = [
        ("DATABASE_URL", url.as_str()),
        ("KAFKA_BOOTSTRAP_SERVERS", "host:port"),
        ("KAFKA_TOPIC", "a topic"),
        ("KAFKA_START", "middle"),
        ("KAFKA_PROPERTIES", properties.as_str()),
        ("WRITERS", "0"),
        ("RETRY_MAX", "soon"),
    ];
    let settings = with(&[], &wrong);
    let names: Vec<&str> = wrong.iter().map(|(name, _)| *name).collect();
    ends("run", &settings, 78, &names);
    ends("migrate status", &settings, 78, &names);
    ends("run", &settings, 78, &["enable.auto.commit", "\"middle\"", "earliest, latest"]);
}

#[tokio::test]
async fn a_property_that_librdkafka_refuses_is_a_fault_of_the_configuration() {
    // Before any server is looked at: there is none.
    let nowhere = with(
        &[],
        &[
            ("DATABASE_URL", "postgresql://user:none@127.0.0.1:1/none"),
            ("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1"),
            ("HTTP_ADDR", ""),
        ],
    );
    let file = format!("ssl.ca.location=/no/such/file,security.protocol=ssl,ssl.key.password={PASSWORD}");
    let unknown = format!("sasl.password={PASSWORD},no.such.property=1");
    for (properties, word) in [
        (unknown.as_str(), "no.such.property"),
        ("session.timeout.ms=soon", "session.timeout.ms"),
        ("fetch.wait.max.ms=999999999", "fetch.wait.max.ms"),
        ("max.poll.interval.ms=1000", "max.poll.interval.ms"),
        (&file, "ssl.ca.location"),
    ] {
        let settings = with(&nowhere, &[("KAFKA_PROPERTIES", properties)]);
        ends("run", &settings, 78, &["the configuration can't be used", "KAFKA_PROPERTIES", word]);
    }
}

#[tokio::test]
async fn a_mistake_in_the_command_line_ends_with_2() {
    for arguments in ["", "frobnicate", "run --no-such-flag", "run --writers", "migrate", "migrate down none"] {
        ends(arguments, &[], 2, &["help"]);
    }
    for arguments in ["--help", "run --help", "migrate up --help"] {
        let secret = with(&[], &[("DATABASE_URL", &format!("postgresql://user:{PASSWORD}@host/bookings"))]);
        ends(arguments, &secret, 0, &["Usage"]);
    }
}

#[tokio::test]
async fn a_schema_that_does_not_fit_ends_with_69_and_the_command_to_type() {
    let database = database().await;
    let settings = impatient(&database).await;
    ends("run", &settings, 69, &["none of our tables", "`booking-history migrate up`"]);
    migrated(&database);
    let newest = format!("{:04}", MIGRATOR.iter().map(|migration| migration.version).max().unwrap());
    ends("migrate down", &settings, 0, &[&format!("reverting {newest}")]);
    ends("run", &settings, 69, &[&format!("lacks {newest}"), "`booking-history migrate up`"]);
    migrated(&database);
    let later = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                 values (9999, 'of the future', true, '', 0)";
    run(&database, later).await;
    // It will not change by waiting.
    let patient = with(&settings, &[("STARTUP_TIMEOUT", "5m")]);
    ends("run", &patient, 69, &["newer than this program", "9999"]);
    for arguments in ["migrate up", "migrate down"] {
        ends(arguments, &settings, 69, &["newer than this program"]);
    }
    ends("migrate status", &settings, 0, &["9999 of the future", "unknown to this program"]);
    run(&database, "delete from _sqlx_migrations where version = 9999").await;
    run(&database, "update _sqlx_migrations set checksum = 'x' where version = 2").await;
    ends("run", &patient, 69, &["0002", "another text"]);
}

#[tokio::test]
async fn a_database_that_refuses_who_we_are_ends_with_69_after_a_while() {
    let database = database().await;
    migrated(&database);
    let settings = impatient(&database).await;
    let (before, place) = database.split_once('@').unwrap();
    assert!(before.contains("postgres"));
    let wrong = format!("postgresql://postgres:{PASSWORD}@{place}");
    let check = "check user and password in DATABASE_URL";
    ends("run", &with(&settings, &[("DATABASE_URL", &wrong)]), 69, &["28P01", check, "database_unavailable"]);
    ends("migrate up", &with(&settings, &[("DATABASE_URL", &wrong)]), 69, &["28P01", check]);
    let nowhere = database.replace("test-", "no-test-");
    ends("run", &with(&settings, &[("DATABASE_URL", &nowhere)]), 69, &["3D000", "create the database"]);
}

#[tokio::test]
async fn a_privilege_that_is_missing_ends_with_69_and_says_which() {
    let database = database().await;
    migrated(&database);
    let settings = impatient(&database).await;
    let (user, url) = plain_user(&database).await;
    let settings = with(&settings, &[("DATABASE_URL", &url)]);
    for (privilege, table) in
        [("update", "consumer_offsets"), ("insert", "consumer_offsets"), ("select", "_sqlx_migrations")]
    {
        run(&database, &format!("revoke {privilege} on {table} from \"{user}\"")).await;
        ends("run", &settings, 69, &["42501", table, "grant the privilege"]);
        run(&database, &format!("grant {privilege} on {table} to \"{user}\"")).await;
    }
    ends("migrate down", &settings, 69, &["42501", "grant the privilege, or connect as the owner"]);
    run(&database, &format!("revoke all on all tables in schema public from \"{user}\"")).await;
    ends("run", &settings, 69, &["42501", "grant the privilege"]);
}

#[tokio::test]
async fn a_schema_that_appears_while_it_waits_is_used() {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    topic.producer(&[]).send([Outgoing::to(0, booking("early", "1"))]).await;
    let service = Service::run(&settings(kafka(), &topic, &group, &database));
    service.wait_for_line(|line| line.contains("schema_not_ready"), PATIENCE);
    migrated(&database);
    Audit { topic: &topic, group: &group, database: &database }.wait_until_read(PATIENCE).await;
    // Ctrl-C stops it as a deployment does.
    service.sigint();
    assert_eq!(service.wait_exit(PATIENCE), 0);
    service.wait_for_line(|line| line.contains("shutdown_complete"), PATIENCE);
}

#[tokio::test]
async fn a_stop_while_it_waits_for_the_schema_is_a_stop() {
    let database = database().await;
    let settings = with(&impatient(&database).await, &[("STARTUP_TIMEOUT", "5m")]);
    let signals: [fn(&Service); 2] = [Service::sigterm, Service::sigint];
    for signal in signals {
        let service = Service::run(&settings);
        service.wait_for_line(|line| line.contains("schema_not_ready"), PATIENCE);
        signal(&service);
        assert_eq!(service.wait_exit(PATIENCE), 0);
    }
}

#[tokio::test]
async fn migrations_go_up_and_down_and_up_again() {
    let database = database().await;
    let settings = with(&[], &[("DATABASE_URL", &database)]);
    let tables = async || {
        let tables: Vec<(String,)> = sqlx::query_as(
            "select tablename::text from pg_tables where schemaname = 'public' and tablename not like '\\_%' order by 1",
        )
        .fetch_all(&mut PgConnection::connect(&database).await.unwrap())
        .await
        .unwrap();
        tables.into_iter().map(|(name,)| name).collect::<Vec<_>>()
    };
    ends("migrate status", &settings, 0, &["0001 booking history", "pending"]);
    ends("migrate down", &settings, 0, &["none left"]);
    for _ in 0..2 {
        ends("migrate up", &settings, 0, &["applying 0001 booking history", "up to date now"]);
        ends("migrate up", &settings, 0, &["the schema is up to date"]);
        let up = tables().await;
        for table in ["booking_history", "consumer_offsets", "dead_letters", "offset_gaps"] {
            assert!(up.iter().any(|name| name == table), "{table} is not in {up:?}");
        }
        let (_, status) = Service::finish("migrate status", &settings, PATIENCE);
        assert!(status.iter().all(|line| line.contains(" applied ")), "{status:#?}");
        ends("migrate down", &settings, 0, &["reverting"]);
        assert!(tables().await.len() <= up.len());
        let (_, status) = Service::finish("migrate status", &settings, PATIENCE);
        assert_eq!(status.iter().filter(|line| line.contains(" pending")).count(), 1, "{status:#?}");
        ends("migrate down 100", &settings, 0, &["reverting 0001", "none left"]);
        assert_eq!(tables().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_file_in_the_working_directory_is_read_and_the_environment_wins() {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    migrated(&database);
    let file = format!(
        "# as of .env.example\nKAFKA_TOPIC={}\nKAFKA_GROUP_ID='no-such-group'\nHTTP_ADDR=\nDATABASE_URL={database}\n\
         KAFKA_BOOTSTRAP_SERVERS={}\n",
        topic.name,
        kafka().address()
    );
    let environment = with(&[], &[("KAFKA_GROUP_ID", &group)]);
    let service = Service::with_files(&[(".env", &file)], "run", &environment);
    let workload = Workload::bookings("file", 20, 1);
    topic.producer(&[]).send(workload.records.iter().cloned()).await;
    let audit = Audit { topic: &topic, group: &group, database: &database };
    audit.wait_until_read(PATIENCE).await;
    audit.assert_exact(&workload.expected).await;
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 0);

    let broken = format!("WRITERS=3\nDATABASE_URL=postgresql://user:{PASSWORD} and more@host/bookings\n");
    let (code, lines) = Service::with_files(&[(".env", &broken)], "run", &environment).finished(PATIENCE);
    assert_eq!(code, 78, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains(".env") && line.contains("single quotes")), "{lines:#?}");
    assert_no_secret(&lines, &[]);
}

#[tokio::test]
async fn another_schema_of_the_database_works_from_end_to_end() {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    run(&database, "create schema other").await;
    let other = format!("{database}?options=-c%20search_path%3Dother");
    migrated(&other);
    let service = Service::run(&settings(kafka(), &topic, &group, &other));
    let workload = Workload::mixed("other", 200, 1);
    topic.producer(&[]).send(workload.records.iter().cloned()).await;
    let audit = Audit { topic: &topic, group: &group, database: &other };
    eventually(PATIENCE, |rows: &usize| *rows == 1, async || audit.rows().await.len()).await;
    audit.wait_until_read(PATIENCE).await;
    audit.assert_exact(&workload.expected).await;
    let public: (i64,) = sqlx::query_as("select count(*) from pg_tables where schemaname = 'public'")
        .fetch_one(&mut PgConnection::connect(&database).await.unwrap())
        .await
        .unwrap();
    assert_eq!(public.0, 0, "nothing is made elsewhere");
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 0);
}
