//! The guarantee.

pub mod record;
pub mod event;
pub mod verdict;
pub mod backoff;
