//! The properties of librdkafka: the defaults of this program, those of the user, and those that the user must not
//! change.
//!
//! A property that would break the guarantee or have no effect is refused by name. All others pass through unchecked:
//! librdkafka refuses an unknown one when the client is created.

use std::{collections::BTreeMap, fmt, io, path::Path};

use fenced_sink::admin::{GUARANTEED, enforce};

use super::{
    Settings,
    faults::{ConfigFault, ConfigFaults},
    raw::RawSettings,
};

/// Properties that the user must not set, although they have no fixed value. Each client of the engine sets the level of
/// librdkafka's messages itself.
const REFUSED: [(&str, &str); 9] = [
    ("bootstrap.servers", "it is KAFKA_BOOTSTRAP_SERVERS"),
    ("metadata.broker.list", "it is KAFKA_BOOTSTRAP_SERVERS"),
    ("group.id", "it is KAFKA_GROUP_ID"),
    ("topic.blacklist", "it could hide the topic"),
    ("plugin.library.paths", "a plug-in could commit, change or drop records"),
    ("enabled_events", "rebalances and errors would not reach the service"),
    ("test.mock.num.brokers", "records would come from a mock broker"),
    ("log_level", "it would have no effect: use LOG_LEVEL"),
    ("debug", "it would have no effect: LOG_LEVEL=DEBUG logs the messages of librdkafka, without its debug messages"),
];

/// Defaults that the user may change.
///
/// librdkafka has a queue of records for each partition that is read, in addition to our buffer. It fetches for a partition
/// while its queue has less than `queued.max.messages.kbytes` and `queued.min.messages`. By default a queue holds 64 MiB, and
/// one fetch adds up to 1 MiB, or several times that if the records are compressed. A small record needs three times its
/// size there. Our smaller sizes are enough, because `fetch.queue.backoff.ms` makes librdkafka check a full queue again after
/// 10 ms, not after one second. A fetch of partitions without new records takes `fetch.wait.max.ms`, and a partition whose
/// queue was full when this fetch began waits until it ends. So this time is short, too. librdkafka ends a connection whose
/// response takes longer than 60 s: with a small `fetch.max.bytes`, a connection of 35 kB/s still works.
///
/// A session of 10 s is the time after which another instance takes over from a killed one. It notices this with its next
/// heartbeat. The wait between two attempts to connect must be much shorter than a session.
const TUNED: [(&str, &str); 11] = [
    ("client.id", "booking-history"),
    ("fetch.wait.max.ms", "30"),
    ("queued.max.messages.kbytes", "512"),
    ("queued.min.messages", "5000"),
    ("fetch.message.max.bytes", "131072"),
    ("fetch.max.bytes", "2097152"),
    ("fetch.queue.backoff.ms", "10"),
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "1000"),
    ("reconnect.backoff.max.ms", "1000"),
    ("topic.metadata.refresh.interval.ms", "10000"),
];

/// The properties that the broker sets under the group protocol of KIP-848. librdkafka refuses a client that sets one
/// of them.
const CLASSIC_ONLY: [&str; 4] =
    ["partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms", "group.protocol.type"];

/// Properties whose value is the path of a file. librdkafka's error does not name a file that is missing.
const FILES: [&str; 6] = [
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.keystore.location",
    "ssl.crl.location",
    "https.ca.location",
];

/// A property whose name contains one of these has a secret value.
const SECRET: [&str; 7] = ["password", "passphrase", "secret", "pem", "token", "oauthbearer.config", "sasl.jaas"];

/// Names and values. `Debug` hides secret values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// The value of a property, if it is set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// An error text of librdkafka, which can contain a value, without the secret ones.
    #[must_use]
    pub fn without_secrets(&self, text: &str) -> String {
        let secrets = self.0.iter().filter(|(name, value)| !value.is_empty() && is_hidden(name, value));
        secrets.fold(text.to_owned(), |text, (_, value)| text.replace(value, HIDDEN))
    }
}

impl IntoIterator for Properties {
    type Item = (String, String);
    type IntoIter = std::collections::btree_map::IntoIter<String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, value)| shown(name, value))).finish()
    }
}

/// All properties of the consumer.
#[must_use]
pub fn consumer_properties(settings: &Settings) -> Properties {
    let mut all: BTreeMap<String, String> = TUNED.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    if settings.kafka_properties.get("message.max.bytes").is_some() {
        // librdkafka refuses a `fetch.max.bytes` below it. Without ours, librdkafka takes the largest of this, of
        // `queued.max.messages.kbytes` and of its own default.
        all.remove("fetch.max.bytes");
    }
    if settings.kafka_properties.get("max.partition.fetch.bytes").is_some() {
        // Another name of it. If both are set, the last one wins, and rust-rdkafka sets them in any order.
        all.remove("fetch.message.max.bytes");
    }
    if settings.kafka_properties.get("reconnect.backoff.ms").is_some() {
        // librdkafka refuses a maximum below it.
        all.remove("reconnect.backoff.max.ms");
    }
    let mut put = |name: &str, value: &str| all.insert(name.to_owned(), value.to_owned());
    for (name, value) in &settings.kafka_properties.0 {
        put(name, value);
    }
    put("bootstrap.servers", &settings.kafka_bootstrap_servers);
    put("group.id", &settings.kafka_group_id);
    enforce(&mut all);
    if asks_for_kip_848(&settings.kafka_properties.0) {
        all.retain(|name, _| !CLASSIC_ONLY.contains(&name.as_str()));
    }
    Properties(all)
}

fn asks_for_kip_848(given: &BTreeMap<String, String>) -> bool {
    given.get("group.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer"))
}

/// The properties of `KAFKA_PROPERTIES` and of the file that `KAFKA_PROPERTIES_FILE` names.
pub(super) fn choose(
    faults: &mut ConfigFaults,
    raw: &RawSettings,
    read_file: &impl Fn(&Path) -> io::Result<String>,
) -> Option<Properties> {
    let mut wrong = Vec::new();
    let mut all = BTreeMap::new();

    let inline = raw.kafka_properties.clone().unwrap_or_default();
    let file = match raw.kafka_properties_file.as_deref().filter(|file| !file.is_empty()) {
        None => String::new(),
        Some(file) => read_file(Path::new(file)).unwrap_or_else(|error| {
            let accepted = format!("a file that can be read: {error}");
            wrong.push(ConfigFault { setting: "KAFKA_PROPERTIES_FILE", given: Some(file.to_owned()), accepted });
            String::new()
        }),
    };
    // A comma separates nothing in a file: a password there can have any character.
    for (setting, entries) in [("KAFKA_PROPERTIES", entries(&inline)), ("KAFKA_PROPERTIES_FILE", lines(&file))] {
        let is_only = entries.len() == 1;
        for (number, entry) in entries.into_iter().enumerate() {
            let mut fault = |given, accepted| wrong.push(ConfigFault { setting, given, accepted });
            // The entry is not shown, because it may be a line of a private key.
            let Some((name, value)) = entry.split_once('=').map(|(name, value)| (name.trim(), value.trim())) else {
                fault(None, format!("key=value; entry {} has no =", number + 1));
                continue;
            };
            if setting == "KAFKA_PROPERTIES_FILE" && is_only && has_another_property(value) {
                fault(None, format!("one property in each line; entry {} has several", number + 1));
            } else if let Some(accepted) = refusal(name, value) {
                fault(Some(shown(name, value)), accepted);
            } else if all.insert(name.to_owned(), value.to_owned()).is_some() {
                fault(Some(shown(name, value)), format!("each property once; {name} is given twice"));
            }
        }
    }
    if asks_for_kip_848(&all) {
        for (name, value) in CLASSIC_ONLY.into_iter().filter_map(|name| all.get_key_value(name)) {
            let accepted = format!("no {name} together with group.protocol=consumer: the broker sets it");
            wrong.push(ConfigFault { setting: "KAFKA_PROPERTIES", given: Some(shown(name, value)), accepted });
        }
    }

    for (name, file) in FILES.into_iter().filter_map(|name| all.get_key_value(name)) {
        // Other errors are normal: a directory, or a file that is no text. `probe` is a word of librdkafka.
        let is_missing =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
        if let Some(error) = read_file(Path::new(file)).err().filter(is_missing)
            && file != "probe"
        {
            let (given, accepted) = (Some(shown(name, file)), format!("a file that can be read: {error}"));
            wrong.push(ConfigFault { setting: "KAFKA_PROPERTIES", given, accepted });
        }
    }

    let none_wrong = wrong.is_empty();
    for fault in wrong {
        faults.add(fault);
    }
    none_wrong.then_some(Properties(all))
}

/// One entry per line, or one line of entries separated by commas. In one line, a comma separates only if a name and `=`
/// follow it: in `client.id=a,b` it belongs to the value. In several lines, a comma always belongs to the value.
fn entries(text: &str) -> Vec<&str> {
    let lines = lines(text);
    let [line] = lines.as_slice() else { return lines };

    let mut entries = Vec::new();
    let mut rest = *line;
    while let Some((entry, after)) = split_before_next_name(rest) {
        entries.push(entry);
        rest = after;
    }
    entries.push(rest);
    entries.retain(|entry| !entry.trim().is_empty());
    entries
}

/// The lines that are no comment.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

fn split_before_next_name(line: &str) -> Option<(&str, &str)> {
    let starts_with_name = |rest: &str| {
        let name = rest.split_once('=').map_or("", |(name, _)| name.trim());
        !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c))
    };
    let trailing = |rest: &str| rest.trim().is_empty();
    line.match_indices(',')
        .filter_map(|(at, _)| Some((line.get(..at)?, line.get(at + 1..)?)))
        .find(|(_, rest)| starts_with_name(rest) || trailing(rest))
}

/// Whether a value continues with a comma and another property, as in the one-line form of `KAFKA_PROPERTIES`.
fn has_another_property(value: &str) -> bool {
    split_before_next_name(value).and_then(|(_, rest)| rest.split_once('=')).is_some_and(|(name, _)| name.contains('.'))
}

/// What is accepted instead of a property that is refused, and why. A property with its fixed value is accepted.
fn refusal(name: &str, value: &str) -> Option<String> {
    // librdkafka reads `topic.auto.offset.reset` as `auto.offset.reset`.
    let is = |other: &str| name == other || name.strip_prefix("topic.") == Some(other);
    let fixed = GUARANTEED.iter().find(|(name, ..)| is(name));
    let refused = REFUSED.iter().find(|(name, _)| is(name));
    match (fixed, refused) {
        (Some((_, ours, why)), _) => {
            (!value.eq_ignore_ascii_case(ours)).then(|| format!("{name}={ours} only, because with another value {why}"))
        }
        (None, Some((_, why))) => Some(format!("no {name}, because {why}")),
        (None, None) => None,
    }
}

/// Stands for a secret value.
const HIDDEN: &str = "(hidden)";

fn shown(name: &str, value: &str) -> String {
    format!("{name}={}", if is_hidden(name, value) { HIDDEN } else { value })
}

/// Also a value that names a secret property: a wrong separator can have put a second property into it.
fn is_hidden(name: &str, value: &str) -> bool {
    is_secret(name) || value.contains('=') && is_secret(value)
}

fn is_secret(name: &str) -> bool {
    SECRET.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests;
