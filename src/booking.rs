//! The event of this service: a booking that was created. It becomes one row of `booking_history`.
//!
//! Three steps, one file each: [`wire`] reads the JSON, [`valid`] checks the values, [`table`] writes the rows. A
//! [`Booking`] has no value that the table refuses. The steps trim, complete or repair no value: a message that is not
//! exactly right is refused, with a reason. The text of a refusal never contains the content of the record.

mod wire;
mod fault;
mod decimal;
mod created_at;
mod valid;
mod table;

use fenced_sink::{CopyInto, Event, InsertOutcome, LogPoint, Lookup, Parsed, Reason, Record, RecordRef, Refusal};
use sqlx::PgConnection;
use tracing::info;

pub use created_at::CreatedAt;
pub use fault::ValueFault;
pub(crate) use table::{IdSequence, id_sequence};
pub use valid::{Booking, BookingId, DiscountPercent, HotelId, Price, PromoCode, UserId};

impl Event for Booking {
    const COPY: Option<CopyInto<Self>> = Some(table::COPY);
    const PRIVILEGES: &'static [(&'static str, &'static [&'static str])] =
        &[("booking_history", &["select", "insert"])];

    fn parse(record: &Record) -> Result<Parsed<Self>, Refusal> {
        match &record.value {
            Some(bytes) => wire::read(bytes),
            None => {
                Err(Refusal { reason: Reason::Tombstone, field: None, detail: "the record has no value".to_owned() })
            }
        }
    }

    fn key(&self) -> &str {
        self.booking_id.as_str()
    }

    async fn insert_all(connection: &mut PgConnection, events: &[&Self]) -> sqlx::Result<Vec<i64>> {
        table::insert_all(connection, events).await
    }

    async fn insert_each(connection: &mut PgConnection, events: &[&Self]) -> sqlx::Result<Vec<InsertOutcome>> {
        table::insert_each(connection, events).await
    }

    async fn find(connection: &mut PgConnection, events: &[&Self]) -> sqlx::Result<Vec<Lookup>> {
        table::find(connection, events).await
    }

    async fn page(connection: &mut PgConnection, from: i64, limit: i64) -> sqlx::Result<Vec<(i64, String)>> {
        table::page(connection, from, limit).await
    }

    fn log(&self, point: LogPoint, record: RecordRef<'_>) {
        let (booking_id, hotel_id, user_id) = (self.booking_id.as_str(), self.hotel_id.as_str(), self.user_id.as_str());
        let RecordRef { topic, partition, offset } = record;
        match point {
            LogPoint::Received => {
                info!(booking_id, hotel_id, user_id, topic, %partition, %offset, "processing_booking_created_event");
            }
            LogPoint::Stored(id) => {
                info!(booking_id, hotel_id, id, user_id, topic, %partition, %offset, "booking_history_saved");
            }
            LogPoint::Duplicate => {
                info!(booking_id, hotel_id, user_id, topic, %partition, %offset, "duplicate_booking_ignored");
            }
        }
    }
}

impl Booking {
    /// The message of this booking. [`Event::parse`] reads it back as the same booking.
    ///
    /// # Errors
    /// No booking causes an error. The type is that of `serde_json`.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        wire::write(self)
    }
}

#[cfg(test)]
mod tests;
