//! Health and metrics: they observe, they never drive.
//!
//! The invariant: no transaction depends on this room. The pipeline writes here, and observers read.

pub(crate) mod histogram;
pub(crate) mod counts;
pub(crate) mod health;
