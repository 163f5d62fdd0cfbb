//! The outputs of a running service: log lines on standard error, and health, metrics and the status page over HTTP.

pub mod standard_error;
mod logs;
mod readiness;
pub mod metrics;
pub mod status_page;
pub mod http;

pub use logs::init;
