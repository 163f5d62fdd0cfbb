//! Health and metrics: they never control the pipeline.
//!
//! The invariant: no transaction depends on this layer. The pipeline writes here, and observers read.

pub(crate) mod histogram;
pub(crate) mod counts;
pub(crate) mod health;
