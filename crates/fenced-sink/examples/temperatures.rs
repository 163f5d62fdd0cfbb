//! A whole service for another event: temperatures, in records such as `station-7 21`.
//!
//! ```sh
//! export DATABASE_URL=postgresql://postgres:postgres@localhost/postgres KAFKA_BOOTSTRAP_SERVERS=localhost:9092
//! cargo run --package fenced-sink --example temperatures
//! ```
//! It reads the topic `temperatures` until Ctrl-C. `select * from readings` shows the rows, `dead_letters` the records
//! that are no temperatures, `consumer_offsets` the positions.

use std::error::Error;

use fenced_sink::{
    CopyInto, Event, InsertOutcome, LogPoint, Lookup, Options, Parsed, Reason, Record, RecordRef, Refusal,
    create_tables, run,
};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

/// A temperature that a station measured.
#[derive(Debug)]
struct Reading {
    station: String,
    celsius: i32,
}

impl Event for Reading {
    /// For large batches: each value has exactly the type of its column.
    const COPY: Option<CopyInto<Self>> = Some(CopyInto {
        table: "readings",
        columns: &[("station", "text"), ("celsius", "integer")],
        write: |reading, row| {
            row.value(reading.station.as_str());
            row.value(reading.celsius);
        },
    });

    fn parse(record: &Record) -> Result<Parsed<Self>, Refusal> {
        let refuse = |reason, field, detail: &str| Refusal { reason, field, detail: detail.to_owned() };
        let value = record.value.as_deref().ok_or_else(|| refuse(Reason::Tombstone, None, "no value"))?;
        let text = str::from_utf8(value).map_err(|_| refuse(Reason::InvalidValue, None, "not UTF-8"))?;
        if text.contains('\0') {
            return Err(refuse(Reason::NulCharacter, None, "contains U+0000"));
        }
        let (station, celsius) =
            text.split_once(' ').ok_or_else(|| refuse(Reason::MissingField, Some("celsius"), "is missing"))?;
        let celsius =
            celsius.parse().map_err(|_| refuse(Reason::InvalidValue, Some("celsius"), "must be a whole number"))?;
        Ok(Parsed::Event(Self { station: station.to_owned(), celsius }))
    }

    fn key(&self) -> &str {
        &self.station
    }

    /// Inserts all events or fails; the ids are in the order of the events.
    async fn insert_all(connection: &mut PgConnection, events: &[&Self]) -> sqlx::Result<Vec<i64>> {
        let stations: Vec<&str> = events.iter().map(|event| event.station.as_str()).collect();
        let degrees: Vec<i32> = events.iter().map(|event| event.celsius).collect();
        sqlx::query_scalar(
            "insert into readings (station, celsius)
             select station, celsius from unnest($1::text[], $2::integer[]) with ordinality as sent (station, celsius, place)
             order by place returning id",
        )
        .bind(stations)
        .bind(degrees)
        .fetch_all(connection)
        .await
    }

    /// Inserts the events one by one. This is fast enough: the engine calls it only after `insert_all` failed.
    async fn insert_each(connection: &mut PgConnection, events: &[&Self]) -> sqlx::Result<Vec<InsertOutcome>> {
        let mut outcomes = Vec::with_capacity(events.len());
        for event in events {
            let new: Option<i64> = sqlx::query_scalar(
                "insert into readings (station, celsius) values ($1, $2) on conflict (station) do nothing returning id",
            )
            .bind(&event.station)
            .bind(event.celsius)
            .fetch_optional(&mut *connection)
            .await?;
            let stored = Self::find(connection, &[event]).await?;
            outcomes.push(match (new, stored.as_slice()) {
                (Some(id), _) => InsertOutcome::Stored(id),
                (None, [Lookup::Same(_)]) => InsertOutcome::Duplicate,
                (None, [Lookup::Different(_)]) => InsertOutcome::Conflict,
                (None, _) => InsertOutcome::Discarded,
            });
        }
        Ok(outcomes)
    }

    /// For `verify`: the row of each event, by its key, in their order.
    async fn find(connection: &mut PgConnection, events: &[&Self]) -> sqlx::Result<Vec<Lookup>> {
        let stations: Vec<&str> = events.iter().map(|event| event.station.as_str()).collect();
        let rows: Vec<(Option<i64>, Option<i32>)> = sqlx::query_as(
            "select id, celsius from unnest($1::text[]) with ordinality as sent (station, place)
             left join readings using (station) order by place",
        )
        .bind(stations)
        .fetch_all(connection)
        .await?;
        let found = events.iter().zip(rows).map(|(event, row)| match row {
            (Some(id), celsius) if celsius == Some(event.celsius) => Lookup::Same(id),
            (Some(id), _) => Lookup::Different(id),
            (None, _) => Lookup::Missing,
        });
        Ok(found.collect())
    }

    /// For `verify`: all rows, page by page.
    async fn page(connection: &mut PgConnection, from: i64, limit: i64) -> sqlx::Result<Vec<(i64, String)>> {
        sqlx::query_as("select id, station from readings where id >= $1 order by id limit $2")
            .bind(from)
            .bind(limit)
            .fetch_all(connection)
            .await
    }

    fn log(&self, _: LogPoint, _: RecordRef<'_>) {}
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init();
    let setting = |name: &str, default: &str| {
        std::env::vars().find(|(key, _)| key == name).map_or(default.to_owned(), |(_, value)| value)
    };
    let database = setting("DATABASE_URL", "postgresql://postgres:postgres@localhost:5434/postgres");
    let brokers = setting("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092");

    let mut connection = PgConnection::connect(&database).await?;
    create_tables(&mut connection).await?;
    sqlx::raw_sql(
        "create table if not exists readings (id bigserial, station text primary key, celsius integer not null)",
    )
    .execute(&mut connection)
    .await?;

    let options = Options::new(database.parse::<PgConnectOptions>()?, &brokers, "temperatures", "temperatures-service");
    let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    run::<Reading>(options, interrupted).await?;
    Ok(())
}
