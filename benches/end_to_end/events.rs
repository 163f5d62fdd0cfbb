//! Bookings like the example message of the Python service, as records for Kafka and as lines for `\copy`.

use std::io::{self, Write};

use clap::ValueEnum;
use sha2::{Digest as _, Sha256};

use testbed::topic::Outgoing;

/// The number of partitions of each topic.
pub const PARTITIONS: i32 = 3;

/// The kind of booking ids. It changes the speed: rows in the order of their key touch few pages of the index, others
/// all.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum IdKind {
    /// Rising numbers, as in the example.
    Sequential,
    /// Random UUIDs (version 4).
    Random,
}

impl IdKind {
    /// The booking of a number; the same on each call.
    pub fn event(self, number: u32) -> BenchEvent {
        let id = match self {
            Self::Sequential => number.to_string(),
            Self::Random => {
                let hash = Sha256::digest(number.to_be_bytes());
                uuid::Builder::from_random_bytes(*hash.first_chunk().unwrap()).into_uuid().to_string()
            }
        };
        BenchEvent { number, id }
    }
}

/// A booking.
pub struct BenchEvent {
    number: u32,
    id: String,
}

impl BenchEvent {
    /// The price in hundredths.
    pub fn cents(&self) -> u32 {
        5_000 + self.number.wrapping_mul(37) % 100_000
    }

    fn price(&self) -> String {
        format!("{}.{:02}", self.cents() / 100, self.cents() % 100)
    }

    fn promo_code(&self) -> Option<&'static str> {
        (!self.number.is_multiple_of(3)).then_some("TESTCODE1")
    }

    fn created_at(&self) -> String {
        format!("2026-02-15T14:{:02}:34.{:06}+00:00", self.number / 1_000_000 % 60, self.number % 1_000_000)
    }

    fn user(&self) -> u32 {
        self.number.wrapping_mul(7_919) % 50_000
    }

    fn hotel(&self) -> u32 {
        self.number.wrapping_mul(104_729) % 2_000
    }

    /// The record for Kafka.
    pub fn record(&self) -> Outgoing {
        self.record_of(&self.created_at())
    }

    /// The record with another `created_at`.
    pub fn record_of(&self, created_at: &str) -> Outgoing {
        let (id, user, hotel, price) = (&self.id, self.user(), self.hotel(), self.price());
        let promo_code = self.promo_code().map_or("null".to_owned(), |code| format!("\"{code}\""));
        let value = format!(
            r#"{{"event_type":"BookingCreated","data":{{"id":"{id}","user_id":"test-user-{user}","hotel_id":"test-hotel-{hotel}","price":{price},"promo_code":{promo_code},"discount_percent":10.0,"created_at":"{created_at}"}}}}"#
        );
        let partition = i32::try_from(self.number % PARTITIONS.unsigned_abs()).unwrap();
        Outgoing { key: Some(id.clone().into_bytes()), ..Outgoing::to(partition, value) }
    }

    /// The line for `\copy`: booking, user, hotel, promo code, discount, price, time.
    pub fn write_line(&self, to: &mut impl Write) -> io::Result<()> {
        let (id, user, hotel, price) = (&self.id, self.user(), self.hotel(), self.price());
        let promo_code = self.promo_code().unwrap_or("\\N");
        let created_at = self.created_at();
        writeln!(to, "{id}\ttest-user-{user}\ttest-hotel-{hotel}\t{promo_code}\t10.0\t{price}\t{created_at}")
    }
}
