//! Why a verification ends early.

use crate::kafka::client::ConsumerError;
use crate::kafka::replay::ReplayError;

/// Why nothing was compared, or not everything.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The Kafka client can't be created.
    #[error(transparent)]
    Kafka(#[from] ConsumerError),
    /// Kafka can't be asked, or its topic log does not belong to the positions in `consumer_offsets`.
    #[error("{0}")]
    Log(String),
    /// The topic log is damaged.
    #[error("{0}")]
    Corrupt(String),
    /// The database can't be used, or the snapshot is lost.
    #[error("the database can't be used: {0}")]
    Database(#[from] sqlx::Error),
}

impl From<ReplayError> for VerifyError {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Client(error) => Self::Kafka(error),
            ReplayError::Unavailable(why) => Self::Log(why),
            ReplayError::Corrupt(why) => Self::Corrupt(why),
        }
    }
}
