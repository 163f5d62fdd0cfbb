//! `verify` finds nothing where nothing is wrong, whatever came, and names each kind of damage exactly.

mod damage;
mod ranges;
mod trouble;

use serde_json::Value;

use testbed::audit::Audit;
use testbed::kafka::{Kafka, kafka};
use testbed::postgres::database;
use testbed::service::{Service, migrated, settings};
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

/// A topic, a group and a database, and a service that reads the one into the other.
struct World {
    topic: Topic,
    group: String,
    database: String,
    settings: Vec<(String, String)>,
}

/// A finding but for its detail: what, partition, offset, booking.
type Finding = (String, Option<i64>, Option<i64>, Option<String>);

/// What was not checked: what, partition, and of records from and to.
type NotChecked = (String, Option<i64>, Option<i64>, Option<i64>);

/// What a verification said.
#[derive(Debug)]
struct Said {
    code: i32,
    findings: Vec<Finding>,
    details: Vec<String>,
    records: i64,
    not_checked: Vec<NotChecked>,
    reasons: Vec<String>,
}

impl Said {
    /// Exactly one finding, with this in its detail.
    fn assert_one(&self, what: &str, place: Option<(i64, i64)>, booking_id: Option<&str>, detail: &str) {
        let partition = place.map(|(partition, _)| partition);
        let offset = place.map(|(_, offset)| offset).filter(|offset| *offset >= 0);
        let expected = (what.to_owned(), partition, offset, booking_id.map(str::to_owned));
        assert_eq!((self.code, &self.findings), (1, &vec![expected]), "{self:#?}");
        assert!(self.details.concat().contains(detail), "{self:#?}");
    }

    fn assert_clean(&self, records: usize) {
        assert_eq!((self.code, self.findings.len(), self.not_checked.len()), (0, 0, 0), "{self:#?}");
        assert_eq!(self.records, i64::try_from(records).unwrap());
    }
}

impl World {
    async fn new(partitions: i32) -> Self {
        // Else retention removes what is produced with an old timestamp.
        let topic = Topic::create_as(kafka(), &unique("verified"), partitions, &[("retention.ms", "-1")]).await;
        Self::on(kafka(), topic).await
    }

    async fn on(kafka: &Kafka, topic: Topic) -> Self {
        let (group, database) = (unique("group"), database().await);
        migrated(&database);
        let settings = settings(kafka, &topic, &group, &database);
        Self { topic, group, database, settings }
    }

    fn audit(&self) -> Audit<'_> {
        Audit { topic: &self.topic, group: &self.group, database: &self.database }
    }

    /// Has the service read what was sent, to the end.
    async fn keep(&self) {
        let service = Service::run(&self.settings);
        self.audit().wait_until_read(PATIENCE).await;
        service.sigterm();
        assert_eq!(service.wait_exit(PATIENCE), 0);
    }

    async fn send(&self, values: &[String]) {
        self.topic.producer(&[]).send(values.iter().map(|value| Outgoing::to(0, value.as_bytes()))).await;
    }

    async fn run(&self, statements: &str) {
        testbed::postgres::run(&self.database, statements).await;
    }

    fn verify(&self, arguments: &str) -> Said {
        let command = format!("verify --output json {arguments}");
        let (code, lines) = Service::finish(&command, &self.settings, PATIENCE);
        let objects: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let Some((last, findings)) = objects.split_last() else { panic!("{code} {lines:#?}") };
        let (number, text) = (|value: &Value| value.as_i64(), |value: &Value| value.as_str().map(str::to_owned));
        for finding in findings {
            assert_eq!(finding["topic"], self.topic.name.as_str());
        }
        let said = Said {
            code,
            findings: findings
                .iter()
                .map(|one| {
                    (
                        text(&one["finding"]).unwrap(),
                        number(&one["partition"]),
                        number(&one["offset"]),
                        text(&one["booking_id"]),
                    )
                })
                .collect(),
            details: findings.iter().filter_map(|one| text(&one["detail"])).collect(),
            records: number(&last["records"]).unwrap_or_else(|| panic!("{lines:#?}")),
            not_checked: last["not_checked"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| {
                    (text(&one["what"]).unwrap(), number(&one["partition"]), number(&one["from"]), number(&one["to"]))
                })
                .collect(),
            reasons: last["not_checked"].as_array().unwrap().iter().filter_map(|one| text(&one["why"])).collect(),
        };
        assert_eq!(last["findings"], said.findings.len());
        said
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mixed_workload_verifies_also_beside_a_service_under_load() {
    let world = World::new(3).await;
    let workload = Workload::mixed("mixed", 20_000, 3);
    let records = workload.records.len();
    let producer = world.topic.producer(&[]);
    let service = Service::run(&world.settings);
    let (before, after) = workload.records.split_at(5_000);
    producer.send(before.iter().cloned()).await;
    let audit = world.audit();
    let handled = async || audit.rows().await.into_values().map(|row| row.totals.sum()).sum::<i64>();
    eventually(PATIENCE, |handled| *handled > 1_000, handled).await;
    let load = producer.send(after.iter().cloned());
    let beside = async {
        // On threads of their own: the producer goes on meanwhile.
        tokio::task::block_in_place(|| (0..3).map(|_| world.verify("")).collect::<Vec<Said>>())
    };
    let (_, beside) = tokio::join!(load, beside);
    for said in beside {
        assert_eq!((said.code, said.not_checked.len()), (0, 0), "{said:#?}");
        assert!(said.records > 1_000, "{said:#?}");
    }
    audit.wait_until_read(PATIENCE).await;
    world.verify("").assert_clean(records);
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 0);
    audit.assert_exact(&workload.expected).await;
}

#[tokio::test]
async fn transactions_with_aborted_data_and_markers_at_the_end_verify() {
    let world = World::new(1).await;
    let producer = world.topic.transactional_producer();
    let to = |from: usize, to: usize| (from..to).map(|n| Outgoing::to(0, booking(&format!("tx-{n}"), "90.0")));
    for (round, commits) in [(0, true), (1, false), (2, true), (3, false)] {
        producer.begin();
        producer.send(to(round * 10, round * 10 + 10)).await;
        if commits { producer.commit() } else { producer.abort() }
    }
    world.keep().await;
    world.verify("").assert_clean(20);
    // A range that is nothing but aborted data and markers.
    let said = world.verify("--from 33");
    assert_eq!((said.code, said.records), (0, 0), "{said:#?}");
    let said = world.verify("--from 11 --to 15");
    assert_eq!((said.code, said.records), (0, 0), "{said:#?}");
    // The row of a record that was aborted: nothing that was read explains it.
    world
        .run(
            "insert into booking_history (booking_id, user_id, hotel_id, discount_percent, price, created_at)
             values ('tx-10', 'user-tx-10', 'hotel-1', 2.5, 90, '2026-02-15T14:37:34Z')",
        )
        .await;
    world.verify("").assert_one("extra", None, Some("tx-10"), "no record explains row");
}

#[tokio::test]
async fn letters_that_were_corrected_or_redriven_verify() {
    let world = World::new(1).await;
    world.run("create table users (id text primary key); insert into users values ('user-a')").await;
    world.run("alter table booking_history add constraint known_user foreign key (user_id) references users").await;
    // A row; one that waits for its user; a conflict; one that is corrected; one that is discarded.
    let sent = [
        booking("a", "1"),
        booking("late", "2"),
        booking("a", "3"),
        booking("bad", "-4"),
        booking("worse", "-5"),
        "rubbish".to_owned(),
    ];
    world.send(&sent).await;
    let service = Service::run(&world.settings);
    world.audit().wait_until_read(PATIENCE).await;
    let said = world.verify("");
    said.assert_clean(sent.len());
    world.run("insert into users values ('user-late'), ('user-bad'), ('user-worse')").await;
    world
        .run(
            r#"select dead_letters_correct(id, convert_to(replace(convert_from(value, 'UTF8'), ':-', ':'), 'UTF8'))
               from dead_letters where "offset" in (3, 4);
               select dead_letters_requeue(array(select id from dead_letters where "offset" in (1, 3)));
               select dead_letters_discard(array(select id from dead_letters where "offset" = 5), 'rubbish')"#,
        )
        .await;
    service.wait_for_line(|line| line.contains("dead_letter_resolved") && line.contains("offset=3"), PATIENCE);
    service.wait_for_line(|line| line.contains("dead_letter_resolved") && line.contains("offset=1"), PATIENCE);
    world.verify("").assert_clean(sent.len());
    // Read again: what was a letter first is a duplicate now.
    world
        .run(
            "update consumer_offsets set next_offset = 0, counted_from = 0,
             stored = 0, duplicates = 0, ignored = 0, dead_lettered = 0",
        )
        .await;
    world.audit().wait_until_read(PATIENCE).await;
    world.verify("").assert_clean(sent.len());
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 0);

    // What was made of a letter is held against the letter as it was corrected.
    let damages = [
        ("delete from booking_history where booking_id = 'bad'", "missing", 3, "bad"),
        ("delete from booking_history where booking_id = 'late'", "missing", 1, "late"),
        ("update booking_history set price = 4.01 where booking_id = 'bad'", "altered", 3, "bad"),
        ("update booking_history set promo_code = '' where booking_id = 'late'", "altered", 1, "late"),
    ];
    for (damage, what, offset, id) in damages {
        damage::and_undo(&world, damage, |said| said.assert_one(what, Some((0, offset)), Some(id), "dead letter"))
            .await;
    }
    let letters = [
        (r#"update dead_letters set original_value = 'x' where "offset" = 3"#, 3, Some("bad"), "original_value"),
        (r#"update dead_letters set original_value = 'x' where "offset" = 4"#, 4, None, "original_value"),
    ];
    for (damage, offset, id, detail) in letters {
        damage::and_undo(&world, damage, |said| said.assert_one("altered", Some((0, offset)), id, detail)).await;
    }
    // Said to be resolved, and never was.
    let lie = r#"update dead_letters set status = 'resolved' where "offset" in (2, 4, 5)"#;
    damage::and_undo(&world, lie, |said| {
        let found =
            |what: &str, offset, id: Option<&str>| (what.to_owned(), Some(0), Some(offset), id.map(str::to_owned));
        let expected = [found("altered", 2, Some("a")), found("missing", 4, Some("worse")), found("missing", 5, None)];
        assert_eq!((said.code, said.findings.as_slice()), (1, &expected[..]), "{said:#?}");
    })
    .await;
}
