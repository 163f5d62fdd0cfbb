//! The outputs of a running service: log lines on standard error, and health and metrics over HTTP.

pub mod standard_error;
mod logs;
mod readiness;
pub mod metrics;
pub mod http;

pub use logs::init;
