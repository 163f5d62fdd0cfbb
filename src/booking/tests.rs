//! From the bytes of a message to a booking or a refusal.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use fenced_sink::{Bytes, Offset, Partition, Timestamp, TimestampType};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rust_decimal::Decimal;

use super::*;

/// A message as the old Python service received it.
const MESSAGE: &str = r#"{"event_type":"BookingCreated","data":{"id":"13","user_id":"test-user-2","hotel_id":"test-hotel-1","price":90.0,"promo_code":"TESTCODE1","discount_percent":10.0,"created_at":"2026-02-15T14:37:34.859067+00:00"}}"#;

fn record(value: Option<&[u8]>) -> Record {
    Record {
        partition: Partition(0),
        offset: Offset(0),
        timestamp: Timestamp { millis: -1, kind: TimestampType::None },
        key: None,
        value: value.map(Bytes::copy_from_slice),
        headers: Vec::new(),
        leader_epoch: None,
    }
}

/// The fast way to read a message has the same result as the one that accepts all JSON.
fn parse(value: &[u8]) -> Result<Parsed<Booking>, Refusal> {
    let parsed = Booking::parse(&record(Some(value)));
    assert_eq!(parsed, wire::read_any(&Bytes::copy_from_slice(value)));
    parsed
}

/// `MESSAGE` with its only `from` replaced.
fn message(from: &str, to: &str) -> String {
    assert_eq!(MESSAGE.matches(from).count(), 1, "{from}");
    MESSAGE.replacen(from, to, 1)
}

fn check_refused(value: &str, reason: Reason, field: Option<&str>) {
    let refusal = parse(value.as_bytes()).unwrap_err();
    assert_eq!((refusal.reason, refusal.field), (reason, field), "{value:.400}");
}

#[test]
fn the_old_service_s_message_is_a_booking() {
    let expected = Booking {
        booking_id: BookingId::new("13").unwrap(),
        user_id: UserId::new("test-user-2").unwrap(),
        hotel_id: HotelId::new("test-hotel-1").unwrap(),
        price: Price::new(Decimal::from(90)).unwrap(),
        promo_code: Some(PromoCode::new("TESTCODE1").unwrap()),
        discount_percent: DiscountPercent::new(Decimal::from(10)).unwrap(),
        created_at: CreatedAt::from_rfc3339("2026-02-15T14:37:34.859067Z").unwrap(),
    };
    assert_eq!(expected.key(), "13");
    assert_eq!(parse(MESSAGE.as_bytes()), Ok(Parsed::Event(expected)));
}

#[test]
fn a_tombstone_is_refused() {
    assert_eq!(Booking::parse(&record(None)).unwrap_err().reason, Reason::Tombstone);
}

#[test]
fn another_event_is_ignored_by_its_name_whatever_its_content() {
    let ignored = parse(br#"{"data":{"id":"\ud800"},"event_type":"Booking\u0043ancelled","data":1e999}"#);
    assert_eq!(ignored, Ok(Parsed::Ignored { event_type: "BookingCancelled".to_owned() }));
}

#[test]
fn a_refusal_names_the_field_by_its_path() {
    check_refused(&message(r#""event_type""#, r#""eventType""#), Reason::MissingField, Some("event_type"));
    check_refused(&message(r#""BookingCreated""#, "13"), Reason::WrongType, Some("event_type"));
    check_refused(r#"{"event_type":"BookingCreated"}"#, Reason::MissingField, Some("data"));
    for data in ["null", "[]", "[[]]", "true", "1", "-1", "1.5", "1e999", r#""data""#, r#""\ud800""#] {
        let value = format!(r#"{{"data":{data},"event_type":"BookingCreated"}}"#);
        check_refused(&value, Reason::WrongType, Some("data"));
    }
    check_refused(&message(r#""13""#, "13"), Reason::WrongType, Some("data.id"));
    check_refused(&message(r#""test-user-2""#, r#""""#), Reason::InvalidValue, Some("data.user_id"));
    check_refused(&message("test-hotel-1", r"\u0000"), Reason::NulCharacter, Some("data.hotel_id"));
    check_refused(&message("90.0", "90.001"), Reason::InvalidValue, Some("data.price"));
    // 2 to the power of 64, and 90.
    check_refused(&message("90.0", "18446744073709551706"), Reason::InvalidValue, Some("data.price"));
    check_refused(&message("TESTCODE1", &"x".repeat(257)), Reason::TooLong, Some("data.promo_code"));
    check_refused(&message("10.0", "null"), Reason::WrongType, Some("data.discount_percent"));
    check_refused(&message("+00:00", ""), Reason::InvalidValue, Some("data.created_at"));
    check_refused(&message("+00:00", r"\u0000"), Reason::NulCharacter, Some("data.created_at"));
    check_refused(&message("test-user-2", r"\udfff"), Reason::NotJson, Some("data.user_id"));
}

#[test]
fn a_known_field_may_be_present_once() {
    for key in
        ["event_type", "data", "id", "user_id", "hotel_id", "price", "promo_code", "discount_percent", "created_at"]
    {
        let path = if ["event_type", "data"].contains(&key) { key.to_owned() } else { format!("data.{key}") };
        let quoted = format!(r#""{key}":"#);
        let value = message(&quoted, &format!("{quoted}null,{quoted}"));
        check_refused(&value, Reason::DuplicateField, Some(&path));
    }
    check_refused(&message(r#""data":"#, r#""data":1e999,"data":"#), Reason::DuplicateField, Some("data"));
    let unknown = message(r#""data":{"#, r#""x":1,"x":2,"id":3,"id":4,"data":{"y":1,"y":2,"#);
    assert!(parse(unknown.as_bytes()).is_ok());
}

/// The name of a seed is the expected outcome, a dash, and a description.
#[test]
fn every_seed_of_the_fuzzer_has_the_outcome_in_its_name() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/event");
    let mut replayed = 0;
    for seed in fs::read_dir(&seeds).unwrap() {
        let path = seed.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let outcome = match parse(&fs::read(&path).unwrap()) {
            Ok(Parsed::Event(_)) => "stored",
            Ok(Parsed::Ignored { .. }) => "ignored",
            Err(refusal) => refusal.reason.as_str(),
        };
        assert_eq!(name.split_once('-').unwrap().0, outcome, "{name}");
        replayed += 1;
    }
    assert!(replayed > 80, "{replayed} seeds");
}

#[test]
fn deep_nesting_neither_ends_the_process_nor_takes_long() {
    let deep = format!("{}1{}", r#"[{"a":"#.repeat(1_000_000), "}]".repeat(1_000_000));
    let unknown = message(r#""data":{"#, &format!(r#""x":{deep},"data":{{"y":{deep},"#));
    assert!(parse(unknown.as_bytes()).is_ok());
    check_refused(&message("90.0", &deep), Reason::WrongType, Some("data.price"));
    check_refused(&deep, Reason::NotAnObject, None);
    check_refused(&format!(r#"{{"event_type":"BookingCreated","data":{deep}}}"#), Reason::WrongType, Some("data"));
    check_refused(&format!(r#"{{"event_type":"BookingCreated","data":{{"id":{deep}"#), Reason::NotJson, None);
}

fn id() -> impl Strategy<Value = String> {
    "[^\u{0}]{1,64}|[a-z0-9-]{1,256}".prop_filter("bytes", |id| id.len() <= 256)
}

prop_compose! {
    fn any_booking()(
        booking_id in id(),
        user_id in id(),
        hotel_id in id(),
        promo_code in prop::option::of("[^\u{0}]{0,64}"),
        price in 0..=999_999_999_999_i64,
        percent in 0..=10_000_i64,
        micros in 946_684_800_000_000_i64..4_133_980_800_000_000,
    ) -> Booking {
        Booking {
            booking_id: BookingId::new(booking_id).unwrap(),
            user_id: UserId::new(user_id).unwrap(),
            hotel_id: HotelId::new(hotel_id).unwrap(),
            promo_code: promo_code.map(|code| PromoCode::new(code).unwrap()),
            price: Price::new(Decimal::new(price, 2)).unwrap(),
            discount_percent: DiscountPercent::new(Decimal::new(percent, 2)).unwrap(),
            created_at: CreatedAt::new(chrono::DateTime::from_timestamp_micros(micros).unwrap()).unwrap(),
        }
    }
}

/// Every character as an escape.
fn escaped(text: &str) -> String {
    text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<Vec<_>>().concat()
}

/// A strategy that reads the pattern once.
fn regex(pattern: &str) -> impl Strategy<Value = String> {
    proptest::string::string_regex(pattern).unwrap()
}

/// The JSON of one field: mostly as a producer writes it, and sometimes in another way or with a fault.
fn field(key: &'static str) -> impl Strategy<Value = String> {
    let text = prop_oneof![
        40 => regex("[a-zA-Z0-9é€-]{1,40}").prop_map(|text| format!(r#""{text}""#)),
        1 => regex(".{0,20}").prop_map(|text| serde_json::json!(text).to_string()),
        1 => regex("[a-z]{1,8}").prop_map(|text| format!(r#""{}""#, escaped(&text))),
        1 => (250_usize..260).prop_map(|length| format!(r#""{}""#, "x".repeat(length))),
    ];
    let number = prop_oneof![
        40 => regex("[1-9][0-9]?(\\.[0-9]{1,2})?"),
        1 => regex("-?[0-9]{1,11}(\\.[0-9]{0,3})?"),
        1 => regex("[0-9.eE+-]{1,6}"),
        1 => regex("(0|1|100)\\.0{1,30}1?"),
    ];
    let time = prop_oneof![
        40 => regex("\"20[0-9]{2}-0[1-9]-[12][0-9]T1[0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|\\+00:00)\""),
        1 => regex("\"[12][019][0-9]{2}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,11})?(Z|z|[+-]0[0-9]:[0-9]0)?\""),
    ];
    let other = prop::sample::select(vec![
        "null",
        "true",
        "false",
        "nul",
        "-0",
        "[1]",
        "[ ]",
        "[1,]",
        "[[[[[[[[[0]]]]]]]]]",
        r#"{"id":1,"id":[{}]}"#,
        "{\"id\"}",
        r#""\ud800""#,
        "\"\n\"",
    ]);
    let (text, number, time, other) =
        (text.boxed(), number.boxed(), time.boxed(), other.prop_map(str::to_owned).boxed());
    let usual = match key {
        "price" | "discount_percent" => number,
        "created_at" => time,
        "unknown" => prop_oneof![text, number, other.clone()].boxed(),
        _ => text,
    };
    prop_oneof![150 => usual, 1 => other].prop_map(move |value| format!(r#""{key}":{value}"#))
}

prop_compose! {
    /// The bytes of a booking, or of nearly one.
    fn any_message()(
        fields in ["id", "user_id", "hotel_id", "price", "promo_code", "discount_percent", "created_at", "unknown"].map(field),
        order in prop_oneof![
            16 => Just(vec![0, 1, 2, 3, 4, 5, 6, 7]).prop_shuffle(),
            1 => prop::collection::vec(0..8_usize, 0..10),
        ],
        unknown in prop::option::weighted(0.2, field("unknown")),
        space in prop_oneof![12 => regex("[ \t\r\n]{0,2}"), 1 => regex("[ \u{b}\u{c}\u{a0}]{0,1}")],
        event_type in prop_oneof![40 => Just("BookingCreated"), 1 => Just("BookingCancelled"), 1 => Just("Booking\\u0043reated")],
        data_first in any::<bool>(),
        after in prop_oneof![40 => regex("[ \n]{0,2}"), 1 => regex("[ }0]{0,2}")],
        changed in prop::option::weighted(0.25, (any::<prop::sample::Index>(), prop_oneof![b' '..=b'~', any::<u8>()], 0..3)),
    ) -> Vec<u8> {
        let comma = format!("{space},{space}");
        let data: Vec<&str> = order.iter().map(|place| fields[*place].as_str()).collect();
        let mut outer = vec![format!(r#""event_type"{space}:"{event_type}""#), format!(r#""data":{{{space}{}{space}}}"#, data.join(&comma))];
        if data_first {
            outer.reverse();
        }
        outer.extend(unknown);
        let mut bytes = format!("{space}{{{}}}{after}", outer.join(&comma)).into_bytes();
        if let Some((place, byte, kind)) = changed {
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => drop(bytes.remove(place)),
            }
        }
        bytes
    }
}

#[test]
fn the_fast_way_accepts_most_bookings_and_nothing_else() {
    const CASES: u32 = 5_000;
    let [fast, slow, other] = [const { Cell::new(0_u32) }; 3];
    let config = ProptestConfig { cases: CASES, ..ProptestConfig::with_source_file(file!()) };
    let result = TestRunner::new(config).run(&any_message(), |bytes| {
        // `parse` compares both ways.
        let counter = match (wire::usual::read(&Bytes::copy_from_slice(&bytes)), parse(&bytes)) {
            (Some(_), _) => &fast,
            (None, Ok(Parsed::Event(_))) => &slow,
            (None, _) => &other,
        };
        counter.set(counter.get() + 1);
        Ok(())
    });
    result.unwrap();
    let counts = [&fast, &slow, &other].map(Cell::get);
    assert!(counts.iter().all(|count| *count > CASES / 20) && counts[0] > counts[1], "{counts:?}");
}

proptest! {
    #[test]
    fn a_booking_is_read_back_from_its_own_message(booking in any_booking()) {
        prop_assert_eq!(parse(&booking.to_json().unwrap()), Ok(Parsed::Event(booking)));
    }

    #[test]
    fn the_notation_of_a_message_does_not_matter(
        booking in any_booking(),
        order in Just([0, 1, 2, 3, 4, 5, 6, 7]).prop_shuffle(),
        data_first in any::<bool>(),
        space in "[ \t\r\n]{0,3}",
        offset_minutes in -1439..=1439_i32,
        zeros in 1_usize..30,
    ) {
        let offset = chrono::FixedOffset::east_opt(offset_minutes * 60).unwrap();
        let created_at = booking.created_at.instant().with_timezone(&offset).to_rfc3339();
        let cents = booking.price.amount() * Decimal::ONE_HUNDRED;
        let promo_code = booking.promo_code.as_ref().map(|code| format!(r#""{}""#, escaped(code.as_str())));
        let fields = [
            format!(r#""id":"{}""#, escaped(booking.booking_id.as_str())),
            format!(r#""{}":{}"#, escaped("user_id"), serde_json::json!(booking.user_id.as_str())),
            format!(r#""hotel_id":{space}{}"#, serde_json::json!(booking.hotel_id.as_str())),
            format!(r#""price":{}e-2"#, cents.normalize()),
            format!(r#""promo_code":{}"#, promo_code.as_deref().unwrap_or("null")),
            format!(r#""discount_percent":{:.2}{}"#, booking.discount_percent.percent(), "0".repeat(zeros)),
            format!(r#""created_at":"{created_at}""#),
            r#""unknown":[{"id":"x","price":1e999}]"#.to_owned(),
        ];
        let fields = order.map(|place: usize| fields[place].clone()).join(&format!("{space},{space}"));
        let (data, event_type) = (format!(r#""data":{{{space}{fields}}}"#), r#""event_type":"BookingCreated""#.to_owned());
        let (first, second) = if data_first { (data, event_type) } else { (event_type, data) };
        let value = format!("{space}{{{first}{space},{second}}}{space}");
        prop_assert_eq!(parse(value.as_bytes()), Ok(Parsed::Event(booking)), "{}", value);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(parse(&bytes), parse(&bytes));
    }

    #[test]
    fn a_changed_message_never_panics_and_its_content_is_never_in_a_refusal(
        place in 0..MESSAGE.len(),
        removed in 0_usize..40,
        added in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut bytes = MESSAGE.as_bytes().to_vec();
        bytes.splice(place..(place + removed).min(MESSAGE.len()), added);
        if let Err(refusal) = parse(&bytes) {
            for content in ["test-user", "test-hotel", "TESTCODE", "2026", "90.0"] {
                prop_assert!(!refusal.detail.contains(content), "{}", refusal.detail);
            }
        }
    }
}
