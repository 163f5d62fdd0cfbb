//! The cost of finding the records that Postgres refuses, measured as calls of the engine.

use std::time::Instant;

use fenced_sink::create_tables;
use sqlx::{Connection as _, PgConnection};

use super::{CALLS, Calls, options, start};
use testbed::audit::{Audit, Totals};
use testbed::kafka::kafka;
use testbed::postgres::{self, database};
use testbed::topic::{Outgoing, Topic};
use testbed::unique;
use testbed::wait::{PATIENCE, eventually};

const BATCH: usize = 1_000;

fn calls(set: &str) -> Calls {
    CALLS.lock().unwrap().get(set).copied().unwrap_or_default()
}

/// Lets the engine handle one batch in which these records are refused. Returns the number of calls, all in one
/// transaction.
#[expect(clippy::print_stderr, reason = "a figure for the reader of the report")]
async fn tries(set: &str, bad: &[usize]) -> usize {
    let (topic, group, database) = (Topic::create(kafka(), 1).await, unique("group"), database().await);
    let mut connection = PgConnection::connect(&database).await.unwrap();
    create_tables(&mut connection).await.unwrap();
    // A row that is written under a savepoint has another xmin than its transaction.
    let tables = "create table toys (id bigint generated always as identity, name text primary key,
                                     size integer check (size < 1000), transaction xid8 default pg_current_xact_id());
                  alter table dead_letters add transaction xid8 default pg_current_xact_id();
                  alter table consumer_offsets add transaction xid8;
                  create function told() returns trigger language plpgsql as $$ begin
                      new.transaction := pg_current_xact_id(); return new; end $$;
                  create trigger told before update on consumer_offsets for each row execute function told()";
    postgres::run(&database, tables).await;
    let producer = topic.producer(&[]);
    let audit = Audit { topic: &topic, group: &group, database: &database };
    let (stop, running) = start(options(&topic, &group, &database));

    // The first record waits in its transaction until all others have been read. So the others are one batch.
    let mut lock = connection.begin().await.unwrap();
    sqlx::query("lock table toys in share mode").execute(&mut *lock).await.unwrap();
    producer.send([Outgoing::to(0, "toy plug 0")]).await;
    let mut onlooker = PgConnection::connect(&database).await.unwrap();
    let waits = "select exists (select from pg_locks where relation = 'toys'::regclass and not granted)";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut onlooker).await.unwrap() {
        tokio::task::yield_now().await;
    }
    let size = |n| if bad.contains(&n) { 1_000 } else { 1 };
    producer.send((0..BATCH).map(|n| Outgoing::to(0, format!("toy {set}-{n:04} {}", size(n))))).await;
    eventually(PATIENCE, |read| *read == BATCH, async || calls(set).parse).await;
    let released = Instant::now();
    lock.commit().await.unwrap();
    audit.wait_until_read(PATIENCE).await;
    let took = released.elapsed();

    let totals = audit.rows().await.get(&0).unwrap().totals;
    let (stored, dead_lettered) = (1 + BATCH - bad.len(), bad.len());
    let [stored, dead_lettered] = [stored, dead_lettered].map(|count| i64::try_from(count).unwrap());
    assert_eq!(totals, Totals { stored, dead_lettered, ..Totals::default() });
    let transactions: Vec<String> = sqlx::query_scalar(
        "select transaction::text from toys where name <> 'plug' union select transaction::text from dead_letters
         union select transaction::text from consumer_offsets",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(transactions.len(), 1, "rows, letters and position: {transactions:?}");
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
    let tries = calls(set).insert_each;
    eprintln!("{} of {BATCH} records are refused: {tries} calls, {took:?}", bad.len());
    tries
}

#[tokio::test]
async fn k_bad_records_of_n_cost_k_log_n_tries_and_one_transaction() {
    let halvings = usize::try_from(BATCH.next_power_of_two().ilog2()).unwrap();
    for (set, place) in [("first", 0), ("second", 1), ("middle", 500), ("any", 617), ("last", BATCH - 1)] {
        let tries = tries(set, &[place]).await;
        assert!((halvings..=2 * halvings + 1).contains(&tries), "{place}: {tries}");
    }
    for (set, bad) in [("neighbours", vec![3, 4, 700]), ("ten", (0..BATCH).step_by(100).collect())] {
        let tries = tries(set, &bad).await;
        assert!(tries <= 2 * bad.len() * halvings + 1, "{bad:?}: {tries}");
    }
    // Each half is tried once, down to single records.
    assert_eq!(tries("all", &(0..BATCH).collect::<Vec<_>>()).await, 2 * BATCH - 1);
}
