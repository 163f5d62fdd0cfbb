//! What Kafka hands over, and the numbers that must never be mixed up.
//!
//! An [`Offset`] names one record. A [`Position`] is where reading goes on, so the position after the record at
//! offset 7 is 8 (the "committed offset" of the Kafka protocol is a position). A [`Step`] is what one transaction
//! moves a partition by: all records in `[from, to)`.

use sha2::{Digest as _, Sha256};
use std::fmt;

/// Number of a partition of the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub i32);

/// Names one record of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

/// Where a partition is read from next: everything below it is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub i64);

/// Counts the claims of a partition; whoever holds the highest one owns the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i64);

impl Offset {
    /// The position to read next once this record is handled.
    #[must_use]
    pub fn next(self) -> Position {
        Position(self.0.saturating_add(1))
    }
}

/// Names a topic for as long as it lives, in the form that Kafka's tools print (KIP-516): one that is deleted and made
/// again under the same name has another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicId(pub String);

/// All records in `[from, to)`, which is never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    from: Position,
    to: Position,
}

impl Step {
    /// `None` unless `from < to`: a step always moves, and only forwards.
    #[must_use]
    pub fn new(from: Position, to: Position) -> Option<Self> {
        (from < to).then_some(Self { from, to })
    }

    /// The position that the ledger must still hold when the step is committed.
    #[must_use]
    pub fn from(self) -> Position {
        self.from
    }

    /// The position that the ledger holds afterwards.
    #[must_use]
    pub fn to(self) -> Position {
        self.to
    }
}

/// What kind of clock set a record's timestamp (Kafka's `message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// A record of the oldest formats carries none.
    None,
    /// Set by the producer.
    CreateTime,
    /// Set by the broker.
    LogAppendTime,
}

/// A record's timestamp as it came: any `i64` of milliseconds, sensible or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Milliseconds since 1970 by the clock of `kind`; -1 when there is none.
    pub millis: i64,
    /// Who set it.
    pub kind: TimestampType,
}

/// One header as it came: names may repeat and may be any bytes, a value may be null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes up to the first NUL, as librdkafka hands them out.
    pub name: Vec<u8>,
    /// `None` is Kafka's null value, which is not the empty one.
    pub value: Option<Vec<u8>>,
}

/// One record, whole, detached from the consumer that read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The partition that it was read from.
    pub partition: Partition,
    /// Its place there.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// `None` is a record without a key.
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// In order, with duplicates.
    pub headers: Vec<Header>,
}

impl Record {
    /// What the record occupies in the buffer, near enough to bound memory by.
    #[must_use]
    pub fn size(&self) -> usize {
        let bytes = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
        let headers: usize =
            self.headers.iter().map(|header| size_of::<Header>() + header.name.len() + bytes(&header.value)).sum();
        size_of::<Self>() + bytes(&self.key) + bytes(&self.value) + headers
    }

    /// Tells this record from any other that may once be found at its offset.
    ///
    /// SHA-256 over timestamp, key and value; each part is preceded by its length, null by -1, so that no two
    /// different records share an input.
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

/// See [`Record::digest`].
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
displays_as_its_number!(Partition, Offset, Position, Epoch);
