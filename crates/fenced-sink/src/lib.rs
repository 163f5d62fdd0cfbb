//! A fenced, exactly-once sink from Kafka into `PostgreSQL`, for events of any kind.
//!
//! Rows, positions, dead letters and gaps are written in one transaction, and a fence in that transaction refuses every
//! process that no longer owns the partition. A team implements [`Event`] for its own type and calls [`run`].
//!
//! # The guarantee
//! For one consumer group, topic and partition, let X be `next_offset` in the table `consumer_offsets`. At every instant,
//! also after a crash, the tables hold the effects of exactly the records in `[counted_from, X)`, less the recorded gaps.
//! Each record is **stored**, a **duplicate**, **dead-lettered** or **ignored**, and is counted as one of these.
//!
//! One transaction moves X to Y and writes everything that the records in `[X, Y)` cause. It commits only if X is
//! unchanged and the process still owns the row. Any other part may fail or be late: that costs time, never a record.
//!
//! # The protocol
//! 1. **Own.** The rebalance callback records which partitions Kafka assigns and revokes. It never uses the database.
//! 2. **Claim.** A writer raises the epoch of the row. From then on, older owners match no row.
//! 3. **Check.** Before a partition is read, its topic log is compared with the row: the topic id, the bounds of the log
//!    and the last record. A difference is a log fault: it halts the partition and records a gap.
//! 4. **Start.** The consumer thread assigns the partition at the position of the row, never at Kafka's.
//! 5. **Batch.** A batch has the records that arrived while the previous transaction ran, up to the limits.
//! 6. **Commit.** Fence, rows, dead letters, positions, COMMIT: one transaction for batches of several partitions.
//! 7. **Recover.** After any failure the records in memory are dropped. Reading continues at the position of the row.
//! 8. **Mirror.** After the commit the positions are also committed to Kafka, for lag tools. They are never read back.
//! 9. **Stop.** Reading ends, transactions in flight end, the consumer leaves the group.
//!
//! # The layers
//! A layer uses only layers above it in this table. `kafka` and `postgres` never use each other.
//!
//! | layer | contains |
//! |---|---|
//! | `model` | everything pure: records, batches, the protocol of one partition, checks of the topic log |
//! | `event` | the trait that a team implements |
//! | `kafka` | all use of rdkafka |
//! | `postgres` | all SQL |
//! | `observe` | health and metrics: they never control the pipeline |
//! | `pipeline` | from the consumer thread to the commit |
//! | [`verify`] | compares the tables with the topic log |
//! | [`admin`] | what an operator's tools need |
//!
//! # A record's path
//! consumer thread -> [`Record`] -> [`Event::parse`] -> queue of its partition -> batch -> writer -> one transaction ->
//! committed position -> mirror.

mod model;
mod event;
mod kafka;
mod postgres;
mod observe;
mod pipeline;
pub mod verify;
pub mod admin;

pub use bytes::Bytes;

pub use self::event::Event;
pub use self::event::copy::{CopyInto, CopyRow};
pub use self::kafka::client::ConsumerError;
pub use self::model::event::{InsertOutcome, LogPoint, Lookup, Parsed, Reason, RecordRef, Refusal};
pub use self::model::failure::{Failure, PartitionFailure};
pub use self::model::halt::HaltReason;
pub use self::model::kafka_refusal::{KafkaNeed, KafkaRefusal};
pub use self::model::open_work::{OpenGap, OpenLetters, OpenWork};
pub use self::model::operation::DbOperation;
pub use self::model::outcome::Totals;
pub use self::model::record::{
    Digest, Epoch, Header, LeaderEpoch, Offset, Partition, Position, Record, Step, Timestamp, TimestampType, TopicId,
};
#[cfg(feature = "simulation")]
pub use self::model::simulation;
pub use self::model::standing::{Membership, PartitionStatus};
pub use self::model::start::StartPolicy;
pub use self::model::topic_log::{GapPolicy, GapReason, LogBounds};
pub use self::observe::counts::Counts;
pub use self::observe::health::{Health, HealthSnapshot, OpenWorkReading, PartitionHealth, RedriveFailure};
pub use self::observe::histogram::Histogram;
#[cfg(feature = "cost")]
#[doc(hidden)]
pub use self::pipeline::cost;
pub use self::pipeline::error::EngineError;
pub use self::pipeline::options::Options;
pub use self::pipeline::run::{check, run};
pub use self::pipeline::until_end::{HaltedPartitions, until_end};
pub use self::postgres::copy::copy_rows;
pub use self::postgres::dead_letters::RetrySchedule;
pub use self::postgres::servers::{DatabaseServers, TargetSession};
pub use self::postgres::tables::create_tables;

// The example in the documentation compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/library.md")]
struct LibraryPage;
