//! Large batches are written with `COPY`. The outcomes are the same as with inserts, and a process that is frozen in the
//! middle of `COPY` does not delay another one.

use testbed::log_line::LogLine;
use testbed::postgres::{plain_user, postgres};
use testbed::proxy::Proxy;
use testbed::scene::Scene;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::{Workload, booking};

/// Stores which kind of statement inserted bookings.
const WATCH: &str = "
    create table statements (kind text);
    create function watch() returns trigger language plpgsql security definer as $$
        begin
            insert into statements values (case when current_query() like '/* fenced_sink%copy %' then 'copy' else 'insert' end);
            return null;
        end $$;
    create trigger watch after insert on booking_history for each statement execute function watch()";
const KINDS: &str = "select distinct kind from statements order by kind";

/// A topic with one partition and these records, and no lines about single records: they need the ids, which `COPY` does not
/// return.
async fn scene(workload: &Workload) -> Scene {
    let scene = Scene::new(1).await.with("LOG_RECORDS_PER_SECOND", "0");
    scene.execute(WATCH).await;
    scene.send(&workload.records).await;
    scene
}

#[tokio::test]
async fn a_large_batch_with_duplicates_is_copied_and_has_the_same_outcomes_as_when_it_is_inserted() {
    let mut results = Vec::new();
    for (lines_per_second, kind) in [("0", "copy"), ("1000000", "insert")] {
        let mut workload = Workload::bookings("stored", 3000, 1);
        let scene = scene(&workload).await.with("LOG_RECORDS_PER_SECOND", lines_per_second);
        let scene = scene.with("BREAKER_CONSECUTIVE", "0");
        let service = scene.start();
        scene.assert_exact(&workload).await;
        assert!(scene.lines(KINDS).await.contains(&kind.to_owned()));
        service.stop();

        // The same values in another form: a duplicate has equal values, not equal bytes.
        scene
            .execute(
                "update booking_history set price = 90.000 where hashtext(booking_id) % 2 = 0; delete from statements",
            )
            .await;
        let mut more = Workload::mixed("mixed", 3000, 1);
        for index in 0..1000 {
            // The outcomes of this loop repeat, and so do its keys: the second conflict of a key is one, too.
            let id = format!("stored-{}", index / 2);
            if index % 5 == 0 {
                more.add(0, Some(booking(&id, "91.0")), |totals| &mut totals.dead_lettered);
            } else {
                more.add(0, Some(booking(&id, "90.0")), |totals| &mut totals.duplicates);
            }
        }
        scene.send(&more.records).await;
        workload.expected.extend(more.expected);
        let _service = scene.start();
        scene.assert_exact(&workload).await;
        // Each large batch has duplicates. A small one is inserted.
        assert!(scene.lines(KINDS).await.contains(&kind.to_owned()));
        let rows = "select concat_ws(' ', booking_id, price) from booking_history order by booking_id";
        let letters = r#"select concat_ws(' ', "offset", reason, detail) from dead_letters order by "offset""#;
        results.push([scene.lines(rows).await, scene.lines(letters).await]);
    }
    assert_eq!(results[0], results[1]);
}

#[tokio::test]
async fn keys_that_another_transaction_stores_while_a_batch_is_copied_become_duplicates() {
    let mut workload = Workload::default();
    workload.add_booking("first", 0);
    let scene = scene(&workload).await.with("WRITERS", "1").with_http();
    let insert = |id: &str| {
        format!(
            "insert into booking_history (booking_id, user_id, hotel_id, discount_percent, price, created_at)
             values ('{id}', 'user-{id}', 'hotel-1', 2.5, 90, '2026-02-15T14:37:34Z')"
        )
    };
    let first = scene.hold(&insert("first")).await;
    let service = scene.start();
    scene.wait_until_blocked().await;

    // The writer waits for the first key, so the next records are one batch.
    let mut others = Workload::default();
    let mut holders = Vec::new();
    for id in ["raced-a", "raced-b"] {
        holders.push(scene.hold(&insert(id)).await);
        others.add(0, Some(booking(id, "90.0")), |totals| &mut totals.duplicates);
        others.expected.booking_ids.insert(id.to_owned());
    }
    (0..3000).for_each(|index| others.add_booking(&format!("raced-{index}"), 0));
    let bytes: usize = others.records.iter().filter_map(|record| record.value.as_ref()).map(Vec::len).sum();
    scene.send(&others.records).await;
    workload.expected.extend(others.expected);
    let buffered = async || {
        let metrics = service.get("/metrics").body;
        let bytes = metrics.lines().find_map(|line| line.strip_prefix("booking_history_buffered_bytes "));
        bytes.and_then(|bytes| bytes.parse::<usize>().ok())
    };
    eventually(PATIENCE, |buffered: &Option<usize>| buffered.is_some_and(|buffered| buffered >= bytes), buffered).await;
    drop(first);
    // The first key is the cause of the next mode, and the second one of the last mode.
    for mut holder in holders {
        let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut holder).await.unwrap();
        let waits = format!("select count(*)::text from pg_stat_activity where {pid} = any (pg_blocking_pids(pid))");
        scene.wait_until_lines(&waits, &["1"]).await;
        sqlx::query("commit").execute(&mut holder).await.unwrap();
    }
    scene.assert_exact(&workload).await;
}

/// The look-up of the keys and a second `COPY` would find nothing: only a row-by-row insert finds a refused row.
#[tokio::test]
async fn a_batch_with_a_refused_row_is_copied_once_and_then_inserted() {
    let mut workload = Workload::default();
    for part in 0..5 {
        (0..700).for_each(|index| workload.add_booking(&format!("part-{part}-{index}"), 0));
        workload.add(0, Some(booking(&format!("refused-{part}"), "90.0")), |totals| &mut totals.dead_lettered);
    }
    let scene = scene(&workload).await;
    // A sequence also counts what is rolled back.
    scene
        .execute(
            "alter table booking_history add check (booking_id not like 'refused-%');
             create sequence copies;
             create function count_copies() returns trigger language plpgsql security definer as $$
                 begin
                     if current_query() like '/* fenced_sink%copy %' then perform nextval('copies'); end if;
                     return null;
                 end $$;
             create trigger count_copies before insert on booking_history
                 for each statement execute function count_copies()",
        )
        .await;
    let service = scene.start();
    scene.assert_exact(&workload).await;
    service.stop();
    service.wait_for_event("shutdown_complete");
    let number = |batch: &LogLine, field| batch.field(field).parse::<usize>().unwrap();
    let mut large = service.events("batch_committed");
    large.retain(|batch| number(batch, "records") >= 500);
    assert!(large.iter().any(|batch| number(batch, "dead_lettered") > 0), "{large:#?}");
    let copies = scene.lines("select pg_sequence_last_value('copies'::regclass)::text").await;
    assert_eq!(copies, [large.len().to_string()], "{large:#?}");
}

#[tokio::test]
async fn a_table_that_refuses_copy_is_filled_by_inserts() {
    let workload = Workload::bookings("inserted", 3000, 1);
    let scene = scene(&workload).await.with_http();
    let (user, url) = plain_user(&scene.database).await;
    let policy = format!(
        "alter table booking_history enable row level security;
         create policy everything on booking_history to \"{user}\" using (true) with check (true)"
    );
    scene.execute(&policy).await;
    let service = scene.clone().with("DATABASE_URL", &url).start();
    service.wait_for_event_with("copy_refused", &[("error", "the table has row-level security")]);
    scene.assert_exact(&workload).await;
    assert_eq!(scene.lines(KINDS).await, ["insert"]);
    assert!(service.events("database_unavailable").is_empty());
}

#[tokio::test]
async fn copy_is_not_used_where_it_would_store_other_rows_than_an_insert_or_could_not_be_ended() {
    let scene = Scene::new(1).await;
    let (user, url) = plain_user(&scene.database).await;
    for (fault, repair, obstacle) in [
        (
            "create rule most as on insert to booking_history where new.booking_id = 'x' do instead nothing",
            "drop rule most on booking_history",
            "the table has a rule for inserts",
        ),
        (
            "alter table booking_history alter column promo_code type varchar(300)",
            "alter table booking_history alter column promo_code type text",
            "a column of the table has another type",
        ),
        (
            &format!(
                "create role \"{user}-owner\" superuser; grant \"{user}-owner\" to \"{user}\";
                      alter role \"{user}\" set role = '{user}-owner'"
            ),
            &format!("alter role \"{user}\" reset role"),
            "the session has another role than the login",
        ),
    ] {
        scene.execute(fault).await;
        let service = scene.clone().with("DATABASE_URL", &url).start();
        service.wait_for_event_with("copy_refused", &[("error", obstacle)]);
        service.stop();
        scene.execute(repair).await;
    }
}

#[tokio::test]
async fn a_process_that_is_frozen_in_the_middle_of_copy_does_not_delay_another_one() {
    let workload = Workload::bookings("frozen", 5000, 1);
    let scene = scene(&workload).await.with("DATABASE_TIMEOUT", "4s");
    let scene = scene.with("KAFKA_PROPERTIES", "session.timeout.ms=6000");
    let proxy = Proxy::start(postgres().port());
    let behind = scene.database.replace(&format!("127.0.0.1:{}", postgres().port()), &proxy.address());
    proxy.limit(Some(60_000));
    let frozen = scene.clone().with("DATABASE_URL", &behind).start();
    let copies = "select count(*)::text from pg_stat_activity where datname = current_database()
        and state = 'active' and wait_event = 'ClientRead' and query like '/* fenced_sink gives up after 4000 ms */ copy%'";
    eventually(PATIENCE, |copies: &Vec<String>| *copies == ["1"], async || scene.lines(copies).await).await;
    proxy.black_hole(true);
    frozen.kill9();
    assert_eq!(scene.lines(copies).await, ["1"], "its session waits for the rest of the rows");

    // The process of this session waits for longer.
    let mut patient = scene.connect().await;
    let statement = "/* fenced_sink gives up after 600000 ms */ copy statements from stdin";
    let patient = patient.copy_in_raw(statement).await.unwrap();

    let service = scene.start();
    service.wait_for_event_with("abandoned_copies_ended", &[("sessions", "1")]);
    scene.assert_exact(&workload).await;
    assert_eq!(patient.finish().await.unwrap(), 0);
}
