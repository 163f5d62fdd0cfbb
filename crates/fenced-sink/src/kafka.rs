//! All use of Kafka, by the crate `rdkafka`.
//!
//! The invariant: every client is created from [`client::configuration`], which sets the properties that the guarantee
//! depends on. This layer never uses a database, and it never decides what a partition does next.

pub(crate) mod properties;
pub(crate) mod client;
pub(crate) mod ffi;
pub(crate) mod error;
mod last_error;
mod response_watch;
pub(crate) mod group_consumer;
mod reused_client;
pub(crate) mod probe;
pub(crate) mod epoch_ends;
pub(crate) mod topic_log_client;
pub(crate) mod topic_settings;
pub(crate) mod broker_check;
pub(crate) mod record_memory;
pub(crate) mod replay;
