//! The table `booking_history`: its statements, each for many bookings at once.
//!
//! Their text is constant and their parameters are arrays, one a column, so Postgres plans each once. `::bigint` is
//! for a table adopted from the old service, whose ids are integers.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use fenced_sink::{InsertOutcome, Lookup};
use rust_decimal::Decimal;
use sqlx::PgConnection;

use super::valid::{Booking, PromoCode};

/// Inserts all or fails; the ids of the new rows are in the order of `bookings`.
pub(super) async fn insert_all(connection: &mut PgConnection, bookings: &[&Booking]) -> sqlx::Result<Vec<i64>> {
    let columns = BookingColumns::of(bookings);
    // All rows or none; `order by place`, free since `with ordinality` comes sorted, hands out ids in the order sent.
    sqlx::query_scalar!(
        r#"
        with inserted as (
            insert into booking_history
                (booking_id, user_id, hotel_id, promo_code, discount_percent, price, created_at)
            select booking_id, user_id, hotel_id, promo_code, discount_percent, price, created_at
            from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::numeric[], $6::numeric[], $7::timestamptz[])
                with ordinality
                as sent (booking_id, user_id, hotel_id, promo_code, discount_percent, price, created_at, place)
            order by place
            returning id
        )
        select coalesce(array_agg(id::bigint), '{}') as "ids!" from inserted
        "#,
        &columns.booking_id as _,
        &columns.user_id as _,
        &columns.hotel_id as _,
        &columns.promo_code as _,
        &columns.discount_percent,
        &columns.price,
        &columns.created_at,
    )
    .fetch_one(connection)
    .await
    .map_err(blame_the_sequence)
}

/// Inserts what is not there, and tells the fate of each of `bookings`, in their order.
///
/// Two statements on purpose: the snapshot of the insert may not see the row that it met, if that was committed after
/// the insert began.
pub(super) async fn insert_each(
    connection: &mut PgConnection,
    bookings: &[&Booking],
) -> sqlx::Result<Vec<InsertOutcome>> {
    let mut new = insert_missing(connection, bookings).await?;
    // Of several bookings with one key the first was inserted; it takes the id, so the others are compared with it.
    let fates: Vec<Option<InsertOutcome>> =
        bookings.iter().map(|booking| new.remove(booking.booking_id.as_str()).map(InsertOutcome::Stored)).collect();
    // A trigger has given rows other keys. One row alone is this booking's; of several nobody knows whose they are.
    match (new.into_values().next(), bookings.len()) {
        (None, _) => {}
        (Some(id), 1) => return Ok(vec![InsertOutcome::Stored(id)]),
        (Some(_), _) => return Err(sqlx::Error::Encode("a trigger has changed the key of a row".into())),
    }
    let met: Vec<&Booking> =
        bookings.iter().zip(&fates).filter(|(_, fate)| fate.is_none()).map(|(booking, _)| *booking).collect();
    let fate = |found| match found {
        Lookup::Missing => InsertOutcome::Discarded,
        Lookup::Same(_) => InsertOutcome::Duplicate,
        Lookup::Different(_) => InsertOutcome::Conflict,
    };
    let mut compared = find(connection, &met).await?.into_iter().map(fate);
    Ok(fates.into_iter().filter_map(|fate| fate.or_else(|| compared.next())).collect())
}

/// No record is to blame for an id that the table made up: rows were copied in with ids of their own, and the sequence
/// is behind them.
fn blame_the_sequence(error: sqlx::Error) -> sqlx::Error {
    let constraint = error.as_database_error().and_then(|error| error.constraint());
    if constraint != Some("booking_history_pkey") {
        return error;
    }
    let advice = "the next id of booking_history is taken; set its sequence behind the highest id, by \
        select setval(pg_get_serial_sequence('booking_history', 'id'), max(id)) from booking_history";
    sqlx::Error::Configuration(advice.into())
}

/// The ids of the rows that are new, by key.
async fn insert_missing(connection: &mut PgConnection, bookings: &[&Booking]) -> sqlx::Result<HashMap<String, i64>> {
    let columns = BookingColumns::of(bookings);
    // A key that is there already is left as it is; of one sent more than once the first is inserted.
    let rows = sqlx::query!(
        r#"
        insert into booking_history
            (booking_id, user_id, hotel_id, promo_code, discount_percent, price, created_at)
        select booking_id, user_id, hotel_id, promo_code, discount_percent, price, created_at
        from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::numeric[], $6::numeric[], $7::timestamptz[])
            with ordinality
            as sent (booking_id, user_id, hotel_id, promo_code, discount_percent, price, created_at, place)
        order by place
        on conflict (booking_id) do nothing
        returning booking_id, id::bigint as "id!"
        "#,
        &columns.booking_id as _,
        &columns.user_id as _,
        &columns.hotel_id as _,
        &columns.promo_code as _,
        &columns.discount_percent,
        &columns.price,
        &columns.created_at,
    )
    .fetch_all(connection)
    .await
    .map_err(blame_the_sequence)?;
    Ok(rows.into_iter().map(|row| (row.booking_id, row.id)).collect())
}

/// What the table holds under the key of each booking, in their order.
pub(super) async fn find(connection: &mut PgConnection, bookings: &[&Booking]) -> sqlx::Result<Vec<Lookup>> {
    if bookings.is_empty() {
        return Ok(Vec::new());
    }
    let columns = BookingColumns::of(bookings);
    // One answer for each row sent: is one with its key there, and is all else the same by value, null only as null.
    let rows = sqlx::query!(
        r#"
        select
            stored.id::bigint as "id?",
            (stored.user_id, stored.hotel_id, stored.promo_code,
             stored.discount_percent, stored.price, stored.created_at)
            is not distinct from
            (sent.user_id, sent.hotel_id, sent.promo_code,
             sent.discount_percent, sent.price, sent.created_at) as "same!"
        from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::numeric[], $6::numeric[], $7::timestamptz[])
            with ordinality
            as sent (booking_id, user_id, hotel_id, promo_code, discount_percent, price, created_at, place)
        left join booking_history stored on stored.booking_id = sent.booking_id
        order by sent.place
        "#,
        &columns.booking_id as _,
        &columns.user_id as _,
        &columns.hotel_id as _,
        &columns.promo_code as _,
        &columns.discount_percent,
        &columns.price,
        &columns.created_at,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| match (row.id, row.same) {
            (None, _) => Lookup::Missing,
            (Some(id), true) => Lookup::Same(id),
            (Some(id), false) => Lookup::Different(id),
        })
        .collect())
}

/// Ids and keys from this id on, in order of the ids.
pub(super) async fn page(connection: &mut PgConnection, from: i64, limit: i64) -> sqlx::Result<Vec<(i64, String)>> {
    // By the index of the primary key, however large the table is.
    let rows = sqlx::query!(
        r#"select id::bigint as "id!", booking_id from booking_history where id >= $1 order by booking_history.id limit $2"#,
        from,
        limit
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.booking_id)).collect())
}

/// The bookings turned by ninety degrees, as `unnest` takes them.
struct BookingColumns<'a> {
    booking_id: Vec<&'a str>,
    user_id: Vec<&'a str>,
    hotel_id: Vec<&'a str>,
    promo_code: Vec<Option<&'a str>>,
    discount_percent: Vec<Decimal>,
    price: Vec<Decimal>,
    created_at: Vec<DateTime<Utc>>,
}

impl<'a> BookingColumns<'a> {
    fn of(bookings: &[&'a Booking]) -> Self {
        Self {
            booking_id: bookings.iter().map(|booking| booking.booking_id.as_str()).collect(),
            user_id: bookings.iter().map(|booking| booking.user_id.as_str()).collect(),
            hotel_id: bookings.iter().map(|booking| booking.hotel_id.as_str()).collect(),
            promo_code: bookings.iter().map(|booking| booking.promo_code.as_ref().map(PromoCode::as_str)).collect(),
            discount_percent: bookings.iter().map(|booking| booking.discount_percent.percent()).collect(),
            price: bookings.iter().map(|booking| booking.price.amount()).collect(),
            created_at: bookings.iter().map(|booking| booking.created_at.instant()).collect(),
        }
    }
}
