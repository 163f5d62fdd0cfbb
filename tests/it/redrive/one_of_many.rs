//! Trouble with one record or letter is its own: the others go on, and it is not forgotten among them.

use sqlx::Connection as _;

use super::*;

#[tokio::test]
async fn an_unclassified_error_is_isolated_however_busy_other_partitions_are() {
    let mut ground = Ground::new(2).await;
    ground
        .execute(
            "create function refuse() returns trigger language plpgsql as $$ begin
                 if new.price = 13 then raise exception using errcode = 'ZZ999'; end if; return new; end $$;
             create trigger refuse before insert on booking_history for each row execute function refuse()",
        )
        .await;
    let _service = ground.run(&[("WRITERS", "1")]);
    ground.send((0..5).map(|n| booking(&format!("{n}"), if n == 3 { "13" } else { "1" }))).await;
    // The other partition never rests until the record is found.
    let producer = ground.topic.producer(&[]);
    let mut sent = 0;
    let letters = "select concat_ws(' ', partition, \"offset\", reason, sqlstate) from dead_letters";
    while ground.lines(letters).await.is_empty() {
        sent += 1;
        assert!(sent < 20_000, "it is not found");
        producer.send([Outgoing::to(1, booking(&format!("busy-{sent}"), "1"))]).await;
    }
    assert_eq!(ground.lines(letters).await, ["0 3 unclassified ZZ999"]);
    ground.audit().wait_until_read(PATIENCE).await;
}

#[tokio::test]
async fn a_letter_that_can_not_be_tried_holds_back_no_other_letter() {
    let mut ground = Ground::new(1).await;
    ground.execute(HOTELS).await;
    ground.execute("insert into hotels values ('hotel-1')").await;
    let _service = ground.run(&[SOON[0], SOON[1], ("DEAD_LETTER_MAX_ATTEMPTS", "1000"), ("DATABASE_TIMEOUT", "1s")]);
    ground.send([booking("held", "1").replace("hotel-1", "hotel-2"), "no json".to_owned()]).await;
    ground.until("select count(*)::text from dead_letters", &["2"]).await;
    // Whoever tries the first letter waits for this, until the time limit.
    let mut locker = PgConnection::connect(&ground.database).await.unwrap();
    let mut lock = locker.begin().await.unwrap();
    let same_key = "insert into booking_history (booking_id, user_id, hotel_id, discount_percent, price, created_at)
                    values ('held', 'u', 'hotel-1', 0, 0, now())";
    sqlx::query(same_key).execute(&mut *lock).await.unwrap();
    sqlx::query(
        "select dead_letters_correct(id, $1), dead_letters_requeue(array[id]) from dead_letters where \"offset\" = 1",
    )
    .bind(booking("corrected", "1").into_bytes())
    .execute(&mut ground.operator)
    .await
    .unwrap();
    ground.until("select status from dead_letters where \"offset\" = 1", &["resolved"]).await;
    assert_eq!(ground.lines("select status from dead_letters where \"offset\" = 0").await, ["waiting"]);
    lock.rollback().await.unwrap();
    ground.execute("insert into hotels values ('hotel-2')").await;
    ground.until("select status from dead_letters where \"offset\" = 0", &["resolved"]).await;
}

#[tokio::test]
async fn a_trigger_that_changes_a_key_makes_no_letter_of_a_row() {
    let mut ground = Ground::new(1).await;
    ground
        .execute(
            "create function rename() returns trigger language plpgsql as $$ begin
                 new.booking_id := lower(new.booking_id); return new; end $$;
             create trigger rename before insert on booking_history for each row execute function rename();
             alter table booking_history add check (price <> 13)",
        )
        .await;
    let _service = ground.run(&[]);
    ground.send((0..20).map(|n| booking(&format!("BIG-{n}"), if n == 7 { "13" } else { "1" }))).await;
    ground.until("select count(*)::text from booking_history", &["19"]).await;
    ground.audit().wait_until_read(PATIENCE).await;
    assert_eq!(ground.lines(LETTERS).await, ["parked 1 database_rejected 23514"]);
}

#[tokio::test]
async fn a_partition_that_kafka_does_not_list_is_not_resumed_at_its_start() {
    let mut ground = Ground::new(1).await;
    let halted = "insert into consumer_offsets
        (group_id, topic, partition, next_offset, counted_from, halted_at, halt_reason)
        values ($1, $2, 9, 40, 0, now(), 'too_many_dead_letters')";
    sqlx::query(halted).bind(&ground.group).bind(&ground.topic.name).execute(&mut ground.operator).await.unwrap();
    let settings = settings(kafka(), &ground.topic, &ground.group, &ground.database);
    let (code, lines) = Service::finish("offsets resume --all --at earliest", &settings, PATIENCE);
    assert_eq!(code, 69, "{lines:#?}");
    let row = "select concat_ws(' ', next_offset, halt_reason) from consumer_offsets";
    assert_eq!(ground.lines(row).await, ["40 too_many_dead_letters"]);
    let (code, lines) = Service::finish("offsets resume --partition 9", &settings, PATIENCE);
    assert_eq!(code, 0, "{lines:#?}");
    assert_eq!(ground.lines(row).await, ["40"]);
}
