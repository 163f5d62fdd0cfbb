//! The records of the demo, and their expected outcomes. Pure: the same number of bookings gives the same records.

use std::collections::BTreeMap;

/// One record to produce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) key: String,
    pub(super) value: Option<Vec<u8>>,
}

/// The number of records with each outcome, with the names of the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DemoTotals {
    pub(super) stored: i64,
    pub(super) duplicates: i64,
    pub(super) ignored: i64,
    /// By reason.
    pub(super) dead_lettered: BTreeMap<String, i64>,
}

impl DemoTotals {
    pub(super) fn sum(&self) -> i64 {
        self.stored + self.duplicates + self.ignored + self.dead_lettered.values().sum::<i64>()
    }
}

/// The records in the order in which they are produced.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) records: Vec<Planned>,
    pub(super) expected: DemoTotals,
}

/// Invalid records: the reason of the dead letter, and a value that has this fault.
const POISON: [(&str, Option<&str>); 6] = [
    ("not_json", Some(r#"{"event_type":"BookingCreated","data":{"id":"#)),
    ("tombstone", None),
    ("missing_field", Some(r#"{"event_type":"BookingCreated","data":{"id":"poison"}}"#)),
    (
        "wrong_type",
        Some(
            r#"{"event_type":"BookingCreated","data":{"id":"poison","user_id":"u","hotel_id":"h","price":"90","discount_percent":0,"created_at":"2026-02-15T14:37:34Z"}}"#,
        ),
    ),
    (
        "invalid_value",
        Some(
            r#"{"event_type":"BookingCreated","data":{"id":"poison","user_id":"u","hotel_id":"h","price":90,"discount_percent":120,"created_at":"2026-02-15T14:37:34Z"}}"#,
        ),
    ),
    (
        "nul_character",
        Some(
            r#"{"event_type":"BookingCreated","data":{"id":"poison\u0000","user_id":"u","hotel_id":"h","price":90,"discount_percent":0,"created_at":"2026-02-15T14:37:34Z"}}"#,
        ),
    ),
];

impl Plan {
    pub(super) fn new(bookings: usize) -> Self {
        let mut plan = Self::default();
        let mut poison = POISON.iter().cycle();
        for number in 0..bookings {
            plan.produce(number, Some(booking(number, 90)));
            plan.expected.stored += 1;
            if number % 10 == 0 {
                plan.produce(number, Some(booking(number, 90)));
                plan.expected.duplicates += 1;
            }
            if number % 20 == 7 {
                let foreign = format!(r#"{{"event_type":"BookingCancelled","data":{{"id":"demo-{number}"}}}}"#);
                plan.produce(number, Some(foreign));
                plan.expected.ignored += 1;
            }
            if number % 100 == 33 {
                // The same booking at another price.
                plan.produce(number, Some(booking(number, 91)));
                plan.refuse("conflicting_duplicate");
            }
            if number % 50 == 49
                && let Some((reason, value)) = poison.next()
            {
                plan.produce(number, value.map(str::to_owned));
                plan.refuse(reason);
            }
        }
        plan
    }

    fn produce(&mut self, number: usize, value: Option<String>) {
        self.records.push(Planned { key: format!("user-{}", number % 97), value: value.map(String::into_bytes) });
    }

    fn refuse(&mut self, reason: &str) {
        *self.expected.dead_lettered.entry(reason.to_owned()).or_default() += 1;
    }
}

fn booking(number: usize, price: u32) -> String {
    let (user, hotel, minute) = (number % 97, number % 13, number % 60);
    let promo_code = if number.is_multiple_of(3) { r#""DEMO""# } else { "null" };
    format!(
        r#"{{"event_type":"BookingCreated","data":{{"id":"demo-{number}","user_id":"user-{user}","hotel_id":"hotel-{hotel}","price":{price}.50,"promo_code":{promo_code},"discount_percent":10.0,"created_at":"2026-02-15T14:{minute:02}:34.859067+00:00"}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_has_one_outcome() {
        for bookings in [0, 1, 50, 4000] {
            let plan = Plan::new(bookings);
            assert_eq!(plan.expected.sum(), i64::try_from(plan.records.len()).unwrap(), "{bookings} bookings");
        }
    }

    #[test]
    fn the_default_plan_has_every_kind_of_outcome() {
        let expected = Plan::new(4000).expected;
        assert!(expected.duplicates > 0 && expected.ignored > 0);
        assert_eq!(expected.dead_lettered.len(), POISON.len() + 1);
    }
}
