//! `verify` finds nothing when the tables are right, and names each kind of damage exactly.

mod damage;
mod ranges;
mod failures;

use serde_json::Value;

use testbed::kafka::kafka;
use testbed::scene::Scene;
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

/// A finding without its detail: what, partition, offset, booking.
type Finding = (String, Option<i64>, Option<i64>, Option<String>);

/// What was not checked: what, partition, and for records the first offset and the offset after the last.
type NotChecked = (String, Option<i64>, Option<i64>, Option<i64>);

/// What `verify` printed.
#[derive(Debug)]
struct VerifyOutput {
    code: i32,
    findings: Vec<Finding>,
    details: Vec<String>,
    records: i64,
    not_checked: Vec<NotChecked>,
    reasons: Vec<String>,
}

impl VerifyOutput {
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

/// A topic whose records may have old timestamps.
async fn scene(partitions: i32) -> Scene {
    Scene::of(Topic::create_as(kafka(), &unique("verified"), partitions, &[("retention.ms", "-1")]).await).await
}

/// Runs the service until it has read all of the topic.
async fn read_all(scene: &Scene) {
    let service = scene.start();
    scene.wait_until_read().await;
    service.stop();
}

fn verify(scene: &Scene, arguments: &str) -> VerifyOutput {
    let (code, lines) = scene.finish(&format!("verify --output json {arguments}"));
    let objects: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let Some((last, findings)) = objects.split_last() else { panic!("{code} {lines:#?}") };
    let (number, text) = (|value: &Value| value.as_i64(), |value: &Value| value.as_str().map(str::to_owned));
    let not_checked = last["not_checked"].as_array().unwrap();
    for finding in findings {
        assert_eq!(finding["topic"], scene.topic.name.as_str());
    }
    assert_eq!(last["findings"], findings.len());
    let finding = |one: &Value| {
        let place = (number(&one["partition"]), number(&one["offset"]));
        (text(&one["finding"]).unwrap(), place.0, place.1, text(&one["booking_id"]))
    };
    let left_out = |one: &Value| {
        (text(&one["what"]).unwrap(), number(&one["partition"]), number(&one["from"]), number(&one["to"]))
    };
    VerifyOutput {
        code,
        findings: findings.iter().map(finding).collect(),
        details: findings.iter().filter_map(|one| text(&one["detail"])).collect(),
        records: number(&last["records"]).unwrap_or_else(|| panic!("{lines:#?}")),
        not_checked: not_checked.iter().map(left_out).collect(),
        reasons: not_checked.iter().filter_map(|one| text(&one["why"])).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mixed_workload_verifies_also_beside_a_service_under_load() {
    let scene = scene(3).await;
    let workload = Workload::mixed("mixed", 20_000, 3);
    let records = workload.records.len();
    let producer = scene.topic.producer(&[]);
    let service = scene.start();
    let (before, after) = workload.records.split_at(5_000);
    producer.send(before).await;
    let handled = async || scene.totals().await.sum();
    eventually(PATIENCE, |handled| *handled > 1_000, handled).await;
    let load = producer.send(after);
    let beside = async {
        // `block_in_place` lets the producer continue on the other thread.
        tokio::task::block_in_place(|| (0..3).map(|_| verify(&scene, "")).collect::<Vec<VerifyOutput>>())
    };
    let (_, beside) = tokio::join!(load, beside);
    for output in beside {
        assert_eq!((output.code, output.not_checked.len()), (0, 0), "{output:#?}");
        assert!(output.records > 1_000, "{output:#?}");
    }
    scene.wait_until_read().await;
    verify(&scene, "").assert_clean(records);
    service.stop();
    scene.audit().assert_exact(&workload.expected).await;
}

#[tokio::test]
async fn transactions_with_aborted_data_and_markers_at_the_end_verify() {
    let scene = scene(1).await;
    let producer = scene.topic.transactional_producer();
    let to = |from: usize, to: usize| (from..to).map(|n| Outgoing::to(0, booking(&format!("tx-{n}"), "90.0")));
    for (round, commits) in [(0, true), (1, false), (2, true), (3, false)] {
        producer.begin();
        producer.send(to(round * 10, round * 10 + 10)).await;
        if commits { producer.commit() } else { producer.abort() }
    }
    read_all(&scene).await;
    verify(&scene, "").assert_clean(20);
    // A range that holds only aborted data and markers.
    let output = verify(&scene, "--from 33");
    assert_eq!((output.code, output.records), (0, 0), "{output:#?}");
    let output = verify(&scene, "--from 11 --to 15");
    assert_eq!((output.code, output.records), (0, 0), "{output:#?}");
    // A row for an aborted record: no record that was read explains it.
    scene
        .execute(
            "insert into booking_history (booking_id, user_id, hotel_id, discount_percent, price, created_at)
             values ('tx-10', 'user-tx-10', 'hotel-1', 2.5, 90, '2026-02-15T14:37:34Z')",
        )
        .await;
    verify(&scene, "").assert_one("extra", None, Some("tx-10"), "no record explains row");
}

#[tokio::test]
async fn letters_that_were_corrected_or_redriven_verify() {
    let scene = scene(1).await;
    scene.execute("create table users (id text primary key); insert into users values ('user-a')").await;
    scene.execute("alter table booking_history add constraint known_user foreign key (user_id) references users").await;
    // Two bookings, of which one waits for its user; a conflict; two that are corrected; one that is discarded.
    let sent = [
        booking("a", "1"),
        booking("late", "2"),
        booking("a", "3"),
        booking("bad", "-4"),
        booking("worse", "-5"),
        "rubbish".to_owned(),
    ];
    scene.send_values(&sent).await;
    let service = scene.start();
    scene.wait_until_read().await;
    let output = verify(&scene, "");
    output.assert_clean(sent.len());
    scene.execute("insert into users values ('user-late'), ('user-bad'), ('user-worse')").await;
    scene
        .execute(
            r#"select dead_letters_correct(id, convert_to(replace(convert_from(value, 'UTF8'), ':-', ':'), 'UTF8'))
               from dead_letters where "offset" in (3, 4);
               select dead_letters_requeue(array(select id from dead_letters where "offset" in (1, 3)));
               select dead_letters_discard(array(select id from dead_letters where "offset" = 5), 'rubbish')"#,
        )
        .await;
    service.wait_for_event_with("dead_letter_resolved", &[("offset", "3")]);
    service.wait_for_event_with("dead_letter_resolved", &[("offset", "1")]);
    verify(&scene, "").assert_clean(sent.len());
    // The records are read again: those of resolved letters are duplicates now.
    scene
        .execute(
            "update consumer_offsets set next_offset = 0, counted_from = 0,
             stored = 0, duplicates = 0, ignored = 0, dead_lettered = 0",
        )
        .await;
    scene.wait_until_read().await;
    verify(&scene, "").assert_clean(sent.len());
    service.stop();

    // The row of a corrected letter is compared with the corrected value.
    let damages = [
        ("delete from booking_history where booking_id = 'bad'", "missing", 3, "bad"),
        ("delete from booking_history where booking_id = 'late'", "missing", 1, "late"),
        ("update booking_history set price = 4.01 where booking_id = 'bad'", "altered", 3, "bad"),
        ("update booking_history set promo_code = '' where booking_id = 'late'", "altered", 1, "late"),
    ];
    for (damage, what, offset, id) in damages {
        damage::and_undo(&scene, damage, |output| output.assert_one(what, Some((0, offset)), Some(id), "dead letter"))
            .await;
    }
    let letters = [
        (r#"update dead_letters set original_value = 'x' where "offset" = 3"#, 3, Some("bad"), "original_value"),
        (r#"update dead_letters set original_value = 'x' where "offset" = 4"#, 4, None, "original_value"),
    ];
    for (damage, offset, id, detail) in letters {
        damage::and_undo(&scene, damage, |output| output.assert_one("altered", Some((0, offset)), id, detail)).await;
    }
    // VerifyOutput to be resolved, and never was.
    let lie = r#"update dead_letters set status = 'resolved' where "offset" in (2, 4, 5)"#;
    damage::and_undo(&scene, lie, |output| {
        let found =
            |what: &str, offset, id: Option<&str>| (what.to_owned(), Some(0), Some(offset), id.map(str::to_owned));
        let expected = [found("altered", 2, Some("a")), found("missing", 4, Some("worse")), found("missing", 5, None)];
        assert_eq!((output.code, output.findings.as_slice()), (1, &expected[..]), "{output:#?}");
    })
    .await;
}
