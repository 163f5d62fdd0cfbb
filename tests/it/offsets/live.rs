//! An operator moves positions while a service works.

use std::collections::BTreeSet;

use super::{columns, printed, scene, send};
use testbed::audit::{Row, Totals};
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

#[tokio::test]
async fn records_that_are_read_again_have_the_same_outcome_and_none_is_stored_twice() {
    let scene = scene(2).await;
    let service = scene.start();
    let workload = Workload::mixed("again", 400, 2);
    scene.send(&workload.records).await;
    scene.assert_exact(&workload).await;

    printed(&scene, "set --partition 1 --to earliest");
    let again = Totals { stored: 0, ..workload.expected.totals[&1] };
    let again = Totals { duplicates: again.duplicates + workload.expected.totals[&1].stored, ..again };
    eventually(PATIENCE, |row: &Row| row.totals == again, async || scene.row(1).await).await;
    let mut expected = workload.expected.clone();
    expected.totals.insert(1, again);
    scene.audit().assert_exact(&expected).await;
    // A move by an operator is not logged as a takeover by another instance.
    assert!(service.events("partition_taken_over").is_empty(), "{:#?}", service.lines());
    service.stop();
}

#[tokio::test]
async fn records_that_are_skipped_are_not_stored_even_if_they_were_fetched() {
    let scene = scene(1).await;
    let service = scene.start();
    send(&scene, 0, 0..50).await;
    scene.wait_until_read().await;
    service.sigstop();
    send(&scene, 0, 50..100).await;
    assert_eq!(
        printed(&scene, "set --partition 0 --to 80"),
        ["partition  from  to  effect", "0          50    80  up to 30 records are skipped"]
    );
    service.sigcont();
    scene.wait_until_read().await;
    let row = scene.row(0).await;
    assert_eq!((row.counted_from, row.totals), (80, Totals { stored: 20, ..Totals::default() }));
    let stored: BTreeSet<String> = scene.booking_ids().await.into_iter().collect();
    assert_eq!(stored, (0..50).chain(80..100).map(|number| format!("0-{number}")).collect());
    service.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_many_moves_back_while_the_service_works_each_record_is_stored_once() {
    let scene = scene(2).await.with("BATCH_MAX_RECORDS", "50");
    let service = scene.start();
    let workload = Workload::bookings("moved", 4_000, 2);
    let producing = async {
        let producer = scene.topic.producer(&[]);
        for records in workload.records.chunks(100) {
            producer.send(records).await;
        }
    };
    let moving = async {
        for to in [0_i64, 300, 0, 100, 700] {
            let reached =
                |rows: &Vec<String>| rows.iter().all(|next| next.parse::<i64>().unwrap() > to) && rows.len() == 2;
            eventually(PATIENCE, reached, async || columns(&scene, "next_offset").await).await;
            tokio::task::block_in_place(|| printed(&scene, &format!("set --all --to {to}")));
        }
    };
    tokio::join!(producing, moving);
    scene.wait_until_read().await;
    let stored = "select concat_ws(' ', count(*), count(distinct booking_id)) from booking_history";
    assert_eq!(scene.lines(stored).await, ["4000 4000"]);
    // The last move reset the totals, and each record from there on is counted once.
    assert_eq!(
        columns(&scene, "counted_from, stored + duplicates, ignored + dead_lettered").await,
        ["700 1300 0", "700 1300 0"]
    );
    service.stop();
}
