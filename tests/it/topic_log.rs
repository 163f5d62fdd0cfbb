//! The topic log can change under the service: records are gone, cut off, replaced or damaged. Then the partition is
//! halted and a gap is recorded. What only looks like such a change halts nothing.

mod gaps;
mod replaced;
mod unclean;
mod damaged;
mod too_large;
mod false_alarms;
mod slow;
mod unreachable;
mod mock;

use testbed::service::Service;

/// Waits for the line of a halted partition, with the bounds of its gap.
fn wait_for_halt(service: &Service, partition: i32, reason: &str, from: i64, to: i64) {
    let [partition, from, to] = [i64::from(partition), from, to].map(|number| number.to_string());
    let fields = [("partition", partition.as_str()), ("reason", reason), ("from", &from), ("to", &to)];
    service.wait_for_event_with("partition_halted", &fields);
}
