//! What the tools of an operator need in addition to a running service: a session with the database, the ledger, the
//! class of a database error, questions about the topic log, and the properties of Kafka's client that the guarantee
//! needs.

use sqlx::PgConnection;
use std::collections::BTreeMap;

use crate::model::leader_epochs::{Divergence, divergence};
use crate::model::record::{Partition, Position};
use crate::model::stored_row::StoredRow;

pub use crate::kafka::broker_check::{BrokerProblem, ConnectionStep, advertised_brokers};
pub use crate::kafka::properties::{GUARANTEED, enforce};
pub use crate::kafka::topic_log_client::{ReadPermission, TopicLogClient, TopicLogError};
pub use crate::kafka::topic_settings::{TopicSettings, topic_settings};
pub use crate::model::error_class::{ErrorClass, RetryCause};
pub use crate::model::sqlstate::SqlState;
pub use crate::postgres::error::{advice, classify, sqlstate_of};
pub use crate::postgres::id_columns::{NearlyFullColumn, nearly_full_columns};
pub use crate::postgres::ledger::Ledger;
pub use crate::postgres::ledger::host::owner;
pub use crate::postgres::ledger::operator::{AcknowledgedGap, PartitionRow, Resumption};
pub use crate::postgres::privileges::missing_grants;
pub use crate::postgres::retry::Backoff;
pub use crate::postgres::server_check::{ServerProblem, connect_and_check};
pub use crate::postgres::server_facts::{
    ColumnCollation, ServerFacts, SessionSetting, language_collations, session_settings,
};
pub use crate::postgres::session::{Session, Transaction};
pub use crate::postgres::time::Time;

/// What the topic log of a partition has now of the records that were handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogNow {
    /// It has all of them below this position. Above it, the log can be another one.
    HasBelow(Position),
    /// The topic was created again, by its id.
    OtherTopic,
    /// Neither the topic id nor the leader epochs prove anything.
    Unproven,
    /// Kafka did not answer.
    NoAnswer,
}

/// What the rows of the ledger have about the records that were handled.
pub struct HandledRecords(BTreeMap<Partition, StoredRow>);

impl HandledRecords {
    /// Reads the rows of partitions, without a lock.
    ///
    /// # Errors
    /// What the database answered.
    pub async fn read(ledger: &Ledger, connection: &mut PgConnection, partitions: &[Partition]) -> sqlx::Result<Self> {
        ledger.read_rows(connection, partitions).await.map(Self)
    }

    /// Compares them with the topic logs. Blocks until Kafka has answered, or until the limit of a question.
    #[must_use]
    pub fn compare(&self, client: &TopicLogClient) -> BTreeMap<Partition, LogNow> {
        let topic_id = client.topic_id();
        let compare = |(partition, row): (&Partition, &StoredRow)| {
            let known = &row.known;
            let now = match (&known.topic_id, &topic_id, &known.epochs) {
                (Some(_), None, _) => LogNow::NoAnswer,
                (Some(old), Some(new), _) if old != new => LogNow::OtherTopic,
                // Epochs of another topic have the same numbers.
                (None, ..) | (.., None) => LogNow::Unproven,
                (Some(_), Some(_), Some(epochs)) => {
                    let divergence = divergence(epochs, row.row.next, |epoch| {
                        let ends = client.epoch_ends(&BTreeMap::from([(*partition, epoch)])).ok()?;
                        ends.get(partition).copied()
                    });
                    match divergence {
                        Some(Divergence::At(position)) => LogNow::HasBelow(position),
                        Some(Divergence::Unproven) => LogNow::Unproven,
                        None => LogNow::NoAnswer,
                    }
                }
            };
            (*partition, now)
        };
        self.0.iter().map(compare).collect()
    }
}
