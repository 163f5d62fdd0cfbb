//! The built-in event: a booking that was created, kept as one row of `booking_history`.
//!
//! Three steps, a file each: [`wire`] takes the JSON apart, [`valid`] proves the values, [`table`] writes the rows. A
//! [`Booking`] holds nothing that Postgres could refuse for its value. Nothing is trimmed, defaulted or repaired: what
//! is not exactly right is refused whole, with a reason. No record's content gets into a refusal's words.

mod wire;
mod decimal;
mod created_at;
mod valid;
mod table;

use fenced_sink::{Event, InsertOutcome, LogPoint, Lookup, Parsed, Reason, Record, RecordRef, Refusal};
use sqlx::PgConnection;
use tracing::info;

pub use created_at::CreatedAt;
pub use valid::{Booking, BookingId, DiscountPercent, HotelId, Price, PromoCode, UserId, ValueFault};

impl Event for Booking {
    fn parse(record: &Record) -> Result<Parsed<Self>, Refusal> {
        match record.value.as_deref() {
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

    fn log(&self, moment: LogPoint, place: RecordRef<'_>) {
        let (booking_id, hotel_id, user_id) = (self.booking_id.as_str(), self.hotel_id.as_str(), self.user_id.as_str());
        let RecordRef { topic, partition, offset } = place;
        match moment {
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
    /// The message that this booking comes in: what [`Event::parse`] reads back as the same booking.
    ///
    /// # Errors
    /// None that a booking can cause; `serde_json` reserves the right.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        wire::write(self)
    }
}

#[cfg(test)]
mod tests;
