//! Everything that is said to Kafka: all of `rdkafka` is in here.

pub(crate) mod properties;
pub(crate) mod client;
pub(crate) mod ffi;
pub(crate) mod error;
pub(crate) mod group_consumer;
pub(crate) mod topic_log_client;
pub(crate) mod compaction;
pub(crate) mod replay;
