//! What is asked for, what the log still has, and what is said about the rest.

use super::*;
use testbed::postgres::plain_user;

fn not_checked(what: &str, partition: Option<i64>, offsets: Option<(i64, i64)>) -> NotChecked {
    (what.to_owned(), partition, offsets.map(|(from, _)| from), offsets.map(|(_, to)| to))
}

/// Bookings `a-0` to `a-9` in partition 0, `b-0` to `b-9` in partition 1.
async fn two_times_ten() -> World {
    let world = World::new(2).await;
    let of = |name: &'static str, partition| {
        (0..10_u32).map(move |n| Outgoing {
            timestamp: Some(1_700_000_000_000 + i64::from(n) * 1_000),
            ..Outgoing::to(partition, booking(&format!("{name}-{n}"), "1"))
        })
    };
    world.topic.producer(&[]).send(of("a", 0).chain(of("b", 1))).await;
    world.keep().await;
    world
}

#[tokio::test]
async fn a_narrowed_range_says_what_it_leaves_out() {
    let world = two_times_ten().await;
    world.run("delete from booking_history where booking_id in ('a-2', 'a-7', 'b-5')").await;
    let (totals, extra) = (not_checked("totals", Some(0), None), not_checked("extra", None, None));
    let missing =
        |partition, offset, id: &str| ("missing".to_owned(), Some(partition), Some(offset), Some(id.to_owned()));

    let said = world.verify("--partition 0 --from 3 --to 7");
    assert_eq!((said.code, said.records, said.findings.len()), (0, 4, 0), "{said:#?}");
    let left_out = [not_checked("records", Some(0), Some((0, 3))), not_checked("records", Some(0), Some((7, 10)))];
    assert_eq!(said.not_checked, [&left_out[..], &[totals.clone(), extra.clone()]].concat(), "{said:#?}");

    let said = world.verify("--partition 0 --from 7");
    assert_eq!((said.code, said.findings), (1, vec![missing(0, 7, "a-7")]));
    let said = world.verify("--since 2023-11-14T22:13:25Z");
    assert_eq!((said.code, said.records), (1, 10));
    assert_eq!(said.findings.iter().filter(|(what, ..)| what == "missing").count(), 2, "a-7 and b-5");
    let said = world.verify("--partition 1");
    assert_eq!((said.code, said.findings, said.not_checked), (1, vec![missing(1, 5, "b-5")], vec![extra]));
    // Whoever may read the tables may verify them.
    let (_, url) = plain_user(&world.database).await;
    let mut reader = world.settings.clone();
    reader.push(("DATABASE_URL".to_owned(), url));
    let (code, lines) = Service::finish("verify", &reader, PATIENCE);
    assert!(code == 1 && lines.contains(&"20 records compared, 3 findings".to_owned()), "{code} {lines:#?}");

    let (code, lines) = Service::finish("verify --partition 7", &world.settings, PATIENCE);
    assert!(code == 69 && lines.concat().contains("no position in partition 7"), "{code} {lines:#?}");
    let (code, lines) = Service::finish("verify --from 1 --since 2026-01-01T00:00:00Z", &world.settings, PATIENCE);
    assert!(code == 2 && lines.concat().contains("cannot be used with"), "{code} {lines:#?}");
    let (code, lines) = Service::finish("verify --from 5 --to 5", &world.settings, PATIENCE);
    assert!(code == 2 && lines.concat().contains("must be above"), "{code} {lines:#?}");
}

#[tokio::test]
async fn a_log_whose_start_is_gone_says_what_it_can_not_tell() {
    let world = two_times_ten().await;
    world.topic.delete_records(1, 4).await;
    let said = world.verify("");
    assert_eq!((said.code, said.records, said.findings.len()), (0, 16, 0), "{said:#?}");
    let expected = [
        not_checked("records", Some(1), Some((0, 4))),
        not_checked("totals", Some(1), None),
        not_checked("extra", None, None),
    ];
    assert_eq!(said.not_checked, expected, "{said:#?}");
    assert!(said.reasons[0].contains("the log no longer has them"), "{said:#?}");
    let (code, lines) = Service::finish("verify", &world.settings, PATIENCE);
    let wanted = [
        "not checked: offsets 0 to 3 of partition 1: gone: the log no longer has them",
        "not checked: totals of partition 1: not all offsets from 0 to 9 are read",
        "not checked: extra rows: not all records from offset 0 of every partition are read",
        "16 records compared, 0 findings",
    ];
    assert_eq!((code, lines), (0, wanted.map(str::to_owned).to_vec()));
    // What is left is compared all the same.
    world.run("delete from booking_history where booking_id in ('b-3', 'b-4')").await;
    world.verify("").assert_missing("b-4");
}

#[tokio::test]
async fn totals_that_began_anew_count_from_there() {
    let world = two_times_ten().await;
    world
        .run(
            "update consumer_offsets set counted_from = 6, stored = 4 where partition = 0;
             delete from booking_history where booking_id = 'a-3'",
        )
        .await;
    let said = world.verify("");
    assert_eq!((said.code, said.records), (0, 14), "{said:#?}");
    let expected = [not_checked("records", Some(0), Some((0, 6))), not_checked("extra", None, None)];
    assert_eq!(said.not_checked, expected, "{said:#?}");
    // The records before are not among what the totals count.
    let said = world.verify("--from 0");
    assert_eq!((said.code, said.records, said.not_checked.len()), (1, 20, 0), "{said:#?}");
    said.assert_missing("a-3");
    assert!(said.details[0].contains("may never have been handled"), "{said:#?}");
}

#[tokio::test]
async fn rows_ahead_of_a_position_that_was_moved_back_are_not_extra() {
    let world = two_times_ten().await;
    world
        .run(
            "update consumer_offsets set next_offset = 4, stored = 4 where partition = 0;
             update consumer_offsets set next_offset = 0, stored = 0 where partition = 1",
        )
        .await;
    world.verify("").assert_clean(4);
    world.run("update booking_history set booking_id = 'b-x' where booking_id = 'b-5'").await;
    world.verify("").assert_one("extra", None, Some("b-x"), "no record explains row");
}

#[tokio::test]
async fn gaps_and_neighbours_are_told() {
    let world = two_times_ten().await;
    world
        .run(
            "insert into offset_gaps (group_id, topic, partition, from_offset, to_offset, reason)
             select group_id, topic, 0, 8, 30, 'log_replaced' from consumer_offsets where partition = 0",
        )
        .await;
    let said = world.verify("");
    assert_eq!((said.code, said.records), (0, 20), "{said:#?}");
    let expected = [not_checked("records", Some(0), Some((8, 10))), not_checked("extra", None, None)];
    assert_eq!(said.not_checked, expected, "{said:#?}");
    assert!(said.reasons[0].contains("log_replaced") && said.reasons[1].contains("log_replaced"), "{said:#?}");

    world.run("delete from offset_gaps").await;
    // Another group that is not ahead of this one has only seen what this one has; one that is ahead has more.
    let other = "insert into consumer_offsets (group_id, topic, partition, next_offset, counted_from, topic_id)
                 select 'other', topic, partition, 9, 0, topic_id from consumer_offsets";
    world.run(other).await;
    world.verify("").assert_clean(20);
    world.run("update consumer_offsets set next_offset = 11 where group_id = 'other' and partition = 1").await;
    let said = world.verify("");
    assert_eq!((said.code, said.not_checked), (0, vec![not_checked("extra", None, None)]));
    assert!(said.reasons[0].contains("group other"), "{:?}", said.reasons);

    // Nor does this group know of a row that was made of a letter which the other one had corrected.
    let corrected = "update consumer_offsets set next_offset = 9 where group_id = 'other';
                     insert into dead_letters (id, group_id, topic, partition, \"offset\", digest, reason, detail, status,
                                               original_value, corrected_at)
                     select gen_random_uuid(), 'other', topic, partition, 3, sha256('x'), 'not_json', '', 'resolved', 'x', now()
                     from consumer_offsets where group_id = 'other' and partition = 0;
                     insert into booking_history (booking_id, user_id, hotel_id, discount_percent, price, created_at)
                     values ('corrected', 'u', 'h', 0, 1, now())";
    world.run(corrected).await;
    let said = world.verify("");
    assert_eq!((said.code, said.not_checked), (0, vec![not_checked("extra", None, None)]), "{:?}", said.reasons);
    assert!(said.reasons[0].contains("group other"), "{:?}", said.reasons);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compacted_topic_raises_no_false_alarm() {
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("max.compaction.lag.ms", "100"),
    ];
    let topic = Topic::create_as(kafka(), &unique("compacted"), 1, &compacted).await;
    let world = World::on(kafka(), topic).await;
    let producer = world.topic.producer(&[]);
    let keyed = |n: u32| Outgoing { key: Some(b"key".to_vec()), ..Outgoing::to(0, booking(&format!("c-{n}"), "1")) };
    producer.send((0..5).map(keyed)).await;
    world.keep().await;
    // The cleaner leaves the newest segment alone.
    eventually(
        PATIENCE,
        |records| *records < 5,
        async || {
            producer.send([keyed(5)]).await;
            tokio::task::block_in_place(|| {
                let said = world.verify("");
                assert_eq!((said.code, said.not_checked.len()), (0, 2), "{said:#?}");
                assert!(said.reasons.iter().all(|why| why.contains("compacted")), "{said:#?}");
                said.records
            })
        },
    )
    .await;
}

#[tokio::test]
async fn a_topic_that_was_replaced_or_cut_is_not_compared_with_what_came_from_another() {
    let world = two_times_ten().await;
    world.run("update consumer_offsets set topic_id = 'AAAAAAAAAAAAAAAAAAAAAQ' where partition = 1").await;
    let (code, lines) = Service::finish("verify", &world.settings, PATIENCE);
    assert!(code == 69 && lines.concat().contains("deleted and made again"), "{code} {lines:#?}");
    world.run("update consumer_offsets set topic_id = null, next_offset = 12 where partition = 1").await;
    let (code, lines) = Service::finish("verify", &world.settings, PATIENCE);
    assert!(code == 69 && lines.concat().contains("its log now begins at 0 and ends at 10"), "{code} {lines:#?}");
    world.run("update consumer_offsets set next_offset = 20, counted_from = 15 where partition = 1").await;
    let (code, lines) = Service::finish("verify", &world.settings, PATIENCE);
    assert!(code == 69 && lines.concat().contains("its log now begins at 0 and ends at 10"), "{code} {lines:#?}");
}

impl Said {
    /// This booking is missing, and nothing else is told.
    fn assert_missing(&self, id: &str) {
        let found: Vec<_> = self.findings.iter().map(|(what, _, _, id)| (what.as_str(), id.as_deref())).collect();
        assert_eq!((self.code, found), (1, vec![("missing", Some(id))]), "{self:#?}");
    }
}
