//! Bookings like the example message of the Python service, as records for Kafka and as lines for `\copy`.

use std::io::{self, Write};
use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};

use testbed::topic::Outgoing;
use uuid::Uuid;

/// The kind of booking ids. It changes the speed: rows in the order of their key touch few pages of the index, others
/// all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    /// Rising numbers, as in the example.
    Sequential,
    /// Random UUIDs (version 4).
    Random,
}

/// Which records do not become a row of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Each record becomes a row.
    None,
    /// Each record whose number can be divided by this becomes a dead letter: its price is negative.
    DeadLetters(u32),
    /// Each record whose number can be divided by this repeats an earlier record of the same partition.
    Duplicates(u32),
}

/// The records of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub records: u32,
    pub partitions: i32,
    pub ids: IdKind,
    pub fault: Fault,
    /// Each value has at least this size: an unknown field fills it.
    pub bytes: usize,
}

/// What the tables hold when all records of a load are handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    pub rows: i64,
    pub duplicates: i64,
    pub dead_letters: i64,
    /// The sum of the prices, in hundredths.
    pub cents: i64,
}

impl Load {
    /// The load with which the others are compared.
    pub const STANDARD: Self =
        Self { records: 300_000, partitions: 3, ids: IdKind::Sequential, fault: Fault::None, bytes: 0 };

    /// The same number of records, of which each becomes a row.
    pub fn without_faults(self) -> Self {
        Self { fault: Fault::None, ..self }
    }

    /// The booking of a number; the same on each call.
    pub fn event(self, number: u32) -> BenchEvent {
        let number = match self.fault {
            // The record before by seven in the same partition; it is no repetition itself.
            Fault::Duplicates(every) if number.is_multiple_of(every) => number - 7 * self.partitions.unsigned_abs(),
            _ => number,
        };
        let id = match self.ids {
            IdKind::Sequential => number.to_string(),
            IdKind::Random => random_uuid(number).to_string(),
        };
        let refused = matches!(self.fault, Fault::DeadLetters(every) if number.is_multiple_of(every));
        let partition = i32::try_from(number % self.partitions.unsigned_abs()).unwrap();
        BenchEvent { number, id, refused, partition, bytes: self.bytes }
    }

    pub fn events(self) -> impl Iterator<Item = BenchEvent> {
        (1..=self.records).map(move |number| self.event(number))
    }

    pub fn expected(self) -> Expected {
        let count = |every: u32| i64::from(self.records / every);
        let (duplicates, dead_letters) = match self.fault {
            Fault::None => (0, 0),
            Fault::DeadLetters(every) => (0, count(every)),
            Fault::Duplicates(every) => (count(every), 0),
        };
        let is_row = |number: &u32| match self.fault {
            Fault::None => true,
            Fault::DeadLetters(every) | Fault::Duplicates(every) => !number.is_multiple_of(every),
        };
        let cents = (1..=self.records).filter(is_row).map(|number| i64::from(cents(number))).sum();
        Expected { rows: i64::from(self.records) - duplicates - dead_letters, duplicates, dead_letters, cents }
    }
}

/// A booking.
pub struct BenchEvent {
    number: u32,
    id: String,
    refused: bool,
    partition: i32,
    bytes: usize,
}

fn cents(number: u32) -> u32 {
    5_000 + number.wrapping_mul(37) % 100_000
}

impl BenchEvent {
    fn price(&self) -> String {
        let cents = cents(self.number);
        let sign = if self.refused { "-" } else { "" };
        format!("{sign}{}.{:02}", cents / 100, cents % 100)
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
        let mut value = format!(
            r#"{{"event_type":"BookingCreated","data":{{"id":"{id}","user_id":"test-user-{user}","hotel_id":"test-hotel-{hotel}","price":{price},"promo_code":{promo_code},"discount_percent":10.0,"created_at":"{created_at}"}}}}"#
        );
        if let Some(missing) = self.bytes.checked_sub(value.len() + r#","more":"""#.len()) {
            let more = filler(self.number, missing);
            value.insert_str(value.len() - 1, &format!(r#","more":"{more}""#));
        }
        Outgoing { key: Some(id.clone().into_bytes()), ..Outgoing::to(self.partition, value) }
    }

    /// The line for `\copy`: booking, user, hotel, promo code, discount, price, time.
    pub fn write_line(&self, to: &mut impl Write) -> io::Result<()> {
        let (id, user, hotel, price) = (&self.id, self.user(), self.hotel(), self.price());
        let promo_code = self.promo_code().unwrap_or("\\N");
        let created_at = self.created_at();
        writeln!(to, "{id}\ttest-user-{user}\ttest-hotel-{hotel}\t{promo_code}\t10.0\t{price}\t{created_at}")
    }
}

/// This number of hexadecimal digits, the same for the same number.
fn filler(number: u32, digits: usize) -> &'static str {
    static DIGITS: LazyLock<String> =
        LazyLock::new(|| (0..4_096).map(|block| random_uuid(block).simple().to_string()).collect());
    let start = usize::try_from(number).unwrap() * 61 % (DIGITS.len() - digits);
    &DIGITS[start..start + digits]
}

/// The same for the same number.
fn random_uuid(number: u32) -> Uuid {
    let hash = Sha256::digest(number.to_be_bytes());
    uuid::Builder::from_random_bytes(*hash.first_chunk().unwrap()).into_uuid()
}
