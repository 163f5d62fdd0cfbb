//! A record of Kafka, and one type for each kind of number. Pure.
//!
//! An [`Offset`] identifies one record. A [`Position`] is the offset of the next record to read: behind the record at
//! offset 7 it is 8. The "committed offset" of the Kafka protocol is a position. A [`Step`] is the range `[from, to)`
//! by which one transaction moves a partition.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Number of a partition of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub i32);

/// Identifies one record of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

/// The offset of the next record to read. All records below it are handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub i64);

/// The number of claims of a partition. Only the process with the highest epoch can move the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i64);

/// The number of leaders that a partition had. The leader writes it into each record (KIP-101).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderEpoch(pub i32);

impl Offset {
    /// The position behind this record.
    #[must_use]
    pub fn next(self) -> Position {
        Position(self.0.saturating_add(1))
    }
}

/// Identifies a topic, in the form that Kafka's tools print (KIP-516). A topic that is deleted and created again with
/// the same name has another id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicId(pub String);

/// The range `[from, to)`. It is never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    from: Position,
    to: Position,
}

impl Step {
    /// `None` unless `from < to`: a step always moves forwards.
    #[must_use]
    pub fn new(from: Position, to: Position) -> Option<Self> {
        (from < to).then_some(Self { from, to })
    }

    /// The position that the row must have when the step is committed.
    #[must_use]
    pub fn from(self) -> Position {
        self.from
    }

    /// The position of the row after the commit.
    #[must_use]
    pub fn to(self) -> Position {
        self.to
    }
}

/// Which clock set the timestamp of a record (Kafka's `message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The record has no timestamp, as in the oldest record formats.
    None,
    /// The clock of the producer.
    CreateTime,
    /// The clock of the broker.
    LogAppendTime,
}

/// The timestamp of a record, unchanged. Any `i64` is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Milliseconds since 1970. -1 if the record has no timestamp.
    pub millis: i64,
    /// The clock that set it.
    pub kind: TimestampType,
}

/// One header of a record, unchanged. Names can repeat, and a name can be any bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The bytes of the name. librdkafka delivers a name only up to its first NUL.
    pub name: Bytes,
    /// `None` is null, which differs from an empty value.
    pub value: Option<Bytes>,
}

/// A copy of one record with all that Kafka delivers of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The partition of the record.
    pub partition: Partition,
    /// The offset of the record in its partition.
    pub offset: Offset,
    /// The timestamp.
    pub timestamp: Timestamp,
    /// `None` is a record without a key.
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers in their order, duplicates included.
    pub headers: Vec<Header>,
    /// The epoch of the leader that wrote the record. `None`: the broker does not send it. It is not part of the
    /// digest.
    pub leader_epoch: Option<LeaderEpoch>,
}

impl Record {
    /// The approximate memory that the record occupies, in bytes. The limit of the buffer uses it.
    #[must_use]
    pub fn size(&self) -> usize {
        let bytes = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let headers: usize =
            self.headers.iter().map(|header| size_of::<Header>() + header.name.len() + bytes(&header.value)).sum();
        size_of::<Self>() + bytes(&self.key) + bytes(&self.value) + headers
    }

    /// Identifies the content of the record. Another record at the same offset has another digest.
    ///
    /// It is the SHA-256 of timestamp, key and value. The length precedes each part, and the length of null is -1, so
    /// two different records never have the same input.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        hash.update(self.timestamp.millis.to_be_bytes());
        for part in [&self.key, &self.value] {
            let length = part.as_ref().map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX));
            hash.update(length.to_be_bytes());
            hash.update(part.as_deref().unwrap_or_default());
        }
        Digest(hash.finalize().into())
    }
}

/// The SHA-256 of a record. See [`Record::digest`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

macro_rules! displays_as_its_number {
    ($($name:ident),+) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}
displays_as_its_number!(Partition, Offset, Position, Epoch, LeaderEpoch);
