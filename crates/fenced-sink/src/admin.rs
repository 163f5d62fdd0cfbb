//! What the tools of an operator need in addition to a running service: a session with the database, the ledger, the
//! class of a database error, questions about the topic log, and the properties of Kafka's client that the guarantee
//! needs.

pub use crate::kafka::properties::{GUARANTEED, enforce};
pub use crate::kafka::topic_log_client::{TopicLogClient, TopicLogError};
pub use crate::model::error_class::{ErrorClass, RetryCause};
pub use crate::model::sqlstate::SqlState;
pub use crate::postgres::error::{classify, sqlstate_of};
pub use crate::postgres::ledger::Ledger;
pub use crate::postgres::ledger::operator::{AcknowledgedGap, PartitionRow, Resumption};
pub use crate::postgres::privileges::missing_privileges;
pub use crate::postgres::retry::Backoff;
pub use crate::postgres::session::{Session, Transaction};
pub use crate::postgres::time::Time;
