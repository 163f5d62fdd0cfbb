//! Everything that is pure: no clock, no Kafka, no database.

pub(crate) mod record;
pub(crate) mod event;
pub(crate) mod sqlstate;
pub(crate) mod error_class;
pub(crate) mod topic_log;
pub(crate) mod start;
pub(crate) mod protocol;
pub(crate) mod stored_row;
pub(crate) mod batch;
pub(crate) mod outcome;
pub(crate) mod halt;
pub(crate) mod mirror;
pub(crate) mod operation;
pub(crate) mod standing;
