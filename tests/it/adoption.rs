//! A migration adopts the table of the old service with all its rows, and the down migration restores it unchanged.

use sqlx::migrate::Migrator;
use sqlx::{Connection as _, PgConnection};

use testbed::postgres::database;

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!();

/// The table that the old service's migration creates, with everything that the adoption must not lose.
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
async fn an_old_table_is_adopted_and_restored_unchanged() {
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
        MIGRATIONS.undo(&mut connection, 0).await.unwrap();
        assert_eq!(self::shape(&mut connection).await, shape);
        assert_eq!(self::rows(&mut connection).await, rows);
    }
    assert_eq!(strings(&mut connection, "select version_num from alembic_version").await, ["0001"]);
}

#[tokio::test]
async fn an_adopted_table_accepts_new_rows_only_within_bounds_and_has_every_index() {
    let mut connection = old_service(OLD_TABLE).await;
    MIGRATIONS.run(&mut connection).await.unwrap();
    check_bounds(&mut connection).await;
    let added = "select indexname::text from pg_indexes where indexname = 'booking_history_user_id_idx'";
    assert_eq!(strings(&mut connection, added).await.len(), 1, "a partial index does not find every user");
}

#[tokio::test]
async fn a_new_table_accepts_only_rows_within_bounds_and_is_removed_completely() {
    let mut connection = old_service("").await;
    MIGRATIONS.run(&mut connection).await.unwrap();
    check_bounds(&mut connection).await;
    MIGRATIONS.undo(&mut connection, 0).await.unwrap();
    let left = "select relname::text from pg_class where relnamespace = 'public'::regnamespace
        and relname not like '\\_sqlx%'";
    assert_eq!(strings(&mut connection, left).await, [""; 0]);
}

#[tokio::test]
async fn rows_that_the_old_types_cannot_hold_are_not_truncated() {
    for (column, value) in [("promo_code", "'LONGER'"), ("booking_id", "repeat('x', 65)"), ("price", "90.1234")] {
        let mut connection = old_service(OLD_TABLE).await;
        MIGRATIONS.run(&mut connection).await.unwrap();
        let update = format!("update booking_history set {column} = {value} where booking_id = '1'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(update)).execute(&mut connection).await.unwrap();
        let before = rows(&mut connection).await;
        let error = MIGRATIONS.undo(&mut connection, 0).await.unwrap_err();
        let error = std::error::Error::source(&error).unwrap().to_string();
        assert!(error.contains(&format!("booking_history.{column} holds values")), "{error}");
        assert_eq!(rows(&mut connection).await, before);
    }
}

#[tokio::test]
async fn a_table_of_another_program_is_not_changed() {
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

/// A good row is accepted. A row with any one value out of its bounds is refused.
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

async fn old_service(table: &'static str) -> PgConnection {
    let mut connection = PgConnection::connect(&database().await).await.unwrap();
    sqlx::raw_sql(table).execute(&mut connection).await.unwrap();
    connection
}

const COLUMNS: &str = "
    select concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid))
    from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where attrelid = 'booking_history'::regclass and attnum > 0 order by attnum";

/// Columns, indexes and constraints as Postgres prints them, and the names of all relations.
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

/// Each value as a text that Postgres reads as the same value.
async fn rows(connection: &mut PgConnection) -> Vec<String> {
    strings(connection, "select booking_history::text from booking_history order by id").await
}

async fn strings(connection: &mut PgConnection, query: &'static str) -> Vec<String> {
    sqlx::query_scalar(query).fetch_all(connection).await.unwrap()
}
