//! Why a run ends without having been asked to.

use crate::kafka::client::ConsumerError;

/// Why a run ended without having been asked to.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Kafka can't be used.
    #[error(transparent)]
    Kafka(#[from] ConsumerError),
    /// The database refuses who we are or what we ask, and has for long.
    #[error("the database can't be used: {0}; check its user, privileges and schema")]
    Database(#[source] sqlx::Error),
    /// The database says that its data is damaged.
    #[error("the database reports corrupted data: {0}; stop, look at its log, and restore")]
    Corrupt(#[source] sqlx::Error),
    /// A part of the process ended unasked.
    #[error("{0} ended unasked")]
    Ended(&'static str),
}
