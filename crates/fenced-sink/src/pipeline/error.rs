//! Why a run ends with an error.

use crate::kafka::client::ConsumerError;

/// Why a run ended without a shutdown request.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Kafka cannot be used.
    #[error(transparent)]
    Kafka(#[from] ConsumerError),
    /// The database has refused the user or a statement for longer than the start-up timeout.
    #[error("the database cannot be used: {0}; check its user, privileges and schema")]
    Database(#[source] sqlx::Error),
    /// The database reports that its data is damaged.
    #[error(
        "the database reports corrupt data: {0}; stop the service, read the log of the database, and restore the database"
    )]
    Corrupt(#[source] sqlx::Error),
    /// A part of the process ended unexpectedly.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}
