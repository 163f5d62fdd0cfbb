//! Records of every kind, and their expected outcomes.

use std::collections::BTreeMap;

use crate::audit::{Expected, Totals};
use crate::topic::Outgoing;

/// The message that the old service's README shows.
pub const SEED: &str = r#"{"event_type":"BookingCreated","data":{"id":"13","user_id":"test-user-2","hotel_id":"test-hotel-1","price":90.0,"promo_code":"TESTCODE1","discount_percent":10.0,"created_at":"2026-02-15T14:37:34.859067+00:00"}}"#;

/// A valid event.
pub fn booking(id: &str, price: &str) -> String {
    format!(
        r#"{{"event_type":"BookingCreated","data":{{"id":"{id}","user_id":"user-{id}","hotel_id":"hotel-1","price":{price},"promo_code":null,"discount_percent":2.5,"created_at":"2026-02-15T14:37:34Z"}}}}"#
    )
}

/// Records in the order in which a test produces them, and the expected content of the tables after they are read.
#[derive(Default)]
pub struct Workload {
    pub records: Vec<Outgoing>,
    pub expected: Expected,
}

impl Workload {
    /// Only new bookings, in equal numbers for each partition.
    pub fn bookings(prefix: &str, count: usize, partitions: i32) -> Self {
        let mut workload = Self::default();
        (0..count).for_each(|index| workload.add_booking(&format!("{prefix}-{index}"), at(index, partitions)));
        workload
    }

    /// Of each twenty records: fourteen new bookings, two repeated ones, one repeated with another price, one event of
    /// another type, and two that can't be bookings. A repeated record goes to the partition of the first one.
    pub fn mixed(prefix: &str, count: usize, partitions: i32) -> Self {
        const POISON: [Option<&str>; 6] = [
            None,
            Some("not json"),
            Some("[1,2]"),
            Some(r#"{"event_type":"BookingCreated","data":{"id":"x"}}"#),
            Some(
                r#"{"event_type":"BookingCreated","data":{"id":"\u0000","user_id":"u","hotel_id":"h","price":1,"discount_percent":0,"created_at":"2026-02-15T14:37:34Z"}}"#,
            ),
            Some(
                r#"{"event_type":"BookingCreated","data":{"id":"x","user_id":"u","hotel_id":"h","price":-1,"discount_percent":0,"created_at":"2026-02-15T14:37:34Z"}}"#,
            ),
        ];
        let mut workload = Self::default();
        let mut last: BTreeMap<i32, String> = BTreeMap::new();
        for index in 0..count {
            let partition = at(index / 20, partitions);
            let id = format!("{prefix}-{index}");
            match (index % 20, last.get(&partition)) {
                (14 | 15, Some(known)) => {
                    workload.add(partition, Some(booking(known, "90.0")), |totals| &mut totals.duplicates);
                }
                (16, Some(known)) => {
                    workload.add(partition, Some(booking(known, "91.0")), |totals| &mut totals.dead_lettered);
                }
                (17, _) => {
                    let other = r#"{"event_type":"BookingCancelled","data":{"id":"13"}}"#;
                    workload.add(partition, Some(other.to_owned()), |totals| &mut totals.ignored);
                }
                (18 | 19, _) => {
                    let poison = POISON.iter().cycle().nth(index / 7).copied().flatten().map(str::to_owned);
                    workload.add(partition, poison, |totals| &mut totals.dead_lettered);
                }
                _ => {
                    workload.add_booking(&id, partition);
                    last.insert(partition, id);
                }
            }
        }
        workload
    }

    pub fn add_booking(&mut self, id: &str, partition: i32) {
        self.expected.booking_ids.insert(id.to_owned());
        self.add(partition, Some(booking(id, "90.0")), |totals| &mut totals.stored);
    }

    /// A record, and the count to which it belongs.
    pub fn add(&mut self, partition: i32, value: Option<String>, count: impl Fn(&mut Totals) -> &mut i64) {
        let value = value.map(String::into_bytes);
        let key = Some(format!("key-{}", self.records.len()).into_bytes());
        self.records.push(Outgoing { partition: Some(partition), key, value, ..Outgoing::default() });
        *count(self.expected.totals.entry(partition).or_default()) += 1;
    }
}

fn at(index: usize, partitions: i32) -> i32 {
    i32::try_from(index).unwrap() % partitions
}
