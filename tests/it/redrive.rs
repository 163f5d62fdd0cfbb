//! Dead letters that are stored after a retry or by an operator, and the breaker that halts a partition.

mod any_order;
mod one_of_many;

use testbed::audit::Totals;
use testbed::scene::Scene;
use testbed::service::Service;
use testbed::topic::Outgoing;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

const LETTERS: &str = "select concat_ws(' ', status, attempts, reason, sqlstate) from dead_letters order by \"offset\"";
const ROWS: &str = "select booking_id from booking_history order by booking_id";
const HISTORY: &str =
    "select concat_ws(' ', attempt, outcome) from dead_letter_attempts order by dead_letter_id, attempt";
const HOTELS: &str = "create table hotels (hotel_id text primary key); \
     alter table booking_history add constraint of_a_hotel foreign key (hotel_id) references hotels (hotel_id)";

/// A scene whose service retries dead letters soon, and this many times.
async fn soon_retried(partitions: i32, attempts: &str) -> Scene {
    Scene::new(partitions)
        .await
        .with("DEAD_LETTER_RETRY_INITIAL", "200ms")
        .with("DEAD_LETTER_RETRY_MAX", "400ms")
        .with("DEAD_LETTER_MAX_ATTEMPTS", attempts)
}

/// `PostgreSQL` refuses the bookings at the price of 13 with an error code that the service does not know.
const REFUSED_WITH_UNKNOWN_CODE: &str = "create function refuse() returns trigger language plpgsql as $$ begin
         if new.price = 13 then raise exception using errcode = 'ZZ999'; end if; return new; end $$;
     create trigger refuse before insert on booking_history for each row execute function refuse()";

#[tokio::test]
async fn a_retried_letter_is_stored_when_its_cause_is_gone() {
    let scene = soon_retried(1, "1000").await;
    scene.execute(HOTELS).await;
    scene.execute("alter table booking_history alter constraint of_a_hotel deferrable initially deferred").await;
    let _service = scene.start();
    scene.send_values([booking("early", "1")]).await;
    eventually(PATIENCE, |lines: &Vec<String>| lines.len() > 2, async || scene.lines(HISTORY).await).await;
    scene.execute("insert into hotels values ('hotel-1')").await;
    scene.wait_until_lines(ROWS, &["early"]).await;
    scene
        .wait_until_lines(
            "select concat_ws(' ', status, reason, sqlstate, constraint_name) from dead_letters",
            &["resolved database_rejected 23503 of_a_hotel"],
        )
        .await;
    let history = scene.lines(HISTORY).await;
    assert_eq!(history.last().unwrap().split_once(' ').unwrap().1, "stored", "{history:?}");
    assert!(history.iter().rev().skip(1).all(|line| line.ends_with(" failed")), "{history:?}");
    let totals = scene.row(0).await.totals;
    assert_eq!(
        totals,
        Totals { dead_lettered: 1, ..Totals::default() },
        "the totals keep the first outcome of a record"
    );
}

#[tokio::test]
async fn a_letter_is_parked_after_its_attempts_or_at_once_if_a_retry_cannot_help() {
    let scene = soon_retried(1, "3").await;
    scene.execute(HOTELS).await;
    scene.execute("alter table booking_history add check (price <> 13)").await;
    let _service = scene.start();
    scene.send_values([booking("orphan", "1"), booking("unlucky", "13"), "no json".to_owned()]).await;
    scene
        .wait_until_lines(
            LETTERS,
            &["parked 3 database_rejected 23503", "parked 1 database_rejected 23514", "parked 1 not_json"],
        )
        .await;
    assert_eq!(scene.lines("select attempt::text from dead_letter_attempts where attempt > 3").await.len(), 0);
}

#[tokio::test]
async fn two_instances_never_retry_one_letter_at_once_and_a_killed_one_leaves_it_unchanged() {
    let scene = soon_retried(2, "1000").await.with("BREAKER_CONSECUTIVE", "0");
    scene.execute(HOTELS).await;
    let instances: Vec<Service> = (0..2).map(|_| scene.start()).collect();
    let workload = Workload::bookings("many", 300, 2);
    scene.send(&workload.records).await;
    let waiting = "select count(*)::text from dead_letters where status = 'waiting'";
    scene.wait_until_lines(waiting, &["300"]).await;
    instances[0].kill9();
    scene.execute("insert into hotels values ('hotel-1')").await;
    scene.wait_until_lines(waiting, &["0"]).await;
    scene
        .wait_until_lines(
            "select concat_ws(' ', status, count(*)) from dead_letters group by status",
            &["resolved 300"],
        )
        .await;
    // If two instances had tried one letter, its number of attempts would be wrong.
    let odd = "select l.id::text from dead_letters l join dead_letter_attempts a on a.dead_letter_id = l.id
               group by l.id, l.attempts having count(*) <> l.attempts + 1 or max(a.attempt) <> l.attempts + 1
                   or count(*) filter (where a.outcome = 'stored') <> 1";
    assert_eq!(scene.lines(odd).await, Vec::<String>::new());
    assert_eq!(scene.lines("select count(*)::text from booking_history").await, ["300"]);
}

#[tokio::test]
async fn a_retry_that_waits_delays_no_partition() {
    // More attempts than a machine under load makes before the lock is held.
    let scene = soon_retried(1, "1000").await;
    scene.execute(HOTELS).await;
    scene.execute("insert into hotels values ('hotel-1')").await;
    let _service = scene.start();
    scene.send_values([booking("stuck", "1").replace("hotel-1", "hotel-2")]).await;
    scene.wait_until_lines("select status from dead_letters", &["waiting"]).await;
    // The retry of the letter waits for this transaction.
    let same_key = "insert into booking_history (booking_id, user_id, hotel_id, discount_percent, price, created_at)
                    values ('stuck', 'u', 'hotel-1', 0, 0, now())";
    let lock = scene.hold(same_key).await;
    scene.wait_until_blocked().await;
    scene.send_values((0..500).map(|n| booking(&format!("free-{n}"), "1"))).await;
    scene.wait_until_lines("select count(*)::text from booking_history", &["500"]).await;
    drop(lock);
    scene.execute("insert into hotels values ('hotel-2')").await;
    scene.wait_until_lines("select count(*)::text from booking_history", &["501"]).await;
}

#[tokio::test]
async fn a_corrected_letter_becomes_a_row_a_duplicate_or_a_conflict() {
    let scene = Scene::new(1).await;
    let _service = scene.start();
    scene.send_values([booking("1", "90.0"), "a".to_owned(), "b".to_owned(), "c".to_owned(), "d".to_owned()]).await;
    scene.wait_until_lines("select count(*)::text from dead_letters where status = 'parked'", &["4"]).await;
    for (offset, value) in [(1, booking("2", "1")), (2, booking("1", "90.00")), (3, booking("1", "91"))] {
        let sql =
            "select outcome from dead_letters, dead_letters_correct(dead_letters.id, $2) as done where \"offset\" = $1";
        let done: Vec<String> = sqlx::query_scalar(sql)
            .bind(i64::from(offset))
            .bind(value.into_bytes())
            .fetch_all(&mut scene.connect().await)
            .await
            .unwrap();
        assert_eq!(done.len(), 1, "{done:?}");
    }
    scene.execute("select dead_letters_requeue(array(select id from dead_letters))").await;
    scene
        .wait_until_lines(
            "select concat_ws(' ', \"offset\", status, attempts, reason) from dead_letters order by \"offset\"",
            &[
                "1 resolved 1 not_json",
                "2 resolved 1 not_json",
                "3 parked 2 conflicting_duplicate",
                "4 parked 2 not_json",
            ],
        )
        .await;
    assert_eq!(scene.lines(ROWS).await, ["1", "2"]);
    let price = scene.lines("select price::float8::text from booking_history where booking_id = '1'").await;
    assert_eq!(price, ["90"], "the stored row is untouched");
    let first = scene.lines("select convert_from(original_value, 'UTF8') from dead_letters where \"offset\" = 1").await;
    assert_eq!(first, ["a"]);
}

#[tokio::test]
async fn the_breaker_halts_at_exactly_its_number_also_over_a_restart() {
    let scene = Scene::new(2).await.with("BREAKER_CONSECUTIVE", "7");
    let mut service = scene.start();
    // Five letters and a good row, then six letters in a row: a duplicate and an ignored event do not interrupt them.
    let poison = |range: std::ops::Range<i32>| range.map(|n| format!("poison {n}"));
    scene.send_values(poison(0..5).chain([booking("good", "1")]).chain(poison(5..8))).await;
    scene
        .send_values([booking("good", "1"), r#"{"event_type":"Other"}"#.to_owned()].into_iter().chain(poison(8..11)))
        .await;
    let letters = "select count(*)::text from dead_letters";
    scene.wait_until_lines(letters, &["11"]).await;
    service.kill9();
    service.start_again();
    // The seventh letter comes after the restart, in a batch with many more and with good rows behind them.
    scene.send_values(poison(11..60).chain((0..50).map(|n| booking(&format!("behind-{n}"), "1")))).await;
    service.wait_for_event_with("partition_halted", &[("reason", "too_many_dead_letters")]);
    let row = "select concat_ws(' ', next_offset, halt_reason, letters_in_a_row, dead_lettered, stored)
               from consumer_offsets where partition = 0";
    scene.wait_until_lines(row, &["15 too_many_dead_letters 7 12 1"]).await;
    // The other partition continues.
    scene.send([Outgoing::to(1, booking("other", "1"))]).await;
    scene.wait_until_lines(ROWS, &["good", "other"]).await;
    assert_eq!(scene.lines(letters).await, ["12"], "never more letters than the setting allows");
    // Resumed, it continues with the first record that is not handled, and counts from 0.
    let lines = scene.command("offsets list --output json");
    for words in [r#""next_offset":15"#, r#""log_end":113"#, r#""lag":98"#, r#""halt_reason":"too_many_dead_letters""#]
    {
        assert!(lines[0].contains(words), "{words} is missing in {lines:#?}");
    }
    scene.command("offsets resume --partition 0");
    scene.wait_until_lines(row, &["22 too_many_dead_letters 7 7 0"]).await;
    assert_eq!(scene.lines(letters).await, ["19"]);
    service.stop();

    // Without the breaker all records are handled.
    scene.execute("update consumer_offsets set halted_at = null, halt_reason = null, letters_in_a_row = 0").await;
    let _service = scene.clone().with("BREAKER_CONSECUTIVE", "0").start();
    scene.wait_until_read().await;
    assert_eq!(scene.lines(letters).await, ["60"]);
    assert_eq!(scene.lines("select count(*)::text from booking_history").await, ["52"]);
}

#[tokio::test]
async fn an_unclassified_error_of_one_record_makes_one_letter_and_one_of_all_records_makes_none() {
    let scene = soon_retried(1, "2").await.with("WRITERS", "1");
    scene.execute(REFUSED_WITH_UNKNOWN_CODE).await;
    let _service = scene.start();
    scene.send_values((0..40).map(|n| booking(&format!("{n}"), if n == 17 { "13" } else { "1" }))).await;
    scene.wait_until_lines(LETTERS, &["parked 2 unclassified ZZ999"]).await;
    scene.wait_until_lines("select count(*)::text from booking_history", &["39"]).await;

    let scene = Scene::new(1).await.with("STARTUP_TIMEOUT", "3s");
    let refuse_all = "create function refuse() returns trigger language plpgsql as $$ begin
             raise exception using errcode = 'ZZ999'; end $$;
         create trigger refuse before insert on booking_history for each row execute function refuse()";
    scene.execute(refuse_all).await;
    scene.send_values((0..40).map(|n| booking(&format!("{n}"), "1"))).await;
    let service = scene.start();
    assert_eq!(service.wait_exit(), 69);
    assert_eq!(scene.lines(LETTERS).await, Vec::<String>::new());
    let positions = scene.lines("select next_offset::text from consumer_offsets").await;
    assert_eq!(positions, ["0"], "no record is skipped");
}

#[tokio::test]
async fn refused_records_at_any_place_of_a_batch_of_1000_cost_no_other_record() {
    let scene = Scene::new(1).await;
    scene.execute("alter table booking_history add check (price <> 13)").await;
    let mut expected = 0;
    for (round, places) in
        [vec![0], vec![1], vec![499], vec![500], vec![998], vec![999], vec![3, 4, 700]].iter().enumerate()
    {
        // The records exist before the service starts, so that they come in one batch or few.
        scene
            .send_values(
                (0..1_000).map(|n| booking(&format!("{round}-{n}"), if places.contains(&n) { "13" } else { "1" })),
            )
            .await;
        expected += places.len();
        let service = scene.start();
        scene.wait_until_read().await;
        let letters = scene.lines(LETTERS).await;
        assert_eq!(letters.len(), expected, "{letters:?}");
        service.stop();
    }
    let rows = scene.row(0).await.totals;
    assert_eq!((rows.stored, rows.dead_lettered), (7_000 - 9, 9));
}
