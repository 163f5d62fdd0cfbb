//! Only a part of the topic log is compared: `verify` says what it did not check, and why.

use super::{NotCheckedLine, VerifyOutput, read_all, scene, verify};
use testbed::kafka::{Kafka, kafka};
use testbed::postgres::{plain_user, postgres};
use testbed::scene::Scene;
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::booking;

/// The settings of a topic that is compacted soon.
const COMPACTED: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("segment.ms", "100"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("max.compaction.lag.ms", "100"),
];

fn not_checked(what: &str, partition: Option<i64>, offsets: Option<(i64, i64)>) -> NotCheckedLine {
    (what.to_owned(), partition, offsets.map(|(from, _)| from), offsets.map(|(_, to)| to))
}

/// Bookings `a-0` to `a-9` in partition 0, `b-0` to `b-9` in partition 1.
async fn two_times_ten() -> Scene {
    let scene = scene(2).await;
    let of = |name: &'static str, partition| {
        (0..10_u32).map(move |n| Outgoing {
            timestamp: Some(1_700_000_000_000 + i64::from(n) * 1_000),
            ..Outgoing::to(partition, booking(&format!("{name}-{n}"), "1"))
        })
    };
    scene.send(of("a", 0).chain(of("b", 1))).await;
    read_all(&scene).await;
    scene
}

#[tokio::test]
async fn a_narrowed_range_says_what_it_leaves_out() {
    let scene = two_times_ten().await;
    scene.execute("delete from booking_history where booking_id in ('a-2', 'a-7', 'b-5')").await;
    let (totals, extra) = (not_checked("totals", Some(0), None), not_checked("extra", None, None));
    let missing =
        |partition, offset, id: &str| ("missing".to_owned(), Some(partition), Some(offset), Some(id.to_owned()));

    let output = verify(&scene, "--partition 0 --from 3 --to 7");
    assert_eq!((output.code, output.records, output.findings.len()), (0, 4, 0), "{output:#?}");
    let left_out = [not_checked("records", Some(0), Some((0, 3))), not_checked("records", Some(0), Some((7, 10)))];
    assert_eq!(output.not_checked, [&left_out[..], &[totals.clone(), extra.clone()]].concat(), "{output:#?}");

    let output = verify(&scene, "--partition 0 --from 7");
    assert_eq!((output.code, output.findings), (1, vec![missing(0, 7, "a-7")]));
    let output = verify(&scene, "--since 2023-11-14T22:13:25Z");
    assert_eq!((output.code, output.records), (1, 10));
    assert_eq!(output.findings.iter().filter(|(what, ..)| what == "missing").count(), 2, "a-7 and b-5");
    let output = verify(&scene, "--partition 1");
    assert_eq!((output.code, output.findings, output.not_checked), (1, vec![missing(1, 5, "b-5")], vec![extra]));
    // A user that may read the tables may verify them.
    let (_, url) = plain_user(&scene.database).await;
    let (code, lines) = scene.clone().with("DATABASE_URL", &url).finish("verify");
    assert!(code == 1 && lines.contains(&"20 records compared, 3 findings".to_owned()), "{code} {lines:#?}");

    let (code, lines) = scene.finish("verify --partition 7");
    assert!(code == 69 && lines.concat().contains("no position in partition 7"), "{code} {lines:#?}");
    let (code, lines) = scene.finish("verify --from 1 --since 2026-01-01T00:00:00Z");
    assert!(code == 2 && lines.concat().contains("cannot be used with"), "{code} {lines:#?}");
    let (code, lines) = scene.finish("verify --from 5 --to 5");
    assert!(code == 2 && lines.concat().contains("must be above"), "{code} {lines:#?}");
}

#[tokio::test]
async fn records_that_were_removed_are_reported_as_not_checked() {
    let scene = two_times_ten().await;
    scene.topic.delete_records(1, 4).await;
    let output = verify(&scene, "");
    assert_eq!((output.code, output.records, output.findings.len()), (0, 16, 0), "{output:#?}");
    let expected = [
        not_checked("records", Some(1), Some((0, 4))),
        not_checked("totals", Some(1), None),
        not_checked("extra", None, None),
    ];
    assert_eq!(output.not_checked, expected, "{output:#?}");
    assert!(output.reasons[0].contains("the log no longer has them"), "{output:#?}");
    let (code, lines) = scene.finish("verify");
    let wanted = [
        "not checked: offsets 0 to 3 of partition 1: gone: the log no longer has them",
        "not checked: totals of partition 1: not all offsets from 0 to 9 are read",
        "not checked: extra rows: not all records from offset 0 of every partition are read",
        "16 records compared, 0 findings",
    ];
    assert_eq!((code, lines), (0, wanted.map(str::to_owned).to_vec()));
    // The other records are compared.
    scene.execute("delete from booking_history where booking_id in ('b-3', 'b-4')").await;
    verify(&scene, "").assert_missing("b-4");
}

#[tokio::test]
async fn totals_that_were_reset_are_compared_from_there() {
    let scene = two_times_ten().await;
    scene
        .execute(
            "update consumer_offsets set counted_from = 6, stored = 4 where partition = 0;
             delete from booking_history where booking_id = 'a-3'",
        )
        .await;
    let output = verify(&scene, "");
    assert_eq!((output.code, output.records), (0, 14), "{output:#?}");
    let expected = [not_checked("records", Some(0), Some((0, 6))), not_checked("extra", None, None)];
    assert_eq!(output.not_checked, expected, "{output:#?}");
    // The totals do not count the records before.
    let output = verify(&scene, "--from 0");
    assert_eq!((output.code, output.records, output.not_checked.len()), (1, 20, 0), "{output:#?}");
    output.assert_missing("a-3");
    assert!(output.details[0].contains("may never have been handled"), "{output:#?}");
}

#[tokio::test]
async fn rows_ahead_of_a_position_that_was_moved_back_are_not_extra() {
    let scene = two_times_ten().await;
    scene
        .execute(
            "update consumer_offsets set next_offset = 4, stored = 4 where partition = 0;
             update consumer_offsets set next_offset = 0, stored = 0 where partition = 1",
        )
        .await;
    verify(&scene, "").assert_clean(4);
    scene.execute("update booking_history set booking_id = 'b-x' where booking_id = 'b-5'").await;
    verify(&scene, "").assert_one("extra", None, Some("b-x"), "no record explains row");
}

#[tokio::test]
async fn gaps_and_other_groups_limit_what_is_checked() {
    let scene = two_times_ten().await;
    scene
        .execute(
            "insert into offset_gaps (group_id, topic, partition, from_offset, to_offset, reason)
             select group_id, topic, 0, 8, 30, 'log_replaced' from consumer_offsets where partition = 0",
        )
        .await;
    let output = verify(&scene, "");
    assert_eq!((output.code, output.records), (0, 20), "{output:#?}");
    let expected = [not_checked("records", Some(0), Some((8, 10))), not_checked("extra", None, None)];
    assert_eq!(output.not_checked, expected, "{output:#?}");
    assert!(output.reasons[0].contains("log_replaced") && output.reasons[1].contains("log_replaced"), "{output:#?}");

    scene.execute("delete from offset_gaps").await;
    // A group that is behind this one has no further rows. A group that is ahead may have some.
    let other = "insert into consumer_offsets (group_id, topic, partition, next_offset, counted_from, topic_id)
                 select 'other', topic, partition, 9, 0, topic_id from consumer_offsets";
    scene.execute(other).await;
    verify(&scene, "").assert_clean(20);
    scene.execute("update consumer_offsets set next_offset = 11 where group_id = 'other' and partition = 1").await;
    let output = verify(&scene, "");
    assert_eq!((output.code, output.not_checked), (0, vec![not_checked("extra", None, None)]));
    assert!(output.reasons[0].contains("group other"), "{:?}", output.reasons);

    // A letter that was corrected for the other group may have made a row that this group has no letter for.
    let corrected = "update consumer_offsets set next_offset = 9 where group_id = 'other';
                     insert into dead_letters (id, group_id, topic, partition, \"offset\", digest, reason, detail, status,
                                               original_value, corrected_at)
                     select gen_random_uuid(), 'other', topic, partition, 3, sha256('x'), 'not_json', '', 'resolved', 'x', now()
                     from consumer_offsets where group_id = 'other' and partition = 0;
                     insert into booking_history (booking_id, user_id, hotel_id, discount_percent, price, created_at)
                     values ('corrected', 'u', 'h', 0, 1, now())";
    scene.execute(corrected).await;
    let output = verify(&scene, "");
    assert_eq!((output.code, output.not_checked), (0, vec![not_checked("extra", None, None)]), "{:?}", output.reasons);
    assert!(output.reasons[0].contains("group other"), "{:?}", output.reasons);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compacted_topic_raises_no_false_alarm() {
    let topic = Topic::create_as(kafka(), &unique("compacted"), 1, COMPACTED).await;
    let scene = Scene::of(topic).await;
    let producer = scene.topic.producer(&[]);
    let keyed = |n: u32| Outgoing { key: Some(b"key".to_vec()), ..Outgoing::to(0, booking(&format!("c-{n}"), "1")) };
    producer.send((0..5).map(keyed)).await;
    read_all(&scene).await;
    // The cleaner does not compact the newest segment.
    eventually(
        PATIENCE,
        |records| *records < 5,
        async || {
            producer.send([keyed(5)]).await;
            tokio::task::block_in_place(|| {
                let output = verify(&scene, "");
                assert_eq!((output.code, output.not_checked.len()), (0, 2), "{output:#?}");
                assert!(output.reasons.iter().all(|why| why.contains("compacted")), "{output:#?}");
                output.records
            })
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_whose_cleanup_policy_is_hidden_raises_no_false_alarm() {
    let broker = Kafka::start_with_rules();
    let scene = Scene::of(Topic::create_as(&broker, &unique("hidden"), 1, COMPACTED).await).await;
    let producer = scene.topic.producer(&[]);
    let keyed = |n: u32| Outgoing { key: Some(b"key".to_vec()), ..Outgoing::to(0, booking(&format!("c-{n}"), "1")) };
    producer.send((0..5).map(keyed)).await;
    read_all(&scene).await;
    broker.hide_settings(&scene.topic.name);
    // The cleaner does not compact the newest segment.
    let compacted = async || {
        producer.send([keyed(5)]).await;
        tokio::task::block_in_place(|| verify(&scene, ""))
    };
    let output = eventually(PATIENCE, |output: &VerifyOutput| output.records < 5, compacted).await;
    assert_eq!((output.code, output.findings.len()), (0, 0), "{output:#?}");
    let expected = [not_checked("totals", Some(0), None), not_checked("extra", None, None)];
    assert_eq!(output.not_checked, expected, "{output:#?}");
    assert!(output.reasons.iter().all(|why| why.contains("DescribeConfigs")), "{output:#?}");
}

#[tokio::test]
async fn what_a_hidden_cleanup_policy_does_not_concern_is_checked() {
    let broker = Kafka::start_with_rules();
    let scene = Scene::on(&broker, postgres(), 1).await;
    scene.send_values(&[booking("a", "1"), booking("b", "1")]).await;
    read_all(&scene).await;
    broker.hide_settings(&scene.topic.name);
    verify(&scene, "").assert_clean(2);
    scene.execute("update booking_history set booking_id = 'other' where booking_id = 'a'").await;
    let output = verify(&scene, "");
    output.assert_missing("a");
    assert_eq!(output.not_checked, [not_checked("extra", None, None)], "{output:#?}");
}

#[tokio::test]
async fn a_topic_that_was_replaced_or_cut_off_is_not_compared() {
    let scene = two_times_ten().await;
    scene.execute("update consumer_offsets set topic_id = 'AAAAAAAAAAAAAAAAAAAAAQ' where partition = 1").await;
    let (code, lines) = scene.finish("verify");
    assert!(code == 69 && lines.concat().contains("deleted and created again"), "{code} {lines:#?}");
    scene.execute("update consumer_offsets set topic_id = null, next_offset = 12 where partition = 1").await;
    let (code, lines) = scene.finish("verify");
    assert!(code == 69 && lines.concat().contains("its log now begins at 0 and ends at 10"), "{code} {lines:#?}");
    scene.execute("update consumer_offsets set next_offset = 20, counted_from = 15 where partition = 1").await;
    let (code, lines) = scene.finish("verify");
    assert!(code == 69 && lines.concat().contains("its log now begins at 0 and ends at 10"), "{code} {lines:#?}");
}

impl VerifyOutput {
    /// This booking is missing, and there is no other finding.
    fn assert_missing(&self, id: &str) {
        let found: Vec<_> = self.findings.iter().map(|(what, _, _, id)| (what.as_str(), id.as_deref())).collect();
        assert_eq!((self.code, found), (1, vec![("missing", Some(id))]), "{self:#?}");
    }
}
