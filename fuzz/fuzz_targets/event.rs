//! Any bytes as the value of a record. Reading them never panics and always has the same result. The message that an accepted
//! booking writes is accepted again as the same booking. So is its message with an ignored field that the fast way of reading
//! does not accept: both ways have the same result.
#![no_main]

use booking_history::booking::Booking;
use fenced_sink::{Event, Offset, Parsed, Partition, Record, Timestamp, TimestampType};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let parsed = Booking::parse(&record(bytes.to_vec()));
    assert_eq!(parsed, Booking::parse(&record(bytes.to_vec())));
    if let Ok(Parsed::Event(booking)) = parsed {
        let begin = bytes.iter().position(|byte| *byte == b'{').expect("a booking is an object") + 1;
        let ignored = [&bytes[..begin], br#""\u0061":0,"#, &bytes[begin..]].concat();
        assert_eq!(Booking::parse(&record(ignored)).as_ref(), Ok(&Parsed::Event(booking.clone())));
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
        value: Some(value.into()),
        headers: Vec::new(),
        leader_epoch: None,
    }
}
