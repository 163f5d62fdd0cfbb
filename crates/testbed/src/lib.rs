//! What tests, benchmark and demo use: private servers, the service as a child process, and an audit of its tables. For
//! development only: the deployed program contains none of it.
//!
//! A server is started for one process and ends with it, however that process ends ([`guardian`]). A helper that fails
//! panics: here a panic is the report.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    missing_docs,
    reason = "a panic is the report of a test, and many names need no description"
)]

pub mod guardian;
pub mod postgres_server;
pub mod wait;
pub mod kafka;
pub mod postgres;
pub mod wire;
pub mod topic;
pub mod http;
pub mod log_line;
pub mod service;
pub mod audit;
pub mod workload;
pub mod scene;
pub mod pages;

use std::sync::atomic::{AtomicU32, Ordering};

pub use guardian::{Account, Guardian, free_ports, quoted};
pub use postgres_server::Postgres;

/// A private server that cannot be used, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(pub String);

/// A name that no other test and no other run has: for topics, groups and databases.
pub fn unique(what: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}
