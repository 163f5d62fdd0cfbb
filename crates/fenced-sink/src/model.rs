//! The pure part: values, rules and state machines.
//!
//! The invariant: the result of every function depends only on its arguments. No module here reads a clock, uses Kafka or
//! uses a database, so unit tests and the simulation can test every rule.

pub(crate) mod record;
pub(crate) mod event;
pub(crate) mod sqlstate;
pub(crate) mod error_class;
pub(crate) mod topic_log;
pub(crate) mod leader_epochs;
pub(crate) mod unreadable;
pub(crate) mod halt;
pub(crate) mod start;
pub(crate) mod protocol;
pub(crate) mod stored_row;
pub(crate) mod batch;
pub(crate) mod outcome;
pub(crate) mod mirror;
pub(crate) mod operation;
pub(crate) mod failure;
pub(crate) mod kafka_refusal;
pub(crate) mod standing;
pub(crate) mod open_work;
#[cfg(any(test, feature = "simulation"))]
#[cfg_attr(not(feature = "simulation"), expect(unreachable_pub, reason = "the fuzz target uses it"))]
pub mod simulation;
