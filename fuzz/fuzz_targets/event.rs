//! Any bytes as a record's value: reading them never panics, always gives the same answer, and a booking that was
//! accepted is accepted again as the message that it writes itself.
#![no_main]

use fenced_sink::{Event, Offset, Parsed, Partition, Record, Timestamp, TimestampType};
use booking_history::booking::Booking;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let parsed = Booking::parse(&record(bytes.to_vec()));
    assert_eq!(parsed, Booking::parse(&record(bytes.to_vec())));
    if let Ok(Parsed::Event(booking)) = parsed {
        let written = booking.to_json().expect("a booking can be written");
        assert_eq!(Booking::parse(&record(written)), Ok(Parsed::Event(booking)));
    }
});

fn record(value: Vec<u8>) -> Record {
    Record {
        partition: Partition(0),
        offset: Offset(0),
        timestamp: Timestamp { millis: -1, kind: TimestampType::None },
        key: None,
        value: Some(value),
        headers: Vec::new(),
    }
}
