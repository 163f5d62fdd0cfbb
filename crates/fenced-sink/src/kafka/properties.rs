//! The properties of Kafka's client that the guarantee rests on. They are set here, whoever makes the options.

use std::collections::BTreeMap;

/// What the guarantee rests on: name, value, and what another value would do.
pub const GUARANTEED: [(&str, &str, &str); 8] = [
    ("enable.auto.commit", "false", "Kafka would be told before the database has the records"),
    ("auto.commit.enable", "false", "Kafka would be told before the database has the records"),
    ("enable.auto.offset.store", "false", "Kafka would be told before the database has the records"),
    ("auto.offset.reset", "error", "records that are gone would be passed over without a word; see KAFKA_START"),
    ("isolation.level", "read_committed", "records of aborted transactions would become rows"),
    ("partition.assignment.strategy", "cooperative-sticky", "partitions would start before their position is known"),
    ("check.crcs", "true", "a corrupt record would become a row"),
    ("enable.partition.eof", "false", "the end of a partition would be taken for an error"),
];

/// Sets them, whatever was there. Under the group protocol of KIP-848 the broker chooses the assignor, and the client
/// takes none.
pub fn enforce(properties: &mut BTreeMap<String, String>) {
    let kip_848 = properties.get("group.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer"));
    for (name, value, _) in GUARANTEED {
        // `auto.commit.enable` is another name of `enable.auto.commit`, which the consumer reads.
        if name == "auto.commit.enable" || kip_848 && name == "partition.assignment.strategy" {
            properties.remove(name);
        } else {
            properties.insert(name.to_owned(), value.to_owned());
        }
    }
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
    fn nobody_can_do_without_the_guarantee() {
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
