//! The start: the program reports each wrong setting and each unusable server, says what to do, and ends with an exit
//! code for its kind.

use booking_history::commands::MIGRATOR;
use sqlx::{Connection as _, PgConnection};

use testbed::Postgres;
use testbed::kafka::kafka;
use testbed::postgres::{PASSWORD, database, plain_user};
use testbed::scene::Scene;
use testbed::service::{Environment, Service, environment};
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

/// A scene whose service gives up soon.
fn impatient(scene: Scene) -> Scene {
    scene.with("STARTUP_TIMEOUT", "1s")
}

/// Runs a command to its end: it gives this exit code, says all of this, and shows no password.
fn ends(arguments: &str, environment: &Environment, code: i32, words: &[&str]) {
    let (ended_with, lines) = Service::finish(arguments, environment);
    let text = lines.join("\n");
    assert_eq!(ended_with, code, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in\n{text}");
    }
    assert_no_secret(&lines, environment);
}

fn assert_no_secret(lines: &[String], environment: &Environment) {
    let url = environment.get("DATABASE_URL");
    let password = url.and_then(|url| Some(url.split_once('@')?.0.rsplit_once(':')?.1));
    for secret in password.into_iter().chain([PASSWORD]) {
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
    let settings = environment(&wrong);
    let names: Vec<&str> = wrong.iter().map(|(name, _)| *name).collect();
    ends("run", &settings, 78, &names);
    ends("migrate status", &settings, 78, &names);
    ends("run", &settings, 78, &["enable.auto.commit", "\"middle\"", "earliest, latest"]);
}

#[tokio::test]
async fn a_property_that_librdkafka_refuses_is_a_fault_of_the_configuration() {
    // There is no server: this is found before any is used.
    let nowhere = Scene::between(
        Topic::at("127.0.0.1:1".to_owned(), "none"),
        "postgresql://user:none@127.0.0.1:1/none".to_owned(),
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
        let scene = nowhere.clone().with("KAFKA_PROPERTIES", properties);
        ends("run", &scene.environment, 78, &["the configuration can't be used", "KAFKA_PROPERTIES", word]);
    }
}

#[tokio::test]
async fn a_mistake_in_the_command_line_ends_with_2() {
    for arguments in ["", "frobnicate", "run --no-such-flag", "run --writers", "migrate", "migrate down none"] {
        ends(arguments, &Environment::new(), 2, &["help"]);
    }
    for arguments in ["--help", "run --help", "migrate up --help"] {
        let secret = environment(&[("DATABASE_URL", &format!("postgresql://user:{PASSWORD}@host/bookings"))]);
        ends(arguments, &secret, 0, &["Usage"]);
    }
}

#[tokio::test]
async fn a_schema_that_does_not_fit_ends_with_69_and_the_command_to_type() {
    let scene = impatient(Scene::without_tables(1).await);
    let settings = &scene.environment;
    ends("run", settings, 69, &["none of our tables", "`booking-history migrate up`"]);
    scene.migrate();
    let newest = format!("{:04}", MIGRATOR.iter().map(|migration| migration.version).max().unwrap());
    ends("migrate down", settings, 0, &[&format!("reverting {newest}")]);
    ends("run", settings, 69, &[&format!("lacks {newest}"), "`booking-history migrate up`"]);
    scene.migrate();
    let later = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                 values (9999, 'of the future', true, '', 0)";
    scene.execute(later).await;
    // To wait would not help, so `run` ends at once.
    let patient = scene.clone().with("STARTUP_TIMEOUT", "5m").environment;
    ends("run", &patient, 69, &["newer than this program", "9999"]);
    for arguments in ["migrate up", "migrate down"] {
        ends(arguments, settings, 69, &["newer than this program"]);
    }
    ends("migrate status", settings, 0, &["9999 of the future", "unknown to this program"]);
    scene.execute("delete from _sqlx_migrations where version = 9999").await;
    scene.execute("update _sqlx_migrations set checksum = 'x' where version = 2").await;
    ends("run", &patient, 69, &["0002", "differs from"]);
}

#[tokio::test]
async fn a_database_that_refuses_the_user_ends_with_69_after_a_while() {
    let scene = impatient(Scene::new(1).await);
    let (before, place) = scene.database.split_once('@').unwrap();
    assert!(before.contains("postgres"));
    let wrong = format!("postgresql://postgres:{PASSWORD}@{place}");
    let settings = scene.clone().with("DATABASE_URL", &wrong).environment;
    let check = "check user and password in DATABASE_URL";
    ends("run", &settings, 69, &["28P01", check, "database_unavailable"]);
    ends("migrate up", &settings, 69, &["28P01", check]);
    let nowhere = scene.database.replace("test-", "no-test-");
    ends("run", &scene.with("DATABASE_URL", &nowhere).environment, 69, &["3D000", "create the database"]);
}

#[tokio::test]
async fn a_refusal_in_another_language_and_encoding_ends_with_69_as_in_english() {
    let server = Postgres::start_speaking("de_DE", "ISO-8859-1").unwrap();
    let scene = impatient(Scene::on(kafka(), &server, 1).await);
    let (_, place) = scene.database.split_once('@').unwrap();
    let settings = scene.clone().with("DATABASE_URL", &format!("postgresql://postgres:{PASSWORD}@{place}")).environment;
    for arguments in ["run", "migrate up", "offsets list"] {
        ends(arguments, &settings, 69, &["login", "user, password and database", "a free connection"]);
    }
    assert!(server.log().contains("FATAL:  Passwort-Authentifizierung"), "it speaks German: {}", server.log());
    ends("migrate up", &scene.environment, 0, &["up to date"]);

    // The user was accepted before, so the same error is that of a server that is full or starts.
    let (user, url) = plain_user(&scene.database).await;
    let scene = scene.with("DATABASE_URL", &url).with("STARTUP_TIMEOUT", "0s").with("RETRY_MAX", "100ms");
    let service = scene.start();
    let workload = Workload::bookings("full", 20, 1);
    let (before, after) = workload.records.split_at(10);
    scene.send(before).await;
    scene.wait_until_read().await;
    scene
        .execute(&format!(
            "alter role \"{user}\" connection limit 0; \
             select pg_terminate_backend(pid) from pg_stat_activity where usename = '{user}'"
        ))
        .await;
    scene.send(after).await;
    let refused = async || {
        let failed = service.events("database_unavailable");
        failed.iter().filter(|line| line.field("error").contains("non-UTF-8")).count()
    };
    eventually(PATIENCE, |count| *count >= 3, refused).await;
    scene.execute(&format!("alter role \"{user}\" connection limit -1")).await;
    scene.assert_exact(&workload).await;
    service.stop();
}

#[tokio::test]
async fn an_encoding_that_cannot_store_every_character_is_refused_at_once() {
    for (encoding, fits) in [("WIN1252", false), ("SQL_ASCII", true)] {
        let scene = Scene::without_tables(1).await.with("STARTUP_TIMEOUT", "5m");
        let name = unique("encoding");
        let create =
            format!("create database \"{name}\" encoding '{encoding}' lc_collate 'C' lc_ctype 'C' template template0");
        scene.execute(&create).await;
        let (server, _) = scene.database.rsplit_once('/').unwrap();
        let settings = scene.clone().with("DATABASE_URL", &format!("{server}/{name}")).environment;
        if fits {
            ends("migrate up", &settings, 0, &["up to date now"]);
            continue;
        }
        for arguments in ["migrate up", "run"] {
            ends(arguments, &settings, 69, &[encoding, "encoding 'UTF8' template template0"]);
        }
        ends("migrate down", &settings, 0, &["none left"]);
    }
}

#[tokio::test]
async fn a_privilege_that_is_missing_ends_with_69_and_says_which() {
    let scene = impatient(Scene::new(1).await);
    let (user, url) = plain_user(&scene.database).await;
    let scene = scene.with("DATABASE_URL", &url);
    let settings = &scene.environment;
    for (privilege, table) in [
        ("update", "consumer_offsets"),
        ("insert", "consumer_offsets"),
        ("insert", "dead_letters"),
        ("insert", "dead_letter_attempts"),
        ("insert", "offset_gaps"),
        ("insert", "booking_history"),
        ("select", "_sqlx_migrations"),
    ] {
        scene.execute(&format!("revoke {privilege} on {table} from \"{user}\"")).await;
        ends("run", settings, 69, &["42501", table, "grant the privilege"]);
        scene.execute(&format!("grant {privilege} on {table} to \"{user}\"")).await;
    }
    ends("migrate down", settings, 69, &["42501", "grant the privilege, or connect as the owner"]);
    scene.execute(&format!("revoke all on all tables in schema public from \"{user}\"")).await;
    let first = format!("grant select on consumer_offsets to \"{user}\";");
    for arguments in ["run", "offsets list"] {
        ends(arguments, settings, 69, &["42501", "grant the privilege", &first]);
    }
}

#[tokio::test]
async fn a_schema_that_appears_while_it_waits_is_used() {
    let scene = Scene::without_tables(1).await;
    scene.send([Outgoing::to(0, booking("early", "1"))]).await;
    let service = scene.start();
    service.wait_for_event("schema_not_ready");
    scene.migrate();
    scene.wait_until_read().await;
    // Ctrl-C stops it in order, as SIGTERM does.
    service.sigint();
    assert_eq!(service.wait_exit(), 0);
    service.wait_for_event("shutdown_complete");
}

#[tokio::test]
async fn a_stop_while_it_waits_for_the_schema_is_a_stop() {
    let scene = Scene::without_tables(1).await.with("STARTUP_TIMEOUT", "5m");
    let signals: [fn(&Service); 2] = [Service::sigterm, Service::sigint];
    for signal in signals {
        let service = scene.start();
        service.wait_for_event("schema_not_ready");
        signal(&service);
        assert_eq!(service.wait_exit(), 0);
    }
}

#[tokio::test]
async fn migrations_go_up_and_down_and_up_again() {
    let database = database().await;
    let settings = environment(&[("DATABASE_URL", &database)]);
    let tables = async || -> Vec<String> {
        let tables = "select tablename::text from pg_tables
                      where schemaname = 'public' and tablename not like '\\_%' order by 1";
        sqlx::query_scalar(tables).fetch_all(&mut PgConnection::connect(&database).await.unwrap()).await.unwrap()
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
        let (_, status) = Service::finish("migrate status", &settings);
        assert!(status.iter().all(|line| line.contains(" applied ")), "{status:#?}");
        ends("migrate down", &settings, 0, &["reverting"]);
        assert!(tables().await.len() <= up.len());
        let (_, status) = Service::finish("migrate status", &settings);
        assert_eq!(status.iter().filter(|line| line.contains(" pending")).count(), 1, "{status:#?}");
        ends("migrate down 100", &settings, 0, &["reverting 0001", "none left"]);
        assert_eq!(tables().await, [""; 0]);
    }
}

#[tokio::test]
async fn a_lost_answer_to_the_commit_of_a_migration_leads_to_the_status() {
    let scene = Scene::new(1).await;
    let settings = &scene.environment;
    let end_at_commit = "
        create function end_session() returns trigger language plpgsql as
            $$ begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$;
        create constraint trigger end_session after insert or delete on _sqlx_migrations
            deferrable initially deferred for each row execute function end_session()";
    scene.execute(end_at_commit).await;
    let words = ["migration 0010: ", "57P01", "then run `booking-history migrate status`"];
    ends("migrate down", settings, 69, &words);
    scene.execute("alter table _sqlx_migrations disable trigger all").await;
    ends("migrate down", settings, 0, &["reverting"]);
    scene.execute("alter table _sqlx_migrations enable trigger all").await;
    ends("migrate up", settings, 69, &words);

    // A statement of the migration is refused: it is known that the migration is not done.
    scene.execute("drop trigger end_session on _sqlx_migrations; alter table booking_history rename to hidden").await;
    let (code, lines) = Service::finish("migrate down", settings);
    let text = lines.join("\n");
    assert!(code == 69 && text.contains("migration 0009: ") && !text.contains("then run"), "{code} {text}");
}

#[tokio::test]
async fn rows_are_dropped_only_with_consent() {
    let scene = Scene::new(2).await;
    let service = scene.start();
    scene.send([Outgoing::to(0, booking("kept", "1")), Outgoing::to(1, "poison".to_owned())]).await;
    scene.wait_until_read().await;
    service.stop();
    let settings = &scene.environment;
    let before = scene.lines("select version::text from _sqlx_migrations order by 1").await;
    let all = ["1 row of dead_letters", "2 rows of consumer_offsets", "1 row of booking_history", "--yes"];
    ends("migrate down 100", settings, 2, &all);
    assert_eq!(scene.lines("select version::text from _sqlx_migrations order by 1").await, before);
    assert_eq!(scene.booking_ids().await, ["kept"]);
    ends("migrate down 100 --yes", settings, 0, &["reverting 0001", "none left"]);
}

#[tokio::test]
async fn tables_of_the_library_and_of_the_program_do_not_mix_and_the_error_says_so() {
    let (of_library, of_program) = (database().await, database().await);
    let mut connection = PgConnection::connect(&of_library).await.unwrap();
    fenced_sink::create_tables(&mut connection).await.unwrap();
    fenced_sink::create_tables(&mut connection).await.unwrap();
    let settings = |url: &str| environment(&[("DATABASE_URL", url)]);
    ends("migrate up", &settings(&of_library), 69, &["`create_tables` of the library", "another schema"]);
    ends("migrate up", &settings(&of_program), 0, &["up to date now"]);
    let mut connection = PgConnection::connect(&of_program).await.unwrap();
    let error = fenced_sink::create_tables(&mut connection).await.unwrap_err().to_string();
    assert!(error.contains("create_tables did not create it"), "{error}");
}

#[tokio::test]
async fn a_file_in_the_working_directory_is_read_and_the_environment_wins() {
    let scene = Scene::new(1).await;
    let file = format!(
        "# as of .env.example\nKAFKA_TOPIC={}\nKAFKA_GROUP_ID='no-such-group'\nHTTP_ADDR=\nDATABASE_URL={}\n\
         KAFKA_BOOTSTRAP_SERVERS={}\n",
        scene.topic.name,
        scene.database,
        scene.topic.broker()
    );
    let environment = environment(&[("KAFKA_GROUP_ID", &scene.group)]);
    let service = Service::start_in(&[(".env", &file)], "run", &environment);
    let workload = Workload::bookings("file", 20, 1);
    scene.send(&workload.records).await;
    scene.assert_exact(&workload).await;
    service.stop();

    let broken = format!("WRITERS=3\nDATABASE_URL=postgresql://user:{PASSWORD} and more@host/bookings\n");
    let (code, lines) = Service::start_in(&[(".env", &broken)], "run", &environment).finished();
    assert_eq!(code, 78, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains(".env") && line.contains("single quotes")), "{lines:#?}");
    assert_no_secret(&lines, &environment);
}

#[tokio::test]
async fn another_schema_of_the_database_works_from_end_to_end() {
    let scene = Scene::without_tables(1).await;
    scene.execute("create schema other").await;
    let database = scene.database.clone();
    let scene = scene.with_database(format!("{database}?options=-c%20search_path%3Dother"));
    scene.migrate();
    let service = scene.start();
    let workload = Workload::mixed("other", 200, 1);
    scene.send(&workload.records).await;
    scene.assert_exact(&workload).await;
    let public = scene.lines("select count(*)::text from pg_tables where schemaname = 'public'").await;
    assert_eq!(public, ["0"], "nothing is made in the schema public");
    service.stop();
}
