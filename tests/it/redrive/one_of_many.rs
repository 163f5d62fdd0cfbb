//! A fault of one record or letter delays no other, and is not lost among the others.

use super::{HOTELS, LETTERS, REFUSED_WITH_UNKNOWN_CODE, soon_retried};
use testbed::scene::Scene;
use testbed::topic::Outgoing;
use testbed::workload::booking;

#[tokio::test]
async fn the_record_of_an_unclassified_error_is_found_while_another_partition_is_busy() {
    let scene = Scene::new(2).await.with("WRITERS", "1");
    scene.execute(REFUSED_WITH_UNKNOWN_CODE).await;
    let _service = scene.start();
    scene.send_values((0..5).map(|n| booking(&format!("{n}"), if n == 3 { "13" } else { "1" }))).await;
    // The other partition gets records until the refused one is found.
    let producer = scene.topic.producer(&[]);
    let mut sent = 0;
    let letters = "select concat_ws(' ', partition, \"offset\", reason, sqlstate) from dead_letters";
    while scene.lines(letters).await.is_empty() {
        sent += 1;
        assert!(sent < 20_000, "it is not found");
        producer.send([Outgoing::to(1, booking(&format!("busy-{sent}"), "1"))]).await;
    }
    assert_eq!(scene.lines(letters).await, ["0 3 unclassified ZZ999"]);
    scene.wait_until_read().await;
}

#[tokio::test]
async fn a_letter_whose_retry_waits_delays_no_other_letter() {
    let scene = soon_retried(1, "1000").await.with("DATABASE_TIMEOUT", "1s");
    scene.execute(HOTELS).await;
    scene.execute("insert into hotels values ('hotel-1')").await;
    let _service = scene.start();
    scene.send_values([booking("held", "1").replace("hotel-1", "hotel-2"), "no json".to_owned()]).await;
    scene.wait_until_lines("select count(*)::text from dead_letters", &["2"]).await;
    // The retry of the first letter waits for this transaction, until its time limit.
    let same_key = "insert into booking_history (booking_id, user_id, hotel_id, discount_percent, price, created_at)
                    values ('held', 'u', 'hotel-1', 0, 0, now())";
    let lock = scene.hold(same_key).await;
    sqlx::query(
        "select dead_letters_correct(id, $1), dead_letters_requeue(array[id]) from dead_letters where \"offset\" = 1",
    )
    .bind(booking("corrected", "1").into_bytes())
    .execute(&mut scene.connect().await)
    .await
    .unwrap();
    scene.wait_until_lines("select status from dead_letters where \"offset\" = 1", &["resolved"]).await;
    assert_eq!(scene.lines("select status from dead_letters where \"offset\" = 0").await, ["waiting"]);
    drop(lock);
    scene.execute("insert into hotels values ('hotel-2')").await;
    scene.wait_until_lines("select status from dead_letters where \"offset\" = 0", &["resolved"]).await;
}

#[tokio::test]
async fn a_trigger_that_changes_a_key_makes_no_letter_of_a_row() {
    let scene = Scene::new(1).await;
    scene
        .execute(
            "create function rename() returns trigger language plpgsql as $$ begin
                 new.booking_id := lower(new.booking_id); return new; end $$;
             create trigger rename before insert on booking_history for each row execute function rename();
             alter table booking_history add check (price <> 13)",
        )
        .await;
    let _service = scene.start();
    scene.send_values((0..20).map(|n| booking(&format!("BIG-{n}"), if n == 7 { "13" } else { "1" }))).await;
    scene.wait_until_lines("select count(*)::text from booking_history", &["19"]).await;
    scene.wait_until_read().await;
    assert_eq!(scene.lines(LETTERS).await, ["parked 1 database_rejected 23514"]);
}

#[tokio::test]
async fn a_partition_that_kafka_does_not_list_is_not_resumed_at_its_start() {
    let scene = Scene::new(1).await;
    let halted = format!(
        "insert into consumer_offsets (group_id, topic, partition, next_offset, counted_from, halted_at, halt_reason)
         values ('{}', '{}', 9, 40, 0, now(), 'too_many_dead_letters')",
        scene.group, scene.topic.name
    );
    scene.execute(&halted).await;
    let (code, lines) = scene.finish("offsets resume --all --at earliest");
    assert_eq!(code, 69, "{lines:#?}");
    let row = "select concat_ws(' ', next_offset, halt_reason) from consumer_offsets";
    assert_eq!(scene.lines(row).await, ["40 too_many_dead_letters"]);
    scene.command("offsets resume --partition 9");
    assert_eq!(scene.lines(row).await, ["40"]);
}
