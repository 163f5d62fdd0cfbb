//! What tools beside a running service need: connections, the class of an error, and questions about a topic's log.

pub use crate::kafka::properties::{GUARANTEED, enforce};
pub use crate::kafka::topic_log_client::{TopicLogClient, TopicLogError};
pub use crate::model::error_class::{ErrorClass, RetryCause};
pub use crate::model::sqlstate::SqlState;
pub use crate::postgres::error::{classify, sqlstate_of};
pub use crate::postgres::retry::Backoff;
pub use crate::postgres::session::{Session, Transaction, connect, within};
