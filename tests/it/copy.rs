//! Large batches are written with `COPY`. The outcomes are the same as with inserts, and a process that is frozen in the
//! middle of `COPY` does not delay another one.

use testbed::postgres::{plain_user, postgres};
use testbed::proxy::Proxy;
use testbed::scene::Scene;
use testbed::wait::{PATIENCE, eventually};
use testbed::workload::Workload;

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
async fn a_large_batch_is_copied_and_one_with_a_duplicate_is_inserted_row_by_row() {
    let mut workload = Workload::bookings("copied", 3000, 1);
    let scene = scene(&workload).await;
    let service = scene.start();
    scene.assert_exact(&workload).await;
    assert!(scene.lines(KINDS).await.contains(&"copy".to_owned()));
    service.stop();

    scene.execute("delete from statements").await;
    let mixed = Workload::mixed("mixed", 3000, 1);
    scene.send(&mixed.records).await;
    workload.expected.booking_ids.extend(mixed.expected.booking_ids);
    for (partition, totals) in mixed.expected.totals {
        let both = [workload.expected.totals.remove(&partition).unwrap(), totals];
        workload.expected.totals.insert(partition, both.into_iter().sum());
    }
    let _service = scene.start();
    scene.assert_exact(&workload).await;
    assert_eq!(scene.lines(KINDS).await, ["insert"], "a COPY of a batch with a duplicate is rolled back");
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
