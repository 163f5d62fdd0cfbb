//! What a test works with: a topic, a consumer group, a database, and the settings with which the service connects
//! them.

use std::borrow::Borrow;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::audit::{Audit, OffsetsRow, Totals};
use crate::kafka::{Kafka, kafka};
use crate::postgres::{database, postgres, run};
use crate::service::{Environment, Service, environment};
use crate::topic::{Outgoing, Topic};
use crate::wait::{PATIENCE, eventually};
use crate::workload::Workload;
use crate::{Postgres, pages, switch, unique};

/// A topic, a consumer group and a database of a test's own. Each instance that it starts is of this group.
#[derive(Clone)]
pub struct Scene {
    pub topic: Topic,
    pub group: String,
    /// The URL of the database, for its owner.
    pub database: String,
    pub environment: Environment,
}

impl Scene {
    /// A new topic with this number of partitions, and a new database with the tables, on the shared servers.
    pub async fn new(partitions: i32) -> Self {
        Self::on(kafka(), postgres(), partitions).await
    }

    /// As [`Self::new`], on these servers.
    pub async fn on(kafka: &Kafka, postgres: &Postgres, partitions: i32) -> Self {
        let database = postgres.create_database(&unique("test")).await.unwrap();
        let scene = Self::between(Topic::create(kafka, partitions).await, database);
        scene.migrate();
        scene.choose_table().await;
        scene
    }

    /// This topic, of any broker, and a new database with the tables on the shared server.
    pub async fn of(topic: Topic) -> Self {
        let scene = Self::between(topic, database().await);
        scene.migrate();
        scene.choose_table().await;
        scene
    }

    /// Partitions the new table of bookings if `TEST_TABLE=partitioned`, so that the same tests run on such a table.
    async fn choose_table(&self) {
        match switch("TEST_TABLE").as_deref() {
            None => {}
            Some("partitioned") => self.partition_table().await,
            Some(other) => panic!("TEST_TABLE={other}: only `partitioned` is known"),
        }
    }

    /// Partitions the table of bookings, as docs/scale-out.md describes it.
    pub async fn partition_table(&self) {
        for script in ["1-copy.sql", "2-swap.sql"] {
            run(&self.database, &pages::read(&format!("deploy/partitioning/{script}"))).await;
        }
    }

    /// As [`Self::new`], without the tables.
    pub async fn without_tables(partitions: i32) -> Self {
        Self::between(Topic::create(kafka(), partitions).await, database().await)
    }

    /// This topic and this database, as they are. `TEST_GROUP_PROTOCOL` is the group protocol of tests that set no properties.
    pub fn between(topic: Topic, database: String) -> Self {
        let mut environment = environment(&[("HTTP_ADDR", "")]);
        if let Some(protocol) = switch("TEST_GROUP_PROTOCOL") {
            environment.insert("KAFKA_PROPERTIES".to_owned(), format!("group.protocol={protocol}"));
        }
        let scene = Self { topic: topic.clone(), group: String::new(), database: String::new(), environment };
        scene.with_topic(topic).with_group(&unique("group")).with_database(database)
    }

    /// The same with this setting of the service.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same with the HTTP server, on a port that is free.
    #[must_use]
    pub fn with_http(self) -> Self {
        self.with("HTTP_ADDR", "127.0.0.1:0")
    }

    /// The same with another topic.
    #[must_use]
    pub fn with_topic(self, topic: Topic) -> Self {
        let scene = self.with("KAFKA_BOOTSTRAP_SERVERS", topic.broker()).with("KAFKA_TOPIC", &topic.name);
        Self { topic, ..scene }
    }

    /// The same with another consumer group.
    #[must_use]
    pub fn with_group(self, group: &str) -> Self {
        Self { group: group.to_owned(), ..self.with("KAFKA_GROUP_ID", group) }
    }

    /// The same with another database, as it is.
    #[must_use]
    pub fn with_database(self, url: String) -> Self {
        let scene = self.with("DATABASE_URL", &url);
        Self { database: url, ..scene }
    }

    /// Makes the tables, as the owner of the database.
    pub fn migrate(&self) {
        self.clone().with_database(self.database.clone()).command("migrate up");
    }

    /// Starts an instance of the service.
    pub fn start(&self) -> Service {
        self.start_command("run")
    }

    /// Starts any command with its arguments, each a shell word.
    pub fn start_command(&self, arguments: &str) -> Service {
        Service::start(arguments, &self.environment)
    }

    /// Runs a command to its end: its exit code, and the lines of its standard output and error.
    pub fn finish(&self, arguments: &str) -> (i32, Vec<String>) {
        self.start_command(arguments).finished()
    }

    /// Runs a command that must succeed: the lines of its standard output and error.
    pub fn command(&self, arguments: &str) -> Vec<String> {
        let (code, lines) = self.finish(arguments);
        assert_eq!(code, 0, "{arguments}: {lines:#?}");
        lines
    }

    /// Produces records in order, and returns their partitions and offsets when the broker has them.
    pub async fn send(&self, records: impl IntoIterator<Item: Borrow<Outgoing>>) -> Vec<(i32, i64)> {
        self.topic.producer(&[]).send(records).await
    }

    /// Produces records with these values into partition 0.
    pub async fn send_values(&self, values: impl IntoIterator<Item: AsRef<[u8]>>) {
        self.send(values.into_iter().map(|value| Outgoing::to(0, value.as_ref()))).await;
    }

    /// Produces new bookings, and waits until the service has handled all of the topic.
    pub async fn send_and_handle(&self, prefix: &str, bookings: usize) -> Workload {
        let partitions = i32::try_from(self.topic.partitions()).unwrap();
        let workload = Workload::bookings(prefix, bookings, partitions);
        self.send(&workload.records).await;
        self.wait_until_read().await;
        workload
    }

    /// What the tables hold of this topic and this group.
    pub fn audit(&self) -> Audit<'_> {
        Audit { topic: &self.topic, group: &self.group, database: &self.database }
    }

    /// Waits until the positions are at the ends of the topic log.
    pub async fn wait_until_read(&self) {
        self.audit().wait_until_read(PATIENCE).await;
    }

    /// Waits until the positions are at the ends of the topic log, and fails unless the tables hold exactly this.
    pub async fn assert_exact(&self, workload: &Workload) {
        self.wait_until_read().await;
        self.audit().assert_exact(&workload.expected).await;
    }

    /// Waits until this number of partitions has a row.
    pub async fn wait_until_claimed(&self, partitions: usize) {
        eventually(PATIENCE, |rows| *rows == partitions, async || self.audit().rows().await.len()).await;
    }

    /// Waits until a partition is halted, and gives the reason.
    pub async fn wait_until_halted(&self, partition: i32) -> String {
        self.audit().wait_until_halted(partition, 2 * PATIENCE).await
    }

    /// Waits until a partition is at this position.
    pub async fn wait_until_at(&self, partition: i32, next_offset: i64) {
        let at = async || self.audit().rows().await.get(&partition).map(|row| row.next_offset);
        eventually(PATIENCE, |at| *at == Some(next_offset), at).await;
    }

    /// The row of a partition in `consumer_offsets`.
    pub async fn row(&self, partition: i32) -> OffsetsRow {
        self.audit().rows().await.remove(&partition).unwrap_or_else(|| panic!("partition {partition} has no row"))
    }

    /// The ids of all bookings, sorted; fails if one is stored twice.
    pub async fn booking_ids(&self) -> Vec<String> {
        let ids = self.audit().booking_ids().await;
        assert!(ids.is_sorted_by(|a, b| a < b), "a booking is stored twice: {ids:?}");
        ids
    }

    /// The number of records with each outcome, over all partitions.
    pub async fn totals(&self) -> Totals {
        self.audit().rows().await.into_values().map(|row| row.totals).sum()
    }

    /// Waits until a session of the database waits for a lock.
    pub async fn wait_until_blocked(&self) {
        let blocked = "select count(*)::text from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock'";
        eventually(PATIENCE, |blocked: &Vec<String>| *blocked != ["0"], async || self.lines(blocked).await).await;
    }

    /// Connects to the database as its owner.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.database).await.unwrap()
    }

    /// Runs statements as an operator does, on a connection of their own.
    pub async fn execute(&self, statements: &str) {
        run(&self.database, statements).await;
    }

    /// Begins a transaction with these statements. It holds its locks until the connection is dropped.
    pub async fn hold(&self, statements: &str) -> PgConnection {
        let mut connection = self.connect().await;
        let statements = AssertSqlSafe(format!("begin; {statements}"));
        sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
        connection
    }

    /// The rows of a query that has one column of text.
    pub async fn lines(&self, query: &str) -> Vec<String> {
        sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(&mut self.connect().await).await.unwrap()
    }

    /// Waits until a query gives these lines.
    pub async fn wait_until_lines(&self, query: &str, expected: &[&str]) {
        eventually(PATIENCE, |lines: &Vec<String>| lines == expected, async || self.lines(query).await).await;
    }
}
