//! The guarantee.

pub mod record;
pub mod event;
pub mod partition;
pub mod batch;
pub(crate) mod assignment;
pub(crate) mod source;
pub mod ledger;
pub mod dead_letter;
pub mod verdict;
pub mod backoff;
pub mod claim;
pub(crate) mod transaction;
pub(crate) mod writer;
pub mod mirror;
pub mod run;
