//! What the environment causes never makes a dead letter: the records wait, and then all of them are rows.

use sqlx::{Connection as _, PgConnection};

use testbed::audit::Audit;
use testbed::kafka::kafka;
use testbed::postgres::{PASSWORD, database, plain_user, run};
use testbed::service::{Service, migrated, settings};
use testbed::topic::Topic;
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

/// A service at work, and the records that it is given before, during and after the trouble.
struct Scene {
    topic: Topic,
    group: String,
    database: String,
    settings: Vec<(String, String)>,
    workload: Workload,
}

impl Scene {
    async fn new(more: &[(&str, &str)]) -> Self {
        let (topic, group, database) = (Topic::create(kafka(), 2).await, unique("group"), database().await);
        migrated(&database);
        let mut settings = settings(kafka(), &topic, &group, &database);
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Self { topic, group, database, settings, workload: Workload::bookings("waiting", 900, 2) }
    }

    fn audit(&self) -> Audit<'_> {
        Audit { topic: &self.topic, group: &self.group, database: &self.database }
    }

    async fn send(&self, third: usize) {
        let records = self.workload.records.chunks(300).nth(third).unwrap();
        self.topic.producer(&[]).send(records.iter().cloned()).await;
    }

    /// Good, bad (until the service has complained several times), good again.
    async fn live_through(&self, service: &Service, trouble: &str, error: &str, relief: &str) {
        self.send(0).await;
        self.audit().wait_until_read(PATIENCE).await;
        let mut operator = PgConnection::connect(&self.database).await.unwrap();
        let mut make = async |statements: &str| {
            sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(&mut operator).await.unwrap();
        };
        make(trouble).await;
        self.send(1).await;
        let complaints = async || {
            let lines = service.lines();
            lines.iter().filter(|line| line.contains("database_unavailable") && line.contains(error)).count()
        };
        eventually(PATIENCE, |complaints| *complaints >= 3, complaints).await;
        make(relief).await;
        self.send(2).await;
        self.exact(service).await;
    }

    async fn exact(&self, service: &Service) {
        self.audit().wait_until_read(PATIENCE).await;
        self.audit().assert_exact(&self.workload.expected).await;
        assert!(service.is_running(), "it was never restarted");
        let lines = service.lines();
        assert!(!lines.iter().any(|line| line.contains("record_dead_lettered")), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.contains(PASSWORD)), "{lines:#?}");
    }
}

#[tokio::test]
async fn a_privilege_that_is_missing_for_a_while() {
    let mut scene = Scene::new(&[]).await;
    let (user, url) = plain_user(&scene.database).await;
    scene.settings.push(("DATABASE_URL".to_owned(), url));
    let service = Service::run(&scene.settings);
    let revoke = format!("revoke insert on booking_history from \"{user}\"");
    let grant = format!("grant insert on booking_history to \"{user}\"");
    scene.live_through(&service, &revoke, "permission denied", &grant).await;
}

#[tokio::test]
async fn a_privilege_that_stays_missing_ends_the_service_and_loses_nothing() {
    let mut scene = Scene::new(&[("STARTUP_TIMEOUT", "1s")]).await;
    let (user, url) = plain_user(&scene.database).await;
    scene.settings.push(("DATABASE_URL".to_owned(), url));
    let mut service = Service::run(&scene.settings);
    scene.send(0).await;
    scene.audit().wait_until_read(PATIENCE).await;
    run(&scene.database, &format!("revoke insert on booking_history from \"{user}\"")).await;
    scene.send(1).await;
    assert_eq!(service.wait_exit(PATIENCE), 69);
    service.wait_for_line(|line| line.starts_with("error: ") && line.contains("grant the privilege"), PATIENCE);
    run(&scene.database, &format!("grant insert on booking_history to \"{user}\"")).await;
    scene.send(2).await;
    service.start_again();
    scene.exact(&service).await;
}

#[tokio::test]
async fn a_database_that_takes_no_writes_for_a_while() {
    let scene = Scene::new(&[]).await;
    let service = Service::run(&scene.settings);
    // A setting of the database is for new sessions, so those that are there are ended.
    let trouble = "do $$ begin
        execute format('alter database %I set default_transaction_read_only = on', current_database());
        perform pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid();
        end $$";
    let relief = "do $$ begin
        execute format('alter database %I reset default_transaction_read_only', current_database());
        perform pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and pid <> pg_backend_pid();
        end $$";
    scene.live_through(&service, trouble, "read-only transaction", relief).await;
}

#[tokio::test]
async fn a_disk_that_is_full_for_a_while() {
    let scene = Scene::new(&[]).await;
    let service = Service::run(&scene.settings);
    let trouble = "create function full_disk() returns trigger language plpgsql as $$
        begin raise exception 'could not extend file' using errcode = '53100'; end $$;
        create trigger full_disk before insert on booking_history for each row execute function full_disk()";
    scene.live_through(&service, trouble, "could not extend file", "drop trigger full_disk on booking_history").await;
}

#[tokio::test]
async fn a_table_that_somebody_has_locked_for_a_while() {
    let scene = Scene::new(&[("DATABASE_TIMEOUT", "1s")]).await;
    let service = Service::run(&scene.settings);
    let trouble = "begin; lock table booking_history in access exclusive mode";
    scene.live_through(&service, trouble, "timeout", "commit").await;
}
