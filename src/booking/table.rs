//! The SQL of the table `booking_history`. Each statement handles many bookings.
//!
//! The text is constant and each parameter is one column as an array, so `PostgreSQL` plans each statement once. A
//! table of the old Python service needs `::bigint`, because its ids are integers.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use fenced_sink::{CopyInto, InsertOutcome, Lookup};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use sqlx::postgres::PgDatabaseError;

use super::valid::{Booking, PromoCode};

/// Inserts all bookings or fails. Returns the ids of the new rows in the order of `bookings`.
///
/// After a duplicate id the engine uses [`insert_each`], which finds the cause.
pub(super) async fn insert_all(connection: &mut PgConnection, bookings: &[&Booking]) -> sqlx::Result<Vec<i64>> {
    let columns = BookingColumns::of(bookings);
    // Inserts all rows or none, with ids in the order sent: `order by place` needs no sort after `with ordinality`.
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
}

/// A `COPY` of whole rows. The table generates the ids.
pub(super) const COPY: CopyInto<Booking> = CopyInto {
    table: "booking_history",
    columns: &[
        ("booking_id", "text"),
        ("user_id", "text"),
        ("hotel_id", "text"),
        ("promo_code", "text"),
        ("discount_percent", "numeric"),
        ("price", "numeric"),
        ("created_at", "timestamp with time zone"),
    ],
    write: |booking, row| {
        row.value(booking.booking_id.as_str());
        row.value(booking.user_id.as_str());
        row.value(booking.hotel_id.as_str());
        row.value(booking.promo_code.as_ref().map(PromoCode::as_str));
        row.value(booking.discount_percent.percent());
        row.value(booking.price.amount());
        row.value(booking.created_at.instant());
    },
};

/// The sequence of the column `id`.
pub(crate) struct IdSequence {
    /// Its name.
    pub(crate) sequence: String,
    /// The number that the next row gets. `None`: the user may not read the sequence.
    pub(crate) next: Option<i64>,
    /// The largest id in the table. `None`: the table is empty.
    pub(crate) largest: Option<i64>,
}

/// The sequence that fills the column `id`, also if it belongs to an adopted table. `None`: the column has none.
pub(crate) async fn id_sequence(connection: &mut PgConnection) -> sqlx::Result<Option<IdSequence>> {
    let Some(sequence) = IdColumn::read(connection).await?.sequence else { return Ok(None) };
    sqlx::query_as!(
        IdSequence,
        r#"
        select pg_class.oid::regclass::text as "sequence!",
            case when has_sequence_privilege(pg_class.oid, 'usage, select')
                then coalesce(last_value + increment_by, start_value) end as next,
            (select max(id)::bigint from booking_history) as largest
        from pg_class
        join pg_namespace on pg_namespace.oid = relnamespace
        join pg_sequences on schemaname = nspname and sequencename = relname
        where pg_class.oid = $1::text::regclass
        "#,
        sequence
    )
    .fetch_optional(connection)
    .await
}

/// Inserts the bookings whose key is new, and compares the others with their rows. Returns the outcome of each booking, in
/// the order of `bookings`.
///
/// It needs two statements: the snapshot of the insert does not show an existing row that was committed after the insert
/// began.
pub(super) async fn insert_each(
    connection: &mut PgConnection,
    bookings: &[&Booking],
) -> sqlx::Result<Vec<InsertOutcome>> {
    let mut new = insert_missing(connection, bookings).await?;
    // Of several bookings with one key, the insert took the first. The first gets the id here, and the others are compared
    // with its row.
    let inserted: Vec<Option<InsertOutcome>> =
        bookings.iter().map(|booking| new.remove(booking.booking_id.as_str()).map(InsertOutcome::Stored)).collect();
    // A row is left over if a trigger changed its key. If one booking was sent, the row is its row. Of several bookings, it is
    // not known which one became the row.
    match (new.into_values().next(), bookings.len()) {
        (None, _) => {}
        (Some(id), 1) => return Ok(vec![InsertOutcome::Stored(id)]),
        (Some(_), _) => return Err(sqlx::Error::Encode("a trigger has changed the key of a row".into())),
    }
    let existing = bookings.iter().zip(&inserted).filter(|(_, outcome)| outcome.is_none());
    let existing: Vec<&Booking> = existing.map(|(booking, _)| *booking).collect();
    let mut existing = find(connection, &existing).await?.into_iter().map(compared);
    Ok(inserted.into_iter().filter_map(|outcome| outcome.or_else(|| existing.next())).collect())
}

fn compared(found: Lookup) -> InsertOutcome {
    match found {
        Lookup::Missing => InsertOutcome::Discarded,
        Lookup::Same(_) => InsertOutcome::Duplicate,
        Lookup::Different(_) => InsertOutcome::Conflict,
    }
}

/// How the table generates its ids. Another program may have created the table, so each name comes from the catalog.
struct IdColumn {
    /// The unique indexes on the id alone, each as `schema.name`. A partition of the table has its own.
    unique_indexes: Vec<String>,
    /// The sequence of the ids.
    sequence: Option<String>,
}

impl IdColumn {
    /// Must be called before an insert: after an error, `PostgreSQL` refuses every query in the transaction.
    async fn read(connection: &mut PgConnection) -> sqlx::Result<Self> {
        // Finds a sequence that the column owns, or else one that its default uses.
        sqlx::query_as!(
            Self,
            r#"
            select
                array(
                    select nspname || '.' || relname
                    from (
                        select 'booking_history'::regclass as relid
                        union select relid from pg_partition_tree('booking_history')
                    ) as part
                    join pg_index on indrelid = part.relid
                    join pg_attribute on attrelid = indrelid and attnum = indkey[0]
                    join pg_class on pg_class.oid = indexrelid
                    join pg_namespace on pg_namespace.oid = relnamespace
                    where indisunique and indnkeyatts = 1 and attname = 'id'
                ) as "unique_indexes!",
                coalesce(
                    pg_get_serial_sequence('booking_history', 'id'),
                    (
                        select refobjid::regclass::text
                        from pg_attribute
                        join pg_attrdef on adrelid = attrelid and adnum = attnum
                        join pg_depend on classid = 'pg_attrdef'::regclass and objid = pg_attrdef.oid
                        join pg_class on pg_class.oid = refobjid and relkind = 'S'
                        where attrelid = 'booking_history'::regclass and attname = 'id'
                        limit 1
                    )
                ) as sequence
            "#
        )
        .fetch_one(connection)
        .await
    }

    /// A record is never the cause of a duplicate id, because the table generates the ids. A duplicate id occurs if rows
    /// were copied into the table with their ids, and its sequence is lower than those. An operator must correct that, so
    /// no record becomes a dead letter.
    fn blame(&self, error: sqlx::Error) -> sqlx::Error {
        let postgres = error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
        let index = postgres.and_then(|error| Some(format!("{}.{}", error.schema()?, error.constraint()?)));
        if index.is_none_or(|index| !self.unique_indexes.contains(&index)) {
            return error;
        }
        let advice = match &self.sequence {
            Some(sequence) => {
                format!(
                    "set its sequence above the highest id: select setval('{sequence}', max(id)) from booking_history"
                )
            }
            None => "correct the default or the trigger that gives the ids".to_owned(),
        };
        sqlx::Error::Configuration(format!("the next id of booking_history exists already; {advice}").into())
    }
}

/// Inserts the bookings whose key is new. Returns the ids of the new rows, by key.
async fn insert_missing(connection: &mut PgConnection, bookings: &[&Booking]) -> sqlx::Result<HashMap<String, i64>> {
    let ids = IdColumn::read(connection).await?;
    let columns = BookingColumns::of(bookings);
    // Leaves an existing row unchanged. Of several rows with one key it inserts the first.
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
    .map_err(|error| ids.blame(error))?;
    Ok(rows.into_iter().map(|row| (row.booking_id, row.id)).collect())
}

/// Compares each booking with the row that has its key, in the order of `bookings`.
pub(super) async fn find(connection: &mut PgConnection, bookings: &[&Booking]) -> sqlx::Result<Vec<Lookup>> {
    if bookings.is_empty() {
        return Ok(Vec::new());
    }
    let columns = BookingColumns::of(bookings);
    // Returns one row for each booking sent: the id of the stored row, and whether all other columns are equal by value. A null
    // equals only a null.
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

/// Ids and keys from this id on, in the order of the ids.
pub(super) async fn page(connection: &mut PgConnection, from: i64, limit: i64) -> sqlx::Result<Vec<(i64, String)>> {
    // Uses the index of the primary key, so the size of the table does not matter.
    let rows = sqlx::query!(
        r#"select id::bigint as "id!", booking_id from booking_history where id >= $1 order by booking_history.id limit $2"#,
        from,
        limit
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.booking_id)).collect())
}

/// The bookings as one array per column, as `unnest` needs them.
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
