//! Dead letters that heal by themselves or by hand, and the breaker that stops a flood of them.

mod any_order;
mod one_of_many;

use sqlx::{Connection as _, PgConnection};

use testbed::audit::{Audit, Totals};
use testbed::kafka::kafka;
use testbed::postgres::database;
use testbed::service::{Service, migrated, settings};
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

struct Ground {
    topic: Topic,
    group: String,
    database: String,
    operator: PgConnection,
}

impl Ground {
    async fn new(partitions: i32) -> Self {
        let (topic, group, database) = (Topic::create(kafka(), partitions).await, unique("group"), database().await);
        migrated(&database);
        let operator = PgConnection::connect(&database).await.unwrap();
        Self { topic, group, database, operator }
    }

    fn run(&self, more: &[(&str, &str)]) -> Service {
        let mut settings = settings(kafka(), &self.topic, &self.group, &self.database);
        settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Service::run(&settings)
    }

    fn audit(&self) -> Audit<'_> {
        Audit { topic: &self.topic, group: &self.group, database: &self.database }
    }

    async fn send(&self, values: impl IntoIterator<Item = String>) {
        self.topic.producer(&[]).send(values.into_iter().map(|value| Outgoing::to(0, value))).await;
    }

    async fn execute(&mut self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&mut self.operator).await.unwrap();
    }

    /// One line of text for each row.
    async fn lines(&self, sql: &'static str) -> Vec<String> {
        let mut connection = PgConnection::connect(&self.database).await.unwrap();
        sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap()
    }

    async fn until(&self, sql: &'static str, expected: &[&str]) {
        eventually(PATIENCE, |lines: &Vec<String>| lines == expected, async || self.lines(sql).await).await;
    }
}

const LETTERS: &str = "select concat_ws(' ', status, attempts, reason, sqlstate) from dead_letters order by \"offset\"";
const ROWS: &str = "select booking_id from booking_history order by booking_id";
const HISTORY: &str =
    "select concat_ws(' ', attempt, outcome) from dead_letter_attempts order by dead_letter_id, attempt";
const SOON: [(&str, &str); 2] = [("DEAD_LETTER_RETRY_INITIAL", "200ms"), ("DEAD_LETTER_RETRY_MAX", "400ms")];
const HOTELS: &str = "create table hotels (hotel_id text primary key); \
     alter table booking_history add constraint of_a_hotel foreign key (hotel_id) references hotels (hotel_id)";

#[tokio::test]
async fn a_letter_heals_by_itself_when_its_cause_is_gone() {
    let mut ground = Ground::new(1).await;
    ground.execute(HOTELS).await;
    ground.execute("alter table booking_history alter constraint of_a_hotel deferrable initially deferred").await;
    let _service = ground.run(&[SOON[0], SOON[1], ("DEAD_LETTER_MAX_ATTEMPTS", "1000")]);
    ground.send([booking("early", "1")]).await;
    eventually(PATIENCE, |lines: &Vec<String>| lines.len() > 2, async || ground.lines(HISTORY).await).await;
    ground.execute("insert into hotels values ('hotel-1')").await;
    ground.until(ROWS, &["early"]).await;
    ground
        .until(
            "select concat_ws(' ', status, reason, sqlstate, constraint_name) from dead_letters",
            &["resolved database_rejected 23503 of_a_hotel"],
        )
        .await;
    let history = ground.lines(HISTORY).await;
    assert_eq!(history.last().unwrap().split_once(' ').unwrap().1, "stored", "{history:?}");
    assert!(history.iter().rev().skip(1).all(|line| line.ends_with(" failed")), "{history:?}");
    let totals = ground.audit().rows().await[&0].totals;
    assert_eq!(totals, Totals { dead_lettered: 1, ..Totals::default() }, "what it became when it was handled");
}

#[tokio::test]
async fn a_letter_that_does_not_heal_is_parked_after_its_attempts_and_others_at_once() {
    let mut ground = Ground::new(1).await;
    ground.execute(HOTELS).await;
    ground.execute("alter table booking_history add check (price <> 13)").await;
    let _service = ground.run(&[SOON[0], SOON[1], ("DEAD_LETTER_MAX_ATTEMPTS", "3")]);
    ground.send([booking("orphan", "1"), booking("unlucky", "13"), "no json".to_owned()]).await;
    ground
        .until(LETTERS, &["parked 3 database_rejected 23503", "parked 1 database_rejected 23514", "parked 1 not_json"])
        .await;
    assert_eq!(ground.lines("select attempt::text from dead_letter_attempts where attempt > 3").await.len(), 0);
}

#[tokio::test]
async fn two_instances_never_try_one_letter_at_once_and_a_killed_one_leaves_it_as_it_was() {
    let mut ground = Ground::new(2).await;
    ground.execute(HOTELS).await;
    let instances: Vec<Service> = (0..2)
        .map(|_| ground.run(&[SOON[0], SOON[1], ("DEAD_LETTER_MAX_ATTEMPTS", "1000"), ("BREAKER_CONSECUTIVE", "0")]))
        .collect();
    let workload = Workload::bookings("many", 300, 2);
    ground.topic.producer(&[]).send(workload.records.iter().cloned()).await;
    let waiting = "select count(*)::text from dead_letters where status = 'waiting'";
    ground.until(waiting, &["300"]).await;
    instances[0].kill9();
    ground.execute("insert into hotels values ('hotel-1')").await;
    ground.until(waiting, &["0"]).await;
    ground.until("select concat_ws(' ', status, count(*)) from dead_letters group by status", &["resolved 300"]).await;
    // A letter that two had tried would have two rows of one number, which the key forbids, or a wrong count.
    let odd = "select l.id::text from dead_letters l join dead_letter_attempts a on a.dead_letter_id = l.id
               group by l.id, l.attempts having count(*) <> l.attempts + 1 or max(a.attempt) <> l.attempts + 1
                   or count(*) filter (where a.outcome = 'stored') <> 1";
    assert_eq!(ground.lines(odd).await, Vec::<String>::new());
    assert_eq!(ground.lines("select count(*)::text from booking_history").await, ["300"]);
}

#[tokio::test]
async fn retrying_never_holds_back_the_partitions() {
    let mut ground = Ground::new(1).await;
    ground.execute(HOTELS).await;
    ground.execute("insert into hotels values ('hotel-1')").await;
    let _service = ground.run(&[SOON[0], SOON[1]]);
    ground.send([booking("stuck", "1").replace("hotel-1", "hotel-2")]).await;
    ground.until(LETTERS, &["waiting 1 database_rejected 23503"]).await;
    // Whoever tries the letter waits for this.
    let mut locker = PgConnection::connect(&ground.database).await.unwrap();
    let mut lock = locker.begin().await.unwrap();
    let same_key = "insert into booking_history (booking_id, user_id, hotel_id, discount_percent, price, created_at)
                    values ('stuck', 'u', 'hotel-1', 0, 0, now())";
    sqlx::query(same_key).execute(&mut *lock).await.unwrap();
    let tried = "select 'waits' from pg_locks where not granted limit 1";
    ground.until(tried, &["waits"]).await;
    ground.send((0..500).map(|n| booking(&format!("free-{n}"), "1"))).await;
    ground.until("select count(*)::text from booking_history", &["500"]).await;
    lock.rollback().await.unwrap();
    ground.execute("insert into hotels values ('hotel-2')").await;
    ground.until("select count(*)::text from booking_history", &["501"]).await;
}

#[tokio::test]
async fn a_letter_is_corrected_requeued_and_stored_or_found_to_be_there_or_in_conflict() {
    let mut ground = Ground::new(1).await;
    let _service = ground.run(&[]);
    ground.send([booking("1", "90.0"), "a".to_owned(), "b".to_owned(), "c".to_owned(), "d".to_owned()]).await;
    ground.until("select count(*)::text from dead_letters where status = 'parked'", &["4"]).await;
    for (offset, value) in [(1, booking("2", "1")), (2, booking("1", "90.00")), (3, booking("1", "91"))] {
        let sql =
            "select outcome from dead_letters, dead_letters_correct(dead_letters.id, $2) as done where \"offset\" = $1";
        let done: Vec<String> = sqlx::query_scalar(sql)
            .bind(i64::from(offset))
            .bind(value.into_bytes())
            .fetch_all(&mut ground.operator)
            .await
            .unwrap();
        assert_eq!(done.len(), 1, "{done:?}");
    }
    ground.execute("select dead_letters_requeue(array(select id from dead_letters))").await;
    ground
        .until(
            "select concat_ws(' ', \"offset\", status, attempts, reason) from dead_letters order by \"offset\"",
            &[
                "1 resolved 1 not_json",
                "2 resolved 1 not_json",
                "3 parked 2 conflicting_duplicate",
                "4 parked 2 not_json",
            ],
        )
        .await;
    assert_eq!(ground.lines(ROWS).await, ["1", "2"]);
    let price = ground.lines("select price::float8::text from booking_history where booking_id = '1'").await;
    assert_eq!(price, ["90"], "the stored row is untouched");
    let first =
        ground.lines("select convert_from(original_value, 'UTF8') from dead_letters where \"offset\" = 1").await;
    assert_eq!(first, ["a"]);
}

#[tokio::test]
async fn the_breaker_lets_exactly_its_number_pass_over_restarts_too() {
    let mut ground = Ground::new(2).await;
    let breaker = [("BREAKER_CONSECUTIVE", "7")];
    let mut service = ground.run(&breaker);
    // Five letters, a good row, six letters with a duplicate and another event among them: six in a row.
    let poison = |range: std::ops::Range<i32>| range.map(|n| format!("poison {n}"));
    ground.send(poison(0..5).chain([booking("good", "1")]).chain(poison(5..8))).await;
    ground.send([booking("good", "1"), r#"{"event_type":"Other"}"#.to_owned()].into_iter().chain(poison(8..11))).await;
    let letters = "select count(*)::text from dead_letters";
    ground.until(letters, &["11"]).await;
    service.kill9();
    service.start_again();
    // The seventh comes after the restart, in one batch with many more and good rows behind them.
    ground.send(poison(11..60).chain((0..50).map(|n| booking(&format!("behind-{n}"), "1")))).await;
    service.wait_for_line(|line| line.contains("partition_halted") && line.contains("too_many_dead_letters"), PATIENCE);
    let row = "select concat_ws(' ', next_offset, halt_reason, letters_in_a_row, dead_lettered, stored)
               from consumer_offsets where partition = 0";
    ground.until(row, &["15 too_many_dead_letters 7 12 1"]).await;
    // The other partition goes on.
    ground.topic.producer(&[]).send([Outgoing::to(1, booking("other", "1"))]).await;
    ground.until(ROWS, &["good", "other"]).await;
    assert_eq!(ground.lines(letters).await, ["12"], "never more than the number");
    // Resumed, it goes on with the first record not handled, and counts from 0.
    let settings = settings(kafka(), &ground.topic, &ground.group, &ground.database);
    let (code, lines) = Service::finish("offsets list --output json", &settings, PATIENCE);
    assert_eq!(code, 0, "{lines:#?}");
    for words in [r#""next_offset":15"#, r#""log_end":113"#, r#""lag":98"#, r#""halt_reason":"too_many_dead_letters""#]
    {
        assert!(lines[0].contains(words), "{words} is missing in {lines:#?}");
    }
    let (code, lines) = Service::finish("offsets resume --partition 0", &settings, PATIENCE);
    assert_eq!(code, 0, "{lines:#?}");
    ground.until(row, &["22 too_many_dead_letters 7 7 0"]).await;
    assert_eq!(ground.lines(letters).await, ["19"]);
    service.sigterm();
    assert_eq!(service.wait_exit(PATIENCE), 0);

    // And with the breaker off everything ends somewhere.
    ground.execute("update consumer_offsets set halted_at = null, halt_reason = null, letters_in_a_row = 0").await;
    let _service = ground.run(&[("BREAKER_CONSECUTIVE", "0")]);
    ground.audit().wait_until_read(PATIENCE).await;
    assert_eq!(ground.lines(letters).await, ["60"]);
    assert_eq!(ground.lines("select count(*)::text from booking_history").await, ["52"]);
}

#[tokio::test]
async fn what_nobody_has_classified_is_isolated_and_if_every_record_is_refused_nothing_is_dead_lettered() {
    let mut ground = Ground::new(1).await;
    ground
        .execute(
            "create function refuse() returns trigger language plpgsql as $$ begin
                 if new.price = 13 then raise exception using errcode = 'ZZ999'; end if; return new; end $$;
             create trigger refuse before insert on booking_history for each row execute function refuse()",
        )
        .await;
    let _service = ground.run(&[SOON[0], SOON[1], ("DEAD_LETTER_MAX_ATTEMPTS", "2"), ("WRITERS", "1")]);
    ground.send((0..40).map(|n| booking(&format!("{n}"), if n == 17 { "13" } else { "1" }))).await;
    ground.until(LETTERS, &["parked 2 unclassified ZZ999"]).await;
    ground.until("select count(*)::text from booking_history", &["39"]).await;

    let ground = Ground::new(1).await;
    let mut operator = PgConnection::connect(&ground.database).await.unwrap();
    let refuse_all = "create function refuse() returns trigger language plpgsql as $$ begin
             raise exception using errcode = 'ZZ999'; end $$;
         create trigger refuse before insert on booking_history for each row execute function refuse()";
    sqlx::raw_sql(refuse_all).execute(&mut operator).await.unwrap();
    ground.send((0..40).map(|n| booking(&format!("{n}"), "1"))).await;
    let service = ground.run(&[("STARTUP_TIMEOUT", "3s")]);
    assert_eq!(service.wait_exit(PATIENCE), 69);
    assert_eq!(ground.lines(LETTERS).await, Vec::<String>::new());
    let positions = ground.lines("select next_offset::text from consumer_offsets").await;
    assert_eq!(positions, ["0"], "nothing is passed over");
}

/// One poison record in a batch of 1,000, wherever it stands, and several: the others are stored in the same transaction.
#[tokio::test]
async fn one_poison_record_in_any_place_of_a_batch_costs_no_other_record() {
    let mut ground = Ground::new(1).await;
    ground.execute("alter table booking_history add check (price <> 13)").await;
    let mut expected = 0;
    for (round, places) in
        [vec![0], vec![1], vec![499], vec![500], vec![998], vec![999], vec![3, 4, 700]].iter().enumerate()
    {
        // All of it is there before the service starts, so that it comes as one batch or few.
        ground
            .send((0..1_000).map(|n| booking(&format!("{round}-{n}"), if places.contains(&n) { "13" } else { "1" })))
            .await;
        expected += places.len();
        let service = ground.run(&[]);
        ground.audit().wait_until_read(PATIENCE).await;
        let letters = ground.lines(LETTERS).await;
        assert_eq!(letters.len(), expected, "{letters:?}");
        service.sigterm();
        assert_eq!(service.wait_exit(PATIENCE), 0);
    }
    let rows = ground.audit().rows().await[&0].totals;
    assert_eq!((rows.stored, rows.dead_lettered), (7_000 - 9, 9));
}
