//! What the outside gets to see of a running service: one line in the log for each thing that happened,
//! and how it is, over HTTP.

pub mod health;
pub mod metrics;
mod logs;

pub use logs::init;
