//! Each statement of the table of bookings on a real server, on a new table and on an adopted one.

use booking_history::booking::{Booking, BookingId, CreatedAt, DiscountPercent, HotelId, Price, PromoCode, UserId};
use chrono::{DateTime, TimeDelta, Utc};
use fenced_sink::{Event, InsertOutcome, Lookup, copy_rows};
use rust_decimal::Decimal;
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::adoption::{MIGRATIONS, OLD_TABLE};
use testbed::postgres::database;
use testbed::wait::{PATIENCE, eventually};

#[tokio::test]
async fn ids_come_in_the_order_sent() {
    for mut connection in [ours().await, adopted().await] {
        let sent: Vec<Booking> = (0..500).map(|n| booking(&format!("{:03}", n * 7 % 500))).collect();
        let ids = Booking::insert_all(&mut connection, &refs(&sent)).await.unwrap();
        assert!(ids.is_sorted() && ids.len() == 500, "{ids:?}");
        for (id, booking) in ids.iter().zip(&sent) {
            assert_eq!(id_of(&mut connection, booking.key()).await, Some(*id));
        }
        assert!(Booking::insert_all(&mut connection, &[]).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_bulk_insert_inserts_all_or_none() {
    let mut connection = ours().await;
    Booking::insert_all(&mut connection, &[&booking("b")]).await.unwrap();
    let error = Booking::insert_all(&mut connection, &[&booking("a"), &booking("b")]).await.unwrap_err();
    assert!(error.as_database_error().unwrap().is_unique_violation());
    assert_eq!(id_of(&mut connection, "a").await, None);

    let into = Booking::COPY.unwrap();
    let error = copy_rows(&mut connection, into, &[&booking("a"), &booking("b")], PATIENCE).await.unwrap_err();
    assert!(error.as_database_error().unwrap().is_unique_violation());
    assert_eq!(id_of(&mut connection, "a").await, None);
}

#[tokio::test]
async fn a_booking_is_read_back_exactly() {
    let mut connection = ours().await;
    let mut smallest = booking("x");
    smallest.user_id = UserId::new("é").unwrap();
    smallest.promo_code = Some(PromoCode::new("").unwrap());
    smallest.price = Price::new(Decimal::ZERO).unwrap();
    smallest.discount_percent = DiscountPercent::new(Decimal::ZERO).unwrap();
    smallest.created_at = CreatedAt::from_rfc3339("2000-01-01T00:00:00Z").unwrap();
    let mut largest = booking(&"x".repeat(256));
    largest.user_id = UserId::new("é".repeat(128)).unwrap();
    largest.hotel_id = HotelId::new("'\\\u{1}{,}\"".repeat(32)).unwrap();
    largest.promo_code = Some(PromoCode::new("\u{1F600}".repeat(64)).unwrap());
    largest.price = Price::new(Decimal::new(999_999_999_999, 2)).unwrap();
    largest.discount_percent = DiscountPercent::new(Decimal::from(100)).unwrap();
    largest.created_at = CreatedAt::from_rfc3339("2100-12-31T23:59:59.999999Z").unwrap();
    let sent = [booking("13"), smallest, largest];
    Booking::insert_all(&mut connection, &refs(&sent)).await.unwrap();
    for booking in &sent {
        assert_eq!(stored(&mut connection, booking.key()).await, *booking);
    }
    sqlx::raw_sql("delete from booking_history").execute(&mut connection).await.unwrap();
    assert_eq!(copy_rows(&mut connection, Booking::COPY.unwrap(), &refs(&sent), PATIENCE).await.unwrap(), 3);
    for booking in &sent {
        assert_eq!(stored(&mut connection, booking.key()).await, *booking);
    }
}

#[tokio::test]
async fn a_copied_booking_is_the_same_as_an_inserted_one() {
    // The binary form of a numeric has groups of four decimal digits.
    let digits = (0..12).flat_map(|power| {
        [10_i64.pow(power) - 1, 10_i64.pow(power), 10_i64.pow(power) + 1, 1234 * 10_i64.pow(power % 9)]
    });
    for mut connection in [ours().await, adopted().await] {
        let numbers = digits.clone().flat_map(|number| (0..=2).map(move |scale| Decimal::new(number, scale)));
        let sent = numbers.enumerate().filter_map(|(index, number)| {
            let mut sent = booking(&format!("{index:04}"));
            sent.price = Price::new(number).ok()?;
            sent.discount_percent = DiscountPercent::new(number).unwrap_or(sent.discount_percent);
            sent.promo_code = Some(PromoCode::new("code").unwrap()).filter(|_| index % 2 == 0);
            Some(sent)
        });
        let sent: Vec<Booking> = sent.collect();
        let copied = copy_rows(&mut connection, Booking::COPY.unwrap(), &refs(&sent), PATIENCE).await.unwrap();
        assert_eq!(usize::try_from(copied).unwrap(), sent.len());
        let found = Booking::find(&mut connection, &refs(&sent)).await.unwrap();
        assert!(found.iter().all(|found| matches!(found, Lookup::Same(_))) && found.len() > 100, "{found:?}");
    }
}

#[tokio::test]
async fn the_row_by_row_insert_returns_each_outcome() {
    for mut connection in [ours().await, adopted().await] {
        let there = booking("there");
        Booking::insert_all(&mut connection, &[&there]).await.unwrap();
        let other = Booking { hotel_id: HotelId::new("other").unwrap(), ..booking("twice") };
        let sent = [there, booking("new"), booking("twice"), other, booking("twice")];
        let outcomes = Booking::insert_each(&mut connection, &refs(&sent)).await.unwrap();
        let new = id_of(&mut connection, "new").await.unwrap();
        let twice = id_of(&mut connection, "twice").await.unwrap();
        let expected = [
            InsertOutcome::Duplicate,
            InsertOutcome::Stored(new),
            InsertOutcome::Stored(twice),
            InsertOutcome::Conflict,
            InsertOutcome::Duplicate,
        ];
        assert_eq!(outcomes, expected);
        assert_eq!(stored(&mut connection, "twice").await, booking("twice"), "a conflict leaves the row as it is");
        assert!(Booking::insert_each(&mut connection, &[]).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_row_by_row_insert_of_a_replay_returns_each_outcome() {
    for mut connection in [ours().await, adopted().await] {
        let mut sent: Vec<Booking> = (0..300).map(|number| booking(&format!("replayed-{number}"))).collect();
        Booking::insert_all(&mut connection, &refs(&sent)).await.unwrap();
        sent[7].hotel_id = HotelId::new("other").unwrap();
        sent.insert(50, booking("new"));
        sent.push(booking("new"));
        let outcomes = Booking::insert_each(&mut connection, &refs(&sent)).await.unwrap();
        let mut expected = vec![InsertOutcome::Duplicate; 302];
        expected[7] = InsertOutcome::Conflict;
        expected[50] = InsertOutcome::Stored(id_of(&mut connection, "new").await.unwrap());
        assert_eq!(outcomes, expected);
    }
}

#[tokio::test]
async fn any_other_value_is_other_content() {
    let mut connection = ours().await;
    let same = booking("13");
    let without = Booking { promo_code: None, ..booking("without") };
    Booking::insert_all(&mut connection, &[&same, &without]).await.unwrap();
    let later = CreatedAt::new(same.created_at.instant() + TimeDelta::microseconds(1)).unwrap();
    let others = [
        Booking { user_id: UserId::new("User").unwrap(), ..same.clone() },
        Booking { hotel_id: HotelId::new("hotel ").unwrap(), ..same.clone() },
        Booking { promo_code: None, ..same.clone() },
        Booking { promo_code: Some(PromoCode::new("").unwrap()), ..same.clone() },
        Booking { promo_code: Some(PromoCode::new("").unwrap()), ..without.clone() },
        Booking { discount_percent: DiscountPercent::new(Decimal::new(1001, 2)).unwrap(), ..same.clone() },
        Booking { price: Price::new(Decimal::new(9001, 2)).unwrap(), ..same.clone() },
        Booking { created_at: later, ..same.clone() },
    ];
    assert_eq!(Booking::insert_each(&mut connection, &refs(&others)).await.unwrap(), [InsertOutcome::Conflict; 8]);
    sqlx::query("update booking_history set price = 90.000, discount_percent = 10.0")
        .execute(&mut connection)
        .await
        .unwrap();
    assert_eq!(Booking::insert_each(&mut connection, &[&same, &without]).await.unwrap(), [InsertOutcome::Duplicate; 2]);
}

#[tokio::test]
async fn a_row_committed_while_the_insert_waits_is_compared_too() {
    let url = database().await;
    let mut first = migrated(&url).await;
    let mut second = PgConnection::connect(&url).await.unwrap();
    let watcher = PgPool::connect(&url).await.unwrap();
    let mut open = first.begin().await.unwrap();
    Booking::insert_all(&mut open, &[&booking("13")]).await.unwrap();
    let waiting = tokio::spawn(async move { Booking::insert_each(&mut second, &[&booking("13")]).await.unwrap() });
    eventually(
        PATIENCE,
        |waits: &i64| *waits == 1,
        async || {
            let waits = "select count(*) from pg_locks where not granted and locktype = 'transactionid'
                and pid in (select pid from pg_stat_activity where datname = current_database())";
            sqlx::query_scalar(waits).fetch_one(&watcher).await.unwrap()
        },
    )
    .await;
    open.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap(), [InsertOutcome::Duplicate]);
}

#[tokio::test]
async fn a_row_that_a_trigger_discards_is_reported() {
    let mut connection = ours().await;
    let trigger = "create function swallow() returns trigger language plpgsql as 'begin return null; end';
        create trigger swallow before insert on booking_history for each row when (new.user_id = 'bad')
        execute function swallow()";
    sqlx::raw_sql(trigger).execute(&mut connection).await.unwrap();
    let bad = Booking { user_id: UserId::new("bad").unwrap(), ..booking("1") };
    let sent = [&bad, &booking("2")];
    assert_eq!(Booking::insert_all(&mut connection, &sent).await.unwrap().len(), 1);
    assert_eq!(
        Booking::insert_each(&mut connection, &sent).await.unwrap(),
        [InsertOutcome::Discarded, InsertOutcome::Duplicate]
    );
}

async fn ours() -> PgConnection {
    migrated(&database().await).await
}

async fn adopted() -> PgConnection {
    let url = database().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(OLD_TABLE).execute(&mut connection).await.unwrap();
    migrated(&url).await
}

async fn migrated(url: &str) -> PgConnection {
    let mut connection = PgConnection::connect(url).await.unwrap();
    MIGRATIONS.run(&mut connection).await.unwrap();
    connection
}

fn booking(id: &str) -> Booking {
    Booking {
        booking_id: BookingId::new(id).unwrap(),
        user_id: UserId::new("user").unwrap(),
        hotel_id: HotelId::new("hotel").unwrap(),
        price: Price::new(Decimal::from(90)).unwrap(),
        promo_code: Some(PromoCode::new("CODE").unwrap()),
        discount_percent: DiscountPercent::new(Decimal::from(10)).unwrap(),
        created_at: CreatedAt::from_rfc3339("2026-02-15T14:37:34.859067Z").unwrap(),
    }
}

fn refs(bookings: &[Booking]) -> Vec<&Booking> {
    bookings.iter().collect()
}

async fn id_of(connection: &mut PgConnection, key: &str) -> Option<i64> {
    let id = "select id::bigint from booking_history where booking_id = $1";
    sqlx::query_scalar(id).bind(key).fetch_optional(connection).await.unwrap()
}

async fn stored(connection: &mut PgConnection, key: &str) -> Booking {
    let row = "select user_id, hotel_id, promo_code, price, discount_percent, created_at
        from booking_history where booking_id = $1";
    let (user_id, hotel_id, promo_code, price, percent, created_at): BookingColumns =
        sqlx::query_as(row).bind(key).fetch_one(connection).await.unwrap();
    Booking {
        booking_id: BookingId::new(key).unwrap(),
        user_id: UserId::new(user_id).unwrap(),
        hotel_id: HotelId::new(hotel_id).unwrap(),
        price: Price::new(price).unwrap(),
        promo_code: promo_code.map(|code| PromoCode::new(code).unwrap()),
        discount_percent: DiscountPercent::new(percent).unwrap(),
        created_at: CreatedAt::new(created_at).unwrap(),
    }
}

type BookingColumns = (String, String, Option<String>, Decimal, Decimal, DateTime<Utc>);
