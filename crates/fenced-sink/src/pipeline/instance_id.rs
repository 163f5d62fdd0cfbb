//! The static membership of this process in the consumer group (KIP-345).
//!
//! When a static member returns, Kafka gives it its former partitions at once. A process that was killed and is started
//! again has the same id again, so it does not wait for the end of its former session. The fence makes this safe.
//!
//! The id has the host name, a part of the boot id, a digest and a number.
//!
//! - The digest is of the group, the topic and its number of partitions. Kafka compares neither topic nor partitions of a
//!   member that returns: with the same id, a process would get the partitions of another topic, or only the partitions that
//!   the topic had before it grew.
//! - The process reserves the number on its host: the first process with the same digest has 1. The number is free again when
//!   the process ends in any way.
//!
//! Two processes can still have the same id, for example in two containers of one host with the same host name. Then Kafka
//! fences the older member, and its process joins again without an id.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;

use sha2::{Digest as _, Sha256};

use crate::kafka::properties::has_newer_group_protocol;
use crate::model::record::Digest;
use crate::postgres::ledger::host::host_name;

/// The property of librdkafka that has the id.
pub(super) const PROPERTY: &str = "group.instance.id";
/// The largest number. If one host has more processes of a group, the others have no id.
const MOST: u32 = 100;
/// The maximum length of the host name in an id. Kafka permits 249 characters for the id.
const HOST_LENGTH: usize = 200;

/// An id that this process has chosen. No other process of this host chooses it while this value exists.
#[derive(Debug)]
pub(super) struct InstanceId {
    name: String,
    /// The kernel ends the reservation when the process ends, also after `kill -9`. It is valid in one network namespace.
    /// By default each container has its own.
    _reserved: UnixDatagram,
}

impl InstanceId {
    /// Chooses the id for these properties and puts it into them. An empty id in the properties is removed. `partitions` asks
    /// Kafka for the number of partitions.
    ///
    /// `None`: the properties have an id, or an empty one, or the group protocol of KIP-848, or Kafka does not answer, or no id
    /// is possible or free. With KIP-848, Kafka refuses the id of a killed process until the session of that process ends.
    pub(super) fn choose(
        properties: &mut BTreeMap<String, String>,
        topic: &str,
        partitions: impl FnOnce() -> Option<usize>,
    ) -> Option<Self> {
        if properties.get(PROPERTY).is_some_and(String::is_empty) {
            properties.remove(PROPERTY);
            return None;
        }
        if properties.contains_key(PROPERTY) || has_newer_group_protocol(properties) {
            return None;
        }
        let (host, boot) = (host_name(), boot_id());
        let digest = digest(properties.get("group.id").map_or("", String::as_str), topic, partitions()?);
        let chosen = (1..=MOST).find_map(|number| {
            let name = name(&host, &boot, &digest, number)?;
            let reserved = format!("fenced-sink-{digest}-{number}");
            Some(Self { name, _reserved: reserve(reserved.as_bytes())? })
        })?;
        properties.insert(PROPERTY.to_owned(), chosen.name.clone());
        Some(chosen)
    }
}

#[cfg(target_os = "linux")]
fn reserve(name: &[u8]) -> Option<UnixDatagram> {
    use std::os::linux::net::SocketAddrExt as _;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).ok()?;
    UnixDatagram::bind_addr(&address).ok()
}

/// Only Linux has abstract names. On other systems the process is a dynamic member.
#[cfg(not(target_os = "linux"))]
fn reserve(_name: &[u8]) -> Option<UnixDatagram> {
    None
}

/// The id of a process, in characters that Kafka permits. `None`: the host has no name or no boot id.
fn name(host: &str, boot: &str, digest: &str, number: u32) -> Option<String> {
    let permitted = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let host: String = host.chars().take(HOST_LENGTH).map(permitted).collect();
    let boot: String = boot.chars().take(8).map(permitted).collect();
    (!host.is_empty() && !boot.is_empty()).then(|| format!("{host}-{boot}-{digest:.8}-{number}"))
}

/// The same for all processes of a group and topic, also if they name the brokers in different ways.
fn digest(group: &str, topic: &str, partitions: usize) -> String {
    format!("{:?}", Digest(Sha256::digest(format!("{group}\0{topic}\0{partitions}")).into()))
}

/// A random id that Linux chooses at each boot. Two hosts with the same name have different ones. Empty if it cannot be
/// read.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn an_id_has_only_characters_that_kafka_permits() {
        let name = |host: &str, boot: &str, number| name(host, boot, "0123456789abcdef", number);
        assert_eq!(name("db-1.local", "0a1b2c3d-4e5f", 1).as_deref(), Some("db-1.local-0a1b2c3d-01234567-1"));
        assert_eq!(name("büro 1", "0a1b2c3d", 12).as_deref(), Some("b-ro-1-0a1b2c3d-01234567-12"));
        assert!(name(&"x".repeat(300), "0a1b2c3d", MOST).is_some_and(|name| name.len() <= 249));
        assert_eq!(name("", "0a1b2c3d", 1), None);
        assert_eq!(name("host", "", 1), None);
    }

    #[test]
    fn each_process_of_a_group_on_one_host_has_a_different_id_and_the_next_process_has_the_lowest_free_one() {
        let group = format!("group-{}", std::process::id());
        let choose = |brokers, topic, partitions| {
            let mut properties = properties(&[("bootstrap.servers", brokers), ("group.id", &group)]);
            let chosen = InstanceId::choose(&mut properties, topic, || partitions);
            assert_eq!(properties.get(PROPERTY), chosen.as_ref().map(|chosen| &chosen.name));
            chosen.map(|chosen| (chosen.name.clone(), chosen))
        };
        let (Some(first), Some(second)) = (choose("b:1,c:1", "one", Some(2)), choose("c:1,b:1", "one", Some(2))) else {
            panic!("this host has a name and a boot id")
        };
        assert!(first.0.ends_with("-1") && second.0.ends_with("-2"), "{first:?} {second:?}");
        for (topic, partitions) in [("other", 2), ("one", 3)] {
            let other = choose("b:1,c:1", topic, Some(partitions)).map(|(name, _)| name).unwrap_or_default();
            assert!(other.ends_with("-1") && other != first.0, "{other}");
        }
        assert!(choose("b:1,c:1", "one", None).is_none(), "Kafka does not answer");
        let id = first.0.clone();
        drop(first);
        assert_eq!(choose("b:1,c:1", "one", Some(2)).map(|(name, _)| name), Some(id));
    }

    #[test]
    fn an_id_of_the_user_stays_and_an_empty_one_means_none() {
        let mut given = properties(&[("group.id", "of-the-user"), (PROPERTY, "mine")]);
        assert!(InstanceId::choose(&mut given, "topic", || Some(1)).is_none());
        assert_eq!(given.get(PROPERTY).map(String::as_str), Some("mine"));
        let mut given = properties(&[("group.id", "of-the-user"), (PROPERTY, "")]);
        assert!(InstanceId::choose(&mut given, "topic", || Some(1)).is_none());
        assert_eq!(given.get(PROPERTY), None);
        let mut given = properties(&[("group.id", "of-the-user"), ("group.protocol", "Consumer")]);
        assert!(InstanceId::choose(&mut given, "topic", || Some(1)).is_none());
        assert_eq!(given.get(PROPERTY), None);
    }
}
