//! `migrate up` adopts the table of the Python service with all its rows, and `migrate down` restores it.

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

use testbed::postgres::{database, run};
use testbed::service::{Service, environment};

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!();

/// The table of the Python service's migration, with everything that the adoption must keep.
pub(crate) const OLD_TABLE: &str = "
    create table alembic_version (version_num varchar(32) primary key);
    insert into alembic_version values ('0001');
    create table booking_history (
        id serial constraint pk_booking_history primary key,
        booking_id varchar(64) not null,
        user_id varchar not null,
        hotel_id varchar(100) not null default 'none',
        promo_code varchar(5),
        discount_percent double precision default 0 constraint ck_discount check (discount_percent >= 0),
        price numeric(12, 3) not null,
        created_at timestamptz not null default now(),
        note text
    );
    create unique index ix_booking_history_booking_id on booking_history (booking_id);
    create index of_some_users on booking_history (user_id) where user_id <> '';
    create index ix_booking_history_hotel_id on booking_history (hotel_id);
    insert into booking_history (booking_id, user_id, hotel_id, discount_percent, price, created_at)
    values
        ('1', 'u', 'h', 89.99, 90.125, '2026-02-15T14:37:34.859067Z'),
        ('2', 'u', 'h', 0.1::float8 + 0.2::float8, 90, '1999-12-31T00:00:00Z'),
        ('3', '', 'h', 'NaN', -1, 'infinity'),
        ('4', 'u', 'h', 1e22, 90, '2026-02-15T14:37:34Z'),
        ('5', 'u', 'h', null, 90, '2026-02-15T14:37:34Z')";

#[tokio::test]
async fn an_old_table_is_adopted_and_restored() {
    let mut connection = old_service(OLD_TABLE).await;
    let (shape, rows) = (shape(&mut connection).await, rows(&mut connection).await);
    for _ in 0..2 {
        MIGRATIONS.run(&mut connection).await.unwrap();
        let types = "select string_agg(format_type(atttypid, atttypmod), ' ' order by attnum)
            from pg_attribute where attrelid = 'booking_history'::regclass and attnum between 2 and 7";
        assert_eq!(strings(&mut connection, types).await, ["text text text text numeric numeric"]);
        let percents = "select discount_percent::text from booking_history where discount_percent <> 'NaN' order by id";
        let percents = strings(&mut connection, percents).await;
        assert_eq!(percents, ["89.99", "0.30000000000000004", "10000000000000000000000"]);
        MIGRATIONS.undo(&mut connection, -1).await.unwrap();
        assert_eq!(self::shape(&mut connection).await, shape);
        assert_eq!(self::rows(&mut connection).await, rows);
    }
    assert_eq!(strings(&mut connection, "select version_num from alembic_version").await, ["0001"]);
}

#[tokio::test]
async fn ids_have_the_collation_c_unless_postgresql_cannot_change_it() {
    let collated = OLD_TABLE.replace("user_id varchar not null", "user_id text collate \"POSIX\" not null");
    let hotel_is_text = OLD_TABLE.replace("hotel_id varchar(100)", "hotel_id text");
    let with_view = format!("{hotel_is_text}; create view hotels as select hotel_id from booking_history");
    let ids = "select string_agg(attcollation::regcollation::text, ' ' order by attnum) from pg_attribute
        where attrelid = 'booking_history'::regclass and attname in ('booking_id', 'user_id', 'hotel_id')";
    for (table, expected) in
        [(OLD_TABLE, r#""C" "C" "C""#), (&collated, r#""C" "C" "C""#), (&with_view, r#""C" "C" "default""#)]
    {
        let mut connection = old_service(table).await;
        let before = shape(&mut connection).await;
        MIGRATIONS.run(&mut connection).await.unwrap();
        assert_eq!(strings(&mut connection, ids).await, [expected]);
        MIGRATIONS.undo(&mut connection, -1).await.unwrap();
        assert_eq!(shape(&mut connection).await, before);
    }
}

#[tokio::test]
async fn a_view_of_the_positions_prevents_no_migration() {
    let mut connection = old_service("").await;
    let older = MIGRATIONS.iter().filter(|migration| migration.version < 10).cloned().collect();
    Migrator::with_migrations(older).run(&mut connection).await.unwrap();
    let view = "create view positions as select group_id, topic, partition, next_offset from consumer_offsets";
    sqlx::raw_sql(view).execute(&mut connection).await.unwrap();
    MIGRATIONS.run(&mut connection).await.unwrap();
    MIGRATIONS.undo(&mut connection, 9).await.unwrap();
}

/// Counts the statements that rewrite a table.
const COUNT_REWRITES: &str = "
    create table rewrites (tag text);
    create function count_rewrite() returns event_trigger language plpgsql as
        'begin insert into rewrites values (tg_tag); end';
    create event trigger count_rewrite on table_rewrite execute function count_rewrite()";

#[tokio::test]
async fn floats_need_one_rewrite_and_wider_types_need_none() {
    let without_floats = OLD_TABLE.replace("double precision", "numeric(5, 2)").replace("1e22", "22");
    let both_floats = OLD_TABLE.replace("numeric(12, 3)", "real");
    for (table, rewrites) in [(OLD_TABLE, "1"), (&without_floats, "0"), (&both_floats, "1")] {
        let mut connection = old_service(table).await;
        let (shape, rows) = (shape(&mut connection).await, rows(&mut connection).await);
        sqlx::raw_sql(COUNT_REWRITES).execute(&mut connection).await.unwrap();
        let count = "select count(*)::text from rewrites";
        MIGRATIONS.run(&mut connection).await.unwrap();
        assert_eq!(strings(&mut connection, count).await, [rewrites]);
        sqlx::raw_sql("delete from rewrites").execute(&mut connection).await.unwrap();
        MIGRATIONS.undo(&mut connection, -1).await.unwrap();
        assert_eq!(strings(&mut connection, count).await, ["1"], "the old types cut, so each value is written again");
        let end = "drop event trigger count_rewrite; drop function count_rewrite; drop table rewrites";
        sqlx::raw_sql(end).execute(&mut connection).await.unwrap();
        assert_eq!(self::shape(&mut connection).await, shape);
        assert_eq!(self::rows(&mut connection).await, rows);
    }
}

#[tokio::test]
async fn a_table_that_an_older_version_adopted_or_created_stays_as_it_is() {
    for table in [OLD_TABLE, ""] {
        let mut connection = old_service(table).await;
        let before = if table.is_empty() { Vec::new() } else { shape(&mut connection).await };
        let without_the_first = MIGRATIONS.iter().filter(|migration| migration.version > 0).cloned().collect();
        Migrator::with_migrations(without_the_first).run(&mut connection).await.unwrap();
        let adopted = shape(&mut connection).await;
        MIGRATIONS.run(&mut connection).await.unwrap();
        assert_eq!(shape(&mut connection).await, adopted);
        MIGRATIONS.undo(&mut connection, -1).await.unwrap();
        if !table.is_empty() {
            assert_eq!(shape(&mut connection).await, before);
        }
    }
}

#[tokio::test]
async fn a_name_that_another_index_has_is_not_taken() {
    let taken = format!(
        "{OLD_TABLE}; alter index of_some_users rename to booking_history_user_id_idx;
         drop index ix_booking_history_booking_id; create index booking_history_booking_id_idx on booking_history (price)"
    );
    let mut connection = old_service(&taken).await;
    let before = shape(&mut connection).await;
    MIGRATIONS.run(&mut connection).await.unwrap();
    let full = "select attname || ' ' || indisunique from pg_index
        join pg_attribute on attrelid = indrelid and attnum = indkey[0]
        where indrelid = 'booking_history'::regclass and indpred is null and attname like '%\\_id' order by 1";
    assert_eq!(strings(&mut connection, full).await, ["booking_id true", "hotel_id false", "user_id false"]);
    MIGRATIONS.undo(&mut connection, -1).await.unwrap();
    assert_eq!(shape(&mut connection).await, before);
}

#[tokio::test]
async fn migrate_up_says_what_the_adoption_does_and_refuses_it_while_the_old_service_is_connected() {
    let url = database().await;
    run(&url, OLD_TABLE).await;
    // As the statistics of a table in use.
    run(&url, "analyze booking_history").await;
    let settings = environment(&[("DATABASE_URL", &url)]);
    // As asyncpg: no name, and no statement that names the table.
    let mut idle = PgConnection::connect(&url).await.unwrap();
    let (code, lines) = Service::finish("migrate up", &settings);
    let text = lines.join("\n");
    assert_eq!(code, 69, "{text}");
    for words in ["may still be connected", " of user postgres", "--ignore-sessions", "Nothing was changed"] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    let types = "select format_type(atttypid, atttypmod) from pg_attribute
        where attrelid = 'booking_history'::regclass and attname = 'discount_percent'";
    assert_eq!(strings(&mut idle, types).await, ["double precision"]);

    // A program that has a name, and has used the table.
    idle.close().await.unwrap();
    let options = url.parse::<PgConnectOptions>().unwrap().application_name("python");
    let mut idle = options.connect().await.unwrap();
    strings(&mut idle, "select booking_id from booking_history").await;
    let (code, lines) = Service::finish("migrate up", &settings);
    assert_eq!(code, 69, "{lines:#?}");

    // A tool that has a name and does not use the table.
    let named = url.parse::<PgConnectOptions>().unwrap().application_name("psql").connect().await.unwrap();
    let (code, lines) = Service::finish("migrate up --ignore-sessions", &settings);
    assert_eq!(code, 0, "{lines:#?}");
    let text = lines.join("\n");
    for words in [
        "adopting the table booking_history of the Python service: about 5 rows, ",
        "its rows are rewritten once, because floats become numeric (discount_percent)",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    assert_eq!(strings(&mut idle, types).await, ["numeric"]);
    idle.close().await.unwrap();
    let (code, lines) = Service::finish("migrate down 100 --yes", &settings);
    assert_eq!(code, 0, "{lines:#?}");
    let (code, lines) = Service::finish("migrate up", &settings);
    assert_eq!(code, 0, "{lines:#?}");
    drop(named);
}

#[tokio::test]
async fn an_adoption_that_takes_long_shows_its_progress() {
    let url = database().await;
    run(
        &url,
        &format!(
            "{OLD_TABLE};
             create function slow(double precision) returns boolean language plpgsql
                 as 'begin perform pg_sleep(0.02); return true; end';
             create function slow(numeric) returns boolean language plpgsql
                 as 'begin perform pg_sleep(0.02); return true; end';
             insert into booking_history (booking_id, user_id, price) select n, 'u', 1 from generate_series(100, 450) as n;
             alter table booking_history add check (slow(discount_percent))"
        ),
    )
    .await;
    let (code, lines) = Service::finish("migrate up", &environment(&[("DATABASE_URL", &url)]));
    assert_eq!(code, 0, "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("working for 5 s: the database has grown by ")), "{lines:#?}");
}

#[tokio::test]
async fn an_adopted_table_takes_new_rows_only_within_bounds_and_has_every_index() {
    let mut connection = old_service(OLD_TABLE).await;
    MIGRATIONS.run(&mut connection).await.unwrap();
    check_bounds(&mut connection).await;
    let added = "select indexname::text from pg_indexes where indexname = 'booking_history_user_id_idx'";
    assert_eq!(strings(&mut connection, added).await.len(), 1, "a partial index does not find every user");
}

#[tokio::test]
async fn a_new_table_takes_only_rows_within_bounds_and_leaves_nothing_behind() {
    let mut connection = old_service("").await;
    MIGRATIONS.run(&mut connection).await.unwrap();
    check_bounds(&mut connection).await;
    MIGRATIONS.undo(&mut connection, -1).await.unwrap();
    let left = "select relname::text from pg_class where relnamespace = 'public'::regnamespace
        and relname not like '\\_sqlx%'";
    assert_eq!(strings(&mut connection, left).await, [""; 0]);
}

#[tokio::test]
async fn rows_that_the_old_table_cannot_hold_are_not_cut() {
    for (column, value) in [("promo_code", "'LONGER'"), ("booking_id", "repeat('x', 65)"), ("price", "90.1234")] {
        let mut connection = old_service(OLD_TABLE).await;
        MIGRATIONS.run(&mut connection).await.unwrap();
        let update = format!("update booking_history set {column} = {value} where booking_id = '1'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(update)).execute(&mut connection).await.unwrap();
        let before = rows(&mut connection).await;
        let error = MIGRATIONS.undo(&mut connection, -1).await.unwrap_err();
        let error = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.contains(&format!("booking_history.{column} holds values")), "{error}");
        assert_eq!(rows(&mut connection).await, before);
    }
}

#[tokio::test]
async fn a_table_of_another_kind_is_not_adopted() {
    for (table, strange) in [
        ("create table booking_history (id serial)", "no column booking_id"),
        ("create table booking_history (id int)", "nothing fills column id"),
        ("create table booking_history (price money)", "column price is money"),
        ("create table booking_history (created_at timestamp)", "created_at is timestamp without time zone"),
        ("create table booking_history (extra int not null)", "column extra is required and nothing fills it"),
    ] {
        let mut connection = old_service(table).await;
        let shape = shape(&mut connection).await;
        let error = MIGRATIONS.run(&mut connection).await.unwrap_err();
        let error = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.contains(strange), "{error}");
        assert_eq!(self::shape(&mut connection).await, shape);
    }
}

/// A good row is accepted; with one value out of its bounds it is refused.
async fn check_bounds(connection: &mut PgConnection) {
    let good = ["'13'", "'u'", "'h'", "'LONGER CODE'", "10", "90", "'2026-02-15T14:37:34Z'"];
    let bad = [
        (0, "''"),
        (0, "repeat('é', 129)"),
        (1, "''"),
        (1, "repeat('x', 257)"),
        (2, "''"),
        (2, "repeat('x', 257)"),
        (3, "repeat('x', 257)"),
        (4, "-0.01"),
        (4, "100.01"),
        (4, "'NaN'"),
        (5, "-0.01"),
        (5, "10000000000"),
        (5, "'NaN'"),
        (5, "'Infinity'"),
        (6, "'1999-12-31T23:59:59.999999Z'"),
        (6, "'2101-01-01T00:00:00Z'"),
        (6, "'infinity'"),
    ];
    for (place, value) in bad {
        let values: Vec<&str> =
            good.iter().enumerate().map(|(other, good)| if other == place { value } else { good }).collect();
        let error = insert(connection, &values).await.unwrap_err();
        assert!(error.as_database_error().unwrap().is_check_violation(), "{value}: {error}");
    }
    insert(connection, &good).await.unwrap();
}

async fn insert(connection: &mut PgConnection, values: &[&str]) -> sqlx::Result<()> {
    let values = values.join(", ");
    let insert = format!(
        "insert into booking_history
            (booking_id, user_id, hotel_id, promo_code, discount_percent, price, created_at) values ({values})"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(insert)).execute(connection).await.map(|_| ())
}

async fn old_service(table: &str) -> PgConnection {
    let mut connection = PgConnection::connect(&database().await).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(table)).execute(&mut connection).await.unwrap();
    connection
}

const COLUMNS: &str = "
    select concat_ws(' ', attname, format_type(atttypid, atttypmod), attcollation::regcollation, attnotnull,
        pg_get_expr(adbin, adrelid))
    from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where attrelid = 'booking_history'::regclass and attnum > 0 order by attnum";

/// The columns, indexes and constraints of the table, and the names of all relations.
async fn shape(connection: &mut PgConnection) -> Vec<String> {
    let mut shape = strings(connection, COLUMNS).await;
    for rest in [
        "select indexdef from pg_indexes where tablename = 'booking_history' order by 1",
        "select conname || ' ' || pg_get_constraintdef(oid) || ' ' || convalidated from pg_constraint
            where conrelid = 'booking_history'::regclass order by 1",
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace
            and relname not like '\\_sqlx%' order by 1",
    ] {
        shape.extend(strings(connection, rest).await);
    }
    shape
}

/// Each row as text from which the same values can be read.
async fn rows(connection: &mut PgConnection) -> Vec<String> {
    strings(connection, "select booking_history::text from booking_history order by id").await
}

async fn strings(connection: &mut PgConnection, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(connection).await.unwrap()
}
