//! From the consumer thread to the commit.
//!
//! The consumer thread reports to the scheduler what Kafka assigns, revokes and delivers. Free writers take tasks from
//! the scheduler and report the results. The log check task asks Kafka about the topic log. All of them share one
//! [`SharedScheduler`](shared_scheduler::SharedScheduler). Pure code behind its lock makes the decisions: the
//! [scheduler], one [slot] for each partition, and the protocol in [`crate::model::protocol`].

pub(crate) mod options;
mod instance_id;
pub(crate) mod error;
pub(crate) mod reports;
mod receiving;
mod slot;
mod scheduler;
pub(crate) mod shared_scheduler;
mod consumer;
mod line_budget;
mod failure;
mod writer;
mod log_check;
mod log_doubt;
mod redrive;
mod watchdog;
pub(crate) mod run;
pub(crate) mod until_end;
#[cfg(feature = "cost")]
pub mod cost;
