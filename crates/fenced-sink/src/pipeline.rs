//! From the consumer to the commit.

pub(crate) mod options;
pub(crate) mod error;
pub(crate) mod reports;
pub(crate) mod slot;
pub(crate) mod scheduler;
pub(crate) mod shared_scheduler;
pub(crate) mod consumer;
pub(crate) mod line_budget;
pub(crate) mod failure;
pub(crate) mod writer;
pub(crate) mod log_check;
pub(crate) mod redrive;
pub(crate) mod watchdog;
pub(crate) mod run;
pub(crate) mod until_end;
