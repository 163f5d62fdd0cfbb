//! How a run does: only observes, never drives.

pub(crate) mod histogram;
pub(crate) mod counts;
pub(crate) mod health;
