//! Positions are moved under a service at work.

use std::collections::BTreeSet;

use super::Ground;
use testbed::audit::{Row, Totals};
use testbed::service::Service;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

#[tokio::test]
async fn what_is_read_again_comes_out_as_it_was_and_nothing_is_stored_twice() {
    let ground = Ground::new(2).await;
    let service = Service::run(&ground.settings);
    let workload = Workload::mixed("again", 400, 2);
    ground.topic.producer(&[]).send(workload.records.iter().cloned()).await;
    ground.audit().wait_until_read(PATIENCE).await;
    ground.audit().assert_exact(&workload.expected).await;

    ground.printed("set --partition 1 --to earliest");
    let again = Totals { stored: 0, ..workload.expected.totals[&1] };
    let again = Totals { duplicates: again.duplicates + workload.expected.totals[&1].stored, ..again };
    eventually(PATIENCE, |row: &Row| row.totals == again, async || ground.audit().rows().await[&1].clone()).await;
    let mut expected = workload.expected.clone();
    expected.totals.insert(1, again);
    ground.audit().assert_exact(&expected).await;
    // The service was not told that somebody else has the partition.
    assert!(!service.lines().iter().any(|line| line.contains("partition_taken_over")), "{:#?}", service.lines());
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 0);
}

#[tokio::test]
async fn what_is_left_out_is_not_read_not_even_if_it_was_fetched() {
    let ground = Ground::new(1).await;
    let service = Service::run(&ground.settings);
    ground.send(0, 0..50).await;
    ground.audit().wait_until_read(PATIENCE).await;
    service.sigstop();
    ground.send(0, 50..100).await;
    assert_eq!(
        ground.printed("set --partition 0 --to 80"),
        ["partition  from  to  effect", "0          50    80  up to 30 records are skipped"]
    );
    service.sigcont();
    ground.audit().wait_until_read(PATIENCE).await;
    let row = ground.audit().rows().await[&0].clone();
    assert_eq!((row.counted_from, row.totals), (80, Totals { stored: 20, ..Totals::default() }));
    let stored: BTreeSet<String> = ground.lines("select booking_id from booking_history").await.into_iter().collect();
    assert_eq!(stored, (0..50).chain(80..100).map(|number| format!("0-{number}")).collect());
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_back_again_and_again_in_the_middle_of_the_work_every_record_is_there_once() {
    let mut ground = Ground::new(2).await;
    ground.settings.push(("BATCH_MAX_RECORDS".to_owned(), "50".to_owned()));
    let service = Service::run(&ground.settings);
    let workload = Workload::bookings("moved", 4_000, 2);
    let (topic, records) = (&ground.topic, &workload.records);
    let producing = async {
        let producer = topic.producer(&[]);
        for records in records.chunks(100) {
            producer.send(records.iter().cloned()).await;
        }
    };
    let moving = async {
        for to in [0_i64, 300, 0, 100, 700] {
            let reached =
                |rows: &Vec<String>| rows.iter().all(|next| next.parse::<i64>().unwrap() > to) && rows.len() == 2;
            eventually(PATIENCE, reached, async || ground.columns("next_offset").await).await;
            tokio::task::block_in_place(|| ground.printed(&format!("set --all --to {to}")));
        }
    };
    tokio::join!(producing, moving);
    ground.audit().wait_until_read(PATIENCE).await;
    let stored = "select concat_ws(' ', count(*), count(distinct booking_id)) from booking_history";
    assert_eq!(ground.lines(stored).await, ["4000 4000"]);
    // The last move began the totals anew, and each record from there on is counted once.
    assert_eq!(
        ground.columns("counted_from, stored + duplicates, ignored + dead_lettered").await,
        ["700 1300 0", "700 1300 0"]
    );
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 0);
}
