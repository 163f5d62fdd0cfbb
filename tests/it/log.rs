//! The log is not always the log we knew: what is gone, cut off, replaced or damaged halts its partition and is on record,
//! and what only looks like that does not.

mod gaps;
mod replaced;
mod damaged;
mod false_alarms;
mod mock;

use testbed::audit::Audit;
use testbed::kafka::Kafka;
use testbed::postgres::database;
use testbed::service::{Service, migrated, settings};
use testbed::topic::Topic;
use testbed::unique;
use testbed::wait::PATIENCE;
use testbed::workload::Workload;

/// A topic, a group, a database with tables, and the settings that join them.
struct Scene {
    topic: Topic,
    group: String,
    database: String,
    settings: Vec<(String, String)>,
}

impl Scene {
    async fn new(kafka: &Kafka, partitions: i32, more: &[(&str, &str)]) -> Self {
        Self::of(Topic::create(kafka, partitions).await, kafka, more).await
    }

    async fn of(topic: Topic, kafka: &Kafka, more: &[(&str, &str)]) -> Self {
        let (group, database) = (unique("group"), database().await);
        migrated(&database);
        let mut settings = settings(kafka, &topic, &group, &database);
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Self { topic, group, database, settings }
    }

    fn run(&self) -> Service {
        Service::run(&self.settings)
    }

    fn audit(&self) -> Audit<'_> {
        Audit { topic: &self.topic, group: &self.group, database: &self.database }
    }

    async fn send(&self, workload: &Workload) {
        self.topic.producer(&[]).send(workload.records.iter().cloned()).await;
    }

    /// Sends new bookings, and waits until all that is in the topic is handled.
    async fn handle(&self, prefix: &str, count: usize) -> Workload {
        let partitions = i32::try_from(self.topic.partitions()).unwrap();
        let workload = Workload::bookings(prefix, count, partitions);
        self.send(&workload).await;
        self.audit().wait_until_read(PATIENCE).await;
        workload
    }

    /// A command that must succeed.
    fn command(&self, words: &str) -> Vec<String> {
        let (code, lines) = Service::finish(words, &self.settings, PATIENCE);
        assert_eq!(code, 0, "{words}: {lines:#?}");
        lines
    }

    /// Where a partition stands.
    async fn next(&self, partition: i32) -> i64 {
        self.audit().rows().await.get(&partition).unwrap().next_offset
    }

    /// Ids of all rows, each once or it fails.
    async fn stored(&self) -> Vec<String> {
        let ids = self.audit().booking_ids().await;
        let mut once = ids.clone();
        once.dedup();
        assert_eq!(ids, once, "a booking is there twice");
        ids
    }
}

/// Stops a service in order.
fn stop(service: &Service) {
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 0);
}

/// The line of a halted partition, with what it must say.
fn wait_for_halt(service: &Service, partition: i32, reason: &str, from: i64, to: i64) {
    let words = [
        "partition_halted".to_owned(),
        format!(" partition={partition} "),
        format!(" reason={reason} "),
        format!(" from={from} "),
        format!(" to={to} "),
    ];
    service.wait_for_line(|line| words.iter().all(|word| line.contains(word)), PATIENCE);
}
