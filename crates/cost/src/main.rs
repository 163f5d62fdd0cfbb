//! The program that `scripts/cost.sh` runs under valgrind. It passes bookings through the steps that cost the service the
//! most CPU time of its own: parse, batch and encode. valgrind counts the instructions of one step in each run.

use std::error::Error;
use std::hint::black_box;

use booking_history::booking::Booking;
use fenced_sink::{Bytes, Event, Offset, Parsed, Partition, Record, Refusal, Timestamp, TimestampType};

/// The script divides by this number.
const RECORDS: usize = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    // As in the service, many records share one allocation.
    let messages: Vec<String> = (0..RECORDS).map(message).collect();
    let memory = Bytes::from(messages.concat());
    let records: Vec<Record> = messages
        .iter()
        .scan(0, |end, text| {
            let start = *end;
            *end += text.len();
            Some(memory.slice(start..*end))
        })
        .zip(0..)
        .map(record)
        .collect();
    let parsed = parse(&records);
    let bookings: Vec<&Booking> = parsed
        .iter()
        .filter_map(|parsed| match parsed {
            Ok(Parsed::Event(booking)) => Some(booking),
            _ => None,
        })
        .collect();
    assert_eq!(bookings.len(), RECORDS, "each record is a valid booking");
    assert!(encode(&bookings)? > RECORDS, "each booking has a row");
    assert_eq!(batch(records.into_iter().zip(parsed).collect()), RECORDS, "each record is in a batch");
    Ok(())
}

// The script finds each step by the name of its function, so none of them may be inlined.

#[inline(never)]
fn parse(records: &[Record]) -> Vec<Result<Parsed<Booking>, Refusal>> {
    records.iter().map(|record| black_box(Booking::parse(record))).collect()
}

#[inline(never)]
fn batch(records: Vec<(Record, Result<Parsed<Booking>, Refusal>)>) -> usize {
    black_box(fenced_sink::cost::batch(records))
}

#[inline(never)]
fn encode(bookings: &[&Booking]) -> Result<usize, impl Error + use<>> {
    black_box(fenced_sink::cost::encode(bookings))
}

/// A message like the example of the Python service.
fn message(number: usize) -> String {
    let (user, hotel, price) = (number * 7_919 % 50_000, number * 104_729 % 2_000, 50 + number * 37 % 1_000);
    let promo_code = if number.is_multiple_of(3) { "null" } else { "\"TESTCODE1\"" };
    format!(
        r#"{{"event_type":"BookingCreated","data":{{"id":"{number}","user_id":"test-user-{user}","hotel_id":"test-hotel-{hotel}","price":{price}.{:02},"promo_code":{promo_code},"discount_percent":10.0,"created_at":"2026-02-15T14:00:34.{number:06}+00:00"}}}}"#,
        number % 100,
    )
}

fn record((value, offset): (Bytes, i64)) -> Record {
    Record {
        partition: Partition(0),
        offset: Offset(offset),
        timestamp: Timestamp { millis: 1_771_164_034_000, kind: TimestampType::CreateTime },
        key: None,
        value: Some(value),
        headers: Vec::new(),
        leader_epoch: None,
    }
}
