//! The librdkafka properties that the guarantee needs. Every client that reads records has them.
//!
//! There are two exceptions. The client that asks for the last ends of partition logs reads uncommitted records, too,
//! so that the ends include open transactions. A probe also receives an event at the end of a partition log. Neither
//! client passes a record on.

use std::collections::BTreeMap;

/// The guaranteed properties: name, value, and the effect of any other value.
pub const GUARANTEED: [(&str, &str, &str); 8] = [
    ("enable.auto.commit", "false", "Kafka would receive positions that the database has not committed"),
    ("auto.commit.enable", "false", "Kafka would receive positions that the database has not committed"),
    ("enable.auto.offset.store", "false", "Kafka would receive positions that the database has not committed"),
    ("auto.offset.reset", "error", "deleted records would be skipped without a message; see KAFKA_START"),
    ("isolation.level", "read_committed", "records of aborted transactions would become rows"),
    ("partition.assignment.strategy", "cooperative-sticky", "partitions would start before their position is known"),
    ("check.crcs", "true", "a corrupt record would become a row"),
    ("enable.partition.eof", "false", "the end of a partition would be an error"),
];

/// Sets the guaranteed properties, and replaces other values. With the group protocol of KIP-848 it sets no assignor:
/// the broker chooses it, and librdkafka refuses the property.
pub fn enforce(properties: &mut BTreeMap<String, String>) {
    let kip_848 = has_newer_group_protocol(properties);
    for (name, value, _) in GUARANTEED {
        // `auto.commit.enable` is an older name of `enable.auto.commit`, which is set.
        if name == "auto.commit.enable" || kip_848 && name == "partition.assignment.strategy" {
            properties.remove(name);
        } else {
            properties.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// Whether the properties ask for the group protocol of KIP-848.
pub(crate) fn has_newer_group_protocol(properties: &BTreeMap<String, String>) -> bool {
    properties.get("group.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[(&str, &str)], expected: &[(&str, Option<&str>)]) {
        let mut properties = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        enforce(&mut properties);
        for (name, value) in expected {
            assert_eq!(properties.get(*name).map(String::as_str), *value, "{name} of {given:?}");
        }
    }

    #[test]
    fn the_guaranteed_properties_replace_other_values() {
        check(
            &[("enable.auto.commit", "true"), ("auto.offset.reset", "latest"), ("session.timeout.ms", "6000")],
            &[
                ("enable.auto.commit", Some("false")),
                ("auto.offset.reset", Some("error")),
                ("isolation.level", Some("read_committed")),
                ("partition.assignment.strategy", Some("cooperative-sticky")),
                ("session.timeout.ms", Some("6000")),
            ],
        );
        check(
            &[("group.protocol", "consumer")],
            &[("partition.assignment.strategy", None), ("check.crcs", Some("true"))],
        );
    }
}
